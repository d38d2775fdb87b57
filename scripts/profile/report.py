#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Whose instructions a case of `make bench` has executed, from what scripts/profile/plugin.c counted.

For each case and filesystem: functions, with instructions and calls for one operation; then whose code that is, the
filesystems beside each other.
"""

import argparse
import bisect
import functools
import glob
import os
import re
import subprocess
import sys

# A function belongs to the first of these that knows it.
GROUPS = [
    ("filesystem", lambda m, f: m in ("calf", "xfs", "ext4", "btrfs")),
    ("device", lambda m, f: m == "null_blk" or re.match(r"blk_|radix_tree_|bio_|submit_bio|sbitmap", f)),
    ("copies", lambda m, f: re.match(r"memcpy|memmove|rep_movs|copy_from_|copy_to_", f)),
    ("zeroing", lambda m, f: f.startswith("memset") or f == "clear_page_orig"),
    ("checksums", lambda m, f: "crc32c" in f),
    ("journal", lambda m, f: "jbd2" in f or f == "start_this_handle"),
    ("allocation", lambda m, f: re.search(r"kmalloc|kfree|kmem_cache|krealloc|kvrealloc|slab", f)),
    ("buffer cache", lambda m, f: re.search(r"get_block|getblk|brelse|folio_mark_accessed|buffer_head", f)),
    ("scheduler", lambda m, f: re.search(r"sched|task|load_avg|curr|wake|entity|_rq|cfs", f)),
    ("other", lambda m, f: True),
]


def llvm(tool, *args, **more):
    """What one of LLVM's tools says."""
    return subprocess.run(["llvm-" + tool + os.environ["LLVM"], *args], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


class Symbols:
    """What an object has in .text, by address; in a module, by offset."""

    def __init__(self, path):
        found = re.findall(r"^([0-9a-f]+) .{7} \.text\t[0-9a-f]+ (?:\.hidden )?([^.\s]\S*)$", llvm("objdump", "-t", path), re.M)
        names = llvm("cxxfilt", input="\n".join(name for _, name in found)).splitlines()
        self.list = sorted((int(at, 16), name[:100]) for (at, _), name in zip(found, names))
        self.at = [a for a, _ in self.list]

    def find(self, offset):
        """Start and name of the function at an offset."""
        i = bisect.bisect(self.at, offset) - 1
        return self.list[i] if i >= 0 else (offset, "?")


class Code:
    """Everything that may have run."""

    def __init__(self, kernel, modules):
        self.kernel, self.modules = kernel, modules
        self.vmlinux = Symbols(os.path.join(kernel, "vmlinux"))

    @functools.lru_cache(None)
    def module(self, name):
        for pattern in (os.path.join(self.modules, name + ".ko"), "%s/fs/%s/%s.ko" % (self.kernel, name, name),
                        "%s/drivers/*/*/%s.ko" % (self.kernel, name), "%s/lib/**/%s.ko" % (self.kernel, name)):
            for path in glob.glob(pattern):
                return Symbols(path)
        return None

    def find(self, address, loaded):
        """Module, function, and whether the address is its start."""
        if address < 1 << 47:
            return "user", "user space", False
        for name, (base, size) in loaded.items():
            symbols = base <= address < base + size and self.module(name)
            if symbols:
                start, function = symbols.find(address - base)
                return name, function, start == address - base
        start, function = self.vmlinux.find(address)
        return "", function, start == address


def turns(log):
    """What was measured, in order: case, filesystem, operations, modules loaded."""
    loaded, marks = {}, 0
    with open(log, errors="replace") as f:
        for line in f:
            w = line.split()
            if line.startswith("CALF-MARK"):
                marks += 1
            elif line.startswith("CALF-MODULE "):
                loaded[w[1]] = (int(w[3], 16), int(w[2]))
            elif line.startswith("CALF-BENCH "):
                d = dict(x.split("=", 1) for x in w[1:])
                # A case that measures otherwise leaves no region.
                yield d["case"], d["fs"], int(d["ops"]), loaded, marks // 2
                loaded, marks = {}, 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for o in ("kernel", "modules", "log", "regions"):
        p.add_argument("--" + o, required=True)
    p.add_argument("--top", type=int, default=40)
    opt = p.parse_args()
    code = Code(opt.kernel, opt.modules)
    region, tables = 0, {}
    for case, fs, ops, loaded, regions in turns(opt.log):
        total, calls, groups = {}, {}, {}
        for n in range(region, region + regions):
            with open("%s.%d" % (opt.regions, n)) as f:
                for line in f:
                    address, instructions, runs = line.split()
                    module, function, start = code.find(int(address, 16), loaded)
                    key = (module + ": " if module else "") + function
                    cost = int(instructions) * int(runs)
                    total[key] = total.get(key, 0) + cost
                    if start:
                        calls[key] = calls.get(key, 0) + int(runs)
                    group = next(g for g, has in GROUPS if has(module, function))
                    groups[group] = groups.get(group, 0) + cost
        region += regions
        if not total:
            continue
        tables.setdefault(case, {})[fs] = {g: c / ops for g, c in groups.items()}
        print("\n%s on %s: %d instructions for each of %d operations" % (case, fs, sum(total.values()) / ops, ops))
        for key, cost in sorted(total.items(), key=lambda x: -x[1])[:opt.top]:
            print("  %10.1f  %8.2f calls  %s" % (cost / ops, calls.get(key, 0) / ops, key))
    if not tables:
        sys.exit("profile: nothing was counted between two marks")
    for case, by_fs in tables.items():
        print("\n%s: instructions of an operation" % case)
        print("  %-14s%s" % ("", "".join("%10s" % fs for fs in by_fs)))
        for group, _ in GROUPS:
            if any(group in g for g in by_fs.values()):
                print("  %-14s%s" % (group, "".join("%10d" % g.get(group, 0) for g in by_fs.values())))


if __name__ == "__main__":
    main()
