#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make replay`: SEQUENCES (1296: every pair of operations once, with every placement of syncs among them; 46656 is each pair with
# each placement) short sequences under dm-log-writes; mounts and judges every state that a crash may have left (tests/vm/src/bin/replay.rs). SEED=N (1) chooses the
# order, TORN=N (4) how many sets of writes are tried between two flushes. A bad state is told with its sequence and number;
# FIRST=<sequence> SEQUENCES=1 [STATE=<number>] looks at it alone. OPTS=bug=NAME mounts with a bug of the laboratory.
# The default takes about an hour, all of them days; HOURS= (168) ends it.
# The kernel hands the words on its command line to process 1 as environment.
CALF_LONG=1
. "$(dirname "$0")/vm.sh"
counts SEQUENCES HOURS
numbers SEED TORN FIRST STATE
variant=release
[ -z "${OPTS:-}" ] || variant=lab
prepare "$variant"
vm_command replay
words="CALF_REPLAY_SEQUENCES=${SEQUENCES:-1296} CALF_REPLAY_SEED=${SEED:-1} CALF_REPLAY_TORN=${TORN:-4}"
words+=" CALF_REPLAY_FIRST=${FIRST:-0}${STATE:+ CALF_REPLAY_STATE=$STATE}${OPTS:+ CALF_OPTS=$OPTS}"
st=0
"${VM[@]}" --append "$words" "replay:$((${HOURS:-168} * 3600)):$variant" || st=$?
grep -hE '^# [0-9]+ of [0-9]+ sequences, .* bad$' "$VMDIR/guest.log" | tail -n 1 || true
exit $st
