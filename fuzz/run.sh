#!/usr/bin/env bash
# Runs every fuzzer for so many seconds each, one after the other; stops at the first that finds something.
#   fuzz/run.sh [SECONDS] [TARGET…]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-300}"
shift || true
export RUSTC_BOOTSTRAP=1
[ -d fuzz/corpus ] || cargo run --quiet --manifest-path fuzz/Cargo.toml --example seeds
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
    echo "== $target"
    nice -n 10 cargo fuzz run --sanitizer none "$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 -verbosity=0
done
