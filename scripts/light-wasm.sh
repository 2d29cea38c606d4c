#!/usr/bin/env bash
# Checks that the pure light client compiles for the browser, where that target is installed (rustup target add wasm32-unknown-unknown).
set -euo pipefail
cd "$(dirname "$0")/.."

target=wasm32-unknown-unknown
if ! rustup target list --installed 2>/dev/null | grep -qx "$target"; then
    echo "light-wasm: $target is not installed, not checked"
    exit 0
fi
cargo check --locked --release --quiet --package tercet-light-core --target "$target"
echo "light-wasm: tercet-light-core compiles for $target"
