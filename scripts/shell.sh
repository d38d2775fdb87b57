#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make shell`: an interactive VM with the module loaded and a formatted disk mounted.
#   shell.sh [release|lab]      GDB=1: serves gdb on port GDB_PORT (1234)
. "$(dirname "$0")/vm.sh"
flags GDB
counts GDB_PORT
variant=release
case ${1:-} in release | lab) variant=$1; shift ;; esac
prepare "$variant"
vm_command shell
say "vm: Ctrl-A X ends it at once, 'exit' powers it off"
exec "${VM[@]}" --shell --module "$variant" ${GDB:+--gdb "${GDB_PORT:-1234}"} "$@"
