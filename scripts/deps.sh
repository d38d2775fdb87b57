#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Installs what is missing: Debian packages by name, and bindgen with cargo. When all is there it
# does nothing and takes no time. Exit 2 names what cannot be installed.
. "$(dirname "$0")/lib.sh"
need_cache
no_blanks "the repository lies at" "$CALF_ROOT"

packages=(
	# toolchain of kernel and module
	rustc-web rust-web-src cargo-web rustfmt-web rust-web-clippy
	clang-22 lld-22 llvm-22 libclang-22-dev
	make gcc libc6-dev flex bison bc libelf-dev libssl-dev cpio rsync kmod dwarves xz-utils
	# virtual machine and its image
	qemu-system-x86 mmdebstrap e2fsprogs debian-archive-keyring python3
	# the reports of make fstests
	python3-junit.xml
	# what a script needs besides
	${CALF_DEPS:-}
)

missing() {
	dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null |
		awk '$1 == "installed" { print $2 }' | sort -u |
		comm -13 - <(printf '%s\n' "${packages[@]}" | sort -u)
}

install_packages() {
	local todo=("$@") p cannot=()
	command -v apt-get >/dev/null || die "packages missing and no apt-get here: ${todo[*]}"
	[ "$(id -u)" = 0 ] || die "packages missing; run: sudo apt-get install ${todo[*]}"
	lock apt
	export DEBIAN_FRONTEND=noninteractive
	local apt=(apt-get -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 install)
	if ! "${apt[@]}" --simulate "${todo[@]}" >/dev/null 2>&1; then
		# No or old package lists. A foreign source that fails must not stop us.
		quietly "$CALF_CACHE/log/apt-update.log" "packages: update the lists" apt-get -q update || true
	fi
	for p in "${todo[@]}"; do
		"${apt[@]}" --simulate "$p" >/dev/null 2>&1 || cannot+=("$p")
	done
	[ ${#cannot[@]} = 0 ] || die "packages that cannot be installed: ${cannot[*]} (Debian 12 with its updates has them; see 'apt-get install --simulate ${cannot[0]}')"
	quietly "$CALF_CACHE/log/apt-install.log" "packages: install ${todo[*]}" "${apt[@]}" "${todo[@]}" || true
	mapfile -t todo < <(missing)
	[ ${#todo[@]} = 0 ] || die "packages that could not be installed: ${todo[*]} (log: $CALF_CACHE/log/apt-install.log)"
}

mapfile -t todo < <(missing)
if [ ${#todo[@]} -gt 0 ]; then
	install_packages "${todo[@]}"
else
	say "packages: all there"
fi

if [ "$BINDGEN" = "$CALF_CACHE/bindgen/bin/bindgen" ] &&
	! "$BINDGEN" --version 2>/dev/null | grep -qFx "bindgen $CALF_BINDGEN_VERSION"; then
	lock bindgen
	quietly "$CALF_CACHE/log/bindgen.log" "bindgen $CALF_BINDGEN_VERSION: build" \
		env -u RUSTFLAGS CARGO_TARGET_DIR="$CALF_CACHE/bindgen-target" nice "$CARGO" install --quiet --locked --force \
		--root "$CALF_CACHE/bindgen" --version "$CALF_BINDGEN_VERSION" bindgen-cli ||
		die "bindgen-cli could not be built: is a crate registry reachable?"
	rm -rf "$CALF_CACHE/bindgen-target"
fi
