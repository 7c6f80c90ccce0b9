//! A service that leaks on one route, a client, and cgroups: what the programs of this crate have in common.

pub mod article;
pub mod cgroup;
pub mod client;
pub mod in_process;
pub mod orders;
pub mod service;
pub mod sink;
pub mod telemetry;

/// A small random number generator: runs must be repeatable by their seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Different numbers for different seeds.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 to `n` − 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }
}

/// The value of `--key value`.
pub fn argument(key: &str) -> Option<String> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == key)?;
    arguments.next()
}

/// The number of `--key number`.
pub fn number(key: &str, otherwise: u64) -> u64 {
    argument(key).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Processor time of all threads of a process so far, in nanoseconds: exact, where `/proc/PID/stat` counts ticks.
pub fn processor_nanos(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(|task| nanos(task.path())).sum()
}
