//! The words and shapes in which each kind of receiver is told.

use std::collections::BTreeMap;
use std::time::Duration;

use exit137_core::time::{SECOND, UnixNanos};
use serde_json::{Map, Value, json};

use super::note::{IncidentNote, Notice, Reason, shown};

/// The API server refuses longer messages of an event.
const EVENT_BYTES_MAX: usize = 1024;

/// OTLP's number for WARN.
const SEVERITY_WARN: u32 = 13;

/// How a receiver is spoken to.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// Alerts, API v2.
    Alertmanager {
        /// Further labels.
        labels: BTreeMap<String, String>,
        /// After the last kill.
        resolve_after: Duration,
    },
    /// `{"text": …}`.
    Slack,
    /// Everything.
    Webhook,
    /// OTLP/JSON logs.
    Otlp,
}

impl Format {
    /// What is sent; `None` when this is not worth telling here.
    pub(super) fn body(&self, notice: &Notice, now: UnixNanos) -> Option<Value> {
        match self {
            // An alert is a state, so every kill counts.
            Self::Alertmanager { labels, resolve_after } => Some(alerts(notice, labels, *resolve_after, now)),
            Self::Slack => notice.reason.is_news().then(|| json!({"text": slack(notice)})),
            Self::Webhook => (notice.reason != Reason::Again).then(|| webhook(notice)),
            Self::Otlp => (notice.reason != Reason::Again).then(|| log_record(notice, now)),
        }
    }
}

fn alerts(
    notice: &Notice,
    labels: &BTreeMap<String, String>,
    resolve_after: Duration,
    now: UnixNanos,
) -> Value {
    let note = &notice.note;
    let last = note.last_kill_at().and_then(|at| UnixNanos::parse_rfc3339(&at));
    let first = note.first_kill_at().and_then(|at| UnixNanos::parse_rfc3339(&at));
    let resolve_after = i64::try_from(resolve_after.as_nanos()).unwrap_or(i64::MAX);
    let ends = match (&notice.reason, last) {
        (Reason::Ended, _) => now,
        (_, Some(last)) => UnixNanos(last.0.saturating_add(resolve_after)),
        (_, None) => UnixNanos(now.0.saturating_add(resolve_after)),
    };
    // An alert may not begin after its end.
    let starts = first.unwrap_or(now).min(ends);
    let alert = |cause: &str, ends: UnixNanos| {
        json!({
            "labels": alert_labels(note, cause, labels),
            "annotations": annotations(note),
            "startsAt": starts.to_string(),
            "endsAt": ends.to_string(),
            "generatorURL": note.link.clone().unwrap_or_default(),
        })
    };
    let mut alerts = vec![alert(&note.cause(), ends)];
    if let Reason::Cause { before } = &notice.reason {
        // The cause is a label, so that people can be routed to by it; the alert with the other one is over.
        alerts.push(alert(before, now.max(starts)));
    }
    Value::Array(alerts)
}

fn alert_labels(note: &IncidentNote, cause: &str, more: &BTreeMap<String, String>) -> Value {
    let (kind, workload) = note.workload().unzip();
    let own = [
        ("alertname", Some("ContainerOOMKilled".to_owned())),
        ("severity", Some("warning".to_owned())),
        ("incident", Some(note.id.clone())),
        ("cause", Some(cause.to_owned())),
        ("namespace", note.container("namespace")),
        ("workload_kind", kind),
        ("workload", workload),
        ("container", note.container("name")),
    ];
    let mut labels: Map<String, Value> =
        own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    labels.extend(more.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    Value::Object(labels)
}

fn annotations(note: &IncidentNote) -> Value {
    let all = [
        ("summary", Some(note.headline())),
        ("description", note.advice()),
        ("certainty", note.certainty()),
        ("operation", note.operation()),
        ("kills", Some(note.kills().to_string())),
        ("pod", note.container("pod")),
        ("node", note.container("node")),
        ("version", note.container("version")),
        ("ended", note.ended.clone()),
    ];
    let present = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    Value::Object(present.collect())
}

/// Chats give three characters a meaning.
fn slack(notice: &Notice) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let note = &notice.note;
    let mut text = match &notice.reason {
        Reason::Cause { before } => format!("Another cause than told before (`{}`): ", escape(before)),
        Reason::Kills => format!("Still being killed, {} times by now: ", note.kills()),
        Reason::Ended => format!("Over ({}): ", escape(note.ended.as_deref().unwrap_or("no more kills"))),
        _ => String::new(),
    };
    text.push_str(&escape(&note.headline()));
    if let Some(advice) = note.advice().filter(|_| notice.reason != Reason::Ended) {
        text.push_str("\n*To do:* ");
        text.push_str(&escape(&advice));
    }
    if let Some(link) = &note.link {
        text.push_str(&format!("\n<{}|why, and the evidence>", escape(&link.replace(['|', ' '], ""))));
    }
    text
}

