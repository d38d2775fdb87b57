# SPDX-License-Identifier: GPL-2.0
# What a person calls. How the module is built is said in Kbuild.

CALF_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/calf
export CALF_CACHE

# The toolchain of Debian 12; a rustup toolchain that comes first in PATH is never used.
export LLVM ?= -22
export RUSTC ?= /usr/bin/rustc
export CARGO ?= /usr/bin/cargo
export BINDGEN ?= $(CALF_CACHE)/bindgen/bin/bindgen
export LIBCLANG_PATH ?= /usr/lib/llvm-22/lib
export CALF_T0 := $(or $(CALF_T0),$(shell date +%s))

# Kbuild asks for 1: what else somebody means by on would build without it.
$(foreach v,CALF_LAB CALF_DEBUG,$(if $(filter-out 0 1,$($v)),$(error $v=$($v): give 1 (on), or 0 or nothing (off))))

# KDIR: a configured and built kernel 7.3 tree. Without it, the test kernel in the cache.
ifdef KDIR
export KDIR
endif
kdir = $(or $(KDIR),$(shell RUNNER=$(RUNNER) KERNEL_CONFIG=$(KERNEL_CONFIG) VARIANT=$(VARIANT) scripts/kernel.sh --path 2>/dev/null))
# A User Mode Linux tree says so itself.
arch = $(if $(shell grep -s '^CONFIG_UML=y' $(kdir)/include/config/auto.conf),ARCH=um)
module_build := $(if $(filter 1,$(CALF_LAB)),lab,release)
krelease = $(or $(shell cat $(kdir)/include/config/kernel.release 2>/dev/null),unknown)
MO ?= build/$(krelease)-$(module_build)

# The Rust tools beside $(RUSTC), so that PATH does not matter.
rustbin = $(patsubst %/,%,$(dir $(RUSTC)))
kbuild = +$(MAKE) --no-print-directory -C $(kdir) M=$(CURDIR) MO=$(abspath $(MO)) LLVM=$(LLVM) RUSTC=$(RUSTC) \
	BINDGEN=$(BINDGEN) $(arch) CLIPPY_DRIVER=$(rustbin)/clippy-driver $(if $(filter 1,$(CALF_LAB)),CALF_LAB=1) \
	$(if $(filter 1,$(CALF_DEBUG)),CALF_DEBUG=1) $(if $(CLIPPY),CLIPPY=$(CLIPPY)) $(if $(W),W=$(W))

.DEFAULT_GOAL := help
.PHONY: help run lab-table test mutation coverage fstests crash replay damage fuzz compare bench profile soak nightly shell gdb deps kernel preflight tools modules modules_install clean \
	rust-analyzer fmt fmtcheck clippy check-layers

