#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# pjdfstest: what POSIX says of names, links, permissions and times. One point for the suite, one for
# the disk after it. CALF_FSTYPE=xfs runs it on XFS.
fs=${CALF_FSTYPE:-calf}
dev=/dev/disk/calf/test mnt=/mnt/test st=0

# The length of this path matters: pjdfstest 0.2.2 makes the longest path that there is, and
# miscounts if 127 divides what is left for it.
dir=$mnt/pjd

point() { # point STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; st=1; fi
}

echo "TAP version 13"
echo "1..2"
check() { if [ "$fs" = xfs ]; then xfs_repair -n "$dev"; else "fsck.$fs" -n "$dev"; fi; }
{ "mkfs.$fs" -f "$dev" >/dev/null && mount -t "$fs" ${CALF_OPTS:+-o "$CALF_OPTS"} "$dev" "$mnt"; } || exit 2
mkdir "$dir" && chmod 755 "$mnt" "$dir" && cd "$dir" || exit 2
cat >/tmp/pjdfstest.toml <<END
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"], ["bin", "bin"]]
END
pjdfstest -c /tmp/pjdfstest.toml -p "$dir" -s /dev/shm >/tmp/pjdfstest.log 2>&1
status=$?
# Those that remount it read-only need it to themselves: other tests leave files open.
sed -i 's/^naptime/allow_remount = true\n&/' /tmp/pjdfstest.toml
pjdfstest -c /tmp/pjdfstest.toml -p "$dir" -s /dev/shm erofs >>/tmp/pjdfstest.log 2>&1 || status=1
grep -A1 'FAILED$' /tmp/pjdfstest.log | sed 's/^/# /'
sed -n 's/^Summary/# &/p' /tmp/pjdfstest.log
point $status suite
cd /
umount "$mnt" && check >/tmp/fsck.log 2>&1
status=$?
[ $status = 0 ] || sed 's/^/# /' /tmp/fsck.log
point $status disk
exit $st
