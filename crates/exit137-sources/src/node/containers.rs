//! Finds the containers of a node by their cgroups, whatever made them: containerd, CRI-O, Docker or Podman, with the
//! cgroupfs or the systemd driver, nested (kind, k3s) or not. No API is asked.

use std::fs::ReadDir;
use std::path::{Path, PathBuf};

use exit137_core::kernel::cgroup_path::{CgroupIdentity, container_of, is_pod_level};

use super::hierarchy::Hierarchy;

/// A node runs a few hundred containers; the kubelet's own limit is 110 pods unless changed.
pub const CONTAINERS_MAX: usize = 8192;

/// Cgroups that are looked at in one search: a hostile container can make as many as it likes.
const FOLDERS_MAX: usize = 200_000;

/// kind in LXC is about twelve deep.
const DEPTH_MAX: usize = 32;

/// A container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Path from the hierarchy's root.
    pub path: String,
    /// Pod and container.
    pub identity: CgroupIdentity,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Sorted by path.
    pub containers: Vec<Container>,
    /// Every cgroup in which a container or another such folder may appear: whoever watches these misses none.
    pub folders: Vec<String>,
    /// There was more than [`CONTAINERS_MAX`], or a tree without end.
    pub is_cut: bool,
}

/// Searches below the cgroup `from`, a path from the root of `hierarchy`.
///
/// A container that runs containers itself (a kind node) is not one of a pod, so it is looked into; a container of a pod is
/// not, for what is below its cgroup is its own business and its numbers include it.
pub fn find(hierarchy: &Hierarchy, from: &str) -> Found {
    let mut found = Found::default();
    let start = format!("/{}", from.trim_matches('/'));
    let mut open = vec![start];
    while let Some(path) = open.pop() {
        if found.folders.len() >= FOLDERS_MAX || found.containers.len() >= CONTAINERS_MAX {
            found.is_cut = true;
            break;
        }
        // A cgroup that went away while it was looked at is none.
        let Ok(entries) = std::fs::read_dir(hierarchy.folder(&path)) else { continue };
        for name in folder_names(entries) {
            let child = if path == "/" { format!("/{name}") } else { format!("{path}/{name}") };
            match kind(&child) {
                Kind::Container(identity) => {
                    let of_a_pod = identity.pod_uid.is_some();
                    found.containers.push(Container { path: child.clone(), identity });
                    if !of_a_pod {
                        open.push(child);
                    }
                }
                Kind::Folder if child.matches('/').count() <= DEPTH_MAX => open.push(child),
                Kind::Folder | Kind::Leaf => {}
            }
        }
        found.folders.push(path);
    }
    found.containers.sort_by(|a, b| a.path.cmp(&b.path));
    // The cgroup around nested containers is their node.
    let outer = |at: usize| {
        let path = format!("{}/", found.containers[at].path);
        found.containers.get(at + 1).is_some_and(|next| next.path.starts_with(&path))
    };
    let nodes: Vec<bool> = (0..found.containers.len()).map(outer).collect();
    let mut nodes = nodes.into_iter();
    found.containers.retain(|_| !nodes.next().unwrap_or_default());
    found
}

enum Kind {
    Container(CgroupIdentity),
    /// May hold containers.
    Folder,
    /// Holds none.
    Leaf,
}

/// What the cgroup at `path` is, told by its name alone.
fn kind(path: &str) -> Kind {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.starts_with("crio-conmon-") || name.ends_with(".service") || name.ends_with(".mount") {
        // The kubelet and the runtime are services; k3s keeps containers below its own one.
        let holds = name.starts_with("k3s") || name.starts_with("rke2") || name.starts_with("docker");
        return if holds { Kind::Folder } else { Kind::Leaf };
    }
    let identity = container_of(path);
    if identity.container_id.is_none() || is_pod_level(path) {
        return Kind::Folder;
    }
    // The name itself must be the container's: below a kind node there is much that is none.
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    if container_of(parent) == identity { Kind::Folder } else { Kind::Container(identity) }
}

fn folder_names(entries: ReadDir) -> Vec<String> {
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What the kubelet calls a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Namespace.
    pub namespace: String,
    /// Pod.
    pub pod: String,
    /// Container; empty when only the pod is known.
    pub container: String,
    /// How often it was restarted before this run.
    pub restart_count: Option<u32>,
}

/// Where the kubelet leaves its links to container logs, and where the logs are.
#[derive(Debug, Clone)]
pub struct Kubelet {
    links: PathBuf,
    pods: PathBuf,
}

impl Kubelet {
    /// The folders of a kubelet with usual settings.
    pub fn new(sysroot: &Path) -> Self {
        Self {
            links: super::below(sysroot, "/var/log/containers"),
            pods: super::below(sysroot, "/var/log/pods"),
        }
    }

    /// Whether there is anything to read names from.
    pub fn is_readable(&self) -> bool {
        std::fs::read_dir(&self.links).is_ok() || std::fs::read_dir(&self.pods).is_ok()
    }

    /// The names of all containers that have a log, by container ID. Read anew for unknown containers only.
    pub fn by_container_id(&self) -> Vec<(String, Names)> {
        let Ok(entries) = std::fs::read_dir(&self.links) else { return Vec::new() };
        let links = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        links
            .take(CONTAINERS_MAX)
            .filter_map(|name| {
                let (id, mut names) = link_names(&name)?;
                let target = std::fs::read_link(self.links.join(&name)).ok();
                names.restart_count = target.and_then(|target| target.file_stem()?.to_str()?.parse().ok());
                Some((id, names))
            })
            .collect()
    }

