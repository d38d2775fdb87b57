#!/bin/sh
# Self test of VARIANT=debug: lockdep has found all the mistakes that the kernel made while it started, is on, and
# knows the locks of a filesystem that was mounted.
good() { if eval "$2"; then echo "ok $1 - $2"; else echo "not ok $1 - $2"; st=1; fi; }
st=0
echo "TAP version 13"
echo "1..4"
good 1 "dmesg | grep -q 'Good, all .* testcases passed'"
good 2 "mkfs.calf -f /dev/disk/calf/test && mount -t calf /dev/disk/calf/test /mnt/test && touch /mnt/test/x && umount /mnt/test"
good 3 "grep -q ': calf_super$' /proc/lockdep"
good 4 "grep -q 'debug_locks: *1' /proc/lockdep_stats"
exit $st
