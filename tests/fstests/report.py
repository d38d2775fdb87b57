#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Results of `make fstests`: kept as results.json, told as KTAP, JUnit XML and one HTML page.

    report.py table FOLDER [OTHER]    a table for the docs: counts, and each test that did not pass, beside OTHER

results.json keeps the newest result of every test ever run with this filesystem and section; the reports are of
one run.
"""

import collections
import html
import json
import os
import re
import sys
import time

# What no XML may hold, not even as a reference.
NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
GOOD = ("passed", "notrun")
VERDICTS = ("passed", "failed", "hung", "panicked", "notrun")


def clock(seconds):
    seconds = int(seconds)
    return "%d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60)


def read(folder, name="results.json"):
    try:
        with open(os.path.join(folder, name)) as f:
            return json.load(f)
    except OSError:
        return {"tests": {}}


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path + ".tmp", "w", errors="replace") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def durations(folder):
    return {t: r["seconds"] for t, r in read(folder)["tests"].items() if r["seconds"]}


def begin(opt):
    """What is there becomes the earlier run."""
    os.makedirs(opt.out, exist_ok=True)
    write(opt.out, "previous.json", json.dumps(read(opt.out), indent=0))
    opt.run = time.strftime("%Y-%m-%d %H:%M:%S")


def join(results):
    """One result a test: of several runs (LOOP) the worst, with a note."""
    runs = collections.defaultdict(list)
    for r in results:
        runs[r["test"]].append(r)
    out = []
    for all_of in runs.values():
        worst = dict(next((r for r in all_of if r["verdict"] not in GOOD), all_of[-1]))
        bad = sum(r["verdict"] not in GOOD for r in all_of)
        worst["seconds"] = max(r["seconds"] for r in all_of)
        if len(all_of) > 1:
            worst["reason"] = ("%d of %d runs failed. %s" % (bad, len(all_of), worst["reason"])).strip()
        out.append(worst)
    return sorted(out, key=lambda r: r["test"])


def save(opt, results, partial):
    """results.json; at the end the reports and the sum too. Returns 0 if nothing failed."""
    now = read(opt.out, "previous.json")
    now.update(fstyp=opt.fstyp, section=opt.section, kernel=opt.kernel_release, run=opt.run)
    joined = join(results)
    for r in joined:
        now["tests"][r["test"]] = {**r, "date": time.strftime("%Y-%m-%d %H:%M"), "commit": opt.commit, "run": opt.run}
    write(opt.out, "results.json", json.dumps(now, indent=1))
    if partial:
        return 0
    write(opt.out, "results.ktap", ktap(joined))
    others = [("before", read(opt.out, "previous.json")["tests"])]
    if opt.compare:
        others.append((os.path.basename(os.path.normpath(opt.compare)), read(opt.compare)["tests"]))
    write(opt.out, "index.html", page(opt, joined, others))
    write(opt.out, "junit.xml", junit(opt, joined))
    count = collections.Counter(r["verdict"] for r in joined)
    for r in joined:
        if r["verdict"] not in GOOD:
            print("%s: %s: %s%s" % (r["test"], r["verdict"], r["reason"], "  (%s)" % os.path.join(opt.out, r["log"]) if "log" in r else ""))
    for name, other in others:
        worse = [r["test"] for r in joined if r["verdict"] != "passed" and other.get(r["test"], {}).get("verdict") == "passed"]
        if worse:
            print("passed in %s, not now: %s" % (name, " ".join(worse)))
    bad = sum(count[v] for v in VERDICTS if v not in GOOD)
    also = 0
    if opt.compare:
        there = others[-1][1]
        both = [r["test"] for r in joined if r["verdict"] not in GOOD and there.get(r["test"], {}).get("verdict", "passed") not in GOOD]
        also = len(both)
        if both:
            print("failed in %s too: %s" % (others[-1][0], " ".join(both)))
    print("results: %s" % os.path.join(opt.out, "index.html"))
    print("%d passed, %d failed, %d not run%s" % (count["passed"], bad, count["notrun"], "".join(
        ", %d of the failed %s" % (count[v], v) for v in ("hung", "panicked") if count[v])))
    return 1 if bad - (also if opt.new else 0) else 0


def ktap(results):
    lines = ["KTAP version 1", "1..%d" % len(results)]
    for n, r in enumerate(results, 1):
        ok = "ok" if r["verdict"] in GOOD else "not ok"
        # In a reason, "#" would begin a directive.
        reason = r["reason"].replace("#", "")
        skip = " # SKIP " + reason if r["verdict"] == "notrun" else ""
        lines.append("%s %d %s%s" % (ok, n, r["test"], skip))
        lines.append("# %s: %ss%s" % (r["verdict"], r["seconds"], " " + reason if r["verdict"] not in GOOD else ""))
    return "\n".join(lines) + "\n"


def junit(opt, results):
    from junit_xml import TestCase, TestSuite, to_xml_report_string  # Debian: python3-junit.xml
    cases = []
    for r in results:
        case = TestCase(r["test"], "fstests.%s.%s" % (opt.fstyp, opt.section), r["seconds"])
        reason, log = NOT_IN_XML.sub("?", r["reason"]), NOT_IN_XML.sub("?", log_text(opt.out, r))
        if r["verdict"] == "notrun":
            case.add_skipped_info(reason)
        elif r["verdict"] == "failed":
            case.add_failure_info(reason, log)
        elif r["verdict"] != "passed":
            case.add_error_info("%s: %s" % (r["verdict"], reason), log)
        cases.append(case)
    return to_xml_report_string([TestSuite("fstests %s %s" % (opt.fstyp, opt.section), cases)])


def log_text(folder, r, limit=40000):
    if "log" not in r:
        return ""
    try:
        with open(os.path.join(folder, r["log"]), errors="replace") as f:
            return f.read(limit)
    except OSError:
        return ""


STYLE = """body{font:14px sans-serif;margin:2em;max-width:110em}table{border-collapse:collapse}
td,th{padding:2px 8px;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}td.n{text-align:right}
.passed{color:#060}.failed,.hung,.panicked{color:#b00;font-weight:bold}.notrun{color:#777}
pre{background:#f6f6f6;padding:6px;max-height:40em;overflow:auto;font-size:12px}.diff{background:#fff3c4}"""
FILTER = """for(const b of document.querySelectorAll('input[name=v]'))b.onchange=()=>{
const on=[...document.querySelectorAll('input[name=v]:checked')].map(x=>x.value);
for(const r of document.querySelectorAll('tr[data-v]'))r.hidden=!on.includes(r.dataset.v)}"""


def page(opt, results, others):
    """One page with nothing outside it."""
    e = html.escape
    count = collections.Counter(r["verdict"] for r in results)
    out = ["<!doctype html><meta charset=utf-8><title>fstests on %s</title><style>%s</style>" % (e(opt.fstyp), STYLE),
           "<h1>fstests on %s, section %s</h1>" % (e(opt.fstyp), e(opt.section)),
           "<p>%s, commit %s, kernel %s, %s in all</p><p>" % (
               time.strftime("%Y-%m-%d %H:%M"), e(opt.commit or "?"), e(opt.kernel_release or "?"),
               clock(sum(r["seconds"] for r in results)))]
    out += ["<label class=%s><input type=checkbox name=v value=%s checked> %d %s</label> " % (v, v, count[v], v)
            for v in VERDICTS if count[v]]
    reasons = collections.Counter(r["reason"] for r in results if r["verdict"] == "notrun")
    if reasons:
        out.append("</p><details><summary>Why tests were not run</summary><table>")
        out += ["<tr><td class=n>%d<td>%s" % (n, e(why)) for why, n in reasons.most_common()]
        out.append("</table></details>")
    out.append("<table><tr><th>test<th>verdict<th>seconds" + "".join("<th>" + e(n) for n, _ in others) + "<th>reason")
    for r in results:
        cells = ""
        for _, other in others:
            was = other.get(r["test"], {}).get("verdict", "")
            cells += "<td class='%s%s'>%s" % (was, " diff" if was and was != r["verdict"] else "", was)
        text = log_text(opt.out, r)
        out.append("<tr data-v=%s><td>%s<td class=%s>%s<td class=n>%s%s<td>%s%s" % (
            r["verdict"], e(r["test"]), r["verdict"], r["verdict"], r["seconds"], cells, e(r["reason"]),
            "<details><summary>log</summary><pre>%s</pre></details>" % e(text) if text else ""))
    out.append("</table><script>%s</script>" % FILTER)
    return "\n".join(out) + "\n"


def table(folder, other=None):
    """Markdown of everything ever run in this section: counts, then what is not plain."""
    here, there = read(folder), read(other) if other else {"tests": {}}
    mine, theirs = here["tests"], there["tests"]

    def counts(tests):
        c = collections.Counter(r["verdict"] for r in tests.values())
        return "%d | %d | %d" % (c["passed"], sum(c[v] for v in VERDICTS if v not in GOOD), c["notrun"])

    print("| filesystem | section | tests | passed | failed | not run |\n|---|---|---|---|---|---|")
    print("| %s | %s | %d | %s |" % (here.get("fstyp"), here.get("section"), len(mine), counts(mine)))
    if theirs:
        print("| %s | %s | %d | %s |" % (there.get("fstyp"), there.get("section"), len(theirs), counts(theirs)))

    def rows(title, chosen):
        groups = collections.defaultdict(list)
        for t in sorted(chosen):
            them = theirs.get(t, {}).get("verdict", "-")
            groups[(mine[t]["reason"], them)].append(t.replace("generic/", ""))
        if groups:
            print("\n%s\n\n| tests | reason | %s |\n|---|---|---|" % (title, there.get("fstyp", "other")))
            for (why, them), names in sorted(groups.items(), key=lambda g: g[1]):
                print("| %s | %s | %s |" % (" ".join(names), why.replace("|", "\\|"), them))

    rows("Failed", [t for t, r in mine.items() if r["verdict"] not in GOOD])
    rows("Not run", [t for t, r in mine.items() if r["verdict"] == "notrun"])


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] != "table":
        sys.exit(__doc__)
    table(*sys.argv[2:4])
