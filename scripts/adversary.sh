#!/usr/bin/env bash
# A few minutes' worth of what docs/testing.md describes at length: the simulator, the exhaustive check, seeded bugs, and faults on
# real processes. Part of `make test`.
set -euo pipefail

readonly TARGET_DIR="${CARGO_TARGET_DIR:-target}"
readonly TESTNET="$TARGET_DIR/release/tercet-testnet"
# One flaw for each of: quorum, lock, promise, certificate, order of disk and network.
readonly FLAWS=quorum-one-lower,lock-dropped,promise-ignored,lowest-certificate-binds,vote-sent-before-its-record
# Rows that need no root and take seconds.
readonly ROWS=T-57a,T-81

"$TESTNET" sim --seeds 0..2000 --jobs "$(nproc)"
"$TESTNET" exhaust views=2 crashes=1 powers=1,1,1,1/2,1,1,1 blocks=0,0/0,1
"$TESTNET" seeded-bugs --only "$FLAWS" --checks tests,exhaustive --all --target "$TARGET_DIR/seeded-bugs"
"$TESTNET" faults --only "$ROWS"
