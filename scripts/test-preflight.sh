#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Self tests of preflight.sh on made-up kernel trees. Prints "ok"/"not ok" lines.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
st=0

tree() { # a tree that passes
	rm -rf "$tmp/k"
	mkdir -p "$tmp/k/include/config" "$tmp/k/rust"
	echo 7.3.4-test >"$tmp/k/include/config/kernel.release"
	printf 'CONFIG_%s=y\n' RUST MODULES BLOCK FS_IOMAP JBD2 DEBUG_FS >"$tmp/k/include/config/auto.conf"
	echo "CONFIG_RUSTC_VERSION_TEXT=rustc 9.9.9" >>"$tmp/k/include/config/auto.conf"
	touch "$tmp/k/rust/libkernel.rmeta" "$tmp/k/rust/libmacros.so"
}
printf '#!/bin/sh\necho "rustc 9.9.9"\n' >"$tmp/rustc"
chmod +x "$tmp/rustc"

expect() { # expect NAME STATUS WORDS
	local out got=0
	out=$(VARIANT=${WATCH:-} KDIR='' RUSTC=$tmp/rustc BINDGEN=${BG:-/bin/true} "$here/preflight.sh" "${DIR:-$tmp/k}" 2>&1) || got=$?
	if [ $got = "$2" ] && { [ -z "$3" ] || grep -qF -- "$3" <<<"$out"; } && [ "$(grep -c . <<<"$out")" -le 1 ]; then
		echo "ok preflight: $1"
	else
		echo "not ok preflight: $1 (status $got): $out"
		st=1
	fi
}

conf=$tmp/k/include/config/auto.conf
tree; expect "a good tree" 0 ""
tree; echo 7.2.1 >"$tmp/k/include/config/kernel.release"; expect "wrong series" 2 "wrong kernel series 7.2.1"
tree; echo 7.30.1 >"$tmp/k/include/config/kernel.release"; expect "7.30 is not 7.3" 2 "wrong kernel series"
tree; sed -i /CONFIG_RUST=/d "$conf"; expect "no CONFIG_RUST" 2 "CONFIG_RUST is off"
tree; rm "$tmp/k/rust/libkernel.rmeta"; expect "no Rust metadata" 2 "no Rust metadata"
tree; sed -i s/9.9.9/9.9.8/ "$conf"; expect "another rustc" 2 "built with 'rustc 9.9.8'"
tree; sed -i /FS_IOMAP/d "$conf"; expect "no iomap" 2 "no iomap"
tree; sed -i /JBD2/d "$conf"; expect "no jbd2" 2 "no jbd2"
tree; BG=/nonexistent expect "no bindgen" 2 "no bindgen"
tree; WATCH=debug expect "VARIANT=debug without lockdep" 2 "no lockdep"
tree; echo CONFIG_PROVE_LOCKING=y >>"$conf"; WATCH=debug expect "VARIANT=debug" 0 ""
tree; WATCH=kasan expect "VARIANT=kasan without KASAN" 2 "CONFIG_KASAN is off"
tree; echo CONFIG_KASAN=y >>"$conf"; WATCH=kasan expect "VARIANT=kasan" 0 ""
tree; DIR="$tmp/a b" expect "a blank in KDIR" 2 "cannot do a path with blanks"
tree; DIR=/nonexistent expect "no such KDIR" 2 "does not exist"
tree; rm "$conf"; expect "not configured" 2 "not a configured kernel tree"
exit $st
