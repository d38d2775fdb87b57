#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make fuzz`: coverage-guided fuzzing of the code that module and tools share, and of the checker (tools/fuzz).
# TARGET=NAME[,NAME] only these, SECONDS= (300) for each, JOBS= (1) at a time. INPUT=FILE with one TARGET runs that input
# alone. What is learned stays in build/fuzz/corpus, what is found in build/fuzz/found. Exit 1 with a finding.
. "$(dirname "$0")/lib.sh"
[ -z "${FUZZ_SECONDS:-}" ] || [[ $FUZZ_SECONDS =~ ^[1-9][0-9]{0,8}$ ]] || die "SECONDS=$FUZZ_SECONDS: give a whole number from 1 on"
counts JOBS
targets=$(sed -nE 's/^    name: "([a-z]+)",$/\1/p' "$CALF_ROOT"/tools/fuzz/src/*.rs | paste -sd ' ')
TARGET=${TARGET:-}
TARGET=${TARGET//[, ]/,}
for t in ${TARGET//,/ }; do
	[[ " $targets " == *" $t "* ]] || die "TARGET=$TARGET: there is no target $t; there are $targets"
done
if [ -n "${INPUT:-}" ]; then
	[[ $TARGET =~ ^[a-z]+$ ]] || die "INPUT=$INPUT: name the one target that it is for with TARGET="
	[ -r "$INPUT" ] || die "INPUT=$INPUT cannot be read"
fi
CALF_DEPS=g++ "$CALF_ROOT/scripts/deps.sh" || exit 2
out=$CALF_ROOT/build/fuzz
mkdir -p "$out"

# As cargo-fuzz does: counters for each edge, their places, and the operands of compares.
sanitizer=(passes=sancov-module llvm-args=-sanitizer-coverage-level=4 llvm-args=-sanitizer-coverage-inline-8bit-counters
	llvm-args=-sanitizer-coverage-pc-table llvm-args=-sanitizer-coverage-trace-compares
	llvm-args=-simplifycfg-branch-fold-threshold=0)
host=$("$RUSTC" -vV | sed -n 's/^host: //p')
build() (
	cd "$CALF_ROOT/tools/fuzz/engine" &&
		env -u RUSTUP_TOOLCHAIN RUSTFLAGS="${sanitizer[*]/#/-C}" CARGO_TARGET_DIR="$CALF_ROOT/build/target-fuzz" \
			"$CARGO" build --release --locked --target "$host"
)
quietly "$CALF_ROOT/build/log/fuzz.log" "fuzzer" build || exit 2
engine=$CALF_ROOT/build/target-fuzz/$host/release/calf-fuzz

if [ -n "${INPUT:-}" ]; then
	CALF_FUZZ_TARGET=$TARGET exec "$engine" "$INPUT"
fi

# one NAME LONGEST SECONDS: fuzzes a target; prints one line.
one() {
	local name=$1 st=0 log=$out/$1.log corpus=$out/corpus/$1 found=$out/found/$1 stat
	mkdir -p "$corpus" "$found"
	CALF_FUZZ_TARGET=$name CALF_FUZZ_SEEDS=$corpus "$engine" "$corpus" -max_len="$2" -len_control=0 -max_total_time="$3" \
		-timeout=60 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/" >"$log" 2>&1 || st=$?
	stat=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	stat+=" executions, $(grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -n 1)"
	if [ $st = 0 ]; then
		echo "ok - $name: $stat, $3 s"
	else
		grep -hE 'panicked at|ERROR: libFuzzer' -A 3 "$log" | sed "s/^/# /"
		for f in "$found"/*; do
			[ -e "$f" ] && [ "$f" -nt "$corpus/../.start" ] && echo "# again: make fuzz TARGET=$name INPUT=$f"
		done
		echo "not ok - $name: $stat"
	fi
}
export -f one
export out engine

mkdir -p "$out/corpus"
touch "$out/corpus/.start"
CALF_FUZZ_LIST=1 "$engine" 2>/dev/null | while read -r name longest; do
	case ",${TARGET:-$name}," in *,"$name",*) echo "$name $longest ${FUZZ_SECONDS:-300}" ;; esac
done >"$out/list"
[ -s "$out/list" ] || die "no target ${TARGET:-}"
say "fuzz: $(wc -l <"$out/list") targets, ${FUZZ_SECONDS:-300} s each"
xargs -r -P "${JOBS:-1}" -L 1 bash -c 'one "$@"' one <"$out/list" | tee "$out/summary"
bad=$(grep -c '^not ok' "$out/summary" || true)
good=$(grep -c '^ok' "$out/summary" || true)
echo "$good passed, $bad failed"
[ "$bad" = 0 ] && [ "$good" -gt 0 ]
