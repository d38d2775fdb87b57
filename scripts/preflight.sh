#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# preflight.sh KDIR: can calf be built against this kernel? Names each thing that is missing in one line
# with its remedy; exit 2 if there is any.
. "$(dirname "$0")/lib.sh"

kdir=${1:-}
bad=0
no() { say "preflight: $*"; bad=1; }

no_blanks "preflight: the repository lies at" "$CALF_ROOT"
no_blanks "preflight: KDIR" "$kdir"
if [ -z "$kdir" ]; then
	die "preflight: no kernel: run 'make kernel' for the test kernel, or give KDIR=<built kernel $CALF_SERIES tree>"
elif [ ! -d "$kdir" ]; then
	die "preflight: KDIR=$kdir does not exist: give a configured and built kernel $CALF_SERIES tree"
fi
release=$(cat "$kdir/include/config/kernel.release" 2>/dev/null || true)
conf=$kdir/include/config/auto.conf
if [ -z "$release" ] || [ ! -e "$conf" ]; then
	die "preflight: $kdir is not a configured kernel tree: run 'make olddefconfig && make' there"
fi
case $release in
"$CALF_SERIES" | "$CALF_SERIES".* | "$CALF_SERIES"-*) ;;
*) no "wrong kernel series $release: calf is written for $CALF_SERIES, give KDIR=<a $CALF_SERIES tree>" ;;
esac

on() { grep -q "^CONFIG_$1=[ym]" "$conf"; }
if ! on RUST; then
	no "CONFIG_RUST is off in $kdir: enable it (make rustavailable says what it needs) and rebuild the kernel"
else
	if [ ! -e "$kdir/rust/libkernel.rmeta" ] || ! compgen -G "$kdir/rust/libmacros*" >/dev/null; then
		no "no Rust metadata in $kdir/rust (libkernel.rmeta): distribution headers do not have it; build the kernel and point KDIR at its build folder"
	fi
	theirs=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$conf")
	ours=$("$RUSTC" --version 2>/dev/null || echo "none at $RUSTC")
	[ "$theirs" = "$ours" ] ||
		no "the kernel was built with '$theirs', this is '$ours': give RUSTC=<the kernel's rustc>, or rebuild the kernel"
fi
on MODULES || no "CONFIG_MODULES is off in $kdir: enable it and rebuild the kernel"
on BLOCK || no "CONFIG_BLOCK is off in $kdir: enable it and rebuild the kernel"
on FS_IOMAP || no "no iomap in $kdir (CONFIG_FS_IOMAP): enable CONFIG_EXT4_FS or CONFIG_XFS_FS, which select it, and rebuild the kernel"
on JBD2 || no "no jbd2 in $kdir (CONFIG_JBD2): enable CONFIG_EXT4_FS, which selects it, and rebuild the kernel"
on DEBUG_FS || no "CONFIG_DEBUG_FS is off in $kdir: enable it (calf shows its counters there) and rebuild the kernel"
case $VARIANT in
debug) on PROVE_LOCKING || no "VARIANT=debug, but $kdir has no lockdep (CONFIG_PROVE_LOCKING): give KDIR=<a kernel with qemu/config/debug.config>, or no KDIR=" ;;
kasan) on KASAN || no "VARIANT=kasan, but CONFIG_KASAN is off in $kdir: give KDIR=<a kernel with qemu/config/kasan.config>, or no KDIR=" ;;
esac
"$BINDGEN" --version >/dev/null 2>&1 || no "no bindgen at $BINDGEN: run 'make deps', or give BINDGEN="
[ $bad = 0 ] || exit 2
