#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# payload.sh DEST: builds the test programs and puts them into DEST/tests (programs, scripts and
# the list of tests), DEST/host (the driver of the crash test) and DEST/bin (fsx, pjdfstest).
set -eu
dest=${1:?usage: payload.sh DEST}
here=$(cd "$(dirname "$0")" && pwd)
cargo=${CARGO:-/usr/bin/cargo}
command -v "$cargo" >/dev/null 2>&1 || cargo=cargo
rustc=${RUSTC:-/usr/bin/rustc}
command -v "$rustc" >/dev/null 2>&1 || rustc=rustc
target=${CARGO_TARGET_DIR:-$here/../build/target-tests}
triple=x86_64-unknown-linux-gnu

(cd "$here" && env -u RUSTFLAGS RUSTC="$rustc" CARGO_TARGET_DIR="$target" \
    "$cargo" build --release --locked --quiet)
mkdir -p "$dest/tests" "$dest/bin"
out=$target/$triple/release
for p in "$here"/vm/src/bin/*.rs; do
    name=$(basename "$p" .rs)
    cp "$out/$name" "$dest/tests/$name"
done
cp "$out/crash" "$out/bench" "$dest/tests/"
cp "$out/calf-lab" "$dest/bin/"
# What calf-lab shows, and the test of the tour.
mkdir -p "$dest/tests/doc"
cp "$here"/../docs/tour.md "$here"/../docs/bugs/*.md "$dest/tests/doc/"
# What runs on the host.
mkdir -p "$dest/host"
cp "$out/calf-crash" "$dest/host/"
for p in "$here"/vm/*.sh; do
    install -m 755 "$p" "$dest/tests/$(basename "$p" .sh)"
done
cp "$here/vm/list" "$dest/tests/list"
cp "$("$here/tool.sh" fsx 0.3.2)" "$("$here/tool.sh" pjdfstest 0.2.2)" "$dest/bin/"
