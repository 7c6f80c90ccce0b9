#!/usr/bin/env bash
# What the agent costs: CPU seconds and resident memory over so many containers, beside other programs that watch the same cgroups
# in the same minutes.
#
#   sudo deploy/agent/bench.sh target/release/exit137 [CONTAINERS] [SECONDS]
#
# Containers are real cgroups with one process each that allocates and frees all the time, so that nothing rests. Beside the
# agent run what is installed of: `netdata` (package netdata-core; everything but memory of these cgroups switched off), `below
# record` (cargo install below; cgroup v2 alone), `telegraf`, and a loop in Python that reads the same files and does nothing
# with them. Nothing is sent: the agent writes to its buffer on disk. Prints a line a program: CPU seconds, us per
# container-sample, and the highest resident set.
set -euo pipefail

program=${1:?usage: bench.sh PROGRAM [CONTAINERS] [SECONDS]}
containers=${2:-250}
seconds=${3:-600}
root=/sys/fs/cgroup/memory
[ -d "$root" ] || root=/sys/fs/cgroup
tree=$root/exit137-agent-bench-$$
state=$(mktemp -d)
pids=()

clean() {
    kill "${pids[@]}" 2> /dev/null || true
    # Those in the cgroups.
    find "$tree" -name cgroup.procs -exec cat {} + 2> /dev/null | xargs -r kill -9 2> /dev/null || true
    sleep 1
    find "$tree" -depth -type d -exec rmdir {} \; 2> /dev/null || true
    rm -rf "$state"
}
trap clean EXIT

mkdir "$tree"
for number in $(seq "$containers"); do
    pod=$(printf '6f0dc1b2-3a4e-4c6f-9f1a-%012x' "$number")
    folder=$tree/kubepods/burstable/pod$pod/$(printf '%064x' "$number")
    mkdir -p "$folder"
    # A few pages more or less, every second or two: usage is seldom the same twice.
    (
        echo "$BASHPID" > "$folder/cgroup.procs"
        # Builtins alone: the load is not what is measured.
        exec 9<> <(:)
        while :; do
            printf -v x '%*s' $((RANDOM * 20)) ''
            read -r -t $((1 + RANDOM % 2)) -u 9 _ || true
        done
    ) > /dev/null 2>&1 &
    disown
done

# utime and stime of a process and of its children that ended, seconds.
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); printf "%.2f", ($12 + $13 + $14 + $15) / hz }' "/proc/$1/stat"; }
peak() { awk '/^VmHWM/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }

names=()
start() {
    names+=("$1")
    shift
    "$@" > /dev/null 2> "$state/log" &
    pids+=($!)
}

start "exit137 agent" "$program" agent --cgroup-root "/${tree##*/}" --state-dir "$state/agent" --no-rest --interval 1s
if command -v below > /dev/null; then start "below record" below record --interval-s 1 --store-size-limit 1000000000; fi
if command -v telegraf > /dev/null; then
    printf '[agent]\n interval="1s"\n[[inputs.cgroup]]\n paths=["%s"]\n files=["memory.usage_in_bytes","memory.stat","memory.oom_control","memory.failcnt","memory.current","memory.events"]\n[[outputs.discard]]\n' \
        "$tree/kubepods/burstable/*/*" > "$state/telegraf.conf"
    start "telegraf inputs.cgroup" telegraf --config "$state/telegraf.conf"
fi
if command -v netdata > /dev/null; then
    mkdir "$state/netdata" "$state/netdata/cache" "$state/netdata/lib" "$state/netdata/log"
    [ -d /sys/fs/cgroup/memory ] && unified=no || unified=yes
    {
        printf '[global]\nrun as user = root\n[db]\nmode = ram\nupdate every = 1\n[directories]\n'
        printf '%s = %s\n' cache "$state/netdata/cache" lib "$state/netdata/lib" log "$state/netdata/log"
        for section in ml health statsd; do printf '[%s]\nenabled = no\n' "$section"; done
        printf '[web]\nmode = none\n[plugins]\ncgroups = yes\nenable running new plugins = no\n'
        printf '%s = no\n' timex checks idlejitter tc diskspace proc statsd apps perf ebpf slabinfo nfacct \
            'netdata monitoring' 'netdata monitoring extended'
        printf '[plugin:cgroups]\nupdate every = 1\nuse unified cgroups = %s\nmax cgroups to allow = 5000\n' "$unified"
        printf 'enable by default cgroups matching = */pod*/0*\nrun script to rename cgroups matching = !*\n'
        printf 'enable %s = yes\n' memory 'detailed memory' 'memory limits fail count'
        printf 'enable %s = no\n' 'cpuacct stat (total CPU)' 'blkio bandwidth' 'blkio operations' 'blkio throttle bandwidth' \
            'blkio throttle operations' 'blkio queued operations' 'blkio merged operations' 'cpu pressure' \
            'io some pressure' 'io full pressure' 'memory some pressure' 'memory full pressure'
    } > "$state/netdata.conf"
    start "netdata, its cgroup plugin alone" netdata -D -c "$state/netdata.conf"
fi
cat > "$state/loop.py" << 'PYTHON'
import glob, sys, time
folders = glob.glob(sys.argv[1] + "/kubepods/burstable/*/*/")
names = ["memory.usage_in_bytes", "memory.stat", "memory.oom_control", "memory.failcnt"]
names = [name for name in names + ["memory.current", "memory.events"] if glob.glob(folders[0] + name)]
while True:
    began = time.monotonic()
    for folder in folders:
        for name in names:
            with open(folder + name, "rb") as file:
                file.read()
    time.sleep(max(0, 1 - (time.monotonic() - began)))
PYTHON
if command -v python3 > /dev/null; then start "python, reading only" python3 "$state/loop.py" "$tree"; fi

# Until all have found all.
sleep 30
before=()
for pid in "${pids[@]}"; do before+=("$(cpu "$pid")"); done
sleep "$seconds"
printf '%s containers, %s s\n%-32s %10s %12s %14s %12s\n' "$containers" "$seconds" program "CPU s" "% of a core" "us per sample" "peak MiB"
for at in "${!pids[@]}"; do
    pid=${pids[$at]}
    if ! kill -0 "$pid" 2> /dev/null; then
        printf '%-32s ended by itself\n' "${names[$at]}"
        continue
    fi
    awk -v name="${names[$at]}" -v a="${before[$at]}" -v b="$(cpu "$pid")" -v n="$containers" -v s="$seconds" -v rss="$(peak "$pid")" \
        'BEGIN { used = b - a; printf "%-32s %10.2f %12.2f %14.1f %12s\n", name, used, 100 * used / s, used * 1e6 / n / s, rss }'
done
