# SPDX-License-Identifier: GPL-2.0
# What a person calls. How the module is built is said in Kbuild.

CALF_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/calf
export CALF_CACHE

# The toolchain of Debian 12; a rustup toolchain that comes first in PATH is never used.
LLVM ?= -22
RUSTC ?= /usr/bin/rustc
CARGO ?= /usr/bin/cargo
BINDGEN ?= $(CALF_CACHE)/bindgen/bin/bindgen
VARIANT := $(if $(filter 1,$(CALF_LAB)),lab,release)

# KDIR: a configured and built kernel 7.3 tree. Without it, the test kernel in the cache is used.
KDIR ?= $(shell scripts/kernel.sh --path 2>/dev/null)
KRELEASE = $(shell cat $(KDIR)/include/config/kernel.release 2>/dev/null)
MO ?= build/$(or $(KRELEASE),unknown)-$(VARIANT)

kbuild = $(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(abspath $(MO)) LLVM=$(LLVM) RUSTC=$(RUSTC) \
	BINDGEN=$(BINDGEN) $(if $(CALF_LAB),CALF_LAB=$(CALF_LAB))

.PHONY: modules
modules:
	$(kbuild) modules
