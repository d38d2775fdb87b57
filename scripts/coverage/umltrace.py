#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Starts a User Mode Linux (the program $CALF_TRACE_KERNEL, with our arguments) and writes down which code of the modules
$CALF_TRACE_MODULES (separated by colons) it executes, into a file in the folder $CALF_TRACE.

That kernel is a process, so a debugger can trace it: when a module is loaded, a breakpoint is put on each of its instructions
that has not run yet, and taken away when it is hit, with those up to the next jump or call. So what has run costs nothing
any more. The kernel must have one processor.
"""

import ctypes
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import qemulog  # noqa: E402

LLVM = os.environ.get("LLVM", "-22")
CONT, GETREGS, SETREGS, SEIZE = 7, 12, 13, 0x4206
TRACEEXEC, EXITKILL = 0x10, 0x100000
EVENT_EXEC = 4
WALL = 0x40000000
RBP, RDI, RIP, RSP = 4, 14, 16, 19
TRAP, PUSH_RBP = 0xcc, 0x55
SAVE = 20  # seconds between two savings of what has run
JUMP = re.compile(r"(j|call|ret|ud2|loop|hlt|int)")

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long


def ptrace(request, pid, address=0, data=0):
    if LIBC.ptrace(request, pid, address, data) == -1:
        raise OSError(ctypes.get_errno(), "ptrace")


def llvm(tool, *args):
    return subprocess.run(["llvm-" + tool + LLVM, *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def runs(path, codes):
    """{code: {offset: end of the run of instructions that begins there}}, an entry for each instruction."""
    found = {c: {} for c in codes}
    code = start = None
    todo = []
    for line in llvm("objdump", "-d", "--no-show-raw-insn", path).splitlines() + ["Disassembly of section :"]:
        if line.startswith("Disassembly of section "):
            todo = []
            name = line[23:-1]
            code = next((c for c in codes if name in c.start), None)
            start = code.start[name] if code else 0
            continue
        part = line.split()
        if code and len(part) > 1 and line.startswith(" ") and part[0].endswith(":"):
            todo.append(start + int(part[0][:-1], 16))
            if JUMP.match(part[1]):
                for at in todo:
                    found[code][at] = todo[-1]
                todo = []
    return found


class Tracer:
    def __init__(self, kernel, modules):
        self.modules = [(m, qemulog.module(m)) for m in modules]
        self.runs = {}
        for path, codes in self.modules:
            self.runs.update(runs(path, codes))
        self.hook = int(re.search(r"^([0-9a-f]+) . do_init_module$", llvm("nm", kernel), re.M)[1], 16)
        self.breakpoints = {}  # address: (code, offset, base, byte)
        self.out = tempfile.mktemp(suffix=".ran", dir=os.environ["CALF_TRACE"])
        self.saved = time.monotonic()
        self.dirty = False

    def registers(self):
        regs = (ctypes.c_uint64 * 27)()
        ptrace(GETREGS, self.pid, 0, ctypes.addressof(regs))
        return regs

    def started(self):
        """The program has just been executed, perhaps again."""
        self.mem = os.open("/proc/%d/mem" % self.pid, os.O_RDWR)
        if os.pread(self.mem, 1, self.hook)[0] != PUSH_RBP:
            sys.exit("umltrace: do_init_module does not begin as expected")
        os.pwrite(self.mem, bytes([TRAP]), self.hook)

    def loaded(self, module):
        """A module is about to be initialized: finds its code by what its struct module points to."""
        self.save()
        for at, in struct.iter_unpack("<Q", os.pread(self.mem, 2048, module)):
            if not at or at % qemulog.PAGE:
                continue
            for code in (c for _, codes in self.modules for c in codes):
                try:
                    data = os.pread(self.mem, len(code.data), at)
                except OSError:
                    continue
                if code.same(0, data):
                    self.plant(code, at, bytearray(data))

    def plant(self, code, base, data):
        for at in range(base, base + len(data)):
            self.breakpoints.pop(at, None)
        for at in self.runs[code]:
            if not code.ran[at]:
                self.breakpoints[base + at] = code, at, base, data[at]
                data[at] = TRAP
        os.pwrite(self.mem, bytes(data), base)

    def hit(self, address):
        """Whether a breakpoint of ours was hit; it is gone then."""
        if address not in self.breakpoints:
            return False
        code, first, base, _ = self.breakpoints[address]
        last = self.runs[code][first]
        data = bytearray(os.pread(self.mem, last + 1 - first, address))
        for i in range(len(data)):
            old = self.breakpoints.pop(address + i, None)
            if old:
                data[i] = old[3]
        os.pwrite(self.mem, bytes(data), address)
        # All bytes of the last instruction, too: it ends where the next one begins.
        code.ran[first:last + 1] = b"\1" * (last + 1 - first)
        self.dirty = True
        if time.monotonic() - self.saved > SAVE:
            self.save()
        return True

    def trap(self):
        """A SIGTRAP: whether it was ours."""
        regs = self.registers()
        address = regs[RIP] - 1
        if address == self.hook:
            # In place of its first instruction, which the breakpoint replaces.
            regs[RSP] -= 8
            os.pwrite(self.mem, struct.pack("<Q", regs[RBP]), regs[RSP])
            ptrace(SETREGS, self.pid, 0, ctypes.addressof(regs))
            self.loaded(regs[RDI])
            return True
        if not self.hit(address):
            return False
        regs[RIP] = address
        ptrace(SETREGS, self.pid, 0, ctypes.addressof(regs))
        return True

    def save(self):
        self.saved = time.monotonic()
        if self.dirty:
            with open(self.out + ".new", "w") as f:
                json.dump({path: [bytes(c.ran).hex() for c in codes] for path, codes in self.modules}, f)
            os.rename(self.out + ".new", self.out)
            self.dirty = False

    def run(self, command):
        """Executes the command under trace; returns its exit status."""
        ready, go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(go)
            os.read(ready, 1)
            os.close(ready)
            os.execv(command[0], command)
        os.close(ready)
        ptrace(SEIZE, self.pid, 0, TRACEEXEC | EXITKILL)
        os.close(go)
        while True:
            _, status = os.waitpid(self.pid, WALL)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                self.save()
                return os.waitstatus_to_exitcode(status) & 255
            number, event = os.WSTOPSIG(status), status >> 16
            if event == EVENT_EXEC:
                self.started()
            if event or number == signal.SIGTRAP and self.trap():
                number = 0
            ptrace(CONT, self.pid, 0, number)


if __name__ == "__main__":
    kernel = os.environ["CALF_TRACE_KERNEL"]
    sys.exit(Tracer(kernel, os.environ["CALF_TRACE_MODULES"].split(":")).run([kernel] + sys.argv[1:]))
