#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make crash`: kills the VM under load KILLS times (default 50) and judges what each mount finds, then checks
# the image from here. SEED=N repeats a run. With --built, everything is there already.
CALF_LONG=1
. "$(dirname "$0")/vm.sh"
counts KILLS
numbers SEED
if [ "${1:-}" = --built ]; then
	built
else
	prepare release
fi
vm_command crash
[ -x "$BUILD/stage/host/calf-crash" ] || die "no calf-crash: tests/crash did not build it"
# The driver adds disk, log and task of each boot.
exec "$BUILD/stage/host/calf-crash" run --kills "${KILLS:-50}" ${SEED:+--seed "$SEED"} --disk "$VMDIR/crash.img" \
	--log "$VMDIR/boots" --fsck "$TOOLS/fsck.calf" -- "${VM_MACHINE[@]}"
