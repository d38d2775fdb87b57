#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# clippy on the Cargo workspaces; warnings are errors.
. "$(dirname "$0")/lib.sh"
for w in tools tests; do
	(cd "$CALF_ROOT/$w" && env -u RUSTFLAGS -u RUSTUP_TOOLCHAIN CARGO_TARGET_DIR="$CALF_ROOT/build/target-$w" \
		"$(dirname "$RUSTC")/cargo-clippy" clippy --locked --quiet --all-targets -- -D warnings)
done
