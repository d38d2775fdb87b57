#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make damage`: damages IMAGES (1000) images at random, repairs them with fsck.calf, judges what is left.
. "$(dirname "$0")/lib.sh"
counts IMAGES
cd "$CALF_ROOT/tools"
exec env -u RUSTFLAGS -u RUSTUP_TOOLCHAIN CALF_DAMAGE_IMAGES="${IMAGES:-1000}" \
	"$CARGO" test --locked -p calf-fsck --test repair -- --ignored
