//! From a cgroup path to the pod and container that it belongs to.
//!
//! Prefixes occur (kind, LXC, `--cgroup-root`), and so does nesting: the innermost pod counts, and in it the
//! first container. `crio-conmon-…` is the monitor of a container, not the container.

use crate::verdict::LimitHit;

/// What a cgroup path tells about its owner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupIdentity {
    /// 36 characters with dashes, or the 32 hex digits of a static pod.
    pub pod_uid: Option<String>,
    /// 64 hex digits.
    pub container_id: Option<String>,
    /// As Kubernetes writes it before `://`: `containerd`, `cri-o`, `docker`; also `podman`.
    pub runtime: Option<String>,
}

/// Names in front of a container ID, and the runtime behind them.
const RUNTIMES: [(&str, &str); 5] = [
    ("cri-containerd", "containerd"),
    ("crio", "cri-o"),
    ("docker", "docker"),
    ("libpod", "podman"),
    ("nerdctl", "containerd"),
];

/// Reads pod and container from a path as the kernel prints it.
pub fn container_of(path: &str) -> CgroupIdentity {
    let path = path.trim_end().strip_suffix(" (deleted)").unwrap_or(path.trim_end());
    // `kubepods-burstable-pod<uid>.slice:cri-containerd:<id>` is what a runtime makes that was given a systemd
    // path but uses cgroupfs.
    let elements = || path.split(['/', ':']);
    let pod_at = elements().enumerate().filter(|(_, name)| pod_uid(name).is_some()).map(|(at, _)| at).last();
    let containers = |skip: usize| {
        elements().zip(elements().skip(1)).skip(skip).filter_map(|(above, name)| container(name, above))
    };
    let found = match pod_at {
        Some(at) => containers(at).next(),
        None => containers(0).last(),
    };
    let (container_id, runtime) = found.unzip();
    CgroupIdentity {
        pod_uid: pod_at.and_then(|at| elements().nth(at)).and_then(pod_uid),
        container_id: container_id.map(str::to_owned),
        runtime: runtime.flatten().map(str::to_owned),
    }
}

/// Whether `path` is a pod's own cgroup.
pub fn is_pod_level(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or_default();
    last.strip_suffix(" (deleted)").or(Some(last)).and_then(pod_uid).is_some()
}

/// Whose limit was hit, when `oom_memcg` ran out and a process of `task_memcg` was killed. Outside of any
/// container (a systemd service) a cgroup that ran out by itself counts as its own container.
pub fn limit_owner(oom_memcg: &str, task_memcg: &str) -> LimitHit {
    let (domain, task) = (container_of(oom_memcg), container_of(task_memcg));
    let same_pod = task.pod_uid.is_none() || domain.pod_uid == task.pod_uid;
    let same_container = task.container_id.is_none() || domain.container_id == task.container_id;
    if domain.container_id.is_some() && same_pod && same_container {
        // A limit below the container's own cgroup is still inside the container.
        return LimitHit::Container;
    }
    if domain.container_id.is_none() && domain.pod_uid.is_some() && same_pod {
        return LimitHit::Pod;
    }
    let inside_nothing = domain == CgroupIdentity::default() && task == CgroupIdentity::default();
    if inside_nothing && oom_memcg == task_memcg && !oom_memcg.is_empty() && oom_memcg != "/" {
        return LimitHit::Container;
    }
    LimitHit::Ancestor
}

/// `pod<uid>` or `…-pod<uid>.slice`.
fn pod_uid(element: &str) -> Option<String> {
    let element = element.strip_suffix(".slice").unwrap_or(element);
    let at = element.rfind("pod")?;
    if at > 0 && element.as_bytes()[at - 1] != b'-' {
        return None;
    }
    let uid = &element[at + 3..];
    let whole = match uid.len() {
        32 => uid.bytes().all(is_hex),
        36 => uid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-' || byte == b'_',
            _ => is_hex(byte),
        }),
        _ => false,
    };
    whole.then(|| uid.replace('_', "-"))
}

/// `<id>`, `<runtime>-<id>`, `<runtime>-<id>.scope`; `above` is the element before it.
fn container<'a>(element: &'a str, above: &str) -> Option<(&'a str, Option<&'static str>)> {
    let element = element.strip_suffix(".scope").unwrap_or(element);
    let (prefix, id) = element.rsplit_once('-').map_or((above, element), |(prefix, id)| (prefix, id));
    if id.len() != 64 || !id.bytes().all(is_hex) {
        return None;
    }
    let runtime = RUNTIMES.iter().find(|(name, _)| *name == prefix).map(|(_, runtime)| *runtime);
    if runtime.is_none() && element.len() != id.len() {
        return None;
    }
    Some((id, runtime))
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
#[path = "cgroup_path_tests.rs"]
mod tests;
