#!/bin/sh
# Samples the memory cgroup of every pod's container: one JSON object a line, as docs/formats.md describes.
#
#   sh sample-cgroups.sh [SECONDS] > samples.jsonl      # every second unless told; ends with Ctrl-C
#   sh sample-cgroups.sh once > samples.jsonl           # one round
#
# Needs read access to the node's cgroup files and to /proc, and awk. CGROUP_ROOT is where the memory hierarchy is
# mounted, if not in the usual place.
set -u

root=${CGROUP_ROOT:-/sys/fs/cgroup}
if [ -z "${CGROUP_ROOT:-}" ] && [ -d "$root/memory" ]; then
    root=$root/memory
fi
every=${1:-1}

# The first number of a file; nothing where it is missing or says "max".
number() {
    if [ -r "$1" ]; then
        awk 'NR == 1 && $1 ~ /^[0-9]+$/ { print $1 } { exit }' "$1" 2> /dev/null
    fi
}

# `,"name":value`, or nothing where there is no value.
field() {
    if [ -n "$2" ]; then
        printf ',"%s":%s' "$1" "$2"
    fi
}

# Fields of memory.stat and memory.events (v2) or memory.oom_control (v1), under the names of the format.
statistics() {
    cat "$1/memory.stat" "$1/memory.events" "$1/memory.oom_control" 2> /dev/null | awk '
        BEGIN {
            split("anon file shmem file_mapped inactive_file active_file kernel max oom oom_kill", v2)
            split("anon file shmem mapped_file inactive_file active_file kernel max oom oom_kill", name)
            for (i in v2) names[v2[i]] = name[i]
            split("rss cache shmem mapped_file inactive_file active_file", v1)
            for (i in v1) names["total_" v1[i]] = v1[i]
        }
        ($1 in names) && $2 ~ /^[0-9]+$/ {
            # The v1 sums over the subtree come after the numbers of the cgroup alone, and are the ones meant.
            values[names[$1]] = $2
        }
        END { for (key in values) printf ",\"%s\":%s", key, values[key] }'
}

# The processes, at most 256 of them.
processes() {
    [ -r "$1/cgroup.procs" ] || return 0
    page=$(getconf PAGESIZE 2> /dev/null || echo 4096)
    printf ',"procs":['
    separator=
    for pid in $(head -n 256 "$1/cgroup.procs" 2> /dev/null); do
        # A process may end between the two files.
        status=$(cat "/proc/$pid/statm" 2> /dev/null) || continue
        comm=$(tr -d '"\\\000-\037' < "/proc/$pid/comm" 2> /dev/null) || continue
        parent=$(awk '/^PPid:/ { print $2; exit }' "/proc/$pid/status" 2> /dev/null)
        resident=$(echo "$status" | awk -v page="$page" '{ printf "%.0f", $2 * page }')
        printf '%s{"pid":%s,"comm":"%s","rss":%s' "$separator" "$pid" "$comm" "${resident:-0}"
        field ppid "$parent"
        printf '}'
        separator=,
    done
    printf ']'
}

sample() {
    usage=$(number "$1/memory.current")
    usage=${usage:-$(number "$1/memory.usage_in_bytes")}
    # A container that has just ended has no files any more.
    [ -n "$usage" ] || return 0
    limit=$(number "$1/memory.max")
    limit=${limit:-$(number "$1/memory.limit_in_bytes")}
    path=$(printf '%s' "${1#"$root"}" | sed 's/[\\"]/\\&/g')
    printf '{"time":"%s","cgroup_path":"%s","usage":%s' "$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)" "$path" "$usage"
    field limit "$limit"
    statistics "$1"
    swap=$(number "$1/memory.swap.current")
    field swap "$swap"
    field kernel "$(number "$1/memory.kmem.usage_in_bytes")"
    field failcnt "$(number "$1/memory.failcnt")"
    processes "$1"
    printf '}\n'
}

round() {
    # A container's cgroup is named by its ID: 64 hexadecimal digits, with or without the runtime's name around.
    find "$root" -type d -path '*kubepods*' 2> /dev/null | grep -E '[0-9a-f]{64}(\.scope)?$' | while IFS= read -r cgroup; do
        sample "$cgroup"
    done
}

if [ "$every" = once ]; then
    round
    exit
fi
while :; do
    round
    sleep "$every"
done
