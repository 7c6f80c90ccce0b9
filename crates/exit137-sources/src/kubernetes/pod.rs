//! Pods: what the spec asks for. What became of it is in `status`.

use exit137_core::observation::kubernetes::{ContainerRole, ContainerSpec, Pod, is_runtime_setting};

use super::field::{Field, List};
use super::reader::{Reader, cut};
use super::{status, wire};

/// Of `command` and `args` together; longer lists are generated and say nothing.
const ARGUMENTS_MAX: usize = 64;

/// Of one argument; a longer one is a script.
const ARGUMENT_BYTES_MAX: usize = 512;

/// A kubelet runs at most a few dozen.
const CONTAINERS_MAX: usize = 1024;

/// One version of a pod; `None` for one that the API server has not seen, which nothing can be joined with.
pub(super) fn read(reader: &mut Reader<'_>, pod: &wire::Pod<'_>, deleted: bool) -> Option<Pod> {
    let metadata = reader.get("metadata", &pod.metadata)?;
    let name = reader.text("metadata.name", &metadata.name).unwrap_or_default();
    let namespace = reader.text("metadata.namespace", &metadata.namespace).unwrap_or_default();
    reader.name = format!("{namespace}/{name}");
    let empty_spec = wire::PodSpec::default();
    let spec = reader.get("spec", &pod.spec).unwrap_or(&empty_spec);
    let grace = reader.get("metadata.deletionGracePeriodSeconds", &metadata.deletion_grace_period_seconds);
    let mut observed = Pod {
        uid: reader.text("metadata.uid", &metadata.uid)?,
        namespace,
        name,
        node: reader.text("spec.nodeName", &spec.node_name),
        owner: reader.owner(metadata),
        labels: reader.map("metadata.labels", &metadata.labels, |_| true).collect(),
        annotations: reader.map("metadata.annotations", &metadata.annotations, is_identity).collect(),
        created_at: reader.time("metadata.creationTimestamp", &metadata.creation_timestamp),
        deletion_at: reader.time("metadata.deletionTimestamp", &metadata.deletion_timestamp),
        deletion_grace_seconds: grace.copied(),
        deleted,
        containers: containers(reader, spec),
        limit_bytes: reader.limit_and_request(&spec.resources).0,
        memory_volumes: memory_volumes(reader, spec),
        host_network: reader.flag("spec.hostNetwork", &spec.host_network),
        hostname: reader.text("spec.hostname", &spec.hostname),
        resource_version: reader.resource_version(metadata),
        ..Pod::default()
    };
    if let Some(pod_status) = reader.get("status", &pod.status) {
        status::read(reader, pod_status, &mut observed);
    }
    Some(observed)
}

/// Annotations that name the pod elsewhere (a static pod's cgroup, telemetry) or say why it was restarted.
pub(super) fn is_identity(annotation: &str) -> bool {
    const EXACT: [&str; 3] =
        ["kubernetes.io/config.hash", "kubernetes.io/config.mirror", "kubectl.kubernetes.io/restartedAt"];
    EXACT.contains(&annotation) || annotation.starts_with("resource.opentelemetry.io/")
}

fn containers(reader: &mut Reader<'_>, spec: &wire::PodSpec<'_>) -> Vec<ContainerSpec> {
    let mut containers = Vec::new();
    let lists = [
        ("spec.initContainers", &spec.init_containers, ContainerRole::Init),
        ("spec.containers", &spec.containers, ContainerRole::Main),
        ("spec.ephemeralContainers", &spec.ephemeral_containers, ContainerRole::Ephemeral),
    ];
    for (path, list, role) in lists {
        for container in reader.list(path, list) {
            let restarts = container.restart_policy.is_text("Always");
            let sidecar = role == ContainerRole::Init && restarts;
            let role = if sidecar { ContainerRole::Sidecar } else { role };
            if containers.len() < CONTAINERS_MAX {
                containers.extend(container_spec(reader, container, role));
            }
        }
    }
    containers
}

fn container_spec(
    reader: &mut Reader<'_>,
    container: &wire::Container<'_>,
    role: ContainerRole,
) -> Option<ContainerSpec> {
    let Some(name) = reader.text("containers[].name", &container.name) else {
        reader.problem("expected a name for each container");
        return None;
    };
    let (limit_bytes, request_bytes) = reader.limit_and_request(&container.resources);
    let mut arguments = Vec::new();
    for (path, list) in [("command", &container.command), ("args", &container.args)] {
        let room = ARGUMENTS_MAX - arguments.len();
        let texts = reader.list(path, list).take(room);
        arguments.extend(texts.map(|text| cut(text, ARGUMENT_BYTES_MAX).to_owned()));
    }
    Some(ContainerSpec {
        name,
        role,
        image: reader.text("containers[].image", &container.image).unwrap_or_default(),
        limit_bytes,
        request_bytes,
        environment: environment(reader, &container.env),
        arguments,
        has_probe: matches!(container.liveness_probe, Field::Is(_))
            || matches!(container.startup_probe, Field::Is(_)),
    })
}

/// Settings with literal values. Of a name given twice the last one holds, as in the container; a value from a
/// ConfigMap or Secret is not known and hides an earlier literal one.
fn environment(reader: &mut Reader<'_>, list: &List<wire::Environment<'_>>) -> Vec<(String, String)> {
    let mut environment: Vec<(String, String)> = Vec::new();
    for variable in reader.list("env", list) {
        let Some(name) = reader.get("env[].name", &variable.name).filter(|name| is_runtime_setting(name))
        else {
            continue;
        };
        environment.retain(|(known, _)| known != name.as_ref());
        if let Some(value) = reader.text("env[].value", &variable.value) {
            environment.push((name.to_string(), value));
        }
    }
    environment
}

/// Volumes whose files are charged as memory.
fn memory_volumes(reader: &mut Reader<'_>, spec: &wire::PodSpec<'_>) -> Vec<(String, Option<u64>)> {
    let mut volumes = Vec::new();
    for volume in reader.list("spec.volumes", &spec.volumes) {
        let Some(empty_dir) = reader.get("volumes[].emptyDir", &volume.empty_dir) else { continue };
        if empty_dir.medium.is_text("Memory") {
            let name = reader.text("volumes[].name", &volume.name).unwrap_or_default();
            volumes.push((name, reader.bytes("emptyDir.sizeLimit", &empty_dir.size_limit)));
        }
    }
    volumes
}
