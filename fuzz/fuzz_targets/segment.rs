//! A sealed segment of the flight recorder, its checksums taken as right: index, records, joined and compressed pieces,
//! samples, and rewriting it.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/exit137-fuzz-segment-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder in memory");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    exit137_store::fuzzing::segment(&FOLDER, bytes);
});
