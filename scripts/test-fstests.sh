#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Tests of `make fstests` with a stand-in for fstests (tests/fstests/fake): each end that a test can have must be
# reported as what it is. Prints "ok"/"not ok" lines.
#   test-fstests.sh LOG PAYLOAD-ARGUMENTS... -- RUNNER...      (the runner without --payload)
set -u
unset CALF_TIME_SCALE
here=$(cd "$(dirname "$0")/.." && pwd)
log=$1
shift
payload=()
while [ "$1" != -- ]; do payload+=("$1"); shift; done
shift
st=0
rm -rf "$log"
mkdir -p "$log/stage/bin" "$log/stage/tests/overlay"

ok() { # ok TEXT COMMAND...
	local text=$1
	shift
	if "$@"; then echo "ok $text"; else echo "not ok $text"; st=1; fi
}
said() { grep -qE -- "$2" "$log/$1" || { tail -n 20 "$log/$1" | sed 's/^/    | /'; false; }; }
verdict() { # verdict RUN TEST VERDICT REASON: in results.json
	python3 - "$log/$1/results.json" "$2" "$3" "$4" <<-'END'
		import json, re, sys
		path, test, verdict, reason = sys.argv[1:]
		r = json.load(open(path))["tests"].get("generic/" + test)
		good = r and r["verdict"] == verdict and re.search(reason, r["reason"])
		if not good: print("    | ", r)
		sys.exit(not good)
	END
}

# A tree that is not built is refused, and what it lacks is named.
mkdir -p "$log/unbuilt"
FSTESTS=$log/unbuilt "$here/scripts/fstests.sh" >"$log/unbuilt.log" 2>&1
ok "a tree that is not built is refused" [ $? = 2 ]
ok "what it lacks is named" said unbuilt.log 'lacks check .*ltp/fsstress.*README'

install -m 755 "$here/tests/fstests/guest.sh" "$log/stage/tests/fstests"
cp "$here"/tests/fstests/overlay/* "$log/stage/tests/overlay/"
"$here/qemu/payload.sh" "$log/payload.img" "${payload[@]}" "$log/stage" || exit 2
mke2fs -q -F -t ext4 -d "$here/tests/fstests/fake" "$log/tree.img" 16M || exit 2
run() { # run NAME ARGUMENT... -> its exit status
	local name=$1
	shift
	"$here/tests/fstests/run.py" --tree "$here/tests/fstests/fake" --image "$log/tree.img" --out "$log/$name" --size 1 \
		--limit 4 "$@" -- "${runner[@]}" >"$log/$name.log" 2>&1 </dev/null
}
runner=("$@" --payload "$log/payload.img")

run all --jobs 2
ok "failures are told by the exit status" [ $? = 1 ]
ok "a test that passes" verdict all 001 passed '^$'
ok "a test that fails" verdict all 002 failed 'output mismatch'
ok "its log" said all/tests/generic-002.log 'the injected difference'
ok "a test that is not run" verdict all 003 notrun 'the injected reason'
ok "a test that hangs" verdict all 004 hung 'no end after 4 s'
ok "a panic" verdict all 005 panicked 'sysrq|panic'
ok "the tests after it" verdict all 006 passed '^$'
ok "a complaint of the kernel" verdict all 007 failed 'Busy inodes'
ok "a filesystem left damaged" verdict all 008 failed 'inconsistent'
ok "a VM that ends by itself" verdict all 010 panicked 'the VM ended'
ok "calf's branches are found" verdict all 011 passed '^$'
ok "the sum" said all.log '^4 passed, 6 failed, 1 not run, 1 of the failed hung, 2 of the failed panicked$'
ok "KTAP" said all/results.ktap '^not ok 2 generic/002'
ok "KTAP of a test that is not run" said all/results.ktap '^ok 3 generic/003 # SKIP the injected reason$'
ok "JUnit XML" python3 - "$log/all/junit.xml" <<-'END'
	import sys, xml.etree.ElementTree as e
	s = e.parse(sys.argv[1]).getroot().find("testsuite")
	got = [s.get(k) for k in ("tests", "failures", "errors", "skipped")]
	print("    |", got)
	sys.exit(got != ["11", "3", "3", "1"])
END
ok "the page" said all/index.html 'the injected reason'

run all --rerun
ok "only what failed runs again" said all.log '^fstests: 6 tests'
run all --tests generic/001
run all --rerun
ok "of the last run only" said all.log 'nothing to run again'
run new --tests generic/002 --compare "$log/all"
ok "a failure that was there before is one" [ $? = 1 ]
run new --tests generic/002 --compare "$log/all" --new
ok "unless only new ones are asked for" [ $? = 0 ]
ok "it is named all the same" said new.log '^failed in all too: generic/002$'
run branches --tests generic/011 --no-overlay
ok "without calf's branches" verdict branches 011 notrun 'unknown filesystem calf'
run loop --tests generic/001 --loop 3
ok "a loop" verdict loop 001 passed '0 of 3 runs failed'
run choice --group quick --exclude "generic/002 generic/007 generic/008"
ok "a run without failures" [ $? = 0 ]
ok "group and exclude" said choice.log '^3 passed, 0 failed, 1 not run$'
run choice --group nosuchgroup
ok "an unknown group is refused" said choice.log 'no test and no group is called nosuchgroup'
run choice --group quick --exclude generic/999
ok "an unknown test to leave out is refused" said choice.log 'no test and no group is called generic/999'
run silent --group silent
ok "a test that check does not run" verdict silent 012 failed 'check did not run it'
run left --group left
ok "a VM that leaves something behind is a failure" [ $? = 1 ]
ok "what it left" said left.log 'failed: .*the injected leftover$'
run stray --tests "generic/015 generic/001"
ok "what the kernel says when no test runs is a failure" [ $? = 1 ]
ok "it is told" said stray.log 'failed: .*before the first test.*BUG: injected between tests'
run late --tests generic/016
ok "a kernel that dies after the last test is a failure" [ $? = 1 ]
ok "it is told too" said late.log 'Kernel panic'
run share --tests "generic/001 generic/006 generic/009" --jobs 3
ok "each VM has its share" test -e "$log/share/vm/0-001" -a -e "$log/share/vm/1-001" -a -e "$log/share/vm/2-001"
run broken --section lab --check --tests "generic/001 generic/014 generic/006"
ok "a contract that a test breaks" verdict broken 014 failed '^contract broken: .*C-UNSHARE-HOLE-NORESV .*iomap_check:G7'
ok "is not the next test's" verdict broken 006 passed '^$'

# How tests are dealt out needs no VM.
ok "a loop over several VMs deals out whole rounds" python3 - "$here/tests/fstests" <<-'END'
	import argparse, sys
	sys.path.insert(0, sys.argv[1])
	sys.dont_write_bytecode = True
	import run
	tests = ["generic/%03d" % n for n in range(1, 11)]
	deal = run.Deal(argparse.Namespace(jobs=2, loop=5), tests, {t: 5 + n for n, t in enumerate(tests)})
	portions = []
	while deal.left:
	    portions.append(deal.take())
	print("    |", [len(p) for p in portions])
	sys.exit(sum(portions, []) != tests[::-1] * 5 or len(portions) > 12 or any(len(set(p)) != len(p) for p in portions))
END
exit $st
