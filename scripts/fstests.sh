#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make fstests FSTESTS=<built fstests tree>`: runs it in VMs, on calf or on another filesystem. See docs/fstests.md.
#
# GROUP= TESTS= EXCLUDE=  which tests (default: group auto of generic)
# FSTYP=calf SECTION=4k   calf: 4k, 1k, always_cow, lab; xfs and ext4: 4k, 1k; btrfs: 4k
# JOBS=1 LOOP=1 LIMIT=900 VMs side by side; times each test; seconds for one test
# RERUN=failed            only what failed in the last run
# COMPARE=FOLDER          results to compare with (default: those of XFS in the same section, if there are any)
# RESULTS=FOLDER          where results go (default: build/fstests/<FSTYP>-<SECTION>[-<VARIANT>])
# OVERLAY=0               without calf's branches for fstests' functions
# CHECK=1                 with iomap_check loaded: what it reports fails the test (SECTION=lab: unless CHECK=0)
# FAIL=new                exit status 1 only for what does not fail in COMPARE too
# CPUS=1 SIZE=10          processors of a VM; GiB of each disk
RUNNER=${RUNNER:-auto}
export CALF_LONG=1
fstyp=${FSTYP:-calf} section=${SECTION:-4k}
unset FSTYP SECTION
# The same kernel for all filesystems, so that what differs is theirs. One that watches is built without the others.
case ${VARIANT:+variant}-$fstyp in
variant-calf | variant-ext4) ;;
*) export KERNEL_CONFIG=${KERNEL_CONFIG:-full} ;;
esac
. "$(dirname "$0")/vm.sh"
export CALF_IMAGE=fstests

[ -n "${FSTESTS:-}" ] || die "give FSTESTS=<folder of a built fstests tree> (calf neither ships nor builds it)"
tree=$(realpath -e "$FSTESTS" 2>/dev/null) || die "FSTESTS=$FSTESTS: there is no such folder"
counts JOBS LOOP LIMIT SIZE
OVERLAY=${OVERLAY-1}
[ "$section" != lab ] || CHECK=${CHECK-1}
flags OVERLAY CHECK
case ${FAIL:-} in "" | any | new) ;; *) die "FAIL=$FAIL: give any or new" ;; esac
case ${RERUN:-} in "" | failed) ;; *) die "RERUN=$RERUN: give failed" ;; esac
[ -z "${COMPARE:-}" ] || [ -e "$COMPARE/results.json" ] || die "COMPARE=$COMPARE: there is no results.json of another run"
lacks=()
for f in check common/rc tests/generic tests/generic/group.list ltp/fsstress ltp/fsx src/godown src/lstat64; do
	[ -e "$tree/$f" ] || lacks+=("$f")
done
[ ${#lacks[@]} = 0 ] ||
	die "FSTESTS=$FSTESTS lacks ${lacks[*]}: it is not a built fstests tree; build it as its README says (make in that folder)"

out=${RESULTS:-$BUILD/fstests/$fstyp-$section${VARIANT:+-$VARIANT}}
case $out in *[[:space:],]*) die "RESULTS=$out: the VM's disks and logs go there, and their paths can have neither blanks nor commas" ;; esac
image=$BUILD/fstests/tree-$(digest <<<"$tree").img
choice=(--tree "$tree" --image "$image" --fstyp "$fstyp" --section "$section" --tests "${TESTS:-}" --group "${GROUP:-}"
	--exclude "${EXCLUDE:-}" --loop "${LOOP:-1}" ${RERUN:+--rerun})
# What cannot be run is refused before anything is built for it (or installed: Python may not be there yet).
[ ! -x /usr/bin/python3 ] || "$CALF_ROOT/tests/fstests/run.py" "${choice[@]}" --out "$out" --list >/dev/null || exit 2
jobs=${JOBS:-1}
for s in "$section" 4k; do
	if [ -z "${COMPARE:-}" ] && [ "$fstyp" != xfs ] && [ -e "$BUILD/fstests/xfs-$s/results.json" ]; then
		COMPARE=$BUILD/fstests/xfs-$s
	fi
done
[ "${FAIL:-}" != new ] || [ -n "${COMPARE:-}" ] || die "FAIL=new: there is no run to compare with: run FSTYP=xfs first, or give COMPARE="
mkdir -p "$out"
out=$(realpath "$out")
exec {FST_LOCK}>"$out/lock"
flock -n "$FST_LOCK" || die "another run of $fstyp $section is under way here"

variants=()
case $fstyp-$section in
calf-lab) variants=(lab) ;;
calf-*) variants=(release) ;;
# For the checker, which lies beside it; calf itself is not loaded.
*) [ -z "$CHECK" ] || variants=(release) ;;
esac
if [ "${1:-}" = --built ]; then built; else
	prepare_kernel
	"$CALF_ROOT/qemu/image.sh" || exit 2
	ROOTIMG=$("$CALF_ROOT/qemu/image.sh" --path)
	for v in "${variants[@]}"; do build_module "$v"; done
