//! Reads one memory cgroup, again and again: files stay open, and a reading allocates nothing.
//!
//! The kernel keeps a page for each open file once it was read, so only what every look needs is held open.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use exit137_core::observation::cgroup::CgroupSample;
use exit137_core::time::UnixNanos;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pread};

use super::NodeError;
use super::hierarchy::{Hierarchy, Version};

/// The largest file, `memory.stat`, has 60 to 80 lines of at most 45 bytes.
const FILE_BYTES_MAX: usize = 8 << 10;

/// "No limit" of v1 is the largest number of whole pages, and differs with the size of a page.
const UNLIMITED: u64 = 1 << 62;

/// The wall clock now.
pub fn wall_now() -> UnixNanos {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixNanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// What a cgroup said at one moment; what it does not tell is `None`. Sizes are bytes and counters count since the cgroup
/// was made. The names of v2 are used for both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// When, by the wall clock.
    pub at: UnixNanos,
    /// Limit of this cgroup itself.
    pub limit: Option<u64>,
    /// Everything charged.
    pub usage: Option<u64>,
    /// Highest usage so far.
    pub peak: Option<u64>,
    /// Anonymous memory.
    pub anon: Option<u64>,
    /// Page cache, `shmem` included.
    pub file: Option<u64>,
    /// tmpfs and shared memory.
    pub shmem: Option<u64>,
    /// File pages that processes have mapped.
    pub mapped_file: Option<u64>,
    /// File pages not recently used.
    pub inactive_file: Option<u64>,
    /// File pages recently used.
    pub active_file: Option<u64>,
    /// Kernel memory.
    pub kernel: Option<u64>,
    /// Swapped out.
    pub swap: Option<u64>,
    /// Times the limit was met.
    pub failcnt: Option<u64>,
    /// Times nothing could be freed at this cgroup's limit (v2).
    pub oom: Option<u64>,
    /// Processes killed by the OOM killer; in v2 those of cgroups below it too.
    pub oom_kill: Option<u64>,
    /// Times the cgroup was killed as a whole (v2).
    pub oom_group_kill: Option<u64>,
    /// Microseconds that some task waited for memory (v2).
    pub pressure_some_micros: Option<u64>,
    /// Microseconds that all tasks waited for memory (v2).
    pub pressure_full_micros: Option<u64>,
}

impl Reading {
    /// Usage without file pages that were not used lately: what the kubelet calls the working set.
    pub fn working_set(&self) -> Option<u64> {
        Some(self.usage?.saturating_sub(self.inactive_file.unwrap_or_default()))
    }

    /// What reclaim cannot give back at once: usage without file pages. Swap is not counted on.
    pub fn hard(&self) -> u64 {
        let files =
            self.inactive_file.unwrap_or_default().saturating_add(self.active_file.unwrap_or_default());
        self.usage.unwrap_or_default().saturating_sub(files)
    }

    /// The reading as an observation that nobody is named in.
    pub fn sample(&self) -> CgroupSample {
        CgroupSample {
            at: self.at,
            limit: self.limit,
            usage: self.usage,
            anon: self.anon,
            file: self.file,
            shmem: self.shmem,
            mapped_file: self.mapped_file,
            inactive_file: self.inactive_file,
            active_file: self.active_file,
            kernel: self.kernel,
            swap: self.swap,
            failcnt: self.failcnt,
            oom: self.oom,
            oom_kill: self.oom_kill,
            ..CgroupSample::default()
        }
    }
}

/// Why a cgroup gives no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It was removed.
    #[error("the cgroup is gone")]
    Gone,
    /// Anything else: no permission, no file descriptors left.
    #[error("the cgroup cannot be read")]
    Other(#[source] Errno),
}

impl From<Errno> for Unreadable {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NODEV => Self::Gone,
            other => Self::Other(other),
        }
    }
}

