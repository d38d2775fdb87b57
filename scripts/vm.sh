# SPDX-License-Identifier: GPL-2.0
# Sourced by run.sh, test.sh, shell.sh ...: brings everything up that a VM needs.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

BUILD=$CALF_ROOT/build
TOOLS=$BUILD/stage/bin
counts CPUS

# vm_tests: T= names tests of tests/vm/list, with commas or blanks between them.
vm_tests() {
	local t
	T=${T:-}
	T=${T//[, ]/,}
	[ -z "$T" ] || [ -n "${T//,/}" ] || die "T=$T names no test"
	for t in ${T//,/ }; do
		awk -v t="$t" '$1 == t && NF > 1 { found = 1 } END { exit !found }' "$CALF_ROOT/tests/vm/list" ||
			die "T=$T: there is no test $t in tests/vm/list"
	done
}

# switch_names: those of the table of switches, which are also those of the reproducers.
switch_names() {
	tr '\n' ' ' <"$CALF_ROOT/rust/lab/switches.rs" | grep -oE '"[a-z0-9_]+", +"C-[A-Z0-9-]+";' | cut -d'"' -f2
}

# known_switches VARIABLE NAME...: all of them are in that table.
known_switches() {
	local variable=$1 name
	shift
	for name; do
		switch_names | grep -xF -- "$name" >/dev/null || die "$variable: there is no switch $name (docs/bugs/README.md has all)"
	done
}

# kernel_image: what KDIR holds for the runner; a UML tree chooses its runner itself.
kernel_image() {
	if grep -q '^CONFIG_UML=y' "$KDIR/include/config/auto.conf"; then
		RUNNER=uml KERNEL=$KDIR/linux
	else
		RUNNER=qemu KERNEL=$KDIR/arch/x86/boot/bzImage
	fi
	PAYLOAD=$BUILD/payload-$RUNNER${VARIANT:+-$VARIANT}.img
	KRELEASE=$(cat "$KDIR/include/config/kernel.release")
	[ -e "$KERNEL" ] || die "no $KERNEL: build the kernel's ${KERNEL##*/}"
}

# prepare_kernel: dependencies, kernel; sets KDIR.
prepare_kernel() {
	"$CALF_ROOT/scripts/deps.sh" || exit 2
	"$CALF_ROOT/scripts/kernel.sh" || exit 2
	KDIR=$("$CALF_ROOT/scripts/kernel.sh" --path)
	export KDIR
	"$CALF_ROOT/scripts/preflight.sh" "$KDIR" || exit 2
	kernel_image
}

# build_module VARIANT [make arguments]: builds calf.ko; its path is module_path VARIANT.
# CALF_DEBUG=1 gives it debug information, in a folder of its own.
module_folder() { echo "build/$KRELEASE-$1${CALF_DEBUG:+-debug}"; }
module_path() { echo "$CALF_ROOT/$(module_folder "$1")/calf.ko"; }
build_module() {
	local variant=$1 lab=
	shift
	case $variant in lab*) lab=1 ;; esac
	quietly "$BUILD/log/module-$variant.log" "module ($variant)" \
		make -C "$CALF_ROOT" modules KDIR="$KDIR" MO="$(module_folder "$variant")" CALF_LAB="$lab" -j"$CALF_JOBS" "$@" || exit 2
	# A sanitizer that did not come into the Rust code would find nothing in it.
	if grep -q '^CONFIG_KASAN=y' "$KDIR/include/config/auto.conf"; then
		"llvm-nm$LLVM" "$CALF_ROOT/$(module_folder "$variant")/rust/calf_main.o" | grep ' U __asan_\(report_\)\?load' >/dev/null ||
			die "the Rust code of calf.ko is not instrumented for KASAN"
	fi
}

# cargo_in FOLDER ARGUMENT...: Debian's cargo, whatever PATH says.
cargo_in() {
	(cd "$CALF_ROOT/$1" && shift &&
		env -u RUSTFLAGS -u RUSTUP_TOOLCHAIN RUSTDOC="${RUSTC%/*}/rustdoc" \
			CARGO_TARGET_DIR="$CARGO_TARGET_DIR" "$CARGO" "$@")
}

# build_bin DEST: mkfs.calf, fsck.calf, calf-dump, calf-growfs, calf-damage and iomap-trace into DEST/bin.
build_bin() {
	local f p
	mkdir -p "$1/bin"
	export CARGO_TARGET_DIR=$BUILD/target-tools
	quietly "$BUILD/log/tools.log" "tools" cargo_in tools build --release --locked --workspace --exclude calf-fuzz || exit 2
	for f in mkfs.calf fsck.calf calf-dump calf-growfs calf-damage iomap-trace; do
		# Cargo knows no dot in a program's name, and an explicit target adds a folder.
		p=$(cd "$CARGO_TARGET_DIR" && ls -t {,*/}release/{"$f","${f/./-}","${f/./_}"} 2>/dev/null | head -n 1 || true)
		[ -z "$p" ] || cp "$CARGO_TARGET_DIR/$p" "$1/bin/$f"
	done
	unset CARGO_TARGET_DIR
}

# build_tools: these and the test programs, into build/stage.
build_tools() {
	local stage=$BUILD/stage
	lock "cargo-$(digest <<<"$BUILD")"
	rm -rf "$stage.tmp"
	mkdir -p "$stage.tmp/tests"
	build_bin "$stage.tmp"
	export CARGO_TARGET_DIR=$BUILD/target-tests
	quietly "$BUILD/log/tests.log" "test programs" "$CALF_ROOT/tests/payload.sh" "$stage.tmp" || exit 2
	unset CARGO_TARGET_DIR
	exec {CALF_LOCK_FD}>&-
	rm -rf "$stage"
	mv "$stage.tmp" "$stage"
}

# built: a script that called prepare has just built everything; only sets the variables.
built() {
	KDIR=$("$CALF_ROOT/scripts/kernel.sh" --path) || die "no kernel: make kernel"
	export KDIR
	kernel_image
	ROOTIMG=$("$CALF_ROOT/qemu/image.sh" --path) || die "no image: make run"
}

# make_payload VARIANT...: the payload disk with these modules.
make_payload() {
	local v args=()
	for v in "$@"; do args+=("$v=$(module_path "$v")"); done
	"$CALF_ROOT/qemu/payload.sh" "$PAYLOAD" "${args[@]}" "$BUILD/stage" || exit 2
	say "payload: built"
}

# prepare VARIANT...: all of the above.
prepare() {
	local v
	prepare_kernel
	"$CALF_ROOT/qemu/image.sh" || exit 2
	ROOTIMG=$("$CALF_ROOT/qemu/image.sh" --path)
	for v in "$@"; do build_module "$v"; done
	build_tools
	make_payload "$@"
}

# vm_command NAME: sets VM to the runner's command line with fresh, sparse disks; log in build/vm/NAME.
# CALF_APPEND= has more words for the kernel's command line.
vm_command() {
	local d=$BUILD/vm/$1${VARIANT:+-$VARIANT}
	mkdir -p "$d"
	rm -f "$d"/{test,scratch,crash}.img
	truncate -s "${CALF_DISK_SIZE:-2G}" "$d/test.img" "$d/scratch.img"
	VMDIR=$d
	# shellcheck disable=SC2034
	VM_MACHINE=("$CALF_ROOT/qemu/run" --kernel "$KERNEL" --root "$ROOTIMG" --payload "$PAYLOAD")
	[ "$RUNNER" = qemu ] || VM_MACHINE+=(--uml)
	[ -z "${CALF_PROGRAM:-}" ] || VM_MACHINE+=(--program "$CALF_PROGRAM")
	[ -z "${CPUS:-}" ] || VM_MACHINE+=(--cpus "$CPUS")
	local w
	for w in ${CALF_APPEND:-}; do VM_MACHINE+=(--append "$w"); done
	# shellcheck disable=SC2034
	VM=("${VM_MACHINE[@]}" --disk "calftest=$d/test.img" --disk "calfscratch=$d/scratch.img" --log "$d")
}