help:
	@echo 'calf: a small reflink filesystem for Linux 7.3, to study the iomap contract'
	@echo
	@echo '  make run              boot a VM, run the reproducers, check the disk, print the table'
	@echo '                        REPRO=NAME[,NAME] only these; LIMIT= seconds for all of them (600)'
	@echo '  make lab-table        every switch TIMES= times (100) on and off, into docs/bugs/long-run.md'
	@echo '  make test             host tests and VM tests; the last line is the sum; JOBS= VMs side by side (2)'
	@echo '                        T=NAME[,NAME] only these VM tests; LAB=1 with the laboratory module, which'
	@echo '                        watches the contracts'
	@echo '  make mutation         each bug under fsx, model and pjdfstest: who notices, into docs/bugs/mutation.md'
	@echo '  make coverage         which lines of the module VM tests run (T= LAB=1), a page: build/coverage/index.html; UML unless RUNNER=qemu'
	@echo '  make crash            kill the VM under load KILLS= times (50) and judge what is left; SEED= repeats a run'
	@echo '  make replay           replay device logs of SEQUENCES= pairs of operations (1296: each once)'
	@echo '                        to every flush, and torn between; SEED= TORN= FIRST= STATE= (see tests/README.md); HOURS= at most (168)'
	@echo '  make damage           damage IMAGES= images (1000) at random, repair them with fsck.calf, judge what is left; SEED='
	@echo '  make fuzz             look for inputs that break the shared code, fsck.calf and the replay of journals, guided by'
	@echo '                        coverage: TARGET=NAME[,NAME] SECONDS= (300) for each, JOBS= at a time; TARGET=NAME INPUT=FILE repeats one'
	@echo '  make compare          pjdfstest on calf and on XFS, side by side, into docs/pjdfstest.md'
	@echo '  make bench            calf beside XFS, ext4 and btrfs: time, I/O; instructions with CALF_ACCEL=icount; CASES= FS='
	@echo '                        ROUNDS= SIZE=full (see docs/performance.md); DEVICE=null: a disk in memory; HOURS= at most (12)'
	@echo '  make profile CASES=   instructions of each function, calf beside XFS; TOP= functions of each (40)'
	@echo '  make fstests FSTESTS=  your built fstests tree on calf, in VMs: GROUP= TESTS= EXCLUDE= SECTION= FSTYP= JOBS= ...'
	@echo '                        (see docs/fstests.md)'
	@echo '  make soak             long runs: model test, fsx, a million names and extents, damaged fields, faults; T= only these;'
	@echo '                        SEEDS= STEPS= OPS= PART= FIRST= IMAGES= SEED= MODEL= (see scripts/soak.sh); HOURS= for each at most (24)'
	@echo '  make nightly          every suite in full, hours; SUITES= only these, FSTESTS= with fstests; writes docs/status.md'
	@echo '  make shell            a shell in the VM: module loaded, test disk mounted (CALF_LAB=1: with switches)'
	@echo '                        GDB=1 serves gdb (QEMU only) on port GDB_PORT= (1234); make gdb with the same variables attaches;'
	@echo '                        CALF_DEBUG=1 in front of both: with line numbers of the module'
	@echo
	@echo '  make modules          build calf.ko into MO= (default: build/<kernel>-release or -lab)'
	@echo '  make modules_install  install it (INSTALL_MOD_PATH=)'
	@echo '  make tools            build mkfs.calf, fsck.calf, calf-growfs, calf-dump, calf-damage, iomap-trace into build/bin'
	@echo '  make deps | kernel    install what is missing | fetch and build the test kernel'
	@echo '  make preflight        say what is missing in KDIR'
	@echo '  make fmt | fmtcheck | clippy | check-layers | rust-analyzer | clean'
	@echo
	@echo '  KDIR=            a built kernel 7.3 tree in place of the test kernel'
	@echo '  RUNNER=          qemu; uml: the kernel as a program, several times faster where there is no KVM;'
	@echo '                   auto: QEMU, but UML for long suites where there is no KVM (default: qemu)'
	@echo '  VARIANT=         a test kernel that watches, of its own build: debug (lockdep, kmemleak, lists, objects ...)'
	@echo '                   or kasan (each access to memory); slow'
	@echo '  KERNEL_CONFIG=full  a test kernel with XFS, btrfs and overlayfs as well (UML has them, but with VARIANT)'
	@echo '  KERNEL_TARBALL=  a linux-7.3.x tarball in place of the Debian source package'
	@echo '  CALF_CACHE=      where sources, kernels and images are kept (now $(CALF_CACHE))'
	@echo '  CALF_LAB=1       build the laboratory: switches that break contracts on purpose'
	@echo '  CPUS=            processors of the VM (2); one is enough for programs of one thread, and costs less'
	@echo '  CALF_ACCEL=      icount: QEMU with a clock that counts instructions, to measure what code costs (with CPUS=1)'
	@echo '  CALF_TIME_SCALE= multiply the time limits of VM tests, for a slow or busy machine'
	@echo '  CALF_DISK_SIZE=  of the test disks of the VM, which are sparse (2G)'
	@echo '  CALF_JOBS=       what make may build at a time (now $(or $(CALF_JOBS),$(shell nproc)))'

run:
	+@scripts/run.sh

lab-table:
	+@scripts/lab-table.sh

test:
	+@scripts/test.sh

crash:
	+@scripts/crash.sh

replay:
	+@scripts/replay.sh

compare:
	+@scripts/compare-pjdfstest.sh

mutation:
	+@scripts/mutation.sh

coverage:
	+@scripts/coverage.sh

bench:
	+@scripts/bench.sh

# Whose instructions a case of the bench executes: CASES=write-4k
profile:
	+@scripts/profile.sh

damage:
	@scripts/damage.sh

fuzz:
	+@FUZZ_SECONDS='$(or $(SECONDS),300)' scripts/fuzz.sh

fstests:
	+@scripts/fstests.sh

soak:
	+@scripts/soak.sh

nightly:
	+@scripts/nightly.py

shell:
	+@scripts/shell.sh $(module_build)

gdb:
	@scripts/gdb.sh $(module_build)

deps:
	@scripts/deps.sh

kernel: deps
	+@scripts/kernel.sh

preflight:
	@scripts/preflight.sh "$(kdir)"

tools:
	@scripts/tools.sh

modules: preflight
	$(kbuild) modules

modules_install: preflight
	$(kbuild) modules_install

# The kernel's script describes the sources as they lie here, so no output folder.
rust-analyzer: preflight
	+$(MAKE) --no-print-directory -C $(kdir) M=$(CURDIR) LLVM=$(LLVM) RUSTC=$(RUSTC) BINDGEN=$(BINDGEN) $(arch) rust-analyzer

clean:
	rm -rf build tools/target tests/target rust-project.json

rustfiles = $(shell git ls-files -co --exclude-standard '*.rs' 2>/dev/null || find rust tools tests -name '*.rs')
fmt:
	$(rustbin)/rustfmt --edition 2021 $(rustfiles)

fmtcheck:
	@$(rustbin)/rustfmt --edition 2021 --check --color never $(rustfiles)

clippy: preflight
	scripts/clippy.sh
	$(MAKE) --no-print-directory modules MO=build/$(krelease)-clippy CLIPPY=1 W=e

check-layers:
	@scripts/check-layers.sh $(wildcard build/$(krelease)-release/calf.ko build/$(krelease)-lab/calf.ko)
