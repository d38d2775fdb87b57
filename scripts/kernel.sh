#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The test kernel: fetches the source, configures and builds it, all cached by content.
#
#   kernel.sh           makes sure that it is there
#   kernel.sh --path    prints the build folder (KDIR) when it is there, without building; else exit 1
#   kernel.sh --config  only configures, into a scratch folder, and prints the .config's path
#
# KDIR=            a kernel that is built already: nothing to do here
# KERNEL_TARBALL=  a linux-7.3.x tarball to use in place of Debian's source package
# RUNNER=uml       the kernel as a program (User Mode Linux)
# KERNEL_CONFIG=full  with the filesystems that calf is compared with; a UML without VARIANT always has them
# VARIANT=debug  with lockdep, kmemleak and more of the kernel's own checks
# VARIANT=kasan  with the kernel's address sanitizer
. "$(dirname "$0")/lib.sh"

SERIES=$CALF_SERIES
PACKAGE=linux-source-$SERIES
SUITES=(trixie-backports forky sid)
RECIPE=1 # count up when the way of building changes
full=${KERNEL_CONFIG:-}
if [ "$RUNNER" = uml ]; then
	ARCH=um FRAGMENTS=(base uml) LOCALVERSION=-calf-uml IMAGE=linux
	# Always, but with VARIANT, where they would only make the build longer.
	if [ -z "$VARIANT" ]; then FRAGMENTS+=(full) full=; fi
else
	ARCH=x86_64 FRAGMENTS=(base x86) LOCALVERSION=-calf IMAGE=bzImage
fi
if [ "$full" = full ]; then
	FRAGMENTS+=(full x86-full) LOCALVERSION+=-full
fi
if [ -n "$VARIANT" ]; then
	FRAGMENTS+=("$VARIANT") LOCALVERSION+=-$VARIANT
fi
# Clang, with the large code model of User Mode Linux, puts data that starts as zero into .lbss, which UML's linker script
# does not name: it lands behind __bss_stop and _end. Lockdep takes none of these lock keys for a static one and turns
# itself off; kmemleak looks for pointers there in vain. With a threshold, the same code has its data in .data and .bss. (The
# vdso has another code model, where the threshold means nothing.)
flags=
if [ "$ARCH-$VARIANT" = um-debug ]; then
	flags="-mlarge-data-threshold=0x7fffffff -Wno-unused-command-line-argument"
fi
FRAGMENTS=("${FRAGMENTS[@]/#/$CALF_ROOT/qemu/config/}")
FRAGMENTS=("${FRAGMENTS[@]/%/.config}")

mode=${1:-build}
if [ -n "${KDIR:-}" ]; then
	[ "$mode" = --path ] && { echo "$KDIR"; exit 0; }
	say "kernel: $KDIR (given)"
	exit 0
fi
[ "$mode" = --path ] || need_cache

# A source tree is complete when the file `stamp` beside it exists; it names the version.
srcdir=$CALF_CACHE/src/$PACKAGE
if [ -n "${KERNEL_TARBALL:-}" ]; then
	[ -r "$KERNEL_TARBALL" ] || die "KERNEL_TARBALL=$KERNEL_TARBALL cannot be read"
	srcdir=$CALF_CACHE/src/tar-$(digest <"$KERNEL_TARBALL")
fi

key() {
	{
		echo "$RECIPE $ARCH $LOCALVERSION${flags:+ $flags}"
		cat "$srcdir.stamp"
		# Comments do not matter.
		grep -hE '^(CONFIG_|# CONFIG_.* is not set)' "${FRAGMENTS[@]}"
		"$RUSTC" --version
		"clang$LLVM" --version | head -n 1
		"$BINDGEN" --version
	} 2>/dev/null | digest
}

builddir() { echo "$CALF_CACHE/kernel/$(key)"; }

if [ "$mode" = --path ]; then
	[ -e "$srcdir.stamp" ] || exit 1
	dir=$(builddir)
	[ -e "$dir/stamp" ] || exit 1
	echo "$dir/build"
	exit 0
fi

unpack() { # unpack TARBALL STAMP
	local tmp=$srcdir.tmp
	rm -rf "$tmp" "$srcdir"
	mkdir -p "$tmp"
	quietly "$CALF_CACHE/log/kernel-unpack.log" "kernel source: unpack" \
		tar -xf "$1" -C "$tmp" --strip-components=1
	grep -q "^VERSION = ${SERIES%.*}$" "$tmp/Makefile" && grep -q "^PATCHLEVEL = ${SERIES#*.}$" "$tmp/Makefile" ||
		die "kernel source: this is not Linux $SERIES"
	mv "$tmp" "$srcdir"
	echo "$2" >"$srcdir.stamp.tmp"
	mv "$srcdir.stamp.tmp" "$srcdir.stamp"
}

