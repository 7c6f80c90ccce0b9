//! The kernel's log.

use std::io::{self, BufRead};

use exit137_core::observation::{BootTime, Observations};

/// Whether a file that starts like this is a kernel log.
pub(crate) fn looks_like(_head: &[u8]) -> bool {
    false
}

/// Reads a kernel log.
pub(crate) fn decode(_reader: &mut dyn BufRead, _file: &str, _into: &mut Observations) -> io::Result<()> {
    Ok(())
}

/// When the machine booted, if that is what the file says.
pub(crate) fn boot_time(_head: &[u8], _file: &str) -> Option<BootTime> {
    None
}
