#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The base image of the VM: a small Debian 12 that is mounted read-only, so that one file serves any
# number of VMs. Holds nothing of calf: that comes with the payload (payload.sh). Cached by content.
#
#   image.sh           makes sure that it is there
#   image.sh --path    prints its path when it is there, else exit 1
#
# CALF_IMAGE=fstests   a larger one, with the programs and users that fstests wants
. "$(dirname "$0")/../scripts/lib.sh"

SUITE=bookworm
PACKAGES=mount,util-linux,kmod,procps,e2fsprogs,xfsprogs,btrfs-progs,exfatprogs,attr,acl,strace
RECIPE=2 # count up when the way of building changes
ACCOUNTS=
case ${CALF_IMAGE:-} in
'') ;;
fstests)
	PACKAGES+=,acct,bc,bsdextrautils,btrfs-progs,dbench,dmsetup,duperemove,fdisk,file,fio,gawk,jq,keyutils,libaio1
	PACKAGES+=,libcap2-bin,libgdbm6,libgdbm-compat4,liburing2,lsof,parted,perl,psmisc,python3,quota
	PACKAGES+=,thin-provisioning-tools,util-linux-extra,uuid-runtime,xfsdump
	ACCOUNTS="fsgqa:2001 123456-fsgqa:2002 fsgqa2:2003"
	;;
*) die "CALF_IMAGE=$CALF_IMAGE: there is only fstests" ;;
esac

key=$({ echo "$RECIPE $SUITE $PACKAGES${ACCOUNTS:+ $ACCOUNTS}"; cat "$CALF_ROOT/qemu/stub"; } | digest)
dir=$CALF_CACHE/image/$key
if [ "${1:-}" = --path ]; then
	[ -e "$dir/root.img" ] || exit 1
	echo "$dir/root.img"
	exit 0
fi
if [ -e "$dir/root.img" ]; then
	say "image: cached"
	exit 0
fi
need_root "building the image"
need_cache
lock image
[ -e "$dir/root.img" ] && exit 0

tmp=$dir.tmp
rm -rf "$tmp"
mkdir -p "$tmp"
debian_sources "$SUITE" >"$tmp/sources.list"
quietly "$CALF_CACHE/log/image.log" "image: Debian $SUITE with mmdebstrap" \
	mmdebstrap --variant=essential --include="$PACKAGES" \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
	"$SUITE" "$tmp/root" "$tmp/sources.list" || exit 2
mkdir -p "$tmp/root/payload" "$tmp/root/mnt"
rm -rf "$tmp/root/lib/modules"
ln -s /payload/lib/modules "$tmp/root/lib/modules"
install -m 755 "$CALF_ROOT/qemu/stub" "$tmp/root/sbin/calf-init"
for a in $ACCOUNTS; do
	echo "${a%:*}:x:${a#*:}:${a#*:}::/tmp:/bin/bash" >>"$tmp/root/etc/passwd"
	echo "${a%:*}:x:${a#*:}:" >>"$tmp/root/etc/group"
	echo "${a%:*}:*:19000:0:99999:7:::" >>"$tmp/root/etc/shadow"
done
rm -rf "$tmp/root/var/lib/apt" "$tmp/root/var/cache/apt" "$tmp/root/dev"
mkdir -p "$tmp/root/dev"
size=$(du -sm "$tmp/root" | cut -f1)
quietly "$CALF_CACHE/log/image-mkfs.log" "image: make the file system" \
	mke2fs -q -t ext4 -O '^has_journal,^resize_inode' -m 0 -L calfroot -E lazy_itable_init=0 \
	-d "$tmp/root" "$tmp/root.img" "$((size + size / 8 + 16))M" || exit 2
rm -rf "$tmp/root"
rm -rf "$dir"
mv "$tmp" "$dir"
