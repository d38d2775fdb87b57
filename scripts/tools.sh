#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make tools`: builds the programs for user space into build/bin, under the names that the docs use.
. "$(dirname "$0")/vm.sh"
"$CARGO" --version >/dev/null 2>&1 || die "no cargo at $CARGO: run 'make deps', or give CARGO= and RUSTC="
need_cache
lock "cargo-$(digest <<<"$BUILD")"
build_bin "$BUILD"
say "tools: $BUILD/bin: $(cd "$BUILD/bin" && echo *)"
