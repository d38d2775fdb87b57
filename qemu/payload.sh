#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# payload.sh IMAGE [release=FILE.ko] [lab=FILE.ko] [FOLDER...]
# Builds the small read-only disk that carries all that changes from run to run: init, the modules, and
# bin/ and tests/ of the folders. Takes about a second.
. "$(dirname "$0")/../scripts/lib.sh"

out=$1
shift
tmp=$out.dir
rm -rf "$tmp"
mkdir -p "$tmp/bin" "$tmp/tests" "$tmp/lab"
install -m 755 "$CALF_ROOT/qemu/init" "$tmp/init"
# Debug information stays on the host.
module() {
	[ -e "$1" ] || die "payload: there is no module $1: build it with make modules"
	"llvm-strip$LLVM" --strip-debug -o "$2" "$1"
}
# The checker is the same in all builds.
checker() { module "$(dirname "${1#*=}")/iomap_check.ko" "$tmp/iomap_check.ko"; }
for a in "$@"; do
	case $a in
	release=*)
		module "${a#*=}" "$tmp/calf.ko"
		checker "$a"
		;;
	lab=*)
		module "${a#*=}" "$tmp/lab/calf.ko"
		checker "$a"
		;;
	*) cp -a "$a/bin" "$a/tests" "$tmp/" ;;
	esac
done
for f in "$CALF_ROOT"/tests/runner/*.sh; do
	install -m 755 "$f" "$tmp/tests/$(basename "$f" .sh)"
done
# The kernel's own modules (device mapper, RAM disk ...), so that modprobe works in the VM.
kdir=${KDIR:-$("$CALF_ROOT/scripts/kernel.sh" --path || true)}
if [ -n "$kdir" ] && [ -e "$kdir/modules.order" ]; then
	release=$(cat "$kdir/include/config/kernel.release")
	mods=$tmp/lib/modules/$release
	mkdir -p "$mods"
	while read -r o; do
		[ -e "$kdir/${o%.o}.ko" ] && cp "$kdir/${o%.o}.ko" "$mods/"
	done <"$kdir/modules.order"
	cp "$kdir"/modules.builtin* "$mods/" 2>/dev/null || true
	: >"$mods/modules.order"
	/sbin/depmod -b "$tmp" "$release" 2>/dev/null || true
fi
size=$(du -sm "$tmp" | cut -f1)
rm -f "$out.tmp"
mke2fs -q -F -t ext4 -b 4096 -O '^has_journal,^resize_inode' -m 0 -N 512 -L calfpayload -d "$tmp" "$out.tmp" "$((size + size / 4 + 4))M" >/dev/null
rm -rf "$tmp"
mv "$out.tmp" "$out"
