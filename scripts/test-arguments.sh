#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What is asked for wrongly must be refused in one line that names it, before anything is built. Prints "ok"/"not ok"
# lines.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here" || exit 2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
st=0
# Whatever gets past its checks ends soon: there is no kernel and no cargo.
clean=(env -i PATH="$PATH" HOME="$tmp" CALF_CACHE="$tmp/cache" KDIR="$tmp/kernel" BINDGEN=/bin/true CARGO=/bin/false)

judge() { # judge NAME COMMAND...
	local name=$1
	shift
	if "$@"; then echo "ok $name"; else echo "not ok $name"; st=1; fi
}
says() { # says LINES WORDS COMMAND...: it fails, its last line has the words, and it has at most so many lines
	local lines=$1 words=$2 out got=0
	shift 2
	out=$("${clean[@]}" "$@" 2>&1 </dev/null) || got=$?
	[ $got = 2 ] && tail -n 1 <<<"$out" | grep -qF -- "$words" && [ "$(grep -c . <<<"$out")" -le "$lines" ] && return
	printf '    | status %s: %s\n' "$got" "$out"
	return 1
}
refused() { judge "${*:2} is refused" says 1 "$@"; }
# Good words get as far as the kernel, which is not there.
taken() { judge "$* is taken" says 9 "KDIR=$tmp/kernel does not exist" "$@"; }

for v in SEQUENCES=1e3 SEQUENCES=0 HOURS=x SEED=-1 TORN=x FIRST=08 STATE=x; do refused "$v: give a whole number" $v scripts/replay.sh; done
for v in SEEDS=x STEPS=1e5 OPS=1e6 PART=0 FIRST=x IMAGES=0 SEED=-1; do refused "$v: give a whole number" $v scripts/soak.sh; done
for v in KILLS=0 KILLS=x SEED=x CPUS=0 CALF_JOBS=x; do refused "$v: give a whole number" $v scripts/crash.sh; done
taken SEQUENCES=5 TORN=0 FIRST=0 scripts/replay.sh
refused "ROUNDS=x: give" ROUNDS=x scripts/bench.sh
refused "SIZE=huge: small, full or large" SIZE=huge scripts/bench.sh
for v in IMAGES=0 SEED=x; do refused "$v: give" $v scripts/damage.sh; done

refused "there is no test typo" T=typo scripts/test.sh
refused "there is no test typo" T=faults,typo scripts/soak.sh
refused "there is no test typo" T=typo scripts/coverage.sh
taken T=faults,damage scripts/soak.sh
refused "HOST_ONLY=no: give 1" HOST_ONLY=no scripts/test.sh
refused "LAB=yes: give 1" LAB=yes T=smoke scripts/test.sh
refused "CALF_DEBUG=yes: give 1" CALF_DEBUG=yes scripts/crash.sh
refused "CALF_LAB=yes: give 1" make CALF_LAB=yes help
refused "GDB=yes: give 1" GDB=yes scripts/shell.sh
for f in shell gdb; do refused "GDB_PORT=x: give a whole number" GDB_PORT=x scripts/$f.sh; done

refused "there is no switch typo" REPRO=no_srcmap,typo scripts/run.sh
taken REPRO="no_srcmap --times 3" scripts/run.sh
refused "REPRO=no_srcmap: docs/bugs/long-run.md is of all" REPRO=no_srcmap scripts/lab-table.sh
refused "TIMES=0: give" TIMES=0 scripts/lab-table.sh
refused "there is no switch nosuch" SWITCHES="no_srcmap nosuch" scripts/mutation.sh
refused "names no switch" SWITCHES=, scripts/mutation.sh
taken SWITCHES=none,no_srcmap scripts/mutation.sh
cp docs/bugs/mutation.md "$tmp/before"
echo "CALF-BOOT 7.3.9" >"$tmp/guest.log"
scripts/mutation.py "$tmp/guest.log" 2>/dev/null
judge "the mutation table of no run stays as it is" cmp docs/bugs/mutation.md "$tmp/before"

