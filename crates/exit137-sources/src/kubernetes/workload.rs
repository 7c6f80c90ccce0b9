//! What pods run on and what they belong to: nodes, ReplicaSets, Deployments and their like.

use exit137_core::observation::kubernetes::{Node, Workload};

use super::field::Field;
use super::reader::Reader;
use super::wire;

/// One version of a node.
pub(super) fn read_node(reader: &mut Reader<'_>, node: &wire::Node<'_>) -> Option<Node> {
    let metadata = reader.get("metadata", &node.metadata)?;
    let name = reader.text("metadata.name", &metadata.name)?;
    reader.name.clone_from(&name);
    let empty_status = wire::NodeStatus::default();
    let status = reader.get("status", &node.status).unwrap_or(&empty_status);
    let capacity = reader.get("status.capacity", &status.capacity);
    let allocatable = reader.get("status.allocatable", &status.allocatable);
    let info = reader.get("status.nodeInfo", &status.node_info);
    let mut observed = Node {
        name,
        uid: reader.text("metadata.uid", &metadata.uid).unwrap_or_default(),
        capacity_bytes: capacity.and_then(|list| reader.bytes("status.capacity.memory", &list.memory)),
        allocatable_bytes: allocatable
            .and_then(|list| reader.bytes("status.allocatable.memory", &list.memory)),
        boot_id: info.and_then(|info| reader.text("status.nodeInfo.bootID", &info.boot_id)),
        memory_pressure_at: Vec::new(),
        resource_version: reader.resource_version(metadata),
    };
    for condition in reader.list("status.conditions", &status.conditions) {
        if condition.kind.is_text("MemoryPressure") && condition.status.is_text("True") {
            let at = reader.time("conditions[].lastTransitionTime", &condition.last_transition_time);
            observed.memory_pressure_at.extend(at);
        }
    }
    Some(observed)
}

/// One version of a workload; `None` for a manifest that no cluster has seen.
pub(super) fn read_workload(reader: &mut Reader<'_>, workload: &wire::Workload<'_>) -> Option<Workload> {
    let metadata = reader.get("metadata", &workload.metadata)?;
    let name = reader.text("metadata.name", &metadata.name).unwrap_or_default();
    let namespace = reader.text("metadata.namespace", &metadata.namespace).unwrap_or_default();
    reader.name = format!("{namespace}/{name}");
    let mut observed = Workload {
        kind: reader.kind.to_owned(),
        namespace,
        name,
        uid: reader.text("metadata.uid", &metadata.uid)?,
        owner: reader.owner(metadata),
        created_at: reader.time("metadata.creationTimestamp", &metadata.creation_timestamp),
        revision: revision(reader, metadata),
        resource_version: reader.resource_version(metadata),
        ..Workload::default()
    };
    if let Some(spec) = reader.get("spec", &workload.spec) {
        read_template(reader, spec, &mut observed);
    }
    if observed.template_hash.is_none() {
        // A StatefulSet names the hash of its newest template only here.
        let status = reader.get("status", &workload.status);
        observed.template_hash =
            status.and_then(|status| reader.text("status.updateRevision", &status.update_revision));
    }
    Some(observed)
}

fn revision(reader: &mut Reader<'_>, metadata: &wire::Metadata<'_>) -> Option<u64> {
    let (_, revision) = reader.map("metadata.annotations", &metadata.annotations, is_revision).next()?;
    revision.parse().ok()
}

/// The annotation that counts a Deployment's templates.
pub(super) fn is_revision(annotation: &str) -> bool {
    annotation == "deployment.kubernetes.io/revision"
}

fn read_template(reader: &mut Reader<'_>, spec: &wire::WorkloadSpec<'_>, workload: &mut Workload) {
    let job = reader.get("spec.jobTemplate", &spec.job_template);
    let job = job.and_then(|job| reader.get("spec.jobTemplate.spec", &job.spec));
    let template = job.map_or(&spec.template, |job| &job.template);
    let Some(template) = reader.get("spec.template", template) else { return };
    if let Some(metadata) = reader.get("spec.template.metadata", &template.metadata) {
        for (key, value) in reader.map("spec.template.metadata.labels", &metadata.labels, |_| true) {
            match key.as_str() {
                "app.kubernetes.io/version" => workload.version = Some(value),
                "pod-template-hash" | "controller-revision-hash" => workload.template_hash = Some(value),
                _ => {}
            }
        }
    }
    let Some(spec) = reader.get("spec.template.spec", &template.spec) else { return };
    for list in [&spec.init_containers, &spec.containers] {
        for container in reader.list("spec.template.spec.containers", list) {
            if let (Field::Is(name), Field::Is(image)) = (&container.name, &container.image) {
                workload.images.push((name.to_string(), image.to_string()));
            }
        }
    }
}
