#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make damage`: damages IMAGES (1000) images at random, repairs them with fsck.calf, judges what is left. The first has the
# seed SEED (the time), the next one the next.
. "$(dirname "$0")/lib.sh"
counts IMAGES
numbers SEED
SEED=${SEED:-$(date +%s)}
say "damage: SEED=$SEED IMAGES=${IMAGES:=1000}"
cd "$CALF_ROOT/tools"
exec env -u RUSTFLAGS -u RUSTUP_TOOLCHAIN CALF_DAMAGE_IMAGES="$IMAGES" CALF_DAMAGE_FIRST="$SEED" \
	"$CARGO" test --locked -p calf-fsck --test repair -- --ignored
