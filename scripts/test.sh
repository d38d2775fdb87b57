#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make test`: host tests, then VM tests, then one summary; its last line is "N passed, N failed".
#
# T=NAME,NAME    only these VM tests (and no host tests)
# LAB=1          VM tests with the laboratory module, all switches off: no contract may be seen broken
# HOST_ONLY=1    no VM
# JOBS=N         VMs side by side (2 where there are two processors)
[ -n "${T:-}" ] || CALF_LONG=1
. "$(dirname "$0")/vm.sh"

flags LAB HOST_ONLY
counts KILLS JOBS
JOBS=${JOBS:-$(($(nproc) > 1 ? 2 : 1))}
vm_tests
passed=0 failed=0
bad=()
LOG=$BUILD/test
mkdir -p "$LOG"

finish() {
	local b
	echo
	for b in "${bad[@]}"; do echo "failed: $b"; done
	say "test: done"
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ] && [ "$passed" -gt 0 ] || exit "${1:-1}"
	exit 0
}
# Whatever ends this script early is a failure with a summary.
trap 'st=$?; trap - EXIT; if [ $st != 0 ]; then failed=$((failed + 1)); bad+=("infrastructure (status $st)"); finish $st; fi' EXIT

# step NAME COMMAND...: one test on the host. Counts "ok"/"not ok" lines or cargo's results if it prints any,
# else itself as one.
step() {
	local name=$1 log t0 st=0 ok notok
	shift
	log=$LOG/$(tr ' /' '--' <<<"$name").log
	t0=$(date +%s)
	"$@" >"$log" 2>&1 </dev/null || st=$?
	ok=$(grep -cE '^ok ' "$log" || true)
	notok=$(grep -cE '^not ok ' "$log" || true)
	ok=$((ok + $(sed -nE 's/^test result: .* ([0-9]+) passed; .*/\1/p' "$log" | paste -sd+ - | sed 's/^$/0/')))
	notok=$((notok + $(sed -nE 's/^test result: .* ([0-9]+) failed; .*/\1/p' "$log" | paste -sd+ - | sed 's/^$/0/')))
	[ $((ok + notok)) -gt 0 ] || [ $st != 0 ] || ok=1
	[ $st = 0 ] || [ $notok -gt 0 ] || notok=1
	passed=$((passed + ok))
	failed=$((failed + notok))
	if [ $notok = 0 ]; then
		say "$name: ok ($ok, $(($(date +%s) - t0))s)"
	else
		bad+=("$name (log: $log)")
		say "$name: FAILED ($notok of $((ok + notok)), $(($(date +%s) - t0))s)"
		grep -E '^not ok|FAILED|panicked|^error|^warning|check-layers:|^Diff in' "$log" | head -n 15 | sed 's/^/        | /' >&2 || true
		tail -n 15 "$log" | sed 's/^/        | /' >&2
	fi
}

syntax() {
	local f
	for f in scripts/*.sh qemu/*.sh qemu/init qemu/stub qemu/traced qemu/profiled tests/runner/*.sh tests/fstests/*.sh tests/fstests/overlay/* tests/fstests/fake/check; do
		case $(head -n 1 "$f") in *bin/sh) sh -n "$f" || return 1 ;; *) bash -n "$f" || return 1 ;; esac
	done
	python3 - scripts/*.py scripts/coverage/*.py scripts/profile/*.py qemu/run qemu/uml.py tests/fstests/*.py <<-'END'
		import ast, sys
		for f in sys.argv[1:]:
		    ast.parse(open(f).read(), f)
	END
}

cargo_test() { CARGO_TARGET_DIR=$BUILD/target-$1 cargo_in "$1" test --locked --quiet; }

# Both builds: what the laboratory leaves in one may be odd in the other.
clippy_module() {
	local lab
	for lab in "" 1; do
		make modules KDIR="$KDIR" MO="build/$KRELEASE-clippy${lab:+-lab}" CLIPPY=1 W=e CALF_LAB=$lab -j"$CALF_JOBS" || return
	done
}

# The check of the release module must be able to fail.
lab_is_told_apart() {
	! scripts/check-layers.sh "$(module_path lab)" >"$LOG/lab-layers" || return 1
	grep -F 'a release module carries laboratory names' "$LOG/lab-layers"
}

cd "$CALF_ROOT"
if [ -z "${T:-}" ]; then
	"$CALF_ROOT/scripts/deps.sh" || exit 2
	step "script syntax" syntax
	step "formatting" make --no-print-directory fmtcheck
	step "layers" scripts/check-layers.sh
	step "docs/rules.md is current" scripts/rules.py --check
	step "switches and their pages" scripts/switches.py --check
	step "docs/iomap-check.md is current" scripts/iomap-check.py --check
	step "docs/contracts.md is current" scripts/contracts.py --check
	step "every switch has its row" scripts/mutation.py --check
	step "something makes every check fire" scripts/checks.py --check
	step "links in the docs" scripts/links.py
	step "coverage of made-up modules" scripts/coverage/selftest.py
	step "preflight" scripts/test-preflight.sh
	step "what is asked for wrongly is refused" scripts/test-arguments.sh
	step "cargo test tools" cargo_test tools
	step "cargo test tests" cargo_test tests
	step "clippy on tools and tests" scripts/clippy.sh
	[ -z "${HOST_ONLY:-}" ] || { trap - EXIT; finish; }
fi

prepare release lab
if [ -z "${T:-}" ]; then
	step "layers of the release module" scripts/check-layers.sh "$(module_path release)" "$(module_path lab)"
	step "layers: a lab module is told apart" lab_is_told_apart
	step "clippy on the module" clippy_module
	vm_command runner
	step "runner" scripts/test-runner.sh "$LOG/runner" "${VM[@]}"
	machine=("$CALF_ROOT/qemu/run" --kernel "$KERNEL" --root "$ROOTIMG")
	[ "$RUNNER" = qemu ] || machine+=(--uml)
	step "make fstests" scripts/test-fstests.sh "$LOG/fstests" "release=$(module_path release)" "lab=$(module_path lab)" "$BUILD/stage" -- "${machine[@]}"
fi

vm_command test
say "vm tests ..."
[ -z "${LAB:-}" ] || export CALF_VARIANT=lab
scripts/vmtests.py --jobs "$JOBS" tests/vm/list "${T:-}" "$LOG/vm" "${VM[@]}" | tee "$LOG/vm.log" | sed '/^[0-9]* [0-9]*$/d; s/^/        /' || true
read -r ok notok < <(tail -n 1 "$LOG/vm.log" | grep -E '^[0-9]+ [0-9]+$' || echo 0 1)
passed=$((passed + ok))
failed=$((failed + notok))
[ "$notok" = 0 ] || bad+=("vm tests ($notok points, log: $LOG/vm.log)")
[ -n "${T:-}" ] || step "crash test" env KILLS="${KILLS:-3}" scripts/crash.sh --built
trap - EXIT
finish
