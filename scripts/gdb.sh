#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make gdb`: attaches gdb to the VM of `make shell GDB=1` (in another terminal), with calf's symbols.
. "$(dirname "$0")/lib.sh"
port=${GDB_PORT:-1234}
command -v gdb >/dev/null || die "no gdb here: apt-get install gdb"
kdir=$("$CALF_ROOT/scripts/kernel.sh" --path) || die "no kernel yet: make kernel"
ko=$(ls -t "$CALF_ROOT"/build/*/calf.ko 2>/dev/null | head -n 1 || true)
[ -n "$ko" ] || die "no calf.ko yet: make shell GDB=1 in another terminal"
say "in the VM: cat /sys/module/calf/sections/.text; here: add-symbol-file $ko <that address>"
exec gdb -ex "target remote 127.0.0.1:$port" "$kdir/vmlinux"
