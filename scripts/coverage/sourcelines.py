# SPDX-License-Identifier: GPL-2.0
"""From bytes of code that ran to source lines, by the module's debug information.

A line has run if any instruction did that was made of it, or of a function inlined at it. Lines and functions of which
the compiler made no code do not count, nor does code of other source trees (core, the kernel).
"""

import json
import os
import re
import subprocess
import tempfile

LLVM = os.environ.get("LLVM", "-22")
SPAN = 0x1000000  # more than a section of code has


def linked(path, base, out):
    """Links the module, its sections of code at fixed places, so that its debug information has addresses."""
    subprocess.run(["ld.lld" + LLVM, "--unresolved-symbols=ignore-all", "--image-base=0x10000", "-e", "0", "-o", out, path]
                   + ["--section-start=%s=%#x" % b for b in base.items()], check=True)


def frames(elf):
    """(address, frames from inner to outer) of each place where the source line changes, in order."""
    table = subprocess.run(["llvm-dwarfdump" + LLVM, "--debug-line", elf], check=True, stdout=subprocess.PIPE).stdout
    at = sorted({int(a, 16) for a in re.findall(rb"^0x([0-9a-f]{16}) ", table, re.M)})
    answer = subprocess.run(["llvm-symbolizer" + LLVM, "--output-style=JSON", "--obj=" + elf], check=True,
                            input="".join("%#x\n" % a for a in at), stdout=subprocess.PIPE, text=True).stdout
    for address, line in zip(at, answer.splitlines()):
        yield address, json.loads(line).get("Symbol", [])


def function_name(name):
    """The last part of a path, without type arguments: <calf::fs::x::Y<Z>>::go::{closure#0} is go (closure)."""
    while "<" in name.replace("->", ""):
        new = re.sub(r"<[^<>]*>", "", name.replace("->", ""))
        if new == name:
            break
        name = new
    part = [p for p in name.split("::") if p]
    plain = [p for p in part if not p.startswith("{")] or [name]
    return plain[-1] + (" (closure)" if part and part[-1].startswith("{closure") else "")


def lines(path, codes, root):
    """What of rust/ is in a module and ran: {file: {"lines": {line: bool}, "functions": {first line: [name, bool]}}}"""
    found, places = {}, [(code, name) for code in codes for name in code.start]
    base = {name: i * SPAN for i, (_, name) in enumerate(places, 1)}
    with tempfile.TemporaryDirectory() as folder:
        elf = os.path.join(folder, "elf")
        linked(path, base, elf)
        at = list(frames(elf))
    for (address, stack), (end, _) in zip(at, at[1:] + [(1 << 62, None)]):
        ran = False
        for code, name in places:
            if 0 <= address - base[name] < SPAN:
                where = code.start[name] + address - base[name]
                ran = any(code.ran[where:where + end - address])
        for f in stack:
            name = os.path.normpath(f["FileName"])
            if not name.startswith(root + "/rust/") or not f["Line"]:
                continue
            file = found.setdefault(os.path.relpath(name, root), {"lines": {}, "functions": {}})
            file["lines"][f["Line"]] = file["lines"].get(f["Line"], False) or ran
            if f["StartFileName"] == f["FileName"]:
                known = file["functions"].setdefault(f["StartLine"], [function_name(f["FunctionName"]), False])
                known[1] = known[1] or ran
    return found
