//! What the machine, or the container that the program runs in, has left.

use std::fs;

/// Bytes that can be used before something is killed; `None` where nothing tells.
pub(crate) fn memory_available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(meminfo_available);
    // Inside a container its own cgroup is the root of what can be seen.
    let limit = memory_limit();
    let usage = cgroup("memory.current", "memory/memory.usage_in_bytes");
    let container = limit.map(|limit| limit.saturating_sub(usage.unwrap_or_default()));
    [machine, container].into_iter().flatten().min()
}

/// Where the kernel would kill this program's container; `None` without a limit.
pub(crate) fn memory_limit() -> Option<u64> {
    // cgroup v1 writes no limit as the largest number of pages there is.
    cgroup("memory.max", "memory/memory.limit_in_bytes").filter(|limit| *limit < 1 << 60)
}

fn meminfo_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A number of the own cgroup by its name in v2 and in v1. `max` is none.
fn cgroup(v2: &str, v1: &str) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    read(v2).or_else(|| read(v1))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::meminfo_available;

    #[test]
    fn the_kernel_counts_in_kib() {
        let text = "MemTotal:       24683520 kB\nMemFree:          250000 kB\nMemAvailable:   24320000 kB\n";
        assert_eq!(meminfo_available(text), Some(24_320_000 << 10));
        assert_eq!(meminfo_available("MemTotal: 5 kB\n"), None);
    }
}
