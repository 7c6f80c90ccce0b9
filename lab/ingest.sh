#!/usr/bin/env bash
# What taking in spans costs: `exit137 serve`, which has them on the disk before it says OK, beside the collector
# `rotel` with its blackhole exporter, which decodes them and forgets them. Same load, same machine, same minutes.
#
#   lab/ingest.sh [SECONDS] [ROUNDS]
#
# Prints spans per CPU-second of each server, user and system time, and fails when a bar is missed: three times what
# rotel takes in, a million spans per CPU-second, 256 MiB. CPU time is compared, never wall time: the load shares the
# machine. Whether many containers cost more than few is measured with two servers at the same time: what else a machine does
# changes its speed by more than is looked for, and changes it for both. EXIT137 and LOAD name programs that are built already;
# CONNECTIONS is how many send at a time.
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

# Starts a server with a folder of its own; sets `serve` to its process.
serve=
serve() {
    "$exit137" serve --data-dir "$work/$1" --listen "127.0.0.1:$(port)" --otlp-http "$2" --otlp-grpc "$3" \
        --no-kubernetes --disk-budget 6GiB >"$work/$1.log" 2>&1 &
    serve=$!
    pids+=("$serve")
}
# Waits until somebody listens at each of these addresses.
await() {
    local address
    for address in "$@"; do
        for _ in $(seq 300); do
            (exec 3<>"/dev/tcp/${address/:/\/}") 2>/dev/null && break
            sleep 0.1
        done
    done
}
serve one "$http" "$grpc"
one=$serve
chmod +x "$packages/rotel/rotel-agent"
"$packages/rotel/rotel-agent" start --exporter blackhole --otlp-http-endpoint "$rotel_http" \
    --otlp-grpc-endpoint "$rotel_grpc" --otlp-grpc-max-recv-msg-size-mib 16 >"$work/rotel.log" 2>&1 &
rotel=$!
pids+=("$rotel")
await "$http" "$grpc" "$rotel_http" "$rotel_grpc"

# Runs the load and sets `rate` to spans per CPU-second and `peak` to MiB.
rate=0 peak=0
load() {
    local name="$1"
    shift
    read_load "$name" <<<"$("$load" --seconds "$seconds" --settle 1 --connections "$connections" "$@")"
}
read_load() {
    local out
    out="$(cat)"
    rate="$(sed -n 's,.*: \([0-9]*\) spans/CPU-s.*,\1,p' <<<"$out")"
    peak="$(sed -n 's,.* \([0-9]*\) MiB at most.*,\1,p' <<<"$out")"
    printf '%-44s %9d spans/CPU-s  %4d MiB at most\n' "$1" "$rate" "$peak"
}
# Loads two new servers at the same time, one from few containers; sets `few_rate` to its rate.
few_rate=0
side_by_side() {
    local few_http="127.0.0.1:$(port)" few_grpc="127.0.0.1:$(port)" few many other
    local many_http="127.0.0.1:$(port)" many_grpc="127.0.0.1:$(port)"
    serve few "$few_http" "$few_grpc"
    few=$serve
    serve many "$many_http" "$many_grpc"
    many=$serve
    await "$few_http" "$few_grpc" "$many_http" "$many_grpc"
    local few_address="few_$1" many_address="many_$1" half=$((connections / 2))
    "$load" --seconds "$seconds" --settle 1 --connections "$half" "--$1" "${!few_address}" --pid "$few" >"$work/few.out" &
    other=$!
    connections=$half load "exit137, $1, 10,000 containers, beside" "--$1" "${!many_address}" --pid "$many" --resources 10000
    wait "$other"
    local many_rate=$rate many_peak=$peak
    read_load "exit137, $1, 10 containers, beside" <"$work/few.out"
    few_rate=$rate rate=$many_rate peak=$many_peak
    kill "$few" "$many"
    wait "$few" "$many" || true
    rm -rf "$work/few" "$work/many"
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
        load "exit137, $protocol, 10,000 containers" --$protocol "${!protocol}" --pid "$one" --resources 10000
        bar "three times as many as rotel" "$rate >= 3 * $other"
        bar "a million per CPU-second" "$rate >= 1000000"
        bar "at most 256 MiB" "$peak <= 256"
        side_by_side "$protocol"
        bar "as quick with 10,000 containers (5 % for noise)" "$rate >= 0.95 * $few_rate"
    done
done
exit $missed