fi
# The payload: calf's tools, the program that runs in the VM, calf's branches. One a run, for runs side by side.
stage=$out/stage
rm -rf "$stage"
mkdir -p "$stage/bin" "$stage/tests/overlay"
if [ "${1:-}" = --built ]; then
	cp "$TOOLS"/*calf* "$stage/bin/"
else
	lock "cargo-$(digest <<<"$BUILD")"
	build_bin "$stage"
	exec {CALF_LOCK_FD}>&-
fi
install -m 755 "$CALF_ROOT/tests/fstests/guest.sh" "$stage/tests/fstests"
cp "$CALF_ROOT"/tests/fstests/overlay/* "$stage/tests/overlay/"
cp "$KDIR/.config" "$stage/tests/kernel.config"
modules=()
for v in "${variants[@]}"; do modules+=("$v=$(module_path "$v")"); done
"$CALF_ROOT/qemu/payload.sh" "$out/payload.img" "${modules[@]}" "$stage" || exit 2

# The tree as a disk, made anew when something in it is newer; the tree itself is never written.
lock "fstests-tree-$(digest <<<"$image")"
if [ ! -e "$image" ] || [ -n "$(find "$tree" -name .git -prune -o -newer "$image" -print -quit)" ]; then
	rm -rf "$image.dir"
	mkdir -p "$image.dir"
	tar -C "$tree" --exclude-vcs --exclude=./results -cf - . | tar -C "$image.dir" -xf -
	mb=$(du -sm "$image.dir" | cut -f1)
	mke2fs -q -F -t ext4 -O '^has_journal,^resize_inode' -m 0 -L fstests -d "$image.dir" "$image.tmp" "$((mb + mb / 3 + 32))M" || die "no image of $tree"
	rm -rf "$image.dir"
	mv "$image.tmp" "$image"
fi
exec {CALF_LOCK_FD}>&-

# Disks in memory where there is plenty: a flush costs nothing there.
disks=$out/disks
if [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -gt $((jobs * 8 << 20)) ] 2>/dev/null; then
	disks=$(mktemp -d /dev/shm/calf-fstests-XXXXXX)
	trap 'rm -rf "$disks"' EXIT
fi
machine=("$CALF_ROOT/qemu/run" --kernel "$KERNEL" --root "$ROOTIMG" --payload "$out/payload.img")
[ "$RUNNER" = qemu ] || machine+=(--uml)
args=(--jobs "$jobs" --limit "${LIMIT:-900}" ${COMPARE:+--compare "$COMPARE"} ${CPUS:+--cpus "$CPUS"} ${SIZE:+--size "$SIZE"})
for w in ${CALF_APPEND:-}; do args+=(--append "$w"); done
[ -n "$OVERLAY" ] || args+=(--no-overlay)
[ -z "$CHECK" ] || args+=(--check)
[ "${FAIL:-}" != new ] || args+=(--new)
commit=$(git -C "$CALF_ROOT" describe --always --dirty 2>/dev/null || true)
st=0
"$CALF_ROOT/tests/fstests/run.py" "${choice[@]}" --out "$out" --disks "$disks" "${args[@]}" \
	--commit "$commit" --kernel-release "$KRELEASE" -- "${machine[@]}" || st=$?
exit $st
