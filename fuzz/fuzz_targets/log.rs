//! A log of the flight recorder that nobody sealed, its checksums taken as right: found record by record, and sealed as at a
//! start without losing one.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/exit137-fuzz-log-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder in memory");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    exit137_store::fuzzing::log(&FOLDER, bytes);
});
