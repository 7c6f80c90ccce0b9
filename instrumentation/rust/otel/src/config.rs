//! Settings: defaults, then the environment, then what the program says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Average bytes between two heap samples.
const SAMPLE_BYTES: u64 = 512 << 10;

/// Heap samples a second that are too many: each takes ten microseconds or so, so this is a thousandth of a core.
const SAMPLES_PER_SECOND_MAX: u64 = 128;

/// From here on a request or a phase has grown much: 50 MB.
const HIGH_GROWTH_BYTES: u64 = 50 * 1024 * 1024;

static HIGH_GROWTH: AtomicU64 = AtomicU64::new(HIGH_GROWTH_BYTES);

pub(crate) fn high_growth_bytes() -> u64 {
    HIGH_GROWTH.load(Ordering::Relaxed)
}

pub(crate) fn set_high_growth_bytes(bytes: u64) {
    HIGH_GROWTH.store(bytes, Ordering::Relaxed);
}

/// How to measure. `Config::default()` is what [`init`](crate::init) takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// File, or folder, of the journal: `EXIT137_JOURNAL`. `None` for no journal. In a pod, a place in an emptyDir.
    pub journal: Option<PathBuf>,
    /// Requests in flight at once that the journal has room for. 256 bytes each.
    pub requests_max: u32,
    /// Average bytes between two heap samples: `EXIT137_SAMPLE_BYTES`, 524288 by default; 0 for no sampling.
    pub sample_bytes: u64,
    /// With more heap samples a second, the bytes between two samples are doubled, and doubled again, until there are fewer; 0
    /// for no bound.
    pub samples_per_second_max: u64,
    /// Growth of a request or a phase, in bytes, from which a `memory.high_growth` event is added to its span.
    pub high_growth_bytes: u64,
    /// Whether the largest stacks of the live heap get function names and lines while the program runs. That reads the
    /// program's debug information now and then, and only while the memory that it takes is free.
    pub names: bool,
    /// Attributes that tell who this process is, added to those of `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.
    pub resource: Vec<(String, String)>,
}

fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok()?.trim().parse().ok()
}

impl Default for Config {
    fn default() -> Self {
        let journal = std::env::var_os("EXIT137_JOURNAL").filter(|path| !path.is_empty());
        Self {
            journal: journal.map(PathBuf::from),
            requests_max: 512,
            sample_bytes: number("EXIT137_SAMPLE_BYTES").unwrap_or(SAMPLE_BYTES),
            samples_per_second_max: SAMPLES_PER_SECOND_MAX,
            high_growth_bytes: HIGH_GROWTH_BYTES,
            names: true,
            resource: Vec::new(),
        }
    }
}

impl Config {
    /// Where the journal is.
    #[must_use]
    pub fn with_journal(mut self, path: impl Into<PathBuf>) -> Self {
        self.journal = Some(path.into());
        self
    }

    /// Requests in flight at once that the journal has room for.
    #[must_use]
    pub fn with_requests_max(mut self, requests: u32) -> Self {
        self.requests_max = requests;
        self
    }

    /// Average bytes between two heap samples; 0 for no sampling.
    #[must_use]
    pub fn with_sample_bytes(mut self, bytes: u64) -> Self {
        self.sample_bytes = bytes;
        self
    }

    /// Heap samples a second from which on the interval between them grows; 0 for no bound.
    #[must_use]
    pub fn with_samples_per_second_max(mut self, samples: u64) -> Self {
        self.samples_per_second_max = samples;
        self
    }

    /// Growth in bytes from which `memory.high_growth` is told.
    #[must_use]
    pub fn with_high_growth_bytes(mut self, bytes: u64) -> Self {
        self.high_growth_bytes = bytes;
        self
    }

    /// Whether stacks get names while the program runs.
    #[must_use]
    pub fn with_names(mut self, names: bool) -> Self {
        self.names = names;
        self
    }

    /// One more attribute that tells who this process is.
    #[must_use]
    pub fn with_resource(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.push((key.into(), value.into()));
        self
    }

    /// All attributes that tell who this process is, the most telling first; the first of a key holds.
    pub(crate) fn identity(&self) -> Vec<(String, String)> {
        let mut all = self.resource.clone();
        if let Ok(name) = std::env::var("OTEL_SERVICE_NAME") {
            all.push(("service.name".into(), name));
        }
        let given = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let pairs = given.split(',').filter_map(|pair| pair.split_once('='));
        all.extend(pairs.map(|(key, value)| (key.trim().to_owned(), percent_decoded(value.trim()))));
        if let Some(host) = host_name() {
            all.push(("host.name".into(), host));
        }
        all.push(("process.pid".into(), std::process::id().to_string()));
        if let Some(path) = cgroup_path() {
            all.push(("process.cgroup".into(), path));
        }
        all.push(("process.executable.name".into(), program()));
        let mut seen = std::collections::HashSet::new();
        all.retain(|(key, value)| !key.is_empty() && !value.is_empty() && seen.insert(key.clone()));
        all
    }
}

fn host_name() -> Option<String> {
    let read = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    std::env::var("HOSTNAME").ok().or_else(read).map(|name| name.trim().to_owned())
}

fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The memory cgroup as this process sees it: `/` inside a cgroup namespace, which tells nobody anything.
pub(crate) fn cgroup_path() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let parts = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    let (mut v1, mut v2) = (None, None);
    for (controllers, path) in parts {
        if controllers.split(',').any(|controller| controller == "memory") {
            v1 = Some(path);
        } else if controllers.is_empty() {
            v2 = Some(path);
        }
    }
    v1.or(v2).filter(|path| *path != "/").map(str::to_owned)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.filter(|_| *first == b'%').and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_codes_are_decoded_and_broken_ones_kept() {
        assert_eq!(percent_decoded("a%20b%2"), "a b%2");
        assert_eq!(percent_decoded("100%"), "100%");
    }

    #[test]
    fn what_the_program_says_holds() {
        let config = Config::default().with_resource("host.name", "mine").with_resource("host.name", "other");
        let identity = config.identity();
        let hosts: Vec<_> = identity.iter().filter(|(key, _)| key == "host.name").collect();
        assert_eq!(hosts, [&("host.name".to_owned(), "mine".to_owned())]);
        assert!(identity.iter().any(|(key, _)| key == "process.pid"));
    }
}
