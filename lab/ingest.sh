#!/usr/bin/env bash
# What taking in spans costs: `exit137 serve`, which has them on the disk before it says OK, beside the collector
# `rotel` with its blackhole exporter, which decodes them and forgets them. Same load, same machine, same minute.
#
#   lab/ingest.sh [SECONDS]
#
# Prints spans per CPU-second of each server. CPU time is compared, never wall time: the load shares the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-15}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/exit137"
packages="$cache/ingest-python-1"
if [ ! -d "$packages" ]; then
    python3 -m pip install --quiet --pre --target "$packages.unfinished" rotel==0.0.1a15
    mv "$packages.unfinished" "$packages"
fi
cargo build --quiet --release -p exit137 --bin exit137 --example load
target="${CARGO_TARGET_DIR:-target}/release"
work="$(mktemp -d)"
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
http="127.0.0.1:$(port)" grpc="127.0.0.1:$(port)"
rotel_http="127.0.0.1:$(port)" rotel_grpc="127.0.0.1:$(port)"

"$target/exit137" serve --data-dir "$work/data" --listen "127.0.0.1:$(port)" --otlp-http "$http" --otlp-grpc "$grpc" \
    --no-kubernetes --disk-budget 8GiB >"$work/serve.log" 2>&1 &
serve=$!
pids+=("$serve")
chmod +x "$packages/rotel/rotel-agent"
"$packages/rotel/rotel-agent" start --exporter blackhole --otlp-http-endpoint "$rotel_http" \
    --otlp-grpc-endpoint "$rotel_grpc" --otlp-grpc-max-recv-msg-size-mib 16 >"$work/rotel.log" 2>&1 &
rotel=$!
pids+=("$rotel")
for address in "$http" "$rotel_http"; do
    for _ in $(seq 300); do
        (exec 3<>"/dev/tcp/${address/:/\/}") 2>/dev/null && break
        sleep 0.1
    done
done

load() {
    echo "== $1"
    shift
    "$target/examples/load" --seconds "$seconds" --settle 2 "$@"
}
load "rotel, HTTP, 10 containers" --http "$rotel_http" --pid "$rotel"
load "exit137, HTTP, 10 containers" --http "$http" --pid "$serve"
load "exit137, HTTP, 10,000 containers" --http "$http" --pid "$serve" --resources 10000
load "rotel, gRPC, 10 containers" --grpc "$rotel_grpc" --pid "$rotel"
load "exit137, gRPC, 10 containers" --grpc "$grpc" --pid "$serve"
load "exit137, gRPC, 10,000 containers" --grpc "$grpc" --pid "$serve" --resources 10000
