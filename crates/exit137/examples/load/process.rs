//! What a process has used so far.

use std::io;

/// Clock ticks a second in `/proc`: the same on every Linux that we build for.
const TICKS: f64 = 100.0;

pub struct Usage {
    pub user_seconds: f64,
    pub system_seconds: f64,
    pub resident_bytes: u64,
    pub resident_bytes_max: u64,
}

impl Usage {
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        // The name in parentheses may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        Ok(Self {
            user_seconds: ticks(11) / TICKS,
            system_seconds: ticks(12) / TICKS,
            resident_bytes: kibibytes("VmRSS") << 10,
            resident_bytes_max: kibibytes("VmHWM") << 10,
        })
    }
}
