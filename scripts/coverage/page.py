# SPDX-License-Identifier: GPL-2.0
"""The report as one page that needs nothing else, and as text."""

import html

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 76em; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse } td, th { padding: .1em .8em .1em 0; text-align: left } .n { text-align: right }
.bar { display: inline-block; width: 9em; height: .8em; background: #e9a3a3 } .bar i { display: block; height: 100%; background: #5aa469 }
tr.sum td { font-weight: 600; padding-top: .7em } a { color: inherit } summary { cursor: pointer; font-weight: 600; margin-top: .6em }
pre { font: 12px/1.4 ui-monospace, monospace; overflow-x: auto; margin: .3em 0 1em } pre b { font-weight: 400; color: #888 }
pre span { display: block; min-height: 1.4em } .y { background: #e3f3e6 } .x { background: #f8d9d9 }
@media (prefers-color-scheme: dark) { body { background: #1c1c1e; color: #ddd } .y { background: #1d3323 } .x { background: #4a2426 } }
"""
SCRIPT = """
const show = () => { const d = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (d && d.tagName == 'DETAILS') { d.open = true; d.scrollIntoView() } };
addEventListener('hashchange', show); show()
"""


def count(files):
    """Lines that ran, lines, functions that ran, functions."""
    one = [v for f in files for v in f["lines"].values()]
    fun = [v[1] for f in files for v in f["functions"].values()]
    return sum(one), len(one), sum(fun), len(fun)


def percent(a, b):
    return "%.1f %%" % (100 * a / b) if b else ""


def folder(name):
    return "/".join(name.split("/")[:2])


def inside(file, line):
    """The first line of the function that a line belongs to."""
    return max((n for n in file["functions"] if n <= line), default=None)


def gaps(file):
    """Runs of lines of one function that did not run: (first, last). Lines without code between two do not part them."""
    found, now = [], None
    for line in sorted(file["lines"]):
        if file["lines"][line]:
            now = None
        elif now and inside(file, line) == inside(file, now[0]):
            now[1] = line
        else:
            now = [line, line]
            found.append(now)
    return found


def row(title, files, sum_of=False):
    a, b, c, d = count(files)
    return ("<tr%s><td>%s</td><td><span class=bar><i style='width:%.1f%%'></i></span></td><td class=n>%d</td><td class=n>%d</td>"
            "<td class=n>%s</td><td class=n>%d</td><td class=n>%d</td></tr>" % (
                " class=sum" if sum_of else "", title, 100 * a / b if b else 0, b - a, b, percent(a, b), d - c, d))


def page(report, sources):
    """`sources`: {file: [line of text]}"""
    files, out = report["files"], []
    say = out.append
    a, b, c, d = count(files.values())
    say("<!doctype html><html lang=en><meta charset=utf-8><title>calf: coverage</title><style>%s</style>" % STYLE)
    say("<h1>Coverage of calf.ko and iomap_check.ko</h1><p>%d of %d lines that have code ran (%s), %d of %d functions.</p>" % (
        a, b, percent(a, b), c, d))
    say("<p>Green: some instruction of the line ran. Red: none did. No colour: the compiler made no code of it. Commit %s.</p>"
        % html.escape(report["commit"]))
    say("<ul>%s</ul>" % "".join("<li>%s: %s</li>" % (html.escape(r["when"]), html.escape(r["what"])) for r in report["runs"]))
    say("<table><tr><th>file<th><th>lines not run<th>of<th><th>functions not run<th>of</tr>")
    for group in sorted({folder(n) for n in files}):
        names = sorted(n for n in files if folder(n) == group)
        say(row(group, [files[n] for n in names], True))
        for n in names:
            say(row("<a href='#%s'>%s</a>" % (n, n), [files[n]]))
    say(row("all", list(files.values()), True) + "</table>")
    for n in sorted(files):
        x, y, _, _ = count([files[n]])
        say("<details id='%s'><summary>%s %s</summary><pre>" % (n, n, percent(x, y)))
        for i, text in enumerate(sources[n], 1):
            ran = files[n]["lines"].get(i)
            say("<span%s><b>%5d</b> %s</span>" % ("" if ran is None else " class=y" if ran else " class=x", i, html.escape(text)))
        say("</pre></details>")
    say("<script>%s</script>" % SCRIPT)
    # In <pre> a line feed would be one line more.
    return "".join(out) + "\n"


def text(report, choice, sources):
    """What did not run, as text: functions, and lines of functions that did run."""
    for n in sorted(report["files"]):
        file = report["files"][n]
        left = gaps(file)
        if choice in n and left:
            a, b, _, _ = count([file])
            yield "%s: %d of %d lines not run (%s run)" % (n, b - a, b, percent(a, b))
            for first, last in left:
                name, ran = file["functions"].get(inside(file, first), ["", True])
                yield "  %4d-%-4d %s%s: %s" % (first, last, name, "" if ran else " NOT CALLED", sources[n][first - 1].strip())
