//! Names from the Kubernetes API: the pods of this node, page by page, in a thread of its own, since an answer may take seconds
//! and the watch cannot wait. Only `list` on pods is needed.

use std::fs;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use exit137_sources::node::containers::Names;
use serde::Deserialize;

use super::config::Config;
use super::http::{Client, Endpoint};
use super::names::Found;
use crate::commands::chain;

/// A pod has some ten to twenty KiB of JSON; a page of this many stays small beside the agent itself.
const PAGE_PODS: usize = 20;
const PAGE_BYTES_MAX: u64 = 8 << 20;

/// A node has at most some hundreds of pods.
const PAGES_MAX: usize = 500;

/// Asks in the background.
#[derive(Debug)]
pub(super) struct ApiNames {
    asks: SyncSender<()>,
    answers: Receiver<Found>,
    /// Of the start, not yet taken.
    first: Option<Found>,
}

impl ApiNames {
    /// Asks for the first time, to know whether it is allowed; why not, when it is not.
    pub(super) fn start(config: &Config, node: &str) -> Result<Self, String> {
        let api = Api::new(config, node)?;
        let first = Some(api.list()?);
        let (asks, asked) = sync_channel::<()>(1);
        let (answer, answers) = sync_channel(1);
        let run = move || {
            let mut said = None;
            while asked.recv().is_ok() {
                match api.list() {
                    Ok(found) => {
                        said = None;
                        if answer.send(found).is_err() {
                            break;
                        }
                    }
                    Err(why) if said.as_ref() != Some(&why) => {
                        tracing::warn!("names of containers: {why}");
                        said = Some(why);
                    }
                    Err(_) => {}
                }
            }
        };
        std::thread::Builder::new().name("names".into()).spawn(run).map_err(|error| error.to_string())?;
        Ok(Self { asks, answers, first })
    }

    /// What was found since the last call. `ask` starts another search, unless one is under way.
    pub(super) fn answer(&mut self, ask: bool) -> Option<Found> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if ask {
            // Full: it is being searched.
            let _ = self.asks.try_send(());
        }
        self.answers.try_recv().ok()
    }
}

/// Where the API is, and what is asked.
#[derive(Debug)]
struct Api {
    endpoint: Endpoint,
    token_file: std::path::PathBuf,
    ca_file: std::path::PathBuf,
    /// Without `continue`.
    path: String,
}

impl Api {
    fn new(config: &Config, node: &str) -> Result<Self, String> {
        let address = match config.kubernetes_api.as_str() {
            "never" => return Err("the Kubernetes API is not to be asked".to_owned()),
            "auto" => in_cluster().ok_or("this is no pod that could ask the Kubernetes API")?,
            address => address.to_owned(),
        };
        let endpoint = address.parse().map_err(|error| chain(&error))?;
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}&limit={PAGE_PODS}", escaped(node));
        let (token_file, ca_file) = (config.kubernetes_token_file.clone(), config.kubernetes_ca_file.clone());
        Ok(Self { endpoint, token_file, ca_file, path })
    }

    /// All pods of the node. The token is read each time: it is replaced every hour or so.
    fn list(&self) -> Result<Found, String> {
        let mut headers = Vec::new();
        match fs::read_to_string(&self.token_file) {
            Ok(token) => headers.push(("Authorization".to_owned(), format!("Bearer {}", one_line(&token)?))),
            Err(error) => {
                tracing::debug!("no token for the Kubernetes API in {}: {error}", self.token_file.display())
            }
        }
        let ca_file = self.ca_file.exists().then_some(self.ca_file.as_path());
        let mut client =
            Client::new(self.endpoint.clone(), &headers, ca_file).map_err(|error| chain(&error))?;
        let (mut found, mut more) = (Found::default(), String::new());
        for _ in 0..PAGES_MAX {
            let path =
                if more.is_empty() { self.path.clone() } else { format!("{}&continue={more}", self.path) };
            let answer =
                client.get(&path, PAGE_BYTES_MAX).map_err(|error| format!("{}: {error}", self.endpoint))?;
            match answer.status {
                200 => {}
                401 => return Err(format!("{} does not know the token (401)", self.endpoint)),
                403 => return Err(format!("{} does not allow to list pods (403)", self.endpoint)),
                // The page's snapshot is gone; what was found is kept, and the next search begins anew.
                410 => break,
                status => return Err(format!("{} answered {status}", self.endpoint)),
            }
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|error| format!("{}: expected a list of pods: {error}", self.endpoint))?;
            page.items.iter().for_each(|pod| pod.names(&mut found));
            match page.metadata.more {
                Some(token) if !token.is_empty() => more = escaped(&token),
                _ => break,
            }
        }
        Ok(found)
    }
}

