#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Self tests of qemu/run: each injected fault must be reported as what it is. Prints "ok"/"not ok" lines.
#   test-runner.sh LOG RUNNER...
set -u
# The limits below are part of what is tested.
unset CALF_TIME_SCALE
log=$1
shift
runner=("$@")
st=0

# expect STATUS WORDS TASK... : exit status, and words that the results or the report must hold.
expect() {
	local want=$1 words=$2 name=${3%%:*} got=0 out
	shift 2
	out=$("${runner[@]}" --quiet --log "$log/$name" --results "$log/$name.json" "$@" 2>&1 </dev/null) || got=$?
	if [ "$got" = "$want" ] && grep -qE -- "$words" <<<"$out"$'\n'"$(cat "$log/$name.json")"; then
		echo "ok runner reports $name as $want"
	else
		echo "not ok runner reports $name as $got, expected $want with '$words'"
		printf '%s\n' "$out" | tail -n 8 | sed 's/^/    | /'
		st=1
	fi
}

mkdir -p "$log"
rm -f "$log"/*.json
expect 0 '"verdict": "passed"' runner-pass runner-expect
expect 0 '"verdict": "passed"' runner-skip
expect 1 'no KTAP point' runner-empty
expect 1 'injected failure: the reason' runner-fail runner-lie runner-short
expect 3 'Kernel panic' runner-panic
expect 3 'WARNING: fs/iomap/buffered-io.c:1 ' runner-warn
expect 3 'kernel tainted: 512' runner-taint
expect 2 'ended without a result' runner-off
expect 4 'limit of 2s' runner-hang:2
expect 4 'task runner-stuck: limit of' runner-stuck:2 --grace 4
expect 2 'infrastructure' runner-nothing-of-that-name
expect 2 'No such file' runner-pass --program /nonexistent
# The kernels that watch do see, and what they see is told: mistakes of the kernel's own test modules.
case ${VARIANT:-} in
debug)
	expect 0 '"verdict": "passed"' runner-lockdep::release
	expect 3 'kmemleak: [0-9]+ new suspected memory leaks' runner-leak
	expect 3 'UBSAN: array-index-out-of-bounds' runner-lkdtm --append CALF_LKDTM=ARRAY_BOUNDS
	expect 3 'WARNING: lib/list_debug.c' runner-lkdtm --append CALF_LKDTM=CORRUPT_LIST_ADD
	;;
kasan)
	expect 3 'BUG: KASAN: slab-use-after-free in lkdtm' runner-lkdtm --append CALF_LKDTM=READ_AFTER_FREE
	expect 3 'BUG: KASAN: slab-out-of-bounds in lkdtm' runner-lkdtm --append CALF_LKDTM=SLAB_LINEAR_OVERFLOW
	# The module's own Rust code too.
	expect 3 'BUG: KASAN: slab-use-after-free in \S*_4calf3lab5stray9read_last\+.*\[calf\]' runner-stray::lab --append CALF_STRAY=freed
	expect 3 'BUG: KASAN: slab-out-of-bounds in \S*_4calf3lab5stray9read_last\+.*\[calf\]' runner-stray::lab --append CALF_STRAY=too_long
	# In User Mode Linux this one stands still, without a word.
	[ "${RUNNER:-}" = uml ] || expect 3 'BUG: KASAN: vmalloc-out-of-bounds' runner-lkdtm --append CALF_LKDTM=VMALLOC_LINEAR_OVERFLOW
	;;
esac
exit $st