# Debian's source package, from a suite that the host does not follow: a private configuration of apt,
# so that /etc/apt and the host's package lists stay as they are.
fetch() {
	local priv=$CALF_CACHE/apt suite deb got=
	mkdir -p "$priv/lists/partial" "$priv/archives/partial"
	local apt=(apt-get -q -o Dir::Etc::sourcelist="$priv/kernel.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o Dir::State::lists="$priv/lists" -o Dir::Cache="$priv" -o Dir::Cache::archives="$priv/archives"
		-o APT::Sandbox::User=root -o Acquire::Languages=none)
	for suite in "${SUITES[@]}"; do
		debian_sources "$suite" >"$priv/kernel.list"
		quietly "$CALF_CACHE/log/apt-kernel.log" "kernel source: look in $suite" "${apt[@]}" update || continue
		(cd "$priv" && rm -f "$PACKAGE"_*.deb &&
			quietly "$CALF_CACHE/log/apt-kernel.log" "kernel source: download $PACKAGE from $suite" \
				"${apt[@]}" download "$PACKAGE") || continue
		got=yes
		break
	done
	[ "$got" = yes ] || die "kernel source: no $PACKAGE in ${SUITES[*]}: give KERNEL_TARBALL=linux-$SERIES.x.tar.xz or KDIR="
	deb=$(echo "$priv/$PACKAGE"_*.deb)
	dpkg-deb --fsys-tarfile "$deb" | tar -xf - -C "$priv" --wildcards --strip-components=3 "./usr/src/$PACKAGE.tar.xz"
	unpack "$priv/$PACKAGE.tar.xz" "$(basename "$deb")"
	rm -f "$priv/$PACKAGE.tar.xz" "$deb"
}

kmake() { make -C "$srcdir" O="$1" ARCH="$ARCH" LLVM="$LLVM" RUSTC="$RUSTC" BINDGEN="$BINDGEN" ${flags:+KCFLAGS="$flags"} "${@:2}"; }

configure() { # configure BUILD
	rm -rf "$1"
	mkdir -p "$1"
	kmake "$1" tinyconfig &&
		(cd "$srcdir" && ARCH=$ARCH KCONFIG_CONFIG="$1/.config" scripts/kconfig/merge_config.sh -m -O "$1" "$1/.config" "${FRAGMENTS[@]}") &&
		echo "CONFIG_LOCALVERSION=\"$LOCALVERSION\"" >>"$1/.config" &&
		kmake "$1" olddefconfig || return 1
	# Kconfig drops silently what its dependencies forbid: look.
	local line lost=0
	while read -r line; do
		case $line in
		"# CONFIG_"*) # off may also be "not even visible"
			line=${line#\# } line=${line% is not set}
			grep -q "^$line=" "$1/.config" || continue ;;
		*) grep -qFx "$line" "$1/.config" && continue ;;
		esac
		echo "configuration line did not survive: $line"
		lost=1
	done < <(grep -hE '^(CONFIG_|# CONFIG_.* is not set)' "${FRAGMENTS[@]}")
	return $lost
}

if [ ! -e "$srcdir.stamp" ]; then
	lock kernel-source
fi
if [ ! -e "$srcdir.stamp" ]; then
	if [ -n "${KERNEL_TARBALL:-}" ]; then
		unpack "$KERNEL_TARBALL" "$(basename "$srcdir")"
	else
		need_root "fetching the kernel source"
		fetch
	fi
fi

if [ "$mode" = --config ]; then
	tmp=$CALF_CACHE/kernel/config-only$LOCALVERSION
	quietly "$CALF_CACHE/log/kernel-config$LOCALVERSION.log" "kernel: configure" configure "$tmp" || exit 2
	echo "$tmp/.config"
	exit 0
fi

dir=$(builddir)
[ -e "$dir/stamp" ] || lock "kernel-${dir##*/}"
if [ -e "$dir/stamp" ]; then
	say "kernel: cached ($(cat "$dir/stamp"))"
	exit 0
fi
# The build tree knows its own path, so it is built in place; the stamp says that it is complete.
build=$dir/build
quietly "$CALF_CACHE/log/kernel-config$LOCALVERSION.log" "kernel: configure" configure "$build" || exit 2
quietly "$CALF_CACHE/log/kernel-rust$LOCALVERSION.log" "kernel: check the Rust toolchain" kmake "$build" rustavailable || exit 2
quietly "$CALF_CACHE/log/kernel-build$LOCALVERSION.log" "kernel: build $(cat "$srcdir.stamp") as $ARCH$LOCALVERSION (about 8 minutes on 2 cores)" \
	kmake "$build" -j"$CALF_JOBS" "$IMAGE" modules || exit 2
cat "$build/include/config/kernel.release" >"$dir/stamp.tmp"
mv "$dir/stamp.tmp" "$dir/stamp"
