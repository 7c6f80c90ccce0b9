#!/usr/bin/env bash
# Everything that is claimed, measured. `check.sh` runs all of it; `check.sh cost` and so on one part. What needs root, a
# memory controller, wrk or a nightly compiler says so when it has none.
set -euo pipefail
cd "$(dirname "$0")"
part="${1:-all}"
target="${CARGO_TARGET_DIR:-target}"
kills="${KILLS:-100}"
seeds="${SEEDS:-20}"

wanted() { [ "$part" = all ] || [ "$part" = "$1" ]; }

if wanted test; then
    cargo test --locked --workspace --all-features
    cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
fi
if wanted loom; then
    # Every interleaving of the record protocol and the free list.
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$target/loom" LOOM_MAX_PREEMPTIONS=3 \
        cargo test --locked -p exit137-journal --features writer --lib --release loom
fi
if wanted miri; then
    # The mapping itself is a system call that miri does not have; the rest of the unsafe code runs.
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows" CARGO_TARGET_DIR="$target/miri" \
        cargo +nightly miri test -p exit137-journal --features writer --lib -- checksum free_list text reader::tests::other
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows" CARGO_TARGET_DIR="$target/miri" \
        cargo +nightly miri test -p exit137-otel --lib --no-default-features -- allocator::blocks context operations heap::tests parents
fi
if wanted fuzz; then
    # cargo-fuzz is not needed: its flags are these.
    (cd journal/fuzz && mkdir -p corpus && RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$target/fuzz" \
        RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Cdebug-assertions -Ccodegen-units=1" \
        cargo run --release --target x86_64-unknown-linux-gnu -- -max_total_time="${FUZZ_SECONDS:-60}" -max_len=8192 corpus)
fi
if wanted sigkill; then
    EXIT137_KILLS="$kills" cargo test --locked --release -p exit137-journal --features writer --test sigkill -- --nocapture
    cargo build --locked --release -p proof
    "$target/release/sigkill" --kills "$kills"
fi
if wanted leak; then
    cargo build --locked --release -p proof
    "$target/release/leak" --seeds "$seeds"
fi
if wanted collector; then
    # A collector that somebody else wrote, and OpenTelemetry's own classes to decode what it sends on.
    venv="${XDG_CACHE_HOME:-$HOME/.cache}/exit137/collector-venv"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet rotel opentelemetry-proto
    cargo build --locked --release -p shop
    "$venv/bin/python" proof/collector.py "$target/release/shop"
fi
if wanted served; then
    # The program of this repository as the receiver: one kill, the requests that it swallowed, and the verdict.
    cargo build --locked --release -p shop
    program="${EXIT137:-$target/program/debug/exit137}"
    [ -n "${EXIT137:-}" ] || CARGO_TARGET_DIR="$target/program" cargo build --locked -p exit137 --manifest-path ../../Cargo.toml
    python3 proof/served.py "$target/release/shop" "$program"
fi
if wanted cost; then
    cargo build --locked --release -p proof
    "$target/release/cost"
    # The last line of each is a row of one table: by itself, in a service that calls itself, and with a network.
    "$target/release/throughput" --network no --rounds "${ROUNDS:-12}" --path /hello
    "$target/release/throughput" --rounds "${ROUNDS:-12}" --path /hello
fi
if wanted throughput; then
    cargo build --locked --release -p proof
    for path in /order/7 /work /hello; do
        "$target/release/throughput" --network no --rounds "${ROUNDS:-12}" --turns 20 --path "$path"
        "$target/release/throughput" --rounds "${ROUNDS:-20}" --path "$path"
    done
fi