/// A memory cgroup whose often-read files are open.
#[derive(Debug)]
pub struct Cgroup {
    version: Version,
    folder: OwnedFd,
    usage: OwnedFd,
    events: OwnedFd,
    stat: OwnedFd,
    /// v1 alone; v2 has it among the events.
    failcnt: Option<OwnedFd>,
}

impl Cgroup {
    /// Opens the cgroup at `path` from the root of `hierarchy`.
    ///
    /// # Errors
    /// When it is gone, or may not be read.
    pub fn open(hierarchy: &Hierarchy, path: &str) -> Result<Self, NodeError> {
        let folder = hierarchy.folder(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened =
            openat(CWD, &folder, flags, Mode::empty()).map_err(|error| NodeError::at(&folder, error))?;
        let open = |name: &str| {
            open_in(opened.as_fd(), name).map_err(|error| NodeError::at(folder.join(name), error))
        };
        let v1 = hierarchy.version == Version::V1;
        let (usage, events) = if v1 {
            ("memory.usage_in_bytes", "memory.oom_control")
        } else {
            ("memory.current", "memory.events")
        };
        Ok(Self {
            version: hierarchy.version,
            usage: open(usage)?,
            events: open(events)?,
            stat: open("memory.stat")?,
            failcnt: if v1 { Some(open("memory.failcnt")?) } else { None },
            folder: opened,
        })
    }

    /// The file whose change tells of a kill: `memory.events` can be polled (v2), `memory.oom_control` be named to
    /// `cgroup.event_control` (v1).
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// The file that v1 takes for a threshold of usage.
    pub fn usage(&self) -> BorrowedFd<'_> {
        self.usage.as_fd()
    }

