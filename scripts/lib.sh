# SPDX-License-Identifier: GPL-2.0
# Sourced by the scripts: places, toolchain, progress lines, locks. Expects bash.
# shellcheck shell=bash
set -euo pipefail

CALF_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CALF_CACHE=${CALF_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/calf}
export CALF_ROOT CALF_CACHE

# The toolchain of Debian 12. A rustup toolchain that comes first in PATH is never used: it has no
# rust-src, and another version than the kernel was built with cannot build modules.
export LLVM=${LLVM:--22}
export RUSTC=${RUSTC:-/usr/bin/rustc}
export CARGO=${CARGO:-/usr/bin/cargo}
export BINDGEN=${BINDGEN:-$CALF_CACHE/bindgen/bin/bindgen}
export LIBCLANG_PATH=${LIBCLANG_PATH:-/usr/lib/llvm-22/lib}
# RUNNER: qemu, uml (the kernel as a program), or auto: QEMU, except for long suites where it would have to
# emulate the processor.
RUNNER=${RUNNER:-qemu}
case $RUNNER in
qemu | uml) ;;
auto)
	RUNNER=qemu
	if [ -n "${CALF_LONG:-}" ] && ! { [ -w /dev/kvm ] && grep -qwE '^flags.*(vmx|svm)' /proc/cpuinfo; }; then RUNNER=uml; fi
	;;
*) echo "error: RUNNER=$RUNNER: give qemu, uml or auto" >&2; exit 2 ;;
esac
export RUNNER
# VARIANT: debug or kasan, a test kernel that watches; empty, the plain one.
VARIANT=${VARIANT:-}
case $VARIANT in
"" | debug | kasan) ;;
*) echo "error: VARIANT=$VARIANT: give debug or kasan" >&2; exit 2 ;;
esac
case ${KERNEL_CONFIG:-} in
"" | full) ;;
*) echo "error: KERNEL_CONFIG=$KERNEL_CONFIG: give full (and VARIANT=debug or kasan for what a kernel watches)" >&2; exit 2 ;;
esac
export VARIANT
# Such a kernel needs several times as long.
[ -z "$VARIANT" ] || export CALF_TIME_SCALE=${CALF_TIME_SCALE:-4}
CALF_SERIES=7.3 # the kernel that calf is written for
CALF_BINDGEN_VERSION=0.72.1
CALF_JOBS=${CALF_JOBS:-$(nproc)}

# One clock for everything that one `make` does.
export CALF_T0=${CALF_T0:-$(date +%s)}

# say TEXT: a progress line on stderr.
say() { printf '[%4ds] %s\n' "$(($(date +%s) - CALF_T0))" "$*" >&2; }

# die TEXT: infrastructure is missing; one line with the remedy, exit 2.
die() { say "error: $*"; exit 2; }

# counts NAME...: each of these variables, if it is given, is a whole number from 1 on; numbers: from 0 on. Leading zeros
# would be octal in arithmetic.
counts() { check_numbers '^[1-9][0-9]{0,8}$' "a whole number from 1 on" "$@"; }
numbers() { check_numbers '^(0|[1-9][0-9]{0,18})$' "a whole number from 0 on" "$@"; }
check_numbers() { # check_numbers PATTERN WORDS NAME...
	local pattern=$1 words=$2 name
	shift 2
	for name; do
		[ -z "${!name:-}" ] || [[ ${!name} =~ $pattern ]] || die "$name=${!name}: give $words"
	done
}

# flags NAME...: each of these switches is on (1) or off (0, empty); leaves 1 or nothing in it.
flags() {
	local name
	for name; do
		case ${!name:-} in
		1) ;;
		"" | 0) printf -v "$name" '' ;;
		*) die "$name=${!name}: give 1 (on), or 0 or nothing (off)" ;;
		esac
	done
}
flags CALF_LAB CALF_DEBUG
counts CALF_JOBS

# no_blanks WHAT PATH: the kernel's build takes a blank in a path for the end of it.
no_blanks() {
	case $2 in *[[:space:]]*) die "$1 '$2': the kernel's build cannot do a path with blanks, move it" ;; esac
}

# need_cache: for what writes into the cache.
need_cache() {
	no_blanks CALF_CACHE "$CALF_CACHE"
	mkdir -p "$CALF_CACHE" 2>/dev/null && [ -w "$CALF_CACHE" ] ||
		die "the cache $CALF_CACHE cannot be written: give CALF_CACHE=<a folder that can>"
}

# quietly LOG TEXT COMMAND...: runs a long step with its output in LOG; says what and how long.
quietly() {
	local log=$1 text=$2 t0 st=0
	shift 2
	mkdir -p "$(dirname "$log")"
	t0=$(date +%s)
	say "$text ..."
	"$@" >"$log" 2>&1 </dev/null || st=$?
	if [ "$st" -ne 0 ]; then
		tail -n 25 "$log" | sed 's/^/        | /' >&2
		say "error: $text failed (status $st), log: $log"
		return 2
	fi
	say "$text: done in $(($(date +%s) - t0))s"
}

# lock NAME: only one run at a time works on a part of the cache; released when the script ends.
lock() {
	mkdir -p "$CALF_CACHE/lock"
	exec {CALF_LOCK_FD}>"$CALF_CACHE/lock/$1"
	if ! flock -n "$CALF_LOCK_FD"; then
		say "$1: waiting for another run"
		flock "$CALF_LOCK_FD"
	fi
}

# digest: a short content key of stdin.
digest() { sha256sum | cut -c1-16; }

need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root: run it with sudo"; }

# debian_sources SUITE...: writes one-line apt entries for these suites, taken from the host's own
# configured Debian archive (apt reads both formats of its configuration for us).
debian_sources() {
	local code uri="" keys= s
	code=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# $(...) below is apt's own syntax.
	# shellcheck disable=SC2016
	uri=$(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)' 'Created-By: Packages' 2>/dev/null |
		awk -F'|' -v c="$code" '$2 == c && $3 == "main" && ($4 == "Debian" || $1 ~ /debian\/?$/) { print $1; exit }')
	[ -n "$uri" ] || die "apt: no Debian archive is configured here: add a 'deb <mirror> ${code:-bookworm} main' entry"
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] &&
		keys="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
	for s in "$@"; do echo "deb $keys$uri $s main"; done
}
