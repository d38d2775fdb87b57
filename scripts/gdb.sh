#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make gdb`: attaches gdb to the VM of `make shell GDB=1` (in another terminal), with calf's symbols: those of the module
# that make shell builds with the same variables. CALF_DEBUG=1 for both gives line numbers.
#   gdb.sh [release|lab]      GDB_PORT: where the VM serves gdb (1234)
. "$(dirname "$0")/vm.sh"
counts GDB_PORT
command -v gdb >/dev/null || die "no gdb here: apt-get install gdb"
KDIR=$("$CALF_ROOT/scripts/kernel.sh" --path) || die "no kernel yet: make kernel"
kernel_image
[ "$RUNNER" = qemu ] || die "User Mode Linux is a program: let gdb run it, its command line is in build/vm/shell"
ko=$(module_path "${1:-release}")
[ -e "$ko" ] || die "no $ko: make shell GDB=1 in another terminal, with the same variables"
[ -n "$CALF_DEBUG" ] || say "no line numbers of the module: give CALF_DEBUG=1 to make shell GDB=1 and to make gdb"
say "in the VM: cat /sys/module/calf/sections/.text; here: add-symbol-file $ko <that address>"
exec gdb -ex "target remote 127.0.0.1:${GDB_PORT:-1234}" "$KDIR/vmlinux"
