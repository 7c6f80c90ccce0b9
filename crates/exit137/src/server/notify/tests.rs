//! Real receivers: an HTTP server that answers as it is told to, and Debian's Alertmanager.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use exit137_core::time::{SECOND, UnixNanos};
use serde_json::{Value, json};

use super::*;
use fake_api::{FakeApi, Fault, On};

#[path = "../../../tests/support/fake_api/mod.rs"]
mod fake_api;

/// Only so that a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

const PACE: Pace = Pace { delay_min: Duration::from_millis(5), delay_max: Duration::from_millis(10) };

/// One request that came.
#[derive(Debug, Clone)]
struct Came {
    path: String,
    headers: axum::http::HeaderMap,
    body: Bytes,
}

impl Came {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Answers with each of these, then with 200.
#[derive(Clone, Default)]
struct Wall {
    answers: Arc<Mutex<Vec<u16>>>,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Wall {
    async fn start(answers: &[u16]) -> (Self, String) {
        let wall = Self::default();
        *wall.answers.lock().unwrap() = answers.to_vec();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(wall.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (wall, url)
    }

    fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }
}

async fn answer(
    State(wall): State<Wall>,
    request: Request,
) -> (StatusCode, [(&'static str, &'static str); 1]) {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    wall.came.lock().unwrap().push(Came { path: parts.uri.to_string(), headers: parts.headers, body });
    let mut answers = wall.answers.lock().unwrap();
    let code = if answers.is_empty() { 200 } else { answers.remove(0) };
    // Who follows it tells a stranger.
    (StatusCode::from_u16(code).unwrap(), [("location", "/elsewhere")])
}

/// The incident of a real case, as if it were now: what is long ago is not told.
fn incident() -> IncidentNote {
    let verdict = include_str!("../../../../../cases/shop-catalog-leak/expected/verdict.json");
    let mut verdict: Value = serde_json::from_str(verdict).unwrap();
    let mut incident = verdict["incidents"][0].take();
    let now = deliver::now();
    incident["kills"][0]["at"] = (now - 60 * SECOND).to_string().into();
    incident["kills"][1]["at"] = now.to_string().into();
    let mut note = IncidentNote::new("inc-7".to_owned(), incident);
    note.link = Some("http://exit137.example/incidents/inc-7".to_owned());
    note
}

fn settings(toml: &str) -> Notify {
    toml::from_str(toml).unwrap()
}

async fn tell(settings: &Notify, notes: impl IntoIterator<Item = IncidentNote>) -> Vec<ReceiverState> {
    let notifier = Notifier::start_at(settings, None, PACE).unwrap();
    notes.into_iter().for_each(|note| notifier.observe(note));
    wait(|| notifier.state().iter().all(|state| state.waiting == 0)).await;
    let queues = std::mem::take(&mut *held(&notifier.queues));
    let names: Vec<_> = queues.into_iter().map(|queue| (queue.name, queue.counts)).collect();
    notifier.close(PATIENCE).await;
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let state = |(name, counts): (String, Arc<Counts>)| ReceiverState {
        name,
        delivered: load(&counts.delivered),
        failed: load(&counts.failed),
        dropped: load(&counts.dropped),
        retries: load(&counts.retries),
        waiting: 0,
    };
    names.into_iter().map(state).collect()
}

async fn wait(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_webhook_is_signed_and_told_everything() {
    let (wall, url) = Wall::start(&[]).await;
    let toml =
        format!("[[webhook]]\nurl = \"{url}/hook?key=k\"\nsecret = \"s3cret\"\nheaders.X-Team = \"shop\"");
    tell(&settings(&toml), [incident()]).await;
    let came = wall.came();
    assert_eq!(came.len(), 1);
    assert_eq!(came[0].path, "/hook?key=k");
    assert_eq!(came[0].headers["x-team"], "shop");
    let body = came[0].json();
    assert_eq!(
        (&body["schema"], &body["reason"], &body["kills"]),
        (&json!("exit137.notification/1"), &json!("new"), &json!(2))
    );
    assert_eq!(body["incident"]["cause"]["name"], "leak");
    assert_eq!(body["incident"]["timeline"], Value::Null);
    let timestamp = came[0].headers["x-exit137-timestamp"].to_str().unwrap();
    let signature = came[0].headers["x-exit137-signature"].to_str().unwrap();
    // As its reader would: a second implementation.
    let script =
        "import hmac,sys;print('v1='+hmac.new(b's3cret',sys.stdin.buffer.read(),'sha256').hexdigest())";
    let mut python = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let signed = [timestamp.as_bytes(), b".", &came[0].body].concat();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), &signed).unwrap();
    let expected = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(signature, expected.trim());
}

#[tokio::test]
async fn what_fails_is_tried_again_and_what_is_refused_is_not() {
    let (wall, url) = Wall::start(&[503, 429, 500]).await;
    let told = tell(&settings(&format!("[[webhook]]\nurl = \"{url}\"")), [incident()]).await;
    assert_eq!((told[0].delivered, told[0].retries, told[0].failed), (1, 3, 0));
    assert_eq!(wall.came().len(), 4);
    // A redirect is not followed: it would tell a stranger.
    for refusal in [400, 401, 404, 410, 302] {
        let (wall, url) = Wall::start(&[refusal]).await;
        let told = tell(&settings(&format!("[[webhook]]\nurl = \"{url}\"")), [incident()]).await;
        assert_eq!((told[0].delivered, told[0].retries, told[0].failed), (0, 0, 1), "{refusal}");
        assert_eq!(wall.came().len(), 1, "{refusal}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_down_delays_no_other_and_its_queue_is_bounded() {
    let (wall, url) = Wall::start(&[]).await;
    // Takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = silent.local_addr().unwrap();
    let toml = format!("[[webhook]]\nurl = \"http://{down}\"\n[[webhook]]\nurl = \"{url}\"");
    let notifier = Notifier::start_at(&settings(&toml), None, PACE).unwrap();
    for index in 0..WAITING_MAX + 50 {
        notifier.observe(IncidentNote { id: index.to_string(), ..incident() });
        // Those who are well must not drop anything either.
        wait(|| notifier.state()[1].waiting < 100).await;
    }
    wait(|| notifier.state()[1].delivered == WAITING_MAX as u64 + 50).await;
    assert_eq!(wall.came().len(), WAITING_MAX + 50);
    let state = notifier.state();
    assert_eq!((state[0].delivered, state[0].waiting, state[1].dropped), (0, WAITING_MAX, 0));
    // One is being carried.
    assert_eq!(state[0].dropped, 49);
    notifier.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_chat_is_told_what_is_news_and_nothing_in_it_is_markup() {
    let (wall, url) = Wall::start(&[]).await;
    let mut hostile = incident();
    let headline =
        json!({"headline": "<!channel> & \u{1b}[31m\u{202e}x", "cause": {"name": "leak"}, "kills": [{}]});
    hostile = IncidentNote { link: hostile.link, ..IncidentNote::new("hostile".to_owned(), headline) };
    let settled = IncidentNote { settled: true, ..incident() };
    let ended = IncidentNote { ended: Some("no kill since 2.3.2".to_owned()), ..settled.clone() };
    let file = crate_file("slack-url", &format!("{url}/services/T0/B0/secret\n"));
    let toml = format!("[[slack]]\nurl_file = \"{}\"", file.display());
    tell(&settings(&toml), [incident(), incident(), settled, ended, hostile]).await;
    let texts: Vec<String> =
        wall.came().iter().map(|came| came.json()["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts.len(), 3, "{texts:#?}");
    assert!(
        texts[0].starts_with("shop/catalog-api was OOM-killed 2 times at its limit of 208 MiB"),
        "{texts:#?}"
    );
    assert!(texts[0].contains("\n*To do:* find and fix"), "{texts:#?}");
    assert!(
        texts[0].ends_with("\n<http://exit137.example/incidents/inc-7|why, and the evidence>"),
        "{texts:#?}"
    );
    assert!(texts[1].starts_with("Over (no kill since 2.3.2): shop/catalog-api"), "{texts:#?}");
    assert!(texts[2].starts_with("&lt;!channel&gt; &amp;  [31m x\n"), "{texts:#?}");
    assert_eq!(wall.came()[0].path, "/services/T0/B0/secret");
}

#[tokio::test]
async fn a_collector_gets_a_log_record_that_opentelemetry_can_read() {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    let (wall, url) = Wall::start(&[]).await;
    let note = incident();
    let last = note.last_kill_at().and_then(|at| UnixNanos::parse_rfc3339(&at)).unwrap();
    tell(&settings(&format!("[[otlp]]\nurl = \"{url}/\"\nheaders.api-key = \"k\"")), [note]).await;
    let came = wall.came();
    assert_eq!(came[0].path, "/v1/logs");
    assert_eq!(came[0].headers["api-key"], "k");
    let request: ExportLogsServiceRequest = serde_json::from_slice(&came[0].body).unwrap();
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, record.event_name.as_str()), (13, "exit137.incident"));
    let keys: Vec<&str> = record.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    for key in ["exit137.cause", "k8s.pod.uid", "k8s.deployment.name", "exit137.kills"] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    assert_eq!(i64::try_from(record.time_unix_nano), Ok(last.0));
}

#[tokio::test]
async fn the_cluster_gets_an_event_on_the_pod_and_one_on_its_workload() {
    let api = FakeApi::start().await;
    api.require_token("token");
    let kubeconfig = crate_file("kubeconfig", "");
    api.write_kubeconfig(&kubeconfig, "token");
    let options =
        exit137_sources::cluster::ClusterOptions { kubeconfig: Some(kubeconfig), ..Default::default() };
    let cluster = Cluster::configure(options).await.unwrap();
    let settings = settings("[kubernetes_events]\nenabled = true");
    let notifier = Notifier::start_at(&settings, Some(&cluster), PACE).unwrap();
    notifier.observe(incident());
    wait_for(&notifier, 1).await;
    let events = api.objects("events");
    let about: Vec<_> = events.iter().map(|event| event["involvedObject"].clone()).collect();
    let expected = [
        json!({"kind": "Pod", "apiVersion": "v1", "namespace": "shop", "name": "catalog-api-b6dgpjc8-kf2kt",
            "uid": "bebafea1-eb56-4b3e-bb34-7ce2f19a11b3"}),
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "namespace": "shop", "name": "catalog-api"}),
    ];
    assert_eq!(about, expected);
    for event in &events {
        let message = event["message"].as_str().unwrap();
        assert!(message.starts_with("shop/catalog-api was OOM-killed") && message.len() <= 1024, "{message}");
        assert!(
            message.contains(". To do: find and fix") && message.contains("/incidents/inc-7"),
            "{message}"
        );
        assert_eq!((&event["reason"], &event["type"]), (&json!("OOMKillExplained"), &json!("Warning")));
        let at = event["lastTimestamp"].as_str().unwrap();
        assert!(at.len() == "2026-11-22T08:53:29Z".len() && at.ends_with('Z'), "{at}");
    }
    // What the manifest for it grants is what was asked for, and the server goes on when it is not applied.
    let manifest = include_str!("../../../../../deploy/rbac/events.yaml");
    let rule = "  - apiGroups: [\"\"]\n    resources: [events]\n    verbs: [create]\n---";
    assert!(manifest.contains(rule), "{manifest}");
    assert!(api.asked().iter().all(|asked| (asked.verb, asked.resource.as_str()) == ("create", "events")));
    api.fail_next("events", On::Create, Fault::Answer { code: 403, retry_after_seconds: None });
    notifier.observe(IncidentNote { id: "another".to_owned(), ..incident() });
    wait(|| notifier.state()[0].failed == 1).await;
    assert_eq!(notifier.state()[0].retries, 0);
}

#[test]
fn settings_that_cannot_work_are_said_without_their_secrets() {
    let cases = [
        ("[[slack]]", "notify.slack[0]: expected one of `url` and `url_file`"),
        ("[[slack]]\nurl = \"a\"\nurl_file = \"b\"", "notify.slack[0]: expected one of `url` and `url_file`"),
        (
            "[[slack]]\nurl = \"hunter2\"",
            "notify.slack[0]: expected a URL that begins with http:// or https://",
        ),
        (
            "[[slack]]\nurl = \"file:///hunter2\"",
            "notify.slack[0]: expected a URL that begins with http:// or https://",
        ),
        ("[[webhook]]\nurl_file = \"no/such\"", "notify.webhook[0]: cannot read no/such"),
        (
            "[[webhook]]\nurl = \"http://h\"\nheaders.a = \"b\\nhunter2\"",
            "notify.webhook[0]: expected the value of a header on one line",
        ),
        (
            "[kubernetes_events]\nenabled = true",
            "notify.kubernetes_events: expected a cluster to be watched, for it takes the events",
        ),
    ];
    for (toml, expected) in cases {
        let error = Notifier::start(&settings(toml), None).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(expected), "{toml}");
    }
    let secret = settings("[[webhook]]\nurl = \"http://hunter2\"\nsecret = \"hunter2\"");
    assert!(!format!("{secret:?}{}", toml::to_string(&secret).unwrap()).contains("hunter2"));
    assert!(toml::from_str::<Notify>("[[slack]]\nurk = \"\"").is_err());
}

#[tokio::test]
async fn no_secret_is_in_an_error() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = client(&Notify::default()).unwrap();
    let url = Secret::from(format!("http://user:hunter2@{closed}/hunter2?key=hunter2"));
    let error = client.post(url.reveal()).send().await.unwrap_err();
    let words = deliver::words(error.without_url());
    assert!(words.contains("onnection refused") && !words.contains("hunter2"), "{words}");
}

fn crate_file(name: &str, content: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("exit137-notify-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Debian's Alertmanager, until it is dropped.
struct RealAlertmanager {
    process: Child,
    url: String,
    folder: PathBuf,
}

impl Drop for RealAlertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl RealAlertmanager {
    async fn start() -> Self {
        install();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config =
            crate_file(&format!("am-{port}.yml"), "route: {receiver: none}\nreceivers: [{name: none}]\n");
        let folder = config.with_extension("data");
        let process = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus-alertmanager is installed");
        let started = Self { process, url: format!("http://127.0.0.1:{port}"), folder };
        let began = Instant::now();
        while started.client().get(format!("{}/-/ready", started.url)).send().await.is_err() {
            assert!(began.elapsed() < PATIENCE, "Alertmanager does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        started
    }

    fn client(&self) -> reqwest::Client {
        client(&Notify::default()).unwrap()
    }

    async fn alerts(&self) -> Vec<Value> {
        let answer = self.client().get(format!("{}/api/v2/alerts", self.url)).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}

/// From Debian, once.
fn install() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if Command::new("prometheus-alertmanager").arg("--version").output().is_ok() {
            return;
        }
        for arguments in
            [&["update"][..], &["install", "-y", "--no-install-recommends", "prometheus-alertmanager"]]
        {
            let output =
                Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output();
            let output = output.expect("apt-get is there, to install prometheus-alertmanager");
            assert!(
                output.status.success(),
                "apt-get {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    });
}

#[tokio::test]
async fn a_real_alertmanager_takes_the_alert_changes_its_cause_and_ends_it() {
    let alertmanager = RealAlertmanager::start().await;
    let url = &alertmanager.url;
    let settings = settings(&format!("[[alertmanager]]\nurl = \"{url}\"\nlabels.team = \"shop\""));
    let notifier = Notifier::start_at(&settings, None, PACE).unwrap();
    let arrived = |count| wait_for(&notifier, count);
    notifier.observe(incident());
    arrived(1).await;
    let alerts = alertmanager.alerts().await;
    let expected = json!({
        "alertname": "ContainerOOMKilled", "severity": "warning", "team": "shop", "incident": "inc-7", "cause": "leak",
        "namespace": "shop", "workload_kind": "Deployment", "workload": "catalog-api", "container": "catalog-api",
    });
    assert_eq!(alerts.iter().map(|alert| &alert["labels"]).collect::<Vec<_>>(), [&expected]);
    assert_eq!(alerts[0]["status"]["state"], "active");
    assert_eq!(alerts[0]["annotations"]["operation"], "GET /search");
    let mut other = incident().incident().clone();
    other["cause"]["name"] = "tmpfs_or_page_cache".into();
    let other = IncidentNote::new("inc-7".to_owned(), other);
    notifier.observe(other.clone());
    arrived(2).await;
    let alerts = alertmanager.alerts().await;
    let causes: Vec<_> = alerts.iter().map(|alert| alert["labels"]["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["tmpfs_or_page_cache"]);
    notifier.observe(IncidentNote { ended: Some("no kill since 2.3.2".to_owned()), ..other });
    arrived(3).await;
    assert_eq!(alertmanager.alerts().await, [Value::Null; 0]);
    notifier.close(PATIENCE).await;
}

async fn wait_for(notifier: &Notifier, delivered: u64) {
    wait(|| {
        let state = &notifier.state()[0];
        assert_eq!((state.failed, state.retries), (0, 0));
        state.delivered == delivered
    })
    .await;
}
