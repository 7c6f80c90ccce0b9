#!/bin/sh
# Real kernel kills under `exit137 run`, told as text that ../kernel.rs reads: the same on a host with cgroup v1 or v2, and
# in a virtual machine with nothing but busybox. Needs root; EXIT137 is the program; `kills.sh vm` adds what may only be
# done to a machine of one's own.
set -u

where=${1:-host}
work=$(mktemp -d)
shm=/dev/shm/exit137-kills-$$
root=/sys/fs/cgroup
[ -d "$root/memory" ] && root=$root/memory
trap 'rm -rf "$work" "$shm"' EXIT

# Folders of runs that were not removed. Other runs of this machine may be alive: only dead ones count.
leftovers() {
    find "$root" -type d -name 'exit137-run-*' 2> /dev/null | while IFS= read -r folder; do
        pid=${folder##*/exit137-run-}
        [ -d "/proc/${pid%%-*}" ] || echo "$folder"
    done | wc -l
}

tell() {
    echo "=== $1 code=$2 leftovers=$(leftovers)"
    echo "--- stdout" && cat "$work/out"
    echo "--- stderr" && cat "$work/err"
    echo "--- verdict" && { [ ! -f "$work/verdict" ] || cat "$work/verdict"; }
    echo
    rm -f "$work/out" "$work/err" "$work/verdict"
}

# case NAME [OPTION…] -- COMMAND…
kill_case() {
    name=$1
    shift
    "$EXIT137" run --name "$name" --output json --out "$work/verdict" "$@" > "$work/out" 2> "$work/err"
    tell "$name" $?
}

# What holds memory: dd reads one block of this size, and keeps it while nobody takes what it writes.
eat() { echo "dd if=/dev/zero bs=$1 count=1 2> /dev/null"; }

kill_case none --memory 32MiB -- sh -c 'echo fine; echo loud >&2; exit 3'
kill_case main --memory 32MiB -- dd if=/dev/zero of=/dev/null bs=64M count=1
kill_case child --memory 32MiB -- sh -c "sleep 1; $(eat 64M) > /dev/null; sleep 1; echo survived"
kill_case several --memory 48MiB -- sh -c "
    for each in 1 2 3 4; do $(eat 20M) | sleep 4 & done
    wait; echo survived"
kill_case repeat --memory 32MiB --repeat 3 -- dd if=/dev/zero of=/dev/null bs=64M count=1
kill_case tmpfs --memory 32MiB -- dd if=/dev/zero of="$shm" bs=1M count=64
rm -f "$shm"
kill_case group --memory 32MiB --group-kill -- sh -c "sleep 60 & $(eat 64M) > /dev/null; echo survived"

# A limit above the command's own.
mkdir "$root/exit137-kills-outer"
[ ! -f "$root/cgroup.subtree_control" ] || echo +memory > "$root/exit137-kills-outer/cgroup.subtree_control"
mkdir "$root/exit137-kills-outer/inner"
for file in memory.max memory.limit_in_bytes memory.memsw.limit_in_bytes; do
    [ ! -f "$root/exit137-kills-outer/$file" ] || echo 128M > "$root/exit137-kills-outer/$file"
done
kill_case ancestor --memory 512MiB -- true # Warms the caches that would be charged to the small cgroup.
sh -c 'echo $$ > "$1/exit137-kills-outer/inner/cgroup.procs"; shift; exec "$@"' sh "$root" \
    "$EXIT137" run --name ancestor --memory 512MiB --output json --out "$work/verdict" -- \
    dd if=/dev/zero of=/dev/null bs=256M count=1 > "$work/out" 2> "$work/err"
tell outer $?
# On a slow machine who was killed is not gone at once.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rmdir "$root/exit137-kills-outer/inner" "$root/exit137-kills-outer" 2> /dev/null && break
    sleep 0.3
done

# SIGTERM to exit137 alone reaches the command, and the cgroup goes.
"$EXIT137" run --memory 32MiB -- sh -c 'trap "echo asked; exit 7" TERM; echo ready; while :; do sleep 0.1; done' \
    > "$work/out" 2> "$work/err" &
run=$!
while ! grep -q ready "$work/out"; do sleep 0.1; done
kill -TERM "$run"
wait "$run"
tell signal $?

# What SIGKILL leaves is removed by the next run.
"$EXIT137" run --quiet --memory 32MiB -- sleep 1 > "$work/out" 2> "$work/err" &
run=$!
while ! find "$root" -path "*exit137-run-$run-*" -name cgroup.procs | grep -q .; do sleep 0.1; done
kill -KILL "$run"
wait "$run"
sleep 3
kill_case after --memory 32MiB -- true

# Somebody who may not make cgroups is told what to do.
chmod 755 "$work"
# A build is often in a home folder that only its owner may enter; the virtual machine has the program at its root.
theirs=$EXIT137
[ "$where" = vm ] || { theirs="$work/exit137"; cp "$EXIT137" "$theirs"; }
su -s /bin/sh nobody -c "'$theirs' run --memory 32MiB -- true" > "$work/out" 2> "$work/err" < /dev/null
tell refused $?

if [ "$where" = vm ]; then
    # A part of the tree that was given to somebody else, as systemd delegates it.
    mkdir -p "$root/delegated/session"
    echo +memory > "$root/delegated/cgroup.subtree_control" 2> /dev/null
    chown -R nobody "$root/delegated"
    sh -c 'echo $$ > "$1/delegated/session/cgroup.procs"; exec su -s /bin/sh nobody -c "$2"' sh "$root" "exec env TMPDIR=/tmp \
        '$EXIT137' run --name delegated --memory 32MiB --output json -- dd if=/dev/zero of=/dev/null bs=64M count=1" \
        > "$work/out" 2> "$work/err" < /dev/null
    tell delegated $?
    # The whole machine runs out.
    kill_case node -- sh -c "$(eat 8M) > /dev/null; exec tail /dev/zero"
fi
echo "=== done"