    /// Namespace and name of pods, by UID.
    pub fn by_pod_uid(&self) -> Vec<(String, Names)> {
        let Ok(entries) = std::fs::read_dir(&self.pods) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.take(CONTAINERS_MAX).filter_map(|name| pod_names(&name)).collect()
    }
}

/// `<pod>_<namespace>_<container>-<64 hex digits>.log`
fn link_names(name: &str) -> Option<(String, Names)> {
    let (rest, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = rest.split('_');
    let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && parts.next().is_none();
    let names = Names {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        restart_count: None,
    };
    whole.then(|| (id.to_owned(), names))
}

/// `<namespace>_<pod>_<uid>`
fn pod_names(name: &str) -> Option<(String, Names)> {
    let mut parts = name.split('_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let names = Names { namespace: namespace.to_owned(), pod: pod.to_owned(), ..Names::default() };
    parts.next().is_none().then(|| (uid.to_owned(), names))
}

#[cfg(test)]
mod tests {
    use super::{Found, Kubelet, Names, find};
    use crate::node::hierarchy::{Hierarchy, Version};
    use crate::node::tests::tree;

    const UID: &str = "6f0dc1b2-3a4e-4c6f-9f1a-2b3c4d5e6f70";
    const STATIC: &str = "0123456789abcdef0123456789abcdef";

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn found(paths: &[String]) -> Found {
        let tree = tree(&[]);
        for path in paths {
            std::fs::create_dir_all(tree.path().join(path.trim_start_matches('/'))).expect("a folder");
        }
        find(&Hierarchy { version: Version::V2, root: tree.path().to_owned() }, "/")
    }

    #[test]
    fn containers_are_found_in_every_layout() {
        let (a, under) = (id('a'), UID.replace('-', "_"));
        let slice = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice");
        let kind = format!("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice");
        let layouts: [(String, Option<&str>, &str); 9] = [
            (format!("/kubepods/burstable/pod{UID}/{a}"), Some(UID), "cgroupfs, containerd"),
            (format!("/kubepods/pod{STATIC}/{a}"), Some(STATIC), "cgroupfs, a static pod"),
            (format!("/kubepods/besteffort/pod{UID}/crio-{a}"), Some(UID), "cgroupfs, CRI-O"),
            (format!("{slice}/cri-containerd-{a}.scope"), Some(UID), "systemd, containerd"),
            (format!("{slice}/crio-{a}.scope"), Some(UID), "systemd, CRI-O"),
            (format!("{slice}/docker-{a}.scope"), Some(UID), "systemd, Docker"),
            (format!("/docker/{}{kind}/cri-containerd-{a}.scope", id('f')), Some(UID), "kind in Docker"),
            (format!("/system.slice/docker-{a}.scope"), None, "Docker alone"),
            (format!("/system.slice/k3s.service/kubepods/pod{UID}/{a}"), Some(UID), "k3s below its service"),
        ];
        for (path, pod, what) in layouts {
            let found = found(std::slice::from_ref(&path));
            let all: Vec<_> =
                found.containers.iter().map(|c| (c.path.as_str(), c.identity.pod_uid.as_deref())).collect();
            assert_eq!(all, [(path.as_str(), pod)], "{what}");
            assert_eq!(found.containers[0].identity.container_id, Some(a.clone()), "{what}");
        }
    }

    #[test]
    fn what_is_no_container_or_inside_one_is_left_alone() {
        let (a, b) = (id('a'), id('b'));
        let pod = format!("/kubepods.slice/kubepods-pod{}.slice", UID.replace('-', "_"));
        let found = found(&[
            format!("{pod}/crio-conmon-{b}.scope"),
            format!("{pod}/crio-{a}.scope/container/inner"),
            "/system.slice/kubelet.service".to_owned(),
            "/user.slice/user-0.slice".to_owned(),
        ]);
        let paths: Vec<_> = found.containers.iter().map(|container| container.path.as_str()).collect();
        assert_eq!(paths, [format!("{pod}/crio-{a}.scope")]);
        // The folders tell where containers appear.
        assert!(found.folders.contains(&pod) && found.folders.contains(&"/".to_owned()));
        assert!(
            !found
                .folders
                .iter()
                .any(|folder| folder.contains("kubelet.service") || folder.contains("crio-"))
        );
    }

    #[test]
    fn the_kubelet_names_containers_by_the_links_to_their_logs() {
        let tree = tree(&[(&format!("var/log/pods/shop_api-0_{UID}/api/2.log"), "")]);
        let links = tree.path().join("var/log/containers");
        std::fs::create_dir_all(&links).expect("a folder");
        let link = links.join(format!("api-0_shop_api-{}.log", id('a')));
        std::os::unix::fs::symlink(format!("/var/log/pods/shop_api-0_{UID}/api/2.log"), link)
            .expect("a link");
        std::fs::write(links.join("README_x.log"), "").expect("a file");
        let kubelet = Kubelet::new(tree.path());
        let pod = Names { namespace: "shop".into(), pod: "api-0".into(), ..Names::default() };
        let container = Names { container: "api".into(), restart_count: Some(2), ..pod.clone() };
        assert_eq!(kubelet.by_container_id(), [(id('a'), container)]);
        assert_eq!(kubelet.by_pod_uid(), [(UID.to_owned(), pod)]);
    }
}
