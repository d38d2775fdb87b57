#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tables and plots of what tests/bench measured.

    bench.py --log GUEST.LOG --run uml|qemu|icount --out FOLDER   reads a run into FOLDER/<run>.json, prints its table
                                                                  (--log again: a part that was measured by itself)
    bench.py --out FOLDER --docs docs/performance.md              puts the tables of the runs there into the document;
                                                                  those of another kind of run stay

Both write FOLDER/index.html. A value is the median of the rounds; a ratio is that of two medians, with the interval
that holds 95 % of its bootstrap (the rounds drawn again, 1000 times, always in the same way). The last column says how near
calf comes to the device without a filesystem: in time, the share of its throughput.
"""

import argparse
import html
import json
import math
import os
import random
import re
import statistics
import sys

FS = ["calf", "xfs", "ext4", "btrfs"]
COLOUR = {"calf": "#c0392b", "xfs": "#2c6fbb", "ext4": "#3a9d5d", "btrfs": "#8e6bb5"}
# Key, heading, unit of one operation; I/O counts until the filesystem is unmounted.
IO = [("writes", "Writes", ""), ("written", "KiB written", "KiB"), ("flushes", "Flushes", ""),
      ("reads", "Reads", ""), ("memory", "Memory", "bytes")]
METRICS = {"uml": [("time", "Time", "µs")] + IO, "qemu": [("time", "Time", "µs")] + IO,
           "icount": [("instructions", "Instructions", "")]}
TITLE = {"uml": "User Mode Linux", "qemu": "QEMU", "icount": "QEMU, instructions counted"}


def read_log(path, cases):
    """Adds to {case: {"unit": ..., "fs": {filesystem: [sample, ...]}}}."""
    with open(path, errors="replace") as f:
        for line in f:
            if not line.startswith("CALF-BENCH "):
                continue
            w = dict(x.split("=", 1) for x in line.split()[1:])
            case = cases.setdefault(w["case"], {"unit": w["unit"], "fs": {}})
            n = {k: int(v) for k, v in w.items() if k not in ("case", "unit", "fs")}
            case["fs"].setdefault(w["fs"], []).append(n)


def value(metric, s):
    """One figure of a sample, for an operation; None if it was not measured."""
    ops = s["ops"]
    if metric == "memory":
        return s["memory"] / ops if "memory" in s else None
    return {"time": s["ns"] / 1000, "instructions": s["ns"], "reads": s["reads"],
            "writes": s["writes"] + s["later_writes"],
            "written": (s["written_bytes"] + s["later_bytes"]) / 1024,
            "flushes": s["flushes"] + s["later_flushes"]}[metric] / ops


def summarize(run, cases):
    """Medians, and ratios against XFS with their intervals."""
    out = {}
    for name, case in cases.items():
        out[name] = {"unit": case["unit"], "metrics": {}}
        for metric, _, _ in METRICS[run]:
            row = {}
            xfs = [value(metric, s) for s in case["fs"].get("xfs", [])]
            for fs, samples in case["fs"].items():
                v = [value(metric, s) for s in samples]
                if None in v:
                    continue
                row[fs] = {"median": statistics.median(v), "low": min(v), "high": max(v), "rounds": len(v)}
                if xfs and None not in xfs and statistics.median(xfs) > 0:
                    row[fs].update(ratio(v, xfs))
            if row:
                out[name]["metrics"][metric] = row
    return out


def ratio(a, b):
    rng = random.Random(1)
    draws = []
    for _ in range(1000):
        below = statistics.median(rng.choices(b, k=len(b)))
        if below > 0:
            draws.append(statistics.median(rng.choices(a, k=len(a))) / below)
    draws.sort()
    n = len(draws)
    return {"ratio": statistics.median(a) / statistics.median(b),
            "from": draws[int(n * 0.025)], "to": draws[min(n - 1, int(n * 0.975))]}


def short(x):
    """Three digits."""
    if x == 0:
        return "0"
    if abs(x) >= 100:
        return "%d" % round(x)
    return "%.*f" % (max(0, 2 - int(math.floor(math.log10(abs(x))))) if abs(x) >= 0.01 else 4, x)


def cell(r):
    return short(r["ratio"]) if r and "ratio" in r else "-"


def interval(r):
    if not r or "ratio" not in r:
        return "-"
    if short(r["from"]) == short(r["to"]):
        return short(r["ratio"])
    return "%s (%s to %s)" % (short(r["ratio"]), short(r["from"]), short(r["to"]))


def rows(cases, metric):
    """Lines of a table: case, unit, calf's value, XFS's value, ratios of calf, ext4 and btrfs, and of the raw device to calf."""
    for name, case in cases.items():
        row = case["metrics"].get(metric)
        if not row or all(r["median"] == 0 for r in row.values()):
            continue
        get = row.get
        raw = "-"
        if get("raw") and get("calf") and get("calf")["median"] > 0:
            raw = short(get("raw")["median"] / get("calf")["median"])
        yield (name, case["unit"], short(get("calf")["median"]) if get("calf") else "-",
               short(get("xfs")["median"]) if get("xfs") else "-", interval(get("calf")), cell(get("ext4")), cell(get("btrfs")), raw)


HEAD = ("case", "operation", "calf", "xfs", "calf/xfs", "ext4/xfs", "btrfs/xfs", "raw/calf")


def terminal(run, cases):
    for metric, title, unit in METRICS[run]:
        lines = [HEAD] + list(rows(cases, metric))
        if len(lines) == 1:
            continue
        print("\n%s of an operation%s" % (title, " in " + unit if unit else ""))
        width = [max(len(l[i]) for l in lines) for i in range(len(HEAD))]
        for l in lines:
            print("  " + "  ".join(x.ljust(w) if i < 2 else x.rjust(w) for i, (x, w) in enumerate(zip(l, width))))


def markdown(run, data):
    out = []
    each = [r["rounds"] for c in data.values() for m in c["metrics"].values() for r in m.values()]
    rounds, fewest = max(each), min(each)
    for metric, title, unit in METRICS[run]:
        body = list(rows(data, metric))
        # Few rounds count well enough, but say little of time.
        if not body or metric == "time" and rounds < 5:
            continue
        out += ["### %s of an operation%s" % (title, " (%s)" % unit if unit else ""), "",
                "%s, %s%d round%s." % (TITLE[run], "" if fewest == rounds else "%d to " % fewest, rounds, "" if rounds == 1 else "s"), "",
                "| " + " | ".join(HEAD) + " |", "|---|---|" + "---:|" * (len(HEAD) - 2)]
        out += ["| %s |" % " | ".join(r) for r in body] + [""]
    return "\n".join(out)


def bars(cases, metric):
    """Ratios against XFS on a logarithmic scale: left of the line is less than XFS."""
    named = [(n, c["metrics"][metric]) for n, c in cases.items()
             if metric in c["metrics"] and any("ratio" in r for r in c["metrics"][metric].values())]
    if not named:
        return ""
    left, width, step = 220, 560, 34
    height = len(named) * step + 30

    def x(v):
        return left + width * (math.log2(min(max(v, 1 / 16), 16)) + 4) / 8

    out = ['<svg viewBox="0 0 %d %d" width="%d" height="%d">' % (left + width + 60, height, left + width + 60, height)]
    for k in range(-4, 5):
        v = 2.0 ** k
        out.append('<line x1="%.1f" x2="%.1f" y1="18" y2="%d" stroke="%s"/><text x="%.1f" y="12" text-anchor="middle">%s</text>'
                   % (x(v), x(v), height, "#333" if k == 0 else "#ddd", x(v), short(v)))
    for i, (name, row) in enumerate(named):
        y = 24 + i * step
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (left - 8, y + 16, html.escape(name)))
        for j, fs in enumerate(f for f in FS if f != "xfs"):
            r = row.get(fs)
            if not r or "ratio" not in r:
                continue
            a, b = sorted((x(1), x(r["ratio"])))
            out.append('<rect x="%.1f" y="%d" width="%.1f" height="8" fill="%s"><title>%s %s: %s</title></rect>'
                       % (a, y + j * 9, max(b - a, 1), COLOUR[fs], fs, html.escape(name), interval(r)))
            out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#000"/>'
                       % (x(r["from"]), x(r["to"]), y + j * 9 + 4, y + j * 9 + 4))
    return "\n".join(out + ["</svg>"])


def curves(cases, metric):
    """Cost of one operation as its surroundings grow by powers of ten."""
    out = []
    stems = {}
    for name, case in cases.items():
        if "@" in name and metric in case["metrics"]:
            stem, size = name.split("@")
            stems.setdefault(stem, {})[int(size)] = case["metrics"][metric]
    for stem, sizes in stems.items():
        values = [r["median"] for row in sizes.values() for r in row.values() if r["median"] > 0]
        if len(sizes) < 2 or not values:
            continue
        w, h, m = 320, 200, 44
        lo, hi = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
        first, last = math.log10(min(sizes)), math.log10(max(sizes))

        def at(size, v):
            return (m + (w - m - 10) * (math.log10(size) - first) / (last - first),
                    h - 24 - (h - 44) * (math.log10(v) - lo) / (hi - lo))

        out.append('<svg viewBox="0 0 %d %d" width="%d" height="%d"><text x="%d" y="12">%s</text>' % (w, h, w, h, m, html.escape(stem)))
        for size in sorted(sizes):
            out.append('<text x="%.1f" y="%d" text-anchor="middle">%s</text>' % (at(size, min(values))[0], h - 8, size))
        for v in (min(values), max(values)):
            out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (m - 4, at(min(sizes), v)[1] + 4, short(v)))
        for fs in FS:
            points = [at(s, row[fs]["median"]) for s, row in sorted(sizes.items()) if fs in row and row[fs]["median"] > 0]
            out.append('<polyline fill="none" stroke-width="2" stroke="%s" points="%s"><title>%s</title></polyline>'
                       % (COLOUR[fs], " ".join("%.1f,%.1f" % p for p in points), fs))
        out.append("</svg>")
    return "\n".join(out)


def page(runs):
    legend = " ".join('<b style="color:%s">%s</b>' % (COLOUR[f], f) for f in FS)
    out = ["<!doctype html><meta charset=utf-8><title>calf: measured</title>",
           "<style>body{font:14px sans-serif;margin:2em}svg{font:11px sans-serif}svg{margin:4px}"
           "table{border-collapse:collapse}td,th{padding:1px 8px;text-align:right}td:first-child{text-align:left}</style>",
           "<h1>calf beside XFS, ext4 and btrfs</h1><p>%s. Bars: ratio against XFS, left is less; the black line is the 95 %% "
           "interval. Curves: cost of one operation, both axes logarithmic.</p>" % legend]
    for run, data in runs.items():
        for metric, title, unit in METRICS[run]:
            body = list(rows(data, metric))
            if not body:
                continue
            out.append("<h2>%s of an operation%s: %s</h2>" % (title, " (%s)" % unit if unit else "", TITLE[run]))
            out += [bars(data, metric), "<div>", curves(data, metric), "</div>", "<table>"]
            out.append("<tr>%s</tr>" % "".join("<th>%s</th>" % h for h in HEAD))
            out += ["<tr>%s</tr>" % "".join("<td>%s</td>" % html.escape(x) for x in r) for r in body]
            out.append("</table>")
    return "\n".join(out) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--log", action="append")
    p.add_argument("--run", choices=list(METRICS))
    p.add_argument("--out", required=True)
    p.add_argument("--docs")
    opt = p.parse_args()
    os.makedirs(opt.out, exist_ok=True)
    if opt.log:
        cases = {}
        for path in opt.log:
            read_log(path, cases)
        cases = summarize(opt.run, cases)
        if not cases:
            sys.exit("bench.py: nothing was measured")
        with open(os.path.join(opt.out, opt.run + ".json"), "w") as f:
            json.dump(cases, f, indent=1)
            f.write("\n")
        terminal(opt.run, cases)
    runs = {}
    for run in ("icount", "uml", "qemu"):
        path = os.path.join(opt.out, run + ".json")
        if os.path.exists(path):
            with open(path) as f:
                runs[run] = json.load(f)
    with open(os.path.join(opt.out, "index.html"), "w") as f:
        f.write(page(runs))
    print("\n%s/index.html" % opt.out, file=sys.stderr)
    if opt.docs:
        with open(opt.docs) as f:
            text = f.read()
        for run, data in runs.items():
            place = r"(<!-- measured %s -->\n).*?(<!-- end -->)" % run
            text, n = re.subn(place, lambda m: m[1] + markdown(run, data) + "\n" + m[2], text, flags=re.S)
            if n != 1:
                sys.exit("%s: no place for the tables of %s" % (opt.docs, run))
        with open(opt.docs, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
