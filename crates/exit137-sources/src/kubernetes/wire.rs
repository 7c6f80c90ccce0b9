//! The fields of Kubernetes objects that are read, named as the API names them. What they mean is decided in
//! `pod`, `event` and `workload`; that they may be missing or odd is `field`'s business.

use serde::Deserialize;

use super::field::{Field, Flag, List, Number, Scalar, Shape, Text, TextMap, record};

/// Declares objects whose every field forgives.
macro_rules! records {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
        pub(super) struct $name<'a> {
            $($(#[$attribute])* pub(super) $field: $type,)*
        }

        impl<'de: 'a, 'a> Shape<'de> for $name<'a> {
            const EXPECTED: &'static str = "an object";

            fn from_map<A: serde::de::MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
                record(map)
            }
        }
    )*};
}

records! {
    /// What is looked at before an object of any kind is read.
    Head {
        metadata: Field<Metadata<'a>>,
        reason: Text<'a>,
        message: Text<'a>,
        note: Text<'a>,
    }

    Metadata {
        name: Text<'a>,
        namespace: Text<'a>,
        uid: Text<'a>,
        resource_version: Text<'a>,
        creation_timestamp: Text<'a>,
        deletion_timestamp: Text<'a>,
        deletion_grace_period_seconds: Number,
        labels: TextMap<'a>,
        annotations: TextMap<'a>,
        owner_references: List<OwnerReference<'a>>,
    }

    OwnerReference {
        kind: Text<'a>,
        name: Text<'a>,
        uid: Text<'a>,
        controller: Flag,
    }

    Pod {
        metadata: Field<Metadata<'a>>,
        spec: Field<PodSpec<'a>>,
        status: Field<PodStatus<'a>>,
    }

    PodSpec {
        node_name: Text<'a>,
        hostname: Text<'a>,
        host_network: Flag,
        containers: List<Container<'a>>,
        init_containers: List<Container<'a>>,
        ephemeral_containers: List<Container<'a>>,
        resources: Field<Resources<'a>>,
        volumes: List<Volume<'a>>,
    }

    Container {
        name: Text<'a>,
        image: Text<'a>,
        restart_policy: Text<'a>,
        command: List<std::borrow::Cow<'a, str>>,
        args: List<std::borrow::Cow<'a, str>>,
        env: List<Environment<'a>>,
        resources: Field<Resources<'a>>,
        liveness_probe: Field<Probe<'a>>,
        startup_probe: Field<Probe<'a>>,
    }

    Environment {
        name: Text<'a>,
        value: Text<'a>,
    }

    Resources {
        limits: Field<ResourceList<'a>>,
        requests: Field<ResourceList<'a>>,
    }

    ResourceList {
        memory: Field<Scalar<'a>>,
    }

    /// Only that there is one matters.
    Probe {
        #[serde(skip)]
        nothing: std::marker::PhantomData<&'a ()>,
    }

    Volume {
        name: Text<'a>,
        empty_dir: Field<EmptyDir<'a>>,
    }

    EmptyDir {
        medium: Text<'a>,
        size_limit: Field<Scalar<'a>>,
    }

    PodStatus {
        phase: Text<'a>,
        reason: Text<'a>,
        message: Text<'a>,
        conditions: List<Condition<'a>>,
        container_statuses: List<ContainerStatus<'a>>,
        init_container_statuses: List<ContainerStatus<'a>>,
        ephemeral_container_statuses: List<ContainerStatus<'a>>,
    }

    /// Of pods and of nodes.
    Condition {
        #[serde(rename = "type")]
        kind: Text<'a>,
        status: Text<'a>,
        reason: Text<'a>,
        last_transition_time: Text<'a>,
    }

    ContainerStatus {
        name: Text<'a>,
        #[serde(rename = "containerID")]
        container_id: Text<'a>,
        #[serde(rename = "imageID")]
        image_id: Text<'a>,
        restart_count: Number,
        state: Field<ContainerState<'a>>,
        last_state: Field<ContainerState<'a>>,
        resources: Field<Resources<'a>>,
    }

    ContainerState {
        waiting: Field<Waiting<'a>>,
        running: Field<RunningState<'a>>,
        terminated: Field<Terminated<'a>>,
    }

    Waiting {
        reason: Text<'a>,
    }

    RunningState {
        started_at: Text<'a>,
    }

    Terminated {
        exit_code: Number,
        reason: Text<'a>,
        message: Text<'a>,
        started_at: Text<'a>,
        finished_at: Text<'a>,
        #[serde(rename = "containerID")]
        container_id: Text<'a>,
    }

    /// Of both API groups, which name the same things differently.
    Event {
        metadata: Field<Metadata<'a>>,
        reason: Text<'a>,
        #[serde(rename = "type")]
        kind: Text<'a>,
        message: Text<'a>,
        note: Text<'a>,
        involved_object: Field<ObjectReference<'a>>,
        regarding: Field<ObjectReference<'a>>,
        count: Number,
        deprecated_count: Number,
        event_time: Text<'a>,
        first_timestamp: Text<'a>,
        deprecated_first_timestamp: Text<'a>,
        last_timestamp: Text<'a>,
        deprecated_last_timestamp: Text<'a>,
        series: Field<EventSeries<'a>>,
    }

    ObjectReference {
        kind: Text<'a>,
        namespace: Text<'a>,
        name: Text<'a>,
        uid: Text<'a>,
        field_path: Text<'a>,
    }

    EventSeries {
        count: Number,
        last_observed_time: Text<'a>,
    }

    Node {
        metadata: Field<Metadata<'a>>,
        status: Field<NodeStatus<'a>>,
    }

    NodeStatus {
        capacity: Field<ResourceList<'a>>,
        allocatable: Field<ResourceList<'a>>,
        conditions: List<Condition<'a>>,
        node_info: Field<NodeInfo<'a>>,
    }

    NodeInfo {
        #[serde(rename = "bootID")]
        boot_id: Text<'a>,
    }

    Workload {
        metadata: Field<Metadata<'a>>,
        spec: Field<WorkloadSpec<'a>>,
        status: Field<WorkloadStatus<'a>>,
    }

    WorkloadSpec {
        template: Field<Template<'a>>,
        job_template: Field<JobTemplate<'a>>,
    }

    JobTemplate {
        spec: Field<JobSpec<'a>>,
    }

    JobSpec {
        template: Field<Template<'a>>,
    }

    Template {
        metadata: Field<Metadata<'a>>,
        spec: Field<PodSpec<'a>>,
    }

    WorkloadStatus {
        update_revision: Text<'a>,
    }

    /// What the API server answers when it cannot.
    Status {
        message: Text<'a>,
        reason: Text<'a>,
        code: Number,
    }
}
