# SPDX-License-Identifier: GPL-2.0
"""Which bytes of a module's code ran, by QEMU's log of what it translated.

QEMU translates a block of instructions when it is about to execute it for the first time, and logs address and bytes
of each instruction (-d in_asm). Where a module was loaded, the log does not say, and it is another place each time; but
the bytes tell, apart from those that the loader fills in (relocations), which are ignored.
"""

import re
import struct

PAGE = 4096
WIDTH = {1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}  # R_X86_64_*: bytes that a relocation fills in
INSTRUCTION = re.compile(rb"^0x([0-9a-f]{16}):  ((?:[0-9a-f]{2}(?: |$))+)", re.M)
TELLING = 10  # so many bytes that are no relocation say where in a module a block lies
VOTES = 20  # so many blocks that say the same prove that the module was there; fewer if it has hardly more


class Code:
    """One piece of a module's code as the loader lays it out: .text with what follows it, or .init.text."""

    def __init__(self, sections):
        self.data, self.fixed = b"", b""  # fixed: 255 where the file's byte is the one in memory
        self.start = {}  # section: offset
        for name, align, data, fixed in sections:
            pad = -len(self.data) % align
            self.data += bytes(pad) + data
            self.fixed += bytes(pad) + fixed
            self.start[name] = len(self.data) - len(data)
        self.ran = bytearray(len(self.data))

    def same(self, at, block):
        """Whether the block is what lies at this offset: how many bytes say so."""
        mine, fixed = self.data[at:at + len(block)], self.fixed[at:at + len(block)]
        if len(mine) != len(block) or number(block) & number(fixed) != number(mine) & number(fixed):
            return 0
        return fixed.count(255)

    def add(self, more):
        """Takes over what ran elsewhere."""
        self.ran = bytearray(a | b for a, b in zip(self.ran, more))


def number(data):
    return int.from_bytes(data, "little")


def module(path):
    """The pieces of code of a relocatable ELF file."""
    with open(path, "rb") as f:
        elf = f.read()
    off, = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", elf, off + i * size) for i in range(count)]
    strings = heads[names][4]
    text = {}
    for i, h in enumerate(heads):
        if h[2] & 4 and h[1] == 1:  # SHF_EXECINSTR, SHT_PROGBITS
            name = elf[strings + h[0]:elf.index(b"\0", strings + h[0])].decode()
            text[i] = [name, max(h[8], 1), elf[h[4]:h[4] + h[5]], bytearray(b"\xff") * h[5]]
    for h in heads:
        if h[1] == 4 and h[7] in text:  # SHT_RELA
            fixed = text[h[7]][3]
            for at in range(h[4], h[4] + h[5], 24):
                where, kind = struct.unpack_from("<QI", elf, at)
                fixed[where:where + WIDTH[kind]] = bytes(WIDTH[kind])
    pieces = [[s for s in text.values() if not s[0].startswith(".init")],
              [s for s in text.values() if s[0].startswith(".init")]]
    return [Code([(n, a, d, bytes(f)) for n, a, d, f in p]) for p in pieces if p]


def blocks(path):
    """(address, bytes) of each logged block."""
    with open(path, "rb") as f:
        for text in f.read().split(b"----------------\n"):
            found = INSTRUCTION.findall(text)
            if found:
                # A long instruction goes on in the next line.
                yield int(found[0][0], 16), bytes.fromhex(b"".join(b for _, b in found).decode())


def places(codes, log):
    """Where the pieces were: {(code, base): votes}."""
    votes, known = {}, {}
    for key in log:
        if key not in known:
            at, block = key
            hits = []
            if len(block) >= TELLING:
                hits = [(c, at - o) for c in codes for o in range(at % PAGE, len(c.data), PAGE)
                        if block[:1] == c.data[o:o + 1] or not c.fixed[o] if c.same(o, block) >= TELLING]
            known[key] = hits[0] if len(hits) == 1 else None
        if known[key]:
            votes[known[key]] = votes.get(known[key], 0) + 1
    return {p: n for p, n in votes.items() if n >= min(VOTES, len(p[0].data) // 50)}


def follow(codes, path):
    """Marks what ran by one boot's log. Returns how many blocks lay in a module and were not its code."""
    log = list(blocks(path))
    found = places(codes, log)
    strange, now, known = 0, None, {}
    for at, block in log:
        if (at, block) not in known:
            inside = [p for p in found if 0 <= at - p[1] < len(p[0].data)]
            known[at, block] = inside, [p for p in inside if p[0].same(at - p[1], block)]
        inside, fit = known[at, block]
        if not fit:
            strange += bool(inside)
            continue
        # Where two loads at different places overlap, the later one is meant.
        if len(fit) == 1 and len(block) >= TELLING:
            now = fit[0]
        code, base = now if now in fit else max(fit, key=found.get)
        code.ran[at - base:at - base + len(block)] = b"\1" * len(block)
    return strange
