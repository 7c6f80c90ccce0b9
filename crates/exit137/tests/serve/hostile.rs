//! Names that want to be markup, escape sequences, headers or other people's sentences, through everything that shows
//! them: pages, API, captures, text, notifications, log lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::server::{PATIENCE, Server, request};
use crate::{append, case, read};

/// Markup, quotes, an end of code, terminal escapes, a title for the terminal, turned letters, a second header.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}`_*\u{1b}[31m\u{1b}]0;owned\u{7}\
                       \u{202e}\u{2066}\r\nX-Injected: yes\u{9b}2J &amp;lt;";

/// What HTML, terminals and readers would take for more than text.
const ACTIVE: &[&str] =
    &["<script", "<img", "onerror=alert(2)>", "\u{1b}", "\u{7}", "\u{9b}", "\u{202e}", "\u{2066}"];

fn operation() -> String {
    format!("GET /{HOSTILE}{}", "w".repeat(3000))
}

fn in_json(text: &str) -> String {
    serde_json::to_string(text).expect("JSON")
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64()
}

/// The last kill of the case, in seconds.
const KILLED_AT: f64 = 1_795_340_862.939;

/// The times of OTLP, `shift` nanoseconds later.
fn moved(line: &str, shift: i64) -> String {
    let mut parts = line.split("UnixNano\":\"");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let at: i64 = part[..digits].parse().expect("a time");
        out.push_str(&format!("UnixNano\":\"{}{}", at + shift, &part[digits..]));
    }
    out
}

/// The case of the shop with these names, as if it happened just now.
fn feed(server: &Server, log: &Path, shift: f64) {
    let nanos = (shift * 1e9) as i64;
    for signal in ["metrics", "traces"] {
        let lines = read(&case("shop-catalog-leak").join(format!("otlp/{signal}.jsonl.zst")));
        let text = String::from_utf8(lines).expect("UTF-8");
        for line in text.lines().filter(|line| !line.is_empty()) {
            let line = moved(line, nanos)
                .replace("\"GET /search\"", &in_json(&operation()))
                .replace(
                    "{\"stringValue\":\"/search\"}",
                    &format!("{{\"stringValue\":{}}}", in_json(HOSTILE)),
                )
                .replace(
                    "{\"stringValue\":\"catalog-api\"}",
                    &format!("{{\"stringValue\":{}}}", in_json(HOSTILE)),
                )
                .replace("{\"stringValue\":\"2.3.1\"}", &format!("{{\"stringValue\":{}}}", in_json(HOSTILE)));
            server.send(signal, line.as_bytes());
        }
    }
    let report = String::from_utf8(read(&case("shop-catalog-leak").join("kernel/kmsg.log"))).expect("UTF-8");
    let lines = report.lines().map(|line| {
        let (at, rest) = line.split_once(' ').unwrap_or((line, ""));
        let stamp: jiff::Timestamp = at.replace(',', ".").parse().expect("a time");
        let later = stamp + jiff::SignedDuration::from_nanos(nanos);
        let name =
            rest.replace("(python)", "(<img \u{1b}[31m>)").replace("task=python", "task=<img \u{1b}[31m>");
        let stamp = format!("{later:.6}").replace('.', ",").replace('Z', "+00:00");
        format!("{stamp} {name}\n")
    });
    append(log, lines.collect::<String>().as_bytes());
}

/// Takes whatever is posted, and answers that it is fine.
struct Hooks {
    url: String,
    came: Arc<Mutex<Vec<(String, String)>>>,
}

