#!/usr/bin/env bash
# Makes this machine ready to build Tercet: a C++ compiler and libclang (for RocksDB), and cargo. Installs with apt what is missing
# and nothing else; silent where nothing is. TERCET_NO_APT=1 forbids the installation. `prepare.sh browser` wants chromium too.
set -euo pipefail

readonly CXX="${CXX:-clang++}"
readonly RUST_MINOR_MIN=88

say() { echo "prepare: $*"; }
fail() {
    echo "prepare: $*" >&2
    exit 1
}

# A compiler that finds its own standard library, not merely a program of that name.
has_cxx() {
    command -v "$CXX" >/dev/null && echo '#include <string>' | "$CXX" -x c++ -std=c++20 -fsyntax-only - 2>/dev/null
}

has_linker() { command -v cc >/dev/null; }

has_libclang() {
    compgen -G "${LIBCLANG_PATH:-/nonexistent}/libclang*" >/dev/null ||
        compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib*/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*-linux-gnu/libclang-*.so*' >/dev/null ||
        compgen -G '/opt/homebrew/opt/llvm/lib/libclang*' >/dev/null
}

missing_packages() {
    { has_cxx && has_linker; } || echo clang
    has_libclang || echo libclang-dev
}

install_packages() {
    local packages="$*" as_root=()
    local remedy="run \`apt-get install -y $packages\` as root (or ask for it), then the same make command again"
    command -v apt-get >/dev/null ||
        fail "missing: $packages (Debian's names); install them with this system's package manager, then run make again"
    [ -z "${TERCET_NO_APT:-}" ] || fail "missing: $packages, and TERCET_NO_APT forbids apt: $remedy"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "missing: $packages, and I am not root: $remedy"
        as_root=(sudo)
    fi
    say "installing $packages with apt (the only system packages that Tercet needs)"
    { "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } ||
        fail "apt did not install $packages: $remedy"
}

check_cargo() {
    command -v cargo >/dev/null || fail "cargo is missing: install it from https://rustup.rs, then run make again"
    local minor
    minor=$(cargo --version | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p') ||
        fail "cargo does not run: install Rust from https://rustup.rs, then run make again"
    [ "${minor:-0}" -ge "$RUST_MINOR_MIN" ] ||
        fail "$(cargo --version) is too old, 1.$RUST_MINOR_MIN is needed: run \`rustup update\`, then make again"
}

mapfile -t packages < <(missing_packages)
if [ "${#packages[@]}" -gt 0 ]; then
    install_packages "${packages[@]}"
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -eq 0 ] || fail "still missing after the installation: ${packages[*]} (CXX is $CXX)"
fi
check_cargo

# The test of the web page wants a real browser; without one it says so and is skipped.
if [ "${1:-}" = browser ] && ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
    (install_packages chromium) || say "without chromium the test of the web page is skipped"
fi
