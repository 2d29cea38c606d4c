#!/usr/bin/env bash
# Runs cargo-deny: `cargo-deny.sh TOOLS_DIR check bans licenses sources` or `cargo-deny.sh TOOLS_DIR advisories`. Installs the pinned
# version into TOOLS_DIR first where it is missing.
set -euo pipefail

readonly VERSION=0.20.2
readonly TOOLS_DIR="$1"
readonly DENY="$TOOLS_DIR/bin/cargo-deny"
shift

if [ "$("$DENY" --version 2>/dev/null)" != "cargo-deny $VERSION" ]; then
    echo "cargo-deny $VERSION is missing: compiling it once into $TOOLS_DIR (a few minutes)" >&2
    CARGO_TARGET_DIR="$TOOLS_DIR/target" cargo install cargo-deny --locked --version "$VERSION" --root "$TOOLS_DIR"
fi

if [ "$*" = advisories ]; then
    if ! "$DENY" --log-level error fetch db; then
        echo "advisories: the database https://github.com/RustSec/advisory-db cannot be reached from here; NOTHING WAS CHECKED" >&2
        exit 1
    fi
    exec "$DENY" --locked check --disable-fetch advisories
fi
exec "$DENY" --locked "$@"
