#!/bin/sh
# Self test of qemu/run: a test that passes, and finds its disks.
echo "TAP version 13"
echo "1..2"
[ -b /dev/disk/calf/test ] && [ -b /dev/disk/calf/scratch ] && echo "ok 1 - disks by serial" || echo "not ok 1 - disks by serial"
echo "ok 2 - second"
