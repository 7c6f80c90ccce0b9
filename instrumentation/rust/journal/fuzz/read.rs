//! Any bytes: first as they are, then as the records of a journal whose header fits, so that the records are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = exit137_journal::read(bytes);
    let mut journal = include_bytes!("header.bin").to_vec();
    journal.extend_from_slice(bytes);
    journal.resize(4096 + 2 * 256 + 2 * 128 + 2 * 512, 0);
    if let Ok(journal) = exit137_journal::read(&journal) {
        assert!(journal.in_flight.len() + journal.torn <= 4);
        assert!(journal.operations.len() <= 2 && journal.heap.len() <= 2);
    }
});
