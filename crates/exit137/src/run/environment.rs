//! What the command is told about where its telemetry goes: the variables of the OpenTelemetry specification, so that
//! every SDK understands them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

/// An SDK exports spans every five seconds unless told; what it has not exported dies with it.
const SPANS_EVERY_MILLISECONDS: &str = "200";

/// An SDK exports metrics once a minute unless told.
const METRICS_EVERY_MILLISECONDS: &str = "1000";

const SIGNALS: [(&str, &str); 3] = [("TRACES", "v1/traces"), ("METRICS", "v1/metrics"), ("LOGS", "v1/logs")];

/// Where the embedded recorder listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) http: SocketAddr,
    pub(super) grpc: SocketAddr,
}

/// What to set and what to remove.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) set: BTreeMap<String, OsString>,
    pub(super) remove: Vec<String>,
    /// A place that telemetry would have gone to without this run.
    pub(super) replaced_endpoint: bool,
}

/// What names this life to those who read its telemetry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) name: &'a str,
    pub(super) container_id: &'a str,
    pub(super) pod_uid: &'a str,
    /// Folder for the journals of instrumented processes.
    pub(super) journals: &'a Path,
}

/// The changes to the environment that `variable` looks up.
pub(super) fn changes(
    variable: impl Fn(&str) -> Option<String>,
    addresses: Addresses,
    identity: Identity<'_>,
) -> Changes {
    let mut changes = Changes::default();
    endpoints(&variable, addresses, &mut changes);
    let mut unless_set = |name: &str, value: &str| {
        if variable(name).is_none_or(|value| value.is_empty()) {
            changes.set.insert(name.to_owned(), value.into());
        }
    };
    unless_set("OTEL_SERVICE_NAME", identity.name);
    // Without these some SDKs export traces alone, or nothing.
    unless_set("OTEL_TRACES_EXPORTER", "otlp");
    unless_set("OTEL_METRICS_EXPORTER", "otlp");
    unless_set("OTEL_BSP_SCHEDULE_DELAY", SPANS_EVERY_MILLISECONDS);
    unless_set("OTEL_BLRP_SCHEDULE_DELAY", SPANS_EVERY_MILLISECONDS);
    unless_set("OTEL_METRIC_EXPORT_INTERVAL", METRICS_EVERY_MILLISECONDS);
    unless_set("EXIT137_JOURNAL", &identity.journals.to_string_lossy());
    let Identity { name, container_id, pod_uid, .. } = identity;
    // The last one of a key counts, so ours stand behind what was there.
    let ours = format!(
        "container.id={container_id},k8s.pod.uid={pod_uid},k8s.container.name={}",
        percent_encoded(name)
    );
    let attributes = match variable("OTEL_RESOURCE_ATTRIBUTES").filter(|value| !value.trim().is_empty()) {
        Some(theirs) => format!("{},{ours}", theirs.trim_end_matches(',')),
        None => ours,
    };
    changes.set.insert("OTEL_RESOURCE_ATTRIBUTES".to_owned(), attributes.into());
    no_proxy(&variable, &mut changes);
    changes
}

/// Each signal goes to the recorder in the protocol that it was set to.
fn endpoints(variable: &impl Fn(&str) -> Option<String>, addresses: Addresses, changes: &mut Changes) {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let Addresses { http, grpc } = addresses;
    let general = set("OTEL_EXPORTER_OTLP_PROTOCOL");
    if general.is_none() {
        changes.set.insert("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "http/protobuf".into());
    }
    let is_grpc = |protocol: &Option<String>| protocol.as_deref().map(str::trim) == Some("grpc");
    let address = if is_grpc(&general) { grpc } else { http };
    changes.replaced_endpoint = set("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
    changes.set.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://{address}").into());
    for (signal, path) in SIGNALS {
        let name = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        changes.replaced_endpoint |= set(&name).is_some();
        // Some SDKs know the endpoint of the signal alone.
        let protocol = set(&format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")).or(general.clone());
        if is_grpc(&protocol) != is_grpc(&general) {
            let endpoint =
                if is_grpc(&protocol) { format!("http://{grpc}") } else { format!("http://{http}/{path}") };
            changes.set.insert(name, endpoint.into());
        } else {
            changes.remove.push(name);
        }
    }
}

/// An HTTP proxy of the environment must not stand between the command and this machine.
fn no_proxy(variable: &impl Fn(&str) -> Option<String>, changes: &mut Changes) {
    let proxied = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "grpc_proxy"];
    if !proxied.iter().any(|name| variable(name).is_some_and(|value| !value.is_empty())) {
        return;
    }
    for name in ["no_proxy", "NO_PROXY"] {
        let value = match variable(name).filter(|value| !value.is_empty()) {
            Some(theirs) => format!("{theirs},127.0.0.1"),
            None => "127.0.0.1".to_owned(),
        };
        changes.set.insert(name.to_owned(), value.into());
    }
}

/// As the specification wants values of resource attributes: what could be read as a separator is encoded.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(environment: &[(&str, &str)]) -> Changes {
        let variable = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let addresses = Addresses {
            http: "127.0.0.1:1".parse().expect("an address"),
            grpc: "127.0.0.1:2".parse().expect("an address"),
        };
        let identity = Identity {
            name: "shop, api",
            container_id: "7e",
            pod_uid: "uid",
            journals: Path::new("/r/journals"),
        };
        changes(variable, addresses, identity)
    }

    fn set(changes: &Changes, name: &str) -> String {
        changes.set.get(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    }

    #[test]
    fn telemetry_comes_here_in_the_protocol_it_was_set_to() {
        let plain = of(&[]);
        assert_eq!(set(&plain, "OTEL_EXPORTER_OTLP_ENDPOINT"), "http://127.0.0.1:1");
        assert_eq!(set(&plain, "OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf");
        assert!(!plain.replaced_endpoint);
        let grpc = of(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4318/v1/traces"),
        ]);
        assert_eq!(set(&grpc, "OTEL_EXPORTER_OTLP_ENDPOINT"), "http://127.0.0.1:2");
        assert_eq!(set(&grpc, "OTEL_EXPORTER_OTLP_PROTOCOL"), "");
        assert_eq!(set(&grpc, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"), "http://127.0.0.1:1/v1/logs");
        assert!(grpc.remove.contains(&"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT".to_owned()));
        assert!(grpc.replaced_endpoint);
    }

    #[test]
    fn what_the_user_set_stays() {
        let changes = of(&[
            ("OTEL_SERVICE_NAME", "theirs"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.version=1.2.3"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ]);
        assert_eq!(set(&changes, "OTEL_SERVICE_NAME"), "");
        assert_eq!(set(&changes, "OTEL_BSP_SCHEDULE_DELAY"), "");
        assert_eq!(
            set(&changes, "OTEL_RESOURCE_ATTRIBUTES"),
            "service.version=1.2.3,container.id=7e,k8s.pod.uid=uid,k8s.container.name=shop%2C%20api"
        );
    }

    #[test]
    fn a_proxy_does_not_come_between() {
        assert_eq!(set(&of(&[]), "no_proxy"), "");
        let proxied = of(&[("http_proxy", "http://proxy:3128"), ("no_proxy", "intern")]);
        assert_eq!(set(&proxied, "no_proxy"), "intern,127.0.0.1");
        assert_eq!(set(&proxied, "NO_PROXY"), "127.0.0.1");
    }
}