fn webhook(notice: &Notice) -> Value {
    let note = &notice.note;
    let mut body = json!({
        "schema": "exit137.notification/1",
        "reason": notice.reason.name(),
        "incident_id": note.id,
        "link": note.link,
        "settled": note.settled,
        "ended": note.ended,
        "kills": note.kills(),
        "incident": note.incident(),
    });
    if let Reason::Cause { before } = &notice.reason {
        body["cause_before"] = before.as_str().into();
    }
    body
}

fn log_record(notice: &Notice, now: UnixNanos) -> Value {
    let note = &notice.note;
    let at = note.last_kill_at().and_then(|at| UnixNanos::parse_rfc3339(&at)).unwrap_or(now);
    let workload = note.workload().map(|(kind, name)| (format!("k8s.{}.name", kind.to_lowercase()), name));
    let named = [
        ("exit137.incident.id", Some(note.id.clone())),
        ("exit137.incident.reason", Some(notice.reason.name().to_owned())),
        ("exit137.cause", Some(note.cause())),
        ("exit137.certainty", note.certainty()),
        ("exit137.operation", note.operation()),
        ("exit137.advice", note.advice()),
        ("url.full", note.link.clone()),
        ("k8s.namespace.name", note.container("namespace")),
        ("k8s.pod.name", note.container("pod")),
        ("k8s.pod.uid", note.container("pod_uid")),
        ("k8s.container.name", note.container("name")),
        ("k8s.node.name", note.container("node")),
        ("container.id", note.container("container_id")),
        ("service.version", note.container("version")),
    ];
    let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let mut attributes: Vec<Value> = named
        .chain(workload)
        .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
        .collect();
    attributes.push(json!({"key": "exit137.kills", "value": {"intValue": note.kills().to_string()}}));
    json!({"resourceLogs": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "exit137"}}]},
        "scopeLogs": [{
            "scope": {"name": "exit137", "version": env!("CARGO_PKG_VERSION")},
            "logRecords": [{
                "timeUnixNano": at.0.to_string(),
                "observedTimeUnixNano": now.0.to_string(),
                "severityNumber": SEVERITY_WARN,
                "severityText": "WARN",
                "eventName": "exit137.incident",
                "body": {"stringValue": note.headline()},
                "attributes": attributes,
            }],
        }],
    }]})
}

/// Events on the pod and on its workload, in the namespace of both; none when these are not known.
pub(super) fn kubernetes_events(notice: &Notice, now: UnixNanos) -> Option<(String, Vec<Value>)> {
    let note = &notice.note;
    if !notice.reason.is_news() || notice.reason == Reason::Ended {
        return None;
    }
    let namespace = note.container("namespace")?;
    let parts =
        [Some(note.headline()), note.advice().map(|advice| format!("To do: {advice}")), note.link.clone()];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let message = shown(&parts.join(". "), EVENT_BYTES_MAX - '…'.len_utf8());
    // Kubernetes wants whole seconds here.
    let seconds =
        |at: UnixNanos| format!("{}", UnixNanos(at.0 - at.0.rem_euclid(SECOND))).replace(".000Z", "Z");
    let first = note.first_kill_at().and_then(|at| UnixNanos::parse_rfc3339(&at)).unwrap_or(now);
    let event = |object: Value| {
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": "exit137-", "namespace": namespace},
            "involvedObject": object,
            "type": "Warning", "reason": "OOMKillExplained", "message": message,
            "count": note.kills(),
            "firstTimestamp": seconds(first), "lastTimestamp": seconds(now),
            "source": {"component": "exit137"}, "reportingComponent": "exit137", "reportingInstance": "exit137",
        })
    };
    let mut events = Vec::new();
    if let Some(pod) = note.container("pod") {
        let mut object = json!({"kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": pod});
        if let Some(uid) = note.container("pod_uid") {
            object["uid"] = uid.into();
        }
        events.push(event(object));
    }
    if let Some((kind, name)) = note.workload().filter(|(kind, _)| kind != "Pod") {
        let version = if kind.ends_with("Job") { "batch/v1" } else { "apps/v1" };
        events
            .push(event(json!({"kind": kind, "apiVersion": version, "namespace": namespace, "name": name})));
    }
    Some((namespace, events))
}
