#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make profile CASES=write-4k [FS=calf,xfs]`: instructions of each function, for one operation of the cases of `make bench`:
# where a filesystem spends more than another. QEMU counts them exactly (scripts/profile/plugin.c), so one round will do.
#
# CASES=a,b      as for `make bench`
# FS=calf,xfs    (calf,xfs)
# TOP=N          functions shown of each (40)
export CALF_ACCEL=icount RUNNER=qemu KERNEL_CONFIG=full ROUNDS=1 FS=${FS:-calf,xfs}
. "$(dirname "$0")/vm.sh"
[ -n "${CASES:-}" ] || die "CASES=: which cases? As for make bench, see docs/performance.md"
counts TOP
out=$BUILD/profile
rm -rf "$out"
mkdir -p "$out"
prepare_kernel
# Nobody but the bench reads /proc/self/personality, and only this function answers.
marker=$("llvm-nm$LLVM" "$KDIR/vmlinux" | awk '$3 == "proc_pid_personality" { print $1 }')
[ -n "$marker" ] || die "no proc_pid_personality in $KDIR/vmlinux"
case $(qemu-system-x86_64 --version) in
*"version "[4-8].*) version=1 ;;
*) version=2 ;;
esac
cc -O2 -Wall -Wextra -shared -fPIC -fvisibility=hidden -DCALF_PLUGIN_VERSION=$version -o "$out/plugin.so" "$CALF_ROOT/scripts/profile/plugin.c" ||
	die "cannot build scripts/profile/plugin.c"
export CALF_PROGRAM=$CALF_ROOT/qemu/profiled CALF_PROFILE=$out/plugin.so,marker=$marker,out=$out/region
export CALF_BENCH_OUT=$out CALF_BENCH_MARK=1
"$CALF_ROOT/scripts/bench.sh" || exit 1
"$CALF_ROOT/scripts/profile/report.py" --kernel "$KDIR" --modules "$(dirname "$(module_path release)")" \
	--log "$BUILD/vm/bench/guest.log" --regions "$out/region" --top "${TOP:-40}"