impl Hooks {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let came = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&came);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || hear(stream, &kept));
            }
        });
        Self { url, came }
    }

    /// The body of the first request to `path`.
    fn first(&self, path: &str) -> String {
        let began = Instant::now();
        loop {
            let came = self.came.lock().expect("no panic").clone();
            if let Some((_, body)) = came.into_iter().find(|(to, _)| to == path) {
                return body;
            }
            assert!(began.elapsed() < PATIENCE, "nothing came to {path}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn hear(mut stream: std::net::TcpStream, came: &Mutex<Vec<(String, String)>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            assert!(!line.starts_with("X-Injected"), "a header of its own");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.trim().is_empty() {
                break;
            }
            if first.is_empty() {
                first = line;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        came.lock().expect("no panic").push((path, String::from_utf8(body).expect("UTF-8")));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

#[track_caller]
fn is_harmless(what: &str, text: &str) {
    for active in ACTIVE {
        assert!(!text.contains(active), "{what} holds {active:?}: {}", around(text, active));
    }
}

fn around<'a>(text: &'a str, part: &str) -> &'a str {
    let at = text.find(part).unwrap_or(0);
    &text[text.floor_char_boundary(at.saturating_sub(100))..text.floor_char_boundary(at + 100)]
}

#[test]
fn hostile_names_are_shown_and_do_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let hooks = Hooks::start();
    let (log, config) = (folder.path().join("kernel.log"), folder.path().join("exit137.toml"));
    append(&log, b"");
    let url = &hooks.url;
    let notify = format!(
        "[[notify.webhook]]\nurl = \"{url}/hook\"\n[[notify.slack]]\nurl = \"{url}/slack\"\n\
         [[notify.alertmanager]]\nurl = \"{url}\"\n[[notify.otlp]]\nurl = \"{url}\"\n"
    );
    std::fs::write(&config, notify).expect("written");
    let arguments = ["--no-kubernetes", "--kernel-log", log.to_str().expect("UTF-8"), "--config"];
    let arguments = [&arguments[..], &[config.to_str().expect("UTF-8")]].concat();
    let data = folder.path().join("data");
    let server = Server::start(&data, &arguments);
    feed(&server, &log, seconds_now() - KILLED_AT - 1.0);
    let summary = server.wait_for("leak of the hostile operation", |incident| {
        let named = incident["operations"][0].as_str().is_some_and(|name| name.contains("<script>alert(1)"));
        (incident["cause"]["name"] == "leak" && named).then(|| incident.clone())
    });
    let id = summary["id"].as_str().expect("a name");
    check_pages(&server, id);
    for path in ["/api/v1/incidents".to_owned(), format!("/api/v1/incidents/{id}")] {
        let body = server.get(&path).text();
        // JSON carries every name as it is, and no byte that a terminal obeys as it stands.
        assert!(body.chars().all(|c| !c.is_ascii_control() || c == '\n'), "{path}");
    }
    check_capture(&server, id, &folder.path().join("captured"));
    for path in ["/hook", "/slack", "/api/v2/alerts", "/v1/logs"] {
        let body = hooks.first(path);
        let _: Value = serde_json::from_str(&body).expect("JSON");
        assert!(body.len() < 200_000, "{path}: {} bytes", body.len());
        assert!(body.chars().all(|c| !c.is_ascii_control()), "{path}: {body}");
    }
    let chat: Value = serde_json::from_str(&hooks.first("/slack")).expect("JSON");
    is_harmless("a chat", chat["text"].as_str().expect("text"));
    let alerts: Value = serde_json::from_str(&hooks.first("/api/v2/alerts")).expect("JSON");
    for (name, value) in alerts[0]["annotations"].as_object().expect("annotations") {
        let text = value.as_str().expect("text");
        assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{name}: {text}");
    }
    for line in server.log().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}

fn check_pages(server: &Server, id: &str) {
    let asked: String = HOSTILE.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let incident = format!("/incidents/{id}");
    for path in ["/".to_owned(), incident.clone(), "/next".to_owned(), "/recorder".to_owned()] {
        let page = server.get(&path);
        assert_eq!(page.status, 200, "{path}");
        is_harmless(&path, &page.text());
    }
    assert!(server.get("/").text().contains("&#60;script&#62;alert(1)"), "the name is shown");
    assert!(server.get(&incident).text().contains("alert(1)"), "the name is shown");
    for name in ["q", "namespace", "sort", "cause", "since", "workload", "unknown"] {
        let page = server.get(&format!("/?{name}={asked}"));
        is_harmless(name, &page.text());
        assert!(!page.head.contains("X-Injected"), "{name}: {}", page.head);
    }
    for path in [format!("/{asked}"), format!("/incidents/{asked}"), format!("/incidents/{asked}/capture")] {
        let page = server.get(&path);
        assert_eq!(page.status, 404, "{path}");
        is_harmless(&path, &page.text());
    }
    let posted = request(&server.pages, "POST", &format!("/incidents/{asked}/recompute"), "", b"");
    is_harmless("recompute", &posted.text());
}

/// What is captured is diagnosed in text and Markdown that do no more.
fn check_capture(server: &Server, id: &str, folder: &Path) {
    let program = env!("CARGO_BIN_EXE_exit137");
    let url = format!("http://{}", server.pages);
    let output = Command::new(program).args(["capture", id, "--server", &url, "-o"]).arg(folder).output();
    assert!(output.expect("the program runs").status.success());
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
    assert!(!readme.contains('\u{1b}') && !readme.contains('\u{202e}'), "{readme}");
    for format in ["text", "markdown", "html"] {
        let output = Command::new(program).args(["diagnose", "-o", format]).arg(folder).output();
        let text = String::from_utf8(output.expect("the program runs").stdout).expect("UTF-8");
        assert!(text.contains("alert(1)"), "{format} names it");
        // Between backticks Markdown is as inert as text, where only a terminal's own bytes do anything.
        let (text, is_text) = match format {
            "markdown" => (outside_code(&text), false),
            format => (text, format == "text"),
        };
        for part in ACTIVE.iter().filter(|part| !is_text || part.chars().count() == 1) {
            assert!(!text.contains(*part), "{format} holds {part:?}: {}", around(&text, part));
        }
    }
}

/// Markdown without what stands between runs of as many backticks.
fn outside_code(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(begin) = rest.find('`') {
        out.push_str(&rest[..begin]);
        rest = &rest[begin..];
        if out.ends_with('\\') {
            out.push('`');
            rest = &rest[1..];
            continue;
        }
        let fence = &rest[..rest.bytes().take_while(|byte| *byte == b'`').count()];
        rest = &rest[fence.len()..];
        let mut from = 0;
        let end = loop {
            let Some(at) = rest[from..].find('`').map(|at| from + at) else { break None };
            let run = rest[at..].bytes().take_while(|byte| *byte == b'`').count();
            if run == fence.len() {
                break Some(at + run);
            }
            from = at + run;
        };
        match end {
            Some(end) => rest = &rest[end..],
            // Never closed: no code at all.
            None => out.push_str(fence),
        }
    }
    out + rest
}