refused "there is no target nosuch" TARGET=tree,nosuch scripts/fuzz.sh
refused "SECONDS=1m: give" FUZZ_SECONDS=1m scripts/fuzz.sh
refused "JOBS=0: give" JOBS=0 scripts/fuzz.sh
refused "name the one target" INPUT=README.md scripts/fuzz.sh
refused "INPUT=nosuch cannot be read" TARGET=tree INPUT=nosuch scripts/fuzz.sh

fake=$here/tests/fstests/fake
for v in JOBS=0 JOBS=-1 JOBS=x LOOP=0 LIMIT=x; do refused "$v: give a whole number" FSTESTS="$fake" $v scripts/fstests.sh; done
refused "FSTYP=foo SECTION=4k: there are" FSTESTS="$fake" FSTYP=foo scripts/fstests.sh
refused "FSTYP=calf SECTION=nosuch: there are" FSTESTS="$fake" SECTION=nosuch scripts/fstests.sh
for v in EXCLUDE=475 EXCLUDE=generic/999 EXCLUDE=nosuch TESTS=475 GROUP=nosuch; do
	refused "no test and no group is called" FSTESTS="$fake" $v scripts/fstests.sh
done
refused "no test is left to run" FSTESTS="$fake" TESTS=1 EXCLUDE=quick scripts/fstests.sh
refused "OVERLAY=no: give 1" FSTESTS="$fake" OVERLAY=no scripts/fstests.sh
refused "CHECK=no: give 1" FSTESTS="$fake" CHECK=no scripts/fstests.sh
refused "SIZE=0: give a whole number" FSTESTS="$fake" SIZE=0 scripts/fstests.sh
refused "FAIL=old: give any or new" FSTESTS="$fake" FAIL=old scripts/fstests.sh
refused "FAIL=new: there is no run to compare with" FSTESTS="$fake" FAIL=new scripts/fstests.sh
for v in "a b" a,b; do refused "can have neither blanks nor commas" FSTESTS="$fake" RESULTS="$tmp/$v" scripts/fstests.sh; done
refused "RERUN=all: give failed" FSTESTS="$fake" RERUN=all scripts/fstests.sh
refused "COMPARE=nosuch: there is no" FSTESTS="$fake" COMPARE=nosuch scripts/fstests.sh
refused "fstests-1k: give FSTESTS=" SUITES=fstests-1k scripts/nightly.py
refused "no suite nosuch" SUITES=nosuch scripts/nightly.py
refused "takes no arguments" scripts/nightly.py --help
chosen() { # chosen TESTS RUN.PY-ARGUMENTS...
	[ "$(tests/fstests/run.py --tree "$fake" --image none --out "$tmp" --list "${@:2}" | paste -sd ' ')" = "$1" ]
}
judge "numbers of tests" chosen "generic/001 generic/004" --tests "1 004 generic/006" --exclude "6 left"

refused "there is no module $tmp/calf.ko" qemu/payload.sh "$tmp/payload.img" release="$tmp/calf.ko"
refused "give CALF_CACHE=" CALF_CACHE=/dev/null/cache scripts/deps.sh
refused "cannot do a path with blanks" CALF_CACHE="$tmp/a b" scripts/deps.sh
refused "cannot do a path with blanks" scripts/preflight.sh "$tmp/a b"

# A runner that is stopped leaves nothing behind.
stopped() {
	printf '#!/bin/sh\nexec sleep 60\n' >"$tmp/machine"
	chmod +x "$tmp/machine"
	mkdir "$tmp/left"
	TMPDIR=$tmp/left qemu/run --uml --program "$tmp/machine" --kernel none --root none --payload none --log "$tmp/vm" task \
		>/dev/null 2>&1 &
	for _ in $(seq 100); do [ -s "$tmp/vm/pid" ] || sleep 0.1; done
	[ -n "$(ls "$tmp/left")" ] && kill $! && ! wait $! && [ -z "$(ls "$tmp/left")" ] && ! kill -0 "$(cat "$tmp/vm/pid")" 2>/dev/null
}
judge "a runner that is stopped leaves nothing behind" stopped
exit $st
