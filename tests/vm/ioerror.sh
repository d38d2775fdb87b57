#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Writes that fail on the device: the error is told, nothing stays claimed or pinned, what was there
# before is untouched, the space is not lost, and the same write succeeds once the device is well.
export LC_ALL=C
bin=${CALF_BIN:-/payload/bin}
mnt=/tmp/ioerror
cfg=/sys/kernel/config/nullb/ioerr0
nr=0
failed=0

# Prints a point: name, then the command that must succeed.
point() {
	name=$1
	shift
	nr=$((nr + 1))
	if "$@"; then echo "ok $nr - $name"; else echo "not ok $nr - $name"; failed=1; fi
}

counter() { sed -n "s/^$1:* //p" /sys/kernel/debug/calf/ioerr0/counters; }
idle() { [ "$(counter claimed)" = 0 ] && [ "$(counter pinned)" = 0 ]; }
reserved() { [ "$(counter delalloc_reserved)" = "$1" ]; }
fails() { ! "$@" 2>/dev/null; }
# The physical sectors from the end of file $1 on.
after() { filefrag -v -b512 "$1" | sed -n 's/^ *[0-9]*: *[0-9]*\.\. *[0-9]*: *[0-9]*\.\. *\([0-9]*\):.*/\1/p' | sort -n | tail -1; }
direct() { dd if=$mnt/data of=$mnt/f bs=65536 count=1 seek=16 conv=notrunc oflag=direct status=none; }
buffered() { dd if=$mnt/data of=$mnt/g bs=4096 count=16 conv=notrunc,fsync status=none; }
same() { [ "$(dd if="$1" bs=4096 skip="$2" count=16 status=none | md5sum)" = "$(md5sum <$mnt/data)" ]; }

echo "TAP version 13"
mount -t debugfs none /sys/kernel/debug 2>/dev/null
modprobe null_blk nr_devices=0
mount -t configfs none /sys/kernel/config 2>/dev/null
if ! mkdir $cfg; then
	echo "1..0 # SKIP no null_blk"
	exit 0
fi
echo "1..14"
echo 256 >$cfg/size
echo 1 >$cfg/memory_backed
echo 1 >$cfg/power
mkdir -p $mnt
"$bin/mkfs.calf" /dev/ioerr0 >/dev/null
point "mount" mount -t calf /dev/ioerr0 $mnt
dd if=/dev/urandom of=$mnt/data bs=4096 count=16 status=none
dd if=/dev/zero of=$mnt/f bs=4096 count=256 oflag=direct status=none
: >$mnt/g
sync
bad=$(($(after $mnt/f) + 1))
bad=$bad-$((bad + 65535))
free=$(stat -f -c %f $mnt)

echo "+$bad" >$cfg/badblocks
point "a direct write tells of the error" fails direct
point "nothing is claimed or pinned after it" idle
point "its blocks are not reserved any more" reserved 0
point "the size has not moved" [ "$(stat -c %s $mnt/f)" = 1048576 ]
point "fsync tells of the error of a buffered write" fails buffered
point "nothing is claimed or pinned after it" idle
echo "-$bad" >$cfg/badblocks

point "the direct write succeeds when the device is well" direct
point "the buffered write succeeds when the device is well" buffered
sync
point "nothing is reserved, claimed or pinned" eval "idle && reserved 0"
echo 3 >/proc/sys/vm/drop_caches
point "the data of both is there" eval "same $mnt/f 256 && same $mnt/g 0"
rm $mnt/f $mnt/g
sync
point "no block is lost" [ "$(stat -f -c %f $mnt)" -ge $((free + 256)) ]
point "umount" umount $mnt
point "fsck" "$bin/fsck.calf" -n /dev/ioerr0
echo 0 >$cfg/power
rmdir $cfg
exit $failed
