#!/bin/sh
# Self test of VARIANT=debug and kasan: the kernel's module for such tests makes the mistake CALF_LKDTM=, and passes.
echo "TAP version 13"
echo "1..1"
modprobe lkdtm
# Where the mistake ends in a BUG, the kernel panics here.
echo "$CALF_LKDTM" >/sys/kernel/debug/provoke-crash/DIRECT
echo "ok 1 - done"
