# SPDX-License-Identifier: GPL-2.0
"""User Mode Linux as the machine of qemu/run: the kernel is a program, its disks are files, its two serial lines
are pipes that are copied into the logs."""

import fcntl
import os
import shutil
import tempfile
import threading

F_SETPIPE_SZ = 1031
NO_SECCOMP = "SECCOMP userspace requested but not functional"


class Uml:
    """The command line and the open files of one UML."""

    def __init__(self, opt, words, console, guest, cpus):
        drives = [(serial, os.path.abspath(path), readonly) for serial, path, readonly in disks(opt)]
        for _, path, _ in drives:
            if set(path) & set(",: "):
                raise OSError(f"{path}: User Mode Linux cannot open a disk of such a name")
        self.folder = tempfile.mkdtemp(prefix="calf-uml-")  # its control socket; the path must be short
        self.fds, self.threads, self.files = [], [], []
        # More than one processor needs seccomp; ptrace is what works everywhere.
        machine = [f"mem={opt.memory}", f"uml_dir={self.folder}/", "noreboot",
                   "seccomp=" + ("on" if cpus > 1 else "auto"), f"ncpus={cpus}", "con=null", "ssl=null"]
        if opt.shell:
            machine.append("ssl0=fd:0,fd:1")
        else:
            machine.append("ssl0=" + self.port(console))
        machine.append("ssl1=" + self.port(guest))
        # r: read-only, c: no lock, for QEMU takes a reader's lock for a writer's.
        for n, (serial, path, readonly) in enumerate(drives):
            machine.append(f"ubd{n}{'rc' if readonly else ''}={path},,{serial}")
        self.args = [opt.program or os.path.abspath(opt.kernel)] + machine + words
        self.env = dict(os.environ)
        shm = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
        if shm < memory_bytes(opt.memory):
            self.env["TMPDIR"] = os.path.abspath(opt.log)

    def port(self, path):
        """A serial line: writes into the file; what it reads never comes. A file itself cannot be polled."""
        silent, never = os.pipe()
        reader, writer = os.pipe()
        fcntl.fcntl(writer, F_SETPIPE_SZ, 1 << 20)
        os.set_inheritable(silent, True)
        os.set_inheritable(writer, True)
        self.fds += [silent, writer]
        self.files.append(never)
        thread = threading.Thread(target=copy, args=(reader, path), daemon=True)
        thread.start()
        self.threads.append(thread)
        return f"fd:{silent},fd:{writer}"

    def started(self):
        """The child has the pipes; only it keeps them open now."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def ended(self):
        """The child is gone: waits until all that it wrote is in the logs."""
        self.started()
        for thread in self.threads:
            thread.join(5)
        for fd in self.files:
            os.close(fd)
        self.files = []
        shutil.rmtree(self.folder, ignore_errors=True)


def copy(reader, path):
    with open(path, "ab", buffering=0) as out:
        while True:
            part = os.read(reader, 1 << 16)
            if not part:
                break
            out.write(part)
    os.close(reader)


def disks(opt):
    """Serial, file, read-only: in the order in which the kernel names them."""
    fixed = [("calfroot", opt.root, True), ("calfpayload", opt.payload, True)]
    return fixed + [(*d.split("=", 1), False) for d in opt.disk] + [(*d.split("=", 1), True) for d in opt.disk_ro]


def memory_bytes(text):
    return int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1].upper()]
