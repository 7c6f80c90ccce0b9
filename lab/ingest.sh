#!/usr/bin/env bash
# What taking in spans costs: `exit137 serve`, which has them on the disk before it says OK, beside the collector
# `rotel` with its blackhole exporter, which decodes them and forgets them. Same load, same machine, same minutes.
#
#   lab/ingest.sh [SECONDS] [ROUNDS]
#
# Prints spans per CPU-second of each server, user and system time, and fails when a bar is missed: three times what
# rotel takes in, a million spans per CPU-second, 256 MiB. CPU time is compared, never wall time: the load shares the
# machine. EXIT137 and LOAD name programs that are built already; CONNECTIONS is how many send at a time.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-15}" rounds="${2:-1}" connections="${CONNECTIONS:-8}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/exit137"
packages="$cache/ingest-python-1"
if [ ! -d "$packages" ]; then
    mkdir -p "$cache"
    python3 -m pip install --quiet --pre --target "$packages.unfinished" rotel==0.0.1a15
    mv "$packages.unfinished" "$packages"
fi
target="${CARGO_TARGET_DIR:-target}/release"
exit137="${EXIT137:-$target/exit137}" load="${LOAD:-$target/examples/load}"
[ -n "${EXIT137:-}" ] || cargo build --quiet --release -p exit137 --bin exit137 --example load
# Where programs are built is a disk; /tmp may be memory.
mkdir -p "$target"
work="$(mktemp -d -p "${TMPDIR:-$target}")"
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

"$exit137" serve --data-dir "$work/data" --listen "127.0.0.1:$(port)" --otlp-http "$http" --otlp-grpc "$grpc" \
    --no-kubernetes --disk-budget 8GiB >"$work/serve.log" 2>&1 &
serve=$!
pids+=("$serve")
chmod +x "$packages/rotel/rotel-agent"
"$packages/rotel/rotel-agent" start --exporter blackhole --otlp-http-endpoint "$rotel_http" \
    --otlp-grpc-endpoint "$rotel_grpc" --otlp-grpc-max-recv-msg-size-mib 16 >"$work/rotel.log" 2>&1 &
rotel=$!
pids+=("$rotel")
for address in "$http" "$grpc" "$rotel_http" "$rotel_grpc"; do
    for _ in $(seq 300); do
        (exec 3<>"/dev/tcp/${address/:/\/}") 2>/dev/null && break
        sleep 0.1
    done
done

# Runs the load and sets `rate` to spans per CPU-second and `peak` to MiB.
rate=0 peak=0
load() {
    local name="$1" out
    shift
    out="$("$load" --seconds "$seconds" --settle 1 --connections "$connections" "$@")"
    rate="$(sed -n 's,.*: \([0-9]*\) spans/CPU-s.*,\1,p' <<<"$out")"
    peak="$(sed -n 's,.* \([0-9]*\) MiB at most.*,\1,p' <<<"$out")"
    printf '%-36s %9d spans/CPU-s  %4d MiB at most\n' "$name" "$rate" "$peak"
}
missed=0
bar() {
    if ! awk "BEGIN { exit !($2) }"; then
        echo "MISSED: $1 ($2)"
        missed=1
    fi
}
for _ in $(seq "$rounds"); do
    for protocol in http grpc; do
        theirs="rotel_$protocol"
        load "rotel, $protocol" --$protocol "${!theirs}" --pid "$rotel"
        other="$rate"
        load "exit137, $protocol, 10 containers" --$protocol "${!protocol}" --pid "$serve"
        few="$rate"
        load "exit137, $protocol, 10,000 containers" --$protocol "${!protocol}" --pid "$serve" --resources 10000
        for ours in "$few" "$rate"; do
            bar "three times as many as rotel" "$ours >= 3 * $other"
            bar "a million per CPU-second" "$ours >= 1000000"
        done
        bar "as quick with 10,000 containers (10 % for noise)" "$rate >= 0.9 * $few"
        bar "at most 256 MiB" "$peak <= 256"
    done
done
exit $missed
