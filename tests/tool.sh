#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# tool.sh NAME VERSION: builds a test program of crates.io as a static program and prints its path.
set -eu
name=${1:?usage: tool.sh NAME VERSION}
version=${2:?usage: tool.sh NAME VERSION}
cache=${CALF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/calf}
root=$cache/$name-$version
cargo=${CARGO:-/usr/bin/cargo}
command -v "$cargo" >/dev/null 2>&1 || cargo=cargo
if [ ! -x "$root/bin/$name" ]; then
    echo "building $name $version" >&2
    # An explicit target keeps the flags away from procedural macros.
    target=${CALF_TARGET:-$(uname -m)-unknown-linux-gnu}
    rustc=${RUSTC:-/usr/bin/rustc}
    command -v "$rustc" >/dev/null 2>&1 || rustc=rustc
    env -u CARGO_TARGET_DIR RUSTC="$rustc" RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" \
        "$cargo" install "$name" --version "$version" --locked --quiet \
        --target "$target" --root "$root" >&2
fi
echo "$root/bin/$name"
