#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make lab-table`: every switch TIMES times (100) on and off in one boot, then writes docs/bugs/long-run.md from what
# the run has printed. With RUNNER=uml about half an hour on two idle cores.
CALF_LONG=1
. "$(dirname "$0")/vm.sh"

[ -z "${REPRO:-}" ] || die "REPRO=$REPRO: docs/bugs/long-run.md is of all switches; for these: make run REPRO=\"$REPRO --times 100\""
counts TIMES
TIMES=${TIMES:-100}
export LIMIT=${LIMIT:-28800} REPRO="--both --times $TIMES --size 131072 --no-trace"
"$CALF_ROOT/scripts/run.sh" || exit
built
"$CALF_ROOT/scripts/switches.py" --long \
	"RUNNER=$RUNNER, Linux $KRELEASE, $(nproc) cores, $(date -u +%F)" "$BUILD/vm/run/guest.log"
say "lab-table: docs/bugs/long-run.md written"
