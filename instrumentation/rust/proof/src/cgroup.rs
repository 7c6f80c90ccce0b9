//! A memory cgroup for one run: version 1 or 2, whichever is mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cgroup that is removed when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A new one with this limit.
    ///
    /// # Errors
    /// When it cannot be made: not root, or no memory controller.
    pub fn new(name: &str, limit_bytes: u64) -> std::io::Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = if v1.exists() {
            (v1, "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let path = root.join(name);
        fs::create_dir_all(&path)?;
        let cgroup = Self { path };
        fs::write(cgroup.path.join(limit), limit_bytes.to_string())?;
        Ok(cgroup)
    }

    /// A command that runs `program` inside.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        let script = "echo $$ > \"$0\"/cgroup.procs && exec \"$@\"";
        command.args(["-c", script]).arg(&self.path).arg(program);
        command
    }

    /// Processes that the kernel killed here for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let text = read("memory.oom_control") + &read("memory.events");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Bytes charged now.
    pub fn usage(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.path.join(file)).ok();
        let text = read("memory.usage_in_bytes").or_else(|| read("memory.current")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Where it is, from the hierarchy's root.
    pub fn name(&self) -> String {
        format!("/{}", self.path.file_name().unwrap_or_default().to_string_lossy())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last process may need a moment to be gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