/// The API of the cluster that the agent runs in, by the variables that every pod has.
fn in_cluster() -> Option<String> {
    let (host, port) =
        (std::env::var("KUBERNETES_SERVICE_HOST").ok()?, std::env::var("KUBERNETES_SERVICE_PORT").ok()?);
    Some(if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    })
}

fn one_line(token: &str) -> Result<&str, String> {
    let token = token.trim();
    let is_plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { Ok(token) } else { Err("expected one word in the token file".to_owned()) }
}

/// For a query: all but letters, digits and `-._~` in percent signs (RFC 3986).
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte))
            }
            // Writing to a string cannot fail.
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default)]
    items: Vec<Pod>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue")]
    more: Option<String>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: PodMetadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct PodMetadata {
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID", default)]
    container_id: String,
    #[serde(default)]
    restart_count: u32,
    #[serde(default)]
    last_state: LastState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LastState {
    terminated: Option<Terminated>,
}

#[derive(Deserialize)]
struct Terminated {
    #[serde(rename = "containerID", default)]
    container_id: String,
}

impl Pod {
    fn names(&self, found: &mut Found) {
        let PodMetadata { name, namespace, uid } = &self.metadata;
        let pod = Names { namespace: namespace.clone(), pod: name.clone(), ..Names::default() };
        let Status { container_statuses, init_container_statuses, ephemeral_container_statuses } =
            &self.status;
        for status in
            container_statuses.iter().chain(init_container_statuses).chain(ephemeral_container_statuses)
        {
            let mut add = |id: &str, restart_count| {
                // `containerd://` and its like stands before the ID.
                let id = id.rsplit_once("://").map_or(id, |(_, id)| id);
                let names = Names { container: status.name.clone(), restart_count, ..pod.clone() };
                if !id.is_empty() {
                    found.0.push((id.to_owned(), names));
                }
            };
            add(&status.container_id, Some(status.restart_count));
            if let Some(terminated) = &status.last_state.terminated {
                add(&terminated.container_id, status.restart_count.checked_sub(1));
            }
        }
        found.1.push((uid.clone(), pod));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_of_a_pod_is_named() {
        let page: Page = serde_json::from_str(
            r#"{"metadata":{"continue":"a b"},"items":[{"metadata":{"name":"api-0","namespace":"shop","uid":"u"},
            "status":{"containerStatuses":[{"name":"api","containerID":"containerd://aa","restartCount":3,
            "lastState":{"terminated":{"containerID":"containerd://bb","exitCode":137}}}],
            "initContainerStatuses":[{"name":"init","containerID":"","restartCount":0}]}}]}"#,
        )
        .expect("a page");
        assert_eq!(page.metadata.more.as_deref().map(escaped).as_deref(), Some("a%20b"));
        let mut found = Found::default();
        page.items[0].names(&mut found);
        let pod = Names { namespace: "shop".into(), pod: "api-0".into(), ..Names::default() };
        let container = |restart_count| Names {
            container: "api".into(),
            restart_count: Some(restart_count),
            ..pod.clone()
        };
        assert_eq!(found.0, [("aa".to_owned(), container(3)), ("bb".to_owned(), container(2))]);
        assert_eq!(found.1, [("u".to_owned(), pod)]);
    }

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(one_line("abc.def\n"), Ok("abc.def"));
        assert!(one_line("").is_err() && one_line("a\r\nHost: b").is_err());
    }
}
