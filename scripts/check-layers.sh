#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# check-layers.sh [release-calf.ko [lab-calf.ko]]: where unsafe code and raw bindings may be, who may use whom, that a
# release module carries nothing of the laboratory, and that its text is smaller than that of a module with it. Prints
# the count of unsafe blocks. Exit 1 on a violation.
. "$(dirname "$0")/lib.sh"
cd "$CALF_ROOT"
set +e +o pipefail # a grep that finds nothing is good news here
shopt -s lastpipe # complain() runs in this shell
bad=0

# code FILE: the file without comments and string contents, with line numbers.
code() {
	sed -E 's/"([^"\\]|\\.)*"/""/g; s,//.*$,,' "$1" | grep -n '' | sed "s|^|$1:|"
}
complain() { # complain TEXT < lines
	local lines
	lines=$(cat)
	[ -n "$lines" ] || return 0
	echo "check-layers: $1:"
	printf '%s\n' "${lines//$'\t'/ }" | sed 's/^/    /'
	bad=1
}

unsafe_may() {
	case $1 in
	rust/bindings.rs | rust/bindings/* | rust/kapi.rs | rust/kapi/* | rust/seam.rs) true ;;
	rust/iomap_check/bindings.rs | rust/iomap_check/kapi.rs | rust/iomap_check/kapi/*) true ;;
	*) false ;;
	esac
}

blocks=0 fns=0 impls=0 report=
mapfile -t files < <(find rust -name '*.rs' | sort)
for f in "${files[@]}"; do
	text=$(code "$f")
	if unsafe_may "$f"; then
		n=$(grep -cE '\bunsafe *\{' <<<"$text" || true)
		blocks=$((blocks + n))
		fns=$((fns + $(grep -cE '\bunsafe +(extern +"" +)?fn\b' <<<"$text" || true)))
		impls=$((impls + $(grep -cE '\bunsafe +(impl|trait)\b' <<<"$text" || true)))
		[ "$n" = 0 ] || report+=$(printf '\n%6d  %s' "$n" "$f")
	else
		grep -E '\bunsafe\b' <<<"$text" | complain "unsafe outside rust/bindings*, rust/kapi*, rust/seam.rs"
		grep -E '\bbindings::|\buse .*\bbindings\b|\bkernel::bindings\b' <<<"$text" |
			complain "raw bindings used outside kapi, seam and bindings"
	fi
	case $f in
	rust/format* | rust/algo*)
		# Tests run on the host only, where there are random numbers.
		sed '/#\[cfg(test)\]/,$d' <<<"$text" | grep -oE '^[^:]*:[0-9]+:|\bcrate::[a-z_]+|\bkernel::' | awk -v RS='\n' '
			/^rust.*:[0-9]+:$/ { place = $0; next }
			!/^crate::(seam|format|algo)$/ { print place, $0 }' |
			complain "format and algo may use only crate::{seam,format,algo}" ;;
	rust/kapi*)
		grep -E '\bcrate::(fs|ops|algo|format|lab)\b' <<<"$text" | complain "kapi may not use the layers above it" ;;
	rust/iomap_check/judge*)
		# Shared with the trace decoder.
		grep -E '\bcrate::|\bkernel::' <<<"$text" | complain "the rules of iomap_check may use nothing but core" ;;
	rust/fs*)
		grep -E '\bcrate::ops\b' <<<"$text" | complain "fs may not use ops" ;;
	esac
done

if [ -n "${1:-}" ]; then
	[ -e "$1" ] || die "check-layers: no $1"
	# Names of the laboratory: its string literals, and its module in mangled symbols. A word that the rest of the
	# source has as well is the kernel's (`iomap_valid`, `release`) and says nothing.
	{
		echo 4calf3lab
		cat rust/lab.rs rust/lab/*.rs rust/lab/*/*.rs 2>/dev/null | sed -E 's,//.*$,,' | grep -oE '"[A-Za-z0-9_-]{6,}"' | tr -d '"' |
			sort -u | while read -r word; do
			find rust -name '*.rs' ! -path 'rust/lab*' -exec grep -qwF -- "$word" {} + || echo "$word"
		done
	} | while read -r word; do
		grep -qaF -- "$word" "$1" && echo "$1: $word"
	done | complain "a release module carries laboratory names"
fi

text() { size "$1" | awk 'NR == 2 { print $1 }'; } # bytes of code and constants
if [ -n "${2:-}" ]; then
	release=$(text "$1") lab=$(text "$2")
	[ -n "$release" ] && [ -n "$lab" ] || die "check-layers: no sizes of $1 and $2"
	[ "$release" -lt "$lab" ] || echo "$release bytes, with the laboratory $lab" | complain "the release module is no smaller"
	echo "check-layers: text of the release module $release bytes, with the laboratory $lab"
fi

echo "check-layers: $blocks unsafe blocks, $fns unsafe functions, $impls unsafe impls and traits, in:$report"
exit $bad
