#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Builds fsx (the Rust one, from crates.io) as a static program and prints its path.
set -eu
version=0.3.2
cache=${CALF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/calf}
root=$cache/fsx-$version
cargo=${CARGO:-/usr/bin/cargo}
command -v "$cargo" >/dev/null 2>&1 || cargo=cargo
if [ ! -x "$root/bin/fsx" ]; then
    echo "building fsx $version" >&2
    # An explicit target keeps the flags away from procedural macros.
    target=${CALF_TARGET:-$(uname -m)-unknown-linux-gnu}
    rustc=${RUSTC:-/usr/bin/rustc}
    command -v "$rustc" >/dev/null 2>&1 || rustc=rustc
    env -u CARGO_TARGET_DIR RUSTC="$rustc" RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" \
        "$cargo" install fsx --version "$version" --locked --quiet \
        --target "$target" --root "$root" >&2
fi
echo "$root/bin/fsx"
