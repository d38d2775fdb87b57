#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What `make fstests` runs in the VM: fstests' own `check` on the tests that the disk "work" names, and for each
# test one line for run.py, which reads the serial port:
#
#   FST result TEST passed|failed|notrun [REASON]
#   FST | TEXT                       belongs to the result before it
#   FST error TEXT                   nothing can run
#   FST done
#
# Which test runs at the moment says check itself, in the kernel's log.

die() { echo "FST error $*"; exit 2; }

# The disk holds shell assignments, then zeroes.
tr -d '\0' </dev/disk/calf/work >/tmp/work
. /tmp/work
: "${FST_TESTS:?}" "${FST_FSTYP:?}" "${FST_LIMIT:?}"

# The tree, writable for as long as this VM lives: some tests make links in it.
tree=/tmp/fstests
mkdir -p $tree /tmp/results /tmp/lower /tmp/upper /tmp/fswork
mount -t ext4 -o ro /dev/disk/calf/fstests /tmp/lower || die "the disk with the fstests tree cannot be mounted"
mount -t overlay -o lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/fswork overlay $tree 2>/dev/null ||
	cp -a /tmp/lower/. $tree || die "no room for the fstests tree"
cd $tree || exit 2

# The programs of the tree come from the user's machine; their libraries are those of the VM.
missing=$(ldd ltp/fsstress ltp/fsx src/fssum src/dbtest src/vfs/vfstest src/aio-dio-regress/aiocp 2>/dev/null |
	sed -nE 's/^[[:space:]]*(\S+) => not found/\1/p; s/.*(version `.*. not found).*/\1/p' | sort -u | tr '\n' ' ')
[ -z "$missing" ] || echo "FST note programs of the fstests tree miss in the VM (Debian 12): $missing"

# calf's branches: our functions are read after theirs.
if [ "$FST_OVERLAY" = 1 ]; then
	for f in /payload/tests/overlay/*; do
		name=${f##*/}
		[ -e "common/$name" ] || continue
		{ echo; cat "$f"; echo ":"; } >>"common/$name" || die "common/$name cannot be changed"
	done
fi

for m in loop dm-mod dm-flakey dm-log-writes dm-thin-pool dm-snapshot "$FST_FSTYP"; do
	modprobe -q "$m"
done
export DM_DISABLE_UDEV=1 KCONFIG_PATH=/payload/tests/kernel.config
TEST=$(readlink -f /dev/disk/calf/test) SCRATCH=$(readlink -f /dev/disk/calf/scratch)
LOGWRITES=$(readlink -f /dev/disk/calf/logwrites)
cat >/tmp/config <<-END
	export FSTYP=$FST_FSTYP
	export TEST_DEV=$TEST
	export TEST_DIR=/mnt/test
	export SCRATCH_DEV=$SCRATCH
	export SCRATCH_MNT=/mnt/scratch
	export LOGWRITES_DEV=$LOGWRITES
	export RESULT_BASE=/tmp/results
	export MKFS_OPTIONS="$FST_MKFS"
	export MOUNT_OPTIONS="$FST_MOUNT"
	export TEST_FS_MOUNT_OPTS="$FST_MOUNT"
	export FSCK_OPTIONS="$FST_FSCK"
END
export HOST_OPTIONS=/tmp/config
# shellcheck disable=SC2086
"mkfs.$FST_FSTYP" $FST_MKFS_FORCE $FST_MKFS "$TEST" >/tmp/mkfs 2>&1 || die "mkfs.$FST_FSTYP: $(tail -n 1 /tmp/mkfs)"

# What watches contracts: the checks of a laboratory build, and iomap_check where it is asked for. They count; what a
# test adds is its own.
if [ "$FST_CHECK" = 1 ]; then
	insmod /payload/iomap_check.ko || die "iomap_check does not load"
fi
broken() {
	awk '$2 + 0 > 0 { print $1, $2 }' /sys/kernel/debug/calf/checks
	awk 'NR > 1 && !/^#/ && $5 + 0 > 0 { print "iomap_check:" $1, $5 }' /sys/kernel/debug/iomap_check/rules
} 2>/dev/null
before=$(broken)

# No new test for so long: the blocked tasks go to the kernel's log; run.py ends the VM a little later.
dmesg -w | grep --line-buffered -o 'run fstests .* at' | while :; do
	read -t "$FST_LIMIT" -r _ && continue
	[ $? -gt 128 ] || break
	echo w >/proc/sysrq-trigger
	break
done &

# The lines of one test are in: judges it by what check printed and left behind.
test='' lines=()
flush() {
	[ -n "$test" ] || return
	local base=/tmp/results/$test all verdict=failed reason='' f now
	all=$(printf '%s\n' "${lines[@]}")
	if [ -e "$base.notrun" ]; then
		verdict=notrun reason=$(head -n 1 "$base.notrun")
	elif grep -qE '\[expunged\]|\[skipped\]' <<<"$all"; then
		verdict=notrun reason="left out by check"
	elif grep -qE '\[failed|output mismatch|is inconsistent|something found in|no qualified output|\[dumped core' <<<"$all"; then
		reason=$(grep -oE '\[failed[^]]*\]|output mismatch|filesystem on [^ ]* is inconsistent|something found in [a-z]*|no qualified output|\[dumped core' <<<"$all" |
			sort -u | paste -sd, | sed 's/,/, /g')
	elif [[ ${lines[0]} =~ ([0-9]+)s$ ]]; then
		verdict=passed
	else
		reason="check said: ${lines[0]}"
	fi
	now=$(broken)
	if [ "$now" != "$before" ]; then
		verdict=failed
		reason+="${reason:+, }contract broken: $(grep -vxFf <(echo "$before") <<<"$now" | cut -d' ' -f1 | paste -sd' ')"
		[ "$FST_CHECK" != 1 ] || { lines+=("---- the last reports of iomap_check") && mapfile -t -O ${#lines[@]} lines < <(tail -n 8 /sys/kernel/debug/iomap_check/reports); }
		before=$now
	fi
	echo "FST result $test $verdict $reason"
	if [ $verdict = failed ]; then
		printf '%s\n' "${lines[@]:0:60}" | sed 's/^/FST | /'
		for f in out.bad full dmesg; do
			[ -s "$base.$f" ] || continue
			echo "FST | ---- the end of $f"
			tail -n 120 "$base.$f" | cut -c1-400 | tr -d '\r' | sed 's/^/FST | /'
		done
	fi
	test='' lines=()
}

# shellcheck disable=SC2086
./check $FST_TESTS </dev/null 2>&1 | {
	while IFS= read -r line; do
		if [[ $line =~ ^([a-z0-9]+/[0-9]+)([[:space:]].*)?$ ]]; then
			flush
			test=${BASH_REMATCH[1]} lines=("$line")
		elif [[ $line =~ ^(Ran:|Not\ run:|Failures:|Passed\ all|Failed\ ) ]]; then
			flush
		elif [ -n "$test" ]; then
			[ -z "$line" ] || lines+=("$line")
		else
			echo "$line"
		fi
		# Nothing more is said of these.
		[[ ! ${lines[0]:-} =~ [0-9]s$|\[not\ run\] ]] || flush
	done
	flush
}
cd /
umount $tree /tmp/lower 2>/dev/null
echo "FST done"
echo "ok 1 check ran"
