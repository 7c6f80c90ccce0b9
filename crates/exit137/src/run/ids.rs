//! Names that nobody else has: what Kubernetes and container runtimes would have given.

use ring::rand::{SecureRandom, SystemRandom};

/// 64 hex digits.
pub(super) fn container_id() -> String {
    hex(&bytes::<32>())
}

/// A random UUID, version 4.
pub(super) fn uuid() -> String {
    let mut bytes = bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    // Without randomness the process ID still tells runs of one machine apart.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        let id = std::process::id().to_be_bytes();
        bytes.iter_mut().zip(id.iter().cycle()).for_each(|(byte, id)| *byte = *id);
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use exit137_core::kernel::cgroup_path::container_of;

    #[test]
    fn they_are_what_a_cgroup_path_is_read_for() {
        let (uid, id) = (super::uuid(), super::container_id());
        let identity = container_of(&format!("/user.slice/exit137-run-4242-pod{uid}/{id}"));
        assert_eq!((identity.pod_uid, identity.container_id), (Some(uid), Some(id)));
    }
}
