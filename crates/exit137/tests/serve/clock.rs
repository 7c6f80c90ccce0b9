//! A wall clock that a test can put forward and back: `clock.c`, loaded before the C library.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Right, until it is [`set`](Self::set).
    pub(crate) fn new(folder: &Path) -> Self {
        let (library, offset) = (folder.join("clock.so"), folder.join("clock"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/clock.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).status();
        assert!(built.expect("cc runs").success());
        std::fs::write(&offset, 0i64.to_le_bytes()).expect("written");
        Self { library, offset }
    }

    /// What a process needs that shall live by it.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("EXIT137_TEST_CLOCK", &self.offset)]
    }

    /// So many seconds ahead of the right time.
    pub(crate) fn set(&self, seconds: i64) {
        // In place: the processes have it mapped.
        let file = OpenOptions::new().write(true).open(&self.offset).expect("opened");
        file.write_all_at(&seconds.to_le_bytes(), 0).expect("written");
    }
}
