#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""qemulog.py on made-up modules and logs, page.py on a made-up report; prints KTAP."""

import sys
import tempfile

sys.dont_write_bytecode = True
import page  # noqa: E402
import qemulog  # noqa: E402


def code(seed, size=9000):
    """Code of bytes that differ everywhere, with a relocation of four bytes in each 64."""
    data, fixed = bytearray(size), bytearray(b"\xff") * size
    for i in range(size):
        seed = (seed * 1103515245 + 12345) % (1 << 31)
        data[i] = seed >> 16 & 255
        if i % 64 in (20, 21, 22, 23):
            data[i] = fixed[i] = 0
    return qemulog.Code([(".text", 16, bytes(data), bytes(fixed))])


def logged(code, base, at, size):
    """A block as QEMU writes it, with a first instruction of more than eight bytes, loaded at `base`."""
    block = bytes(b if f else 0xcc for b, f in zip(code.data[at:at + size], code.fixed[at:at + size]))
    lines = [block[:8], block[8:11], block[11:]]
    text = "----------------\nIN: \n"
    for i, part in enumerate(lines):
        text += "0x%016x:  %s" % (base + at, " ".join("%02x" % b for b in part))
        base += len(part)
        text += "\n" if i == 1 else "  movq     $1, %rax\n"
    return text + "\n"


def follow(codes, text):
    with tempfile.NamedTemporaryFile("w", suffix=".trace") as f:
        f.write(text)
        f.flush()
        return qemulog.follow(codes, f.name)


def ran(code):
    return [i for i in range(0, len(code.data), 64) if code.ran[i + 4]]


def main():
    points = []
    a, b, foreign = code(1), code(2), code(3)
    at = [64 * i for i in range(0, 120, 4)]
    # One module after the other at the same place, then the first one elsewhere, and between them one that is not known.
    text = "".join(logged(a, 0xffffffffa0000000, i, 16) for i in at[:25])
    text += "".join(logged(foreign, 0xffffffffa0100000, i, 40) for i in at)
    text += "".join(logged(b, 0xffffffffa0000000, i, 40) for i in at[5:])
    text += "".join(logged(a, 0xffffffffa0200000, i, 40) for i in at[3:28])
    strange = follow([a, b], text)
    points.append(("each block marks the module that it is of, wherever that lies", (ran(a), ran(b)) == (at[:28], at[5:])))
    points.append(("a module that is not known marks nothing", strange == 0))
    points.append(("only the bytes of a block are marked", list(a.ran[at[1] + 15:at[1] + 17]) == [1, 0]))
    a, b = code(1), code(2)
    wrong = follow([a, b], text + logged(foreign, 0xffffffffa0000000, at[1], 40))
    points.append(("a block that does not fit where a module was is counted", wrong == 1))
    few = code(1)
    follow([few], "".join(logged(few, 0xffffffffa0000000, i, 40) for i in at[:5]))
    points.append(("a few blocks prove no place", ran(few) == []))
    file = {"lines": {3: True, 4: False, 6: False, 7: True, 8: False, 9: False, 10: False}, "functions": {2: ["f", True], 8: ["g", False], 10: ["h", False]}}
    points.append(("lines that did not run are told with their function", list(page.text({"files": {"rust/x.rs": file}}, "x", {
        "rust/x.rs": ["line %d" % i for i in range(1, 12)]})) == [
            "rust/x.rs: 5 of 7 lines not run (28.6 % run)", "     4-6    f: line 4", "     8-9    g NOT CALLED: line 8",
            "    10-10   h NOT CALLED: line 10"]))
    points.append(("sums", page.count([file]) == (2, 7, 1, 3)))
    print("1..%d" % len(points))
    for i, (name, good) in enumerate(points, 1):
        print("%sok %d - %s" % ("" if good else "not ", i, name))
    return 0 if all(good for _, good in points) else 1


sys.exit(main())
