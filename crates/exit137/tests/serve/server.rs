//! `exit137 serve` as a process of its own, and how a test talks to it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A machine that others use too is slow at times; nothing here waits for the sake of waiting.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Mounts the folder that comes first where a service account's files are in a pod, and becomes what follows.
const IN_POD: &str = "mount -t tmpfs none /var/run
    mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
    mount --bind \"$1\" /var/run/secrets/kubernetes.io/serviceaccount
    shift
    exec \"$@\"";

/// The program, or another build of it that is to be measured.
fn program() -> OsString {
    std::env::var_os("EXIT137_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_exit137").into())
}

/// A running server; killed when it goes out of scope.
pub(crate) struct Server {
    child: Child,
    pub(crate) pages: String,
    pub(crate) otlp_http: String,
    pub(crate) otlp_grpc: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts with free ports, and these arguments besides.
    pub(crate) fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data_dir, arguments, &[])
    }

    /// The same with these paths in the environment.
    pub(crate) fn start_with(data_dir: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(program());
        command.envs(environment.iter().copied());
        Self::run(command, data_dir, arguments)
    }

    /// The same where `secrets` are a pod's: in a mount namespace of its own.
    pub(crate) fn start_in_pod(
        data_dir: &Path,
        secrets: &Path,
        arguments: &[&str],
        environment: &[(&str, &Path)],
    ) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", IN_POD, "sh"]).arg(secrets);
        command.arg(program()).envs(environment.iter().copied());
        Self::run(command, data_dir, arguments)
    }

    fn run(mut command: Command, data_dir: &Path, arguments: &[&str]) -> Self {
        let mut child = command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--otlp-http",
                "127.0.0.1:0",
                "--otlp-grpc",
                "127.0.0.1:0",
            ])
            .args(["--log-format", "json", "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("standard error")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut ready = None;
        for line in lines.by_ref().map_while(Result::ok) {
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            log.lock().expect("no panic").push(line);
            if value["message"] == "ready" {
                ready = Some(value);
                break;
            }
        }
        let ready = ready.unwrap_or_else(|| panic!("not ready: {:#?}", log.lock().expect("no panic")));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().expect("no panic").push(line));
        });
        let address = |name: &str| ready[name].as_str().expect("an address").to_owned();
        let (pages, otlp_http, otlp_grpc) = (address("pages"), address("otlp_http"), address("otlp_grpc"));
        Self { child, pages, otlp_http, otlp_grpc, log }
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").join("\n")
    }

    /// A line of `/proc/PID/status`: `VmRSS`, `VmHWM`.
    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        self.child.wait().expect("it ends").code()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(&self.pages, "GET", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str) -> Answer {
        request(&self.pages, "POST", path, "", b"")
    }

    /// The JSON at `path`, which must be there.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// Sends an export, which must be accepted.
    pub(crate) fn send(&self, signal: &str, body: &[u8]) {
        let kind = if body.first() == Some(&b'{') { "application/json" } else { "application/x-protobuf" };
        let path = format!("/v1/{signal}");
        let answer = request(&self.otlp_http, "POST", &path, &format!("Content-Type: {kind}\r\n"), body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Waits until `wanted` finds what it looks for in the list of incidents.
    pub(crate) fn wait_for<T>(&self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let list = self.json("/api/v1/incidents");
            if let Some(found) = list["incidents"].as_array().and_then(|all| all.iter().find_map(&wanted)) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "no {what}: {list:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer over HTTP.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request over a connection of its own.
pub(crate) fn request(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let host = if headers.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut body = answer.split_off(end);
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Answer { status, head, body }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size =
            usize::from_str_radix(std::str::from_utf8(&body[..end]).expect("text"), 16).expect("a size");
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
        if size == 0 {
            break;
        }
    }
    whole
}
