//! What a pod's status says: which containers run, wait and ended, and how.

use exit137_core::observation::kubernetes::{ContainerRole, Pod, Running, Termination};

use super::field::Field;
use super::reader::{MESSAGE_BYTES_MAX, Reader, cut};
use super::wire;

/// CRI's word for an exit code that is not known.
const EXIT_CODE_UNKNOWN: i32 = -1;

/// Adds what `status` says to `pod`, whose spec was read before.
pub(super) fn read(reader: &mut Reader<'_>, status: &wire::PodStatus<'_>, pod: &mut Pod) {
    pod.phase = reader.text("status.phase", &status.phase);
    pod.reason = reader.text("status.reason", &status.reason);
    pod.message = message(reader, "status.message", &status.message);
    for condition in reader.list("status.conditions", &status.conditions) {
        if !condition.status.is_text("True") {
            continue;
        }
        let path = "conditions[].lastTransitionTime";
        if condition.kind.is_text("Ready") {
            pod.ready_at = reader.time(path, &condition.last_transition_time);
        } else if condition.kind.is_text("DisruptionTarget") {
            let reason = reader.text("conditions[].reason", &condition.reason).unwrap_or_default();
            let at = reader.time(path, &condition.last_transition_time);
            pod.disruptions.push(("DisruptionTarget".to_owned(), reason, at));
        }
    }
    let lists = [
        ("status.initContainerStatuses", &status.init_container_statuses, ContainerRole::Init),
        ("status.containerStatuses", &status.container_statuses, ContainerRole::Main),
        ("status.ephemeralContainerStatuses", &status.ephemeral_container_statuses, ContainerRole::Ephemeral),
    ];
    for (path, list, role) in lists {
        for container in reader.list(path, list) {
            read_container(reader, container, role, pod);
        }
    }
}

fn message(reader: &mut Reader<'_>, path: &str, field: &super::field::Text<'_>) -> Option<String> {
    let text = reader.get(path, field)?.trim();
    (!text.is_empty()).then(|| cut(text, MESSAGE_BYTES_MAX).to_owned())
}

fn read_container(
    reader: &mut Reader<'_>,
    status: &wire::ContainerStatus<'_>,
    role: ContainerRole,
    pod: &mut Pod,
) {
    let Some(container) = reader.text("containerStatuses[].name", &status.name) else {
        return reader.problem("expected a name for each container status");
    };
    // Native sidecars share a list with init containers; only the spec tells them apart.
    let in_spec = pod.containers.iter().find(|spec| spec.name == container);
    let role = in_spec.map_or(role, |spec| spec.role);
    let restart_count = reader.count("restartCount", &status.restart_count).unwrap_or(0);
    pod.restart_counts.insert(container.clone(), restart_count);

    let states = [("state", &status.state, true), ("lastState", &status.last_state, false)];
    for (path, state, current) in states {
        let Some(state) = reader.get(path, state) else { continue };
        if let Some(terminated) = reader.get("terminated", &state.terminated) {
            pod.observe_termination(Termination {
                container: container.clone(),
                role,
                restart_count,
                ..termination(reader, terminated)
            });
        }
        if !current {
            continue;
        }
        if let Some(waiting) = reader.get("state.waiting", &state.waiting)
            && let Some(reason) = reader.text("state.waiting.reason", &waiting.reason)
        {
            pod.waiting.insert(container.clone(), reason);
        }
        if let Some(running) = reader.get("state.running", &state.running) {
            let started_at = reader.time("state.running.startedAt", &running.started_at);
            let container_id = container_id(reader, &status.container_id);
            // Without both it cannot be told from the container's other runs.
            if let (Some(started_at), Some(container_id)) = (started_at, container_id) {
                pod.running.push(Running {
                    container: container.clone(),
                    container_id,
                    started_at,
                    restart_count,
                    limit_bytes: reader.limit_and_request(&status.resources).0,
                    image_id: reader.text("imageID", &status.image_id).unwrap_or_default(),
                });
            }
        }
    }
}

/// An end; the caller knows whose.
fn termination(reader: &mut Reader<'_>, terminated: &wire::Terminated<'_>) -> Termination {
    let exit_code = reader.get("terminated.exitCode", &terminated.exit_code).copied();
    let exit_code = exit_code.and_then(|code| i32::try_from(code).ok());
    if exit_code.is_none() && !matches!(terminated.exit_code, Field::Wrong(_)) {
        reader.problem("expected an exit code in `terminated.exitCode`");
    }
    Termination {
        container: String::new(),
        role: ContainerRole::Main,
        container_id: container_id(reader, &terminated.container_id),
        exit_code: exit_code.unwrap_or(EXIT_CODE_UNKNOWN),
        reason: reader.text("terminated.reason", &terminated.reason),
        message: message(reader, "terminated.message", &terminated.message),
        started_at: reader.time("terminated.startedAt", &terminated.started_at),
        finished_at: reader.time("terminated.finishedAt", &terminated.finished_at),
        restart_count: 0,
    }
}

/// `containerd://1f…` → `1f…`.
fn container_id(reader: &mut Reader<'_>, field: &super::field::Text<'_>) -> Option<String> {
    let text = reader.text("containerID", field)?;
    let id = text.split_once("://").map_or(text.as_str(), |(_, id)| id);
    (!id.is_empty()).then(|| id.to_owned())
}
