//! Cgroup paths of every driver and runtime that was met.

use super::*;

const ID: &str = "1f4e5ce8c689c01a159ceb8c00359e242dd772535543a1197de5b246af33a880";
const NODE: &str = "2f4e5ce8c689c01a159ceb8c00359e242dd772535543a1197de5b246af33a880";
const UID: &str = "21541f59-9099-4e72-8000-daa4482fb562";
const STATIC: &str = "0123456789abcdef0123456789abcdef";

/// `{id}`, `{node}`, `{uid}`, `{u_i_d}` (underscores) and `{static}` stand for the constants.
fn filled(template: &str) -> String {
    template
        .replace("{id}", ID)
        .replace("{node}", NODE)
        .replace("{uid}", UID)
        .replace("{u_i_d}", &UID.replace('-', "_"))
        .replace("{static}", STATIC)
}

fn told(path: &str) -> String {
    let identity = container_of(&filled(path));
    let name = |value: Option<String>, names: &[(&str, &str)]| match value {
        None => "-".to_owned(),
        Some(value) => {
            names.iter().find(|(known, _)| *known == value).map_or(value, |(_, name)| (*name).to_owned())
        }
    };
    let pod = name(identity.pod_uid, &[(UID, "uid"), (STATIC, "static")]);
    let container = name(identity.container_id, &[(ID, "id"), (NODE, "node")]);
    format!("{pod} {container} {}", identity.runtime.as_deref().unwrap_or("-"))
}

#[test]
fn every_layout_names_its_pod_and_container() {
    let cases = [
        ("/kubepods/burstable/pod{uid}/{id}", "uid id -"),
        ("/kubepods/pod{uid}/{id}", "uid id -"),
        ("/kubepods/besteffort/pod{static}/crio-{id}", "static id cri-o"),
        ("/kubepods/burstable/pod{uid}", "uid - -"),
        ("/kubepods.slice/kubepods-pod{u_i_d}.slice/cri-containerd-{id}.scope", "uid id containerd"),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u_i_d}.slice/docker-{id}.scope",
            "uid id docker",
        ),
        ("/kubepods.slice/kubepods-pod{u_i_d}.slice/crio-{id}.scope/container", "uid id cri-o"),
        ("/kubepods.slice/kubepods-pod{u_i_d}.slice/crio-conmon-{id}.scope", "uid - -"),
        ("/kubepods.slice/kubepods-pod{static}.slice", "static - -"),
        ("/kubepods-burstable-pod{u_i_d}.slice:cri-containerd:{id}", "uid id containerd"),
        (
            "/docker/{node}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{u_i_d}.slice/cri-containerd-{id}.scope",
            "uid id containerd",
        ),
        ("/system.slice/docker-{node}.scope/kubepods/burstable/pod{uid}/{id}", "uid id -"),
        (
            "/lxc.payload.a-pod-lxc/kubepods.slice/kubepods-pod{u_i_d}.slice/cri-containerd-{id}.scope",
            "uid id containerd",
        ),
        ("/k3s/kubepods/pod{uid}/{id}/docker/{node}", "uid id -"),
        ("/kubepods/pod{uid}/{id} (deleted)", "uid id -"),
        ("/docker/{id}", "- id docker"),
        ("/system.slice/docker-{id}.scope", "- id docker"),
        ("/machine.slice/libpod-{id}.scope/container", "- id podman"),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope", "- id podman"),
        ("/docker/{node}/docker/{id}", "- id docker"),
        ("/machine.slice/libpod-conmon-{id}.scope", "- - -"),
        ("/podruntime.slice/kubelet.service", "- - -"),
        ("/tripod{uid}/{id}", "- id -"),
        ("/kubepods/pod{uid}/1f4e5ce8", "uid - -"),
        ("/", "- - -"),
        ("", "- - -"),
    ];
    for (path, expected) in cases {
        assert_eq!(told(path), expected, "{path}");
    }
}

#[test]
fn whose_limit_was_hit() {
    let cases = [
        ("/kubepods/pod{uid}/{id}", "/kubepods/pod{uid}/{id}", LimitHit::Container),
        ("/kubepods/pod{uid}/{id}", "/kubepods/pod{uid}/{id}/container", LimitHit::Container),
        ("/kubepods/pod{uid}/{id}/worker", "/kubepods/pod{uid}/{id}/worker", LimitHit::Container),
        ("/kubepods/pod{uid}/{id}", "", LimitHit::Container),
        ("/kubepods/pod{uid}", "/kubepods/pod{uid}/{id}", LimitHit::Pod),
        ("/kubepods/pod{uid}", "/kubepods/pod{uid}", LimitHit::Pod),
        ("/kubepods", "/kubepods/pod{uid}/{id}", LimitHit::Ancestor),
        ("/kubepods/burstable", "/kubepods/burstable/pod{uid}/{id}", LimitHit::Ancestor),
        ("/docker/{node}", "/docker/{node}/kubelet/kubepods/pod{uid}/{id}", LimitHit::Ancestor),
        ("/docker/{node}", "/docker/{node}/docker/{id}", LimitHit::Ancestor),
        ("/docker/{id}", "/docker/{id}", LimitHit::Container),
        ("/podruntime.slice", "/podruntime.slice/kubelet.service", LimitHit::Ancestor),
        ("/system.slice/db.service", "/system.slice/db.service", LimitHit::Container),
        ("/", "/", LimitHit::Ancestor),
    ];
    for (domain, task, expected) in cases {
        assert_eq!(limit_owner(&filled(domain), &filled(task)), expected, "{domain} {task}");
    }
}

#[test]
fn only_a_pods_own_cgroup_is_pod_level() {
    assert!(is_pod_level(&filled("/kubepods/burstable/pod{uid}")));
    assert!(is_pod_level(&filled("/kubepods.slice/kubepods-pod{u_i_d}.slice/")));
    assert!(!is_pod_level(&filled("/kubepods/pod{uid}/{id}")));
    assert!(!is_pod_level("/kubepods"));
}
