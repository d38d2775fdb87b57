#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make bench`: measures calf beside XFS, ext4 and btrfs in one VM, case by case in turn (tests/bench), and writes a
# table, build/bench/<run>.json and build/bench/index.html. A run is named after what was measured: `uml` and `qemu`
# count I/O and time, `icount` (CALF_ACCEL=icount) counts instructions.
#
# CASES=a,b      parts of the names of cases (all)
# FS=calf,xfs    parts of the names of filesystems (all); raw is the device without one
# ROUNDS=N       how often each has its turn (10)
# SIZE=full      the large sizes too (large: only those); they take 8 GiB of disk, or memory
# DEVICE=null    a disk in memory without a queue (with icount always), else the VM's disk
CALF_LONG=1
RUNNER=${RUNNER:-auto}
# Only QEMU counts instructions, whatever is faster.
[ "${CALF_ACCEL:-}" != icount ] || RUNNER=qemu CPUS=1 DEVICE=null
. "$(dirname "$0")/vm.sh"
counts ROUNDS HOURS
run=$RUNNER
[ "${CALF_ACCEL:-}" != icount ] || run=icount
# QEMU's kernel has the other filesystems only if asked.
[ "$RUNNER" = uml ] || export KERNEL_CONFIG=full
# Their largest file takes 4 GiB of the disk, which is in the VM's memory or not.
case ${SIZE:-small} in
small) ;;
full | large) export CALF_DISK_SIZE=${CALF_DISK_SIZE:-8G} ;;
*) die "SIZE=$SIZE: small, full or large" ;;
esac
case ${DEVICE:-} in
"" | disk | null) ;;
*) die "DEVICE=$DEVICE: disk or null" ;;
esac
# A blank would end the word on the kernel's command line.
CASES=$(tr -s ', ' , <<<"${CASES:-}") FS=$(tr -s ', ' , <<<"${FS:-}")
prepare release
vm_command bench
if [ "${SIZE:-small}" != small ] && [ "${DEVICE:-}" = null ]; then
	VM_MACHINE+=(--memory 9G)
	VM+=(--memory 9G)
fi
# The host's disk shall not matter where memory can take its place.
fast=
if [ -w /dev/shm ] && [ "$(df --output=avail -m /dev/shm | tail -n 1)" -gt 8192 ]; then
	fast=$(mktemp -d /dev/shm/calf-bench.XXXXXX)
	trap 'rm -rf "$fast"' EXIT
	truncate -s "${CALF_DISK_SIZE:-2G}" "$fast/test.img"
	VM=("${VM_MACHINE[@]}" --disk "calftest=$fast/test.img" --log "$VMDIR")
fi
words="CALF_BENCH_ROUNDS=${ROUNDS:-10} CALF_BENCH_CASES=$CASES CALF_BENCH_FS=$FS"
words+=" CALF_BENCH_SIZE=${SIZE:-small} CALF_BENCH_DEVICE=${DEVICE:-disk}${CALF_BENCH_MARK:+ CALF_BENCH_MARK=1}"
st=0
"${VM[@]}" --quiet --append "$words" "bench:$((${HOURS:-12} * 3600)):release" || st=$?
"$CALF_ROOT/scripts/bench.py" --log "$VMDIR/guest.log" --run "$run" --out "${CALF_BENCH_OUT:-$BUILD/bench}" || [ $st != 0 ] || st=1
exit $st