    /// The folder.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Usage alone: the cheapest look there is.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn usage_bytes(&self) -> Result<u64, Unreadable> {
        let mut buffer = [0; 32];
        let length = pread(&self.usage, &mut buffer, 0)?;
        Ok(number(&buffer[..length]).unwrap_or_default())
    }

    /// Usage and the counters of kills.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn glance(&self, reading: &mut Reading) -> Result<(), Unreadable> {
        reading.at = wall_now();
        reading.usage = Some(self.usage_bytes()?);
        let mut buffer = [0; 512];
        let length = pread(&self.events, &mut buffer, 0)?;
        for (key, value) in fields(&buffer[..length]) {
            let place = match key {
                b"max" => &mut reading.failcnt,
                b"oom" => &mut reading.oom,
                b"oom_kill" => &mut reading.oom_kill,
                b"oom_group_kill" => &mut reading.oom_group_kill,
                _ => continue,
            };
            *place = Some(value);
        }
        if let Some(failcnt) = &self.failcnt {
            let length = pread(failcnt, &mut buffer, 0)?;
            reading.failcnt = number(&buffer[..length]);
        }
        Ok(())
    }

    /// Everything that changes by the second: the glance, and what the usage is made of.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn read(&self, reading: &mut Reading) -> Result<(), Unreadable> {
        self.glance(reading)?;
        self.statistics(reading)
    }

    /// What the usage is made of; the costly half of a reading.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn statistics(&self, reading: &mut Reading) -> Result<(), Unreadable> {
        let mut buffer = [0; FILE_BYTES_MAX];
        let length = pread(&self.stat, &mut buffer, 0)?;
        match self.version {
            Version::V1 => statistics_v1(&buffer[..length], reading),
            Version::V2 => statistics_v2(&buffer[..length], reading),
        }
        Ok(())
    }

    /// What seldom changes, or costs more than it tells: the limit, the peak, pressure, and kernel memory of v1.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn read_seldom(&self, reading: &mut Reading) -> Result<(), Unreadable> {
        let names = match self.version {
            Version::V1 => {
                ["memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.kmem.usage_in_bytes"]
            }
            Version::V2 => ["memory.max", "memory.peak", "memory.swap.current"],
        };
        reading.limit = self.once(names[0], number)?.filter(|limit| *limit < UNLIMITED);
        reading.peak = self.once(names[1], number)?;
        let third = self.once(names[2], number)?;
        match self.version {
            Version::V1 => reading.kernel = third.or(reading.kernel),
            Version::V2 => reading.swap = third,
        }
        if self.version == Version::V2 {
            let pressure =
                self.once("memory.pressure", |text| Some((total(text, b"some "), total(text, b"full "))))?;
            (reading.pressure_some_micros, reading.pressure_full_micros) = pressure.unwrap_or_default();
        }
        Ok(())
    }

    /// Everything.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn read_all(&self) -> Result<Reading, Unreadable> {
        let mut reading = Reading::default();
        self.read_seldom(&mut reading)?;
        self.read(&mut reading)?;
        Ok(reading)
    }

    /// The processes of this cgroup itself, at most `most` of them, as `/proc` numbers them where the cgroup is mounted.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn pids(&self, most: usize) -> Result<Vec<u32>, Unreadable> {
        use std::io::{BufRead, BufReader};
        let file = open_in(self.folder.as_fd(), "cgroup.procs")?;
        let mut pids = Vec::new();
        for line in BufReader::with_capacity(4096, File::from(file)).lines() {
            let line = line.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            pids.extend(line.parse::<u32>().ok());
            if pids.len() >= most {
                break;
            }
        }
        Ok(pids)
    }

    /// A file that not every kernel has.
    fn once<T>(&self, name: &str, read: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, Unreadable> {
        let file = match open_in(self.folder.as_fd(), name) {
            Ok(file) => file,
            // The folder is still held when the cgroup is gone; then nothing in it opens, and the next glance says so.
            Err(Errno::NOENT | Errno::ACCESS | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut buffer = [0; 512];
        match pread(&file, &mut buffer, 0) {
            Ok(length) => Ok(read(&buffer[..length])),
            // Pressure is in the tree, but switched off.
            Err(Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn open_in(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    openat(folder, &name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The number that a file begins with; `max` is none.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| {
        text[..digits]
            .iter()
            .fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

/// Lines of `key number`.
fn fields(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = memchr::memchr(b' ', line)?;
        Some((&line[..at], number(&line[at + 1..])?))
    })
}

/// `total=` of the line that begins with `which`.
fn total(text: &[u8], which: &[u8]) -> Option<u64> {
    let line = text.split(|byte| *byte == b'\n').find(|line| line.starts_with(which))?;
    let at = memchr::memmem::find(line, b"total=")?;
    number(&line[at + 6..])
}

fn statistics_v1(text: &[u8], reading: &mut Reading) {
    // The sums over the subtree stand at the end; the numbers of the cgroup alone go before.
    let from = memchr::memmem::find(text, b"\ntotal_").map_or(0, |at| at + 1);
    for (key, value) in fields(&text[from..]) {
        let place = match key.strip_prefix(b"total_").unwrap_or(key) {
            b"rss" => &mut reading.anon,
            b"cache" => &mut reading.file,
            b"shmem" => &mut reading.shmem,
            b"mapped_file" => &mut reading.mapped_file,
            b"inactive_file" => &mut reading.inactive_file,
            b"active_file" => &mut reading.active_file,
            b"swap" => &mut reading.swap,
            _ => continue,
        };
        *place = Some(value);
    }
}

fn statistics_v2(text: &[u8], reading: &mut Reading) {
    let mut parts = 0;
    for (key, value) in fields(text) {
        let place = match key {
            b"anon" => &mut reading.anon,
            b"file" => &mut reading.file,
            b"shmem" => &mut reading.shmem,
            b"file_mapped" => &mut reading.mapped_file,
            b"inactive_file" => &mut reading.inactive_file,
            b"active_file" => &mut reading.active_file,
            b"kernel" => &mut reading.kernel,
            // Before 5.18 the sum is not told, only its parts.
            b"kernel_stack" | b"pagetables" | b"percpu" | b"slab" | b"vmalloc" => {
                parts += value;
                continue;
            }
            _ => continue,
        };
        *place = Some(value);
    }
    if memchr::memmem::find(text, b"\nkernel ").is_none() {
        reading.kernel = Some(parts);
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
