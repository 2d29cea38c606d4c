#!/usr/bin/env bash
# Runs a cargo command. While RocksDB compiles, which cargo shows for twenty minutes as one unmoving step, says how far it is.
set -euo pipefail

readonly TARGET_DIR="${CARGO_TARGET_DIR:-target}"
# Object files of the C++ part; only for the figure that is shown.
readonly OBJECTS=343
readonly EVERY_SECONDS=30

rocksdb_objects() {
    find "$TARGET_DIR"/release/build/librocksdb-sys-*/out -name '*.o' 2>/dev/null | wc -l
}

rocksdb_is_built() {
    compgen -G "$TARGET_DIR/release/build/librocksdb-sys-*/out/librocksdb.a" >/dev/null
}

report() {
    local start=$SECONDS seen=0 now
    while sleep "$EVERY_SECONDS" >/dev/null 2>&1; do
        rocksdb_is_built && return
        now=$(rocksdb_objects)
        [ "$now" -gt "$seen" ] || continue
        seen=$now
        echo "build: RocksDB (C++): $now of $OBJECTS files compiled after $(((SECONDS - start) / 60)) min" >&2
    done
}

if ! rocksdb_is_built; then
    echo "build: RocksDB is compiled from source once: about 20 minutes on 2 cores, then never again" >&2
    report &
    reporter=$!
    trap 'kill "$reporter" 2>/dev/null || true' EXIT
fi
"$@"
