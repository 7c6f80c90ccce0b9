//! Sizes of memory, and how they are written for people.

use std::fmt;

/// One mebibyte, the unit in which Kubernetes memory limits are mostly written.
pub const MIB: u64 = 1 << 20;

/// A number of bytes. Displays as `208 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        let (value, unit) = match self.0 {
            0..1024 => return write!(f, "{} B", self.0),
            1024..1_048_576 => (bytes / 1024.0, "KiB"),
            1_048_576..1_073_741_824 => (bytes / 1_048_576.0, "MiB"),
            1_073_741_824..1_099_511_627_776 => (bytes / 1_073_741_824.0, "GiB"),
            _ => (bytes / 1_099_511_627_776.0, "TiB"),
        };
        // Three digits say enough; trailing zeros say nothing.
        let decimals = if value >= 100.0 || (value - value.round()).abs() < 0.005 {
            0
        } else if value >= 10.0 {
            1
        } else {
            2
        };
        write!(f, "{value:.decimals$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn sizes_read_like_a_person_wrote_them() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.50 KiB"),
            (218_103_808, "208 MiB"),
            (13_000_000, "12.4 MiB"),
            (1 << 30, "1 GiB"),
            (1_600_000_000, "1.49 GiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
