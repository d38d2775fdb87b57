#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The checks of the contracts themselves: a broken one is counted, reported and, if asked, an error.
export LC_ALL=C
dev=/dev/disk/calf/test mnt=/mnt/test
dbg=/sys/kernel/debug/calf
own=$dbg/$(basename "$(readlink -f $dev)")/checks
nr=0 failed=0

point() { # point NAME COMMAND...: the command must succeed
	nr=$((nr + 1))
	if "${@:2}"; then echo "ok $nr - $1"; else echo "not ok $nr - $1"; failed=1; fi
}
count() { awk -v id="$1" '$1 == id { print $2 }' "$2"; }
broken() { awk '$2 + 0 > 0 { n += $2 } END { print n + 0 }' "$1"; }
mounted() { mount -t calf -o "$1" $dev $mnt 2>/dev/null; }
refused() { ! mounted "$1"; }
fails() { ! "$@" 2>/dev/null; }
# A clone whose pages are not in memory.
clone() { dd if=/dev/zero bs=64k count=1 2>/dev/null | tr '\0' o >$mnt/a && cp --reflink=always $mnt/a "$mnt/$1" && sync && echo 3 >/proc/sys/vm/drop_caches; }
byte() { printf X | dd of="$mnt/$1" bs=1 seek=100 conv=notrunc status=none; }
reported() { dd if=/dev/kmsg iflag=nonblock bs=8k status=none 2>/dev/null | grep -aq "check C-SRC-RMW violated ([0-9]*): ino $1 bytes \[100, 101) at Write: "; }
reserved() { [ "$(sed -n 's/^delalloc_reserved:* //p' "${own%checks}counters")" = "$1" ]; }

echo "TAP version 13"
echo "1..17"
mkfs.calf -f $dev >/dev/null
point "an unknown word for checks= is refused" refused checks=perhaps
point "mount" mounted checks=count
clone b
byte b
sync
point "nothing is broken without a bug" [ "$(broken $own) $(broken $dbg/checks)" = "0 0" ]
point "every contract has a line" [ "$(grep -c '^C-' $dbg/checks)" -gt 130 ]
umount $mnt

point "mount with a bug" mounted bug=no_srcmap
clone c
byte c
point "it is counted" [ "$(count C-SRC-RMW $own)" = 1 ]
point "and nothing else is" [ "$(broken $own)" = 1 ]
point "it is reported, with the inode" reported "$(stat -c %i $mnt/c)"
umount $mnt
point "the module remembers" [ "$(count C-SRC-RMW $dbg/checks)" = 1 ]
echo 0 >$dbg/checks
point "until it is told to forget" [ "$(broken $dbg/checks)" = 0 ]

point "mount with a bug and checks=error" mounted bug=no_srcmap,checks=error
point "mountinfo says so" grep -q "checks=error" /proc/self/mountinfo
clone d
point "the write fails" fails byte d
point "and leaves nothing reserved" reserved 0
point "what was there is untouched" cmp $mnt/a $mnt/d
point "umount" umount $mnt
point "fsck" fsck.calf -n $dev
echo 0 >$dbg/checks
exit $failed
