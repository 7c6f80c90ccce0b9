//! `exit137 run` as a developer uses it: the examples with stock OpenTelemetry packages, until the kernel kills them; and on
//! a terminal. Needs root, memory cgroups, Python and Node; the packages are kept outside the clone.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders up").to_owned()
}

/// Where the packages for the examples are, installed if they are not.
fn packages(what: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    let folder = cache.unwrap_or_else(home).join("exit137/examples").join(what);
    if !folder.join("activate").exists() {
        let mut install = Command::new("sh");
        install.arg(root().join("examples/run/install.sh")).arg(what).arg(&folder);
        let output = install.output().expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    folder
}

fn exit137(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
    command.args(arguments).current_dir(root()).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The verdict of a run that the kernel ended, and what `diagnose` says of the record.
#[track_caller]
fn killed(mut run: Command, record: &Path) -> Value {
    let Output { status, stderr, .. } = run.output().expect("the program runs");
    let stderr = text(&stderr);
    assert_eq!(status.code(), Some(137), "{stderr}");
    let start = stderr.find("{\n").unwrap_or_else(|| panic!("no verdict:\n{stderr}"));
    let verdict: Value = serde_json::from_str(&stderr[start..]).expect("JSON");
    let record = record.to_string_lossy();
    let again = exit137(&["diagnose", "--quiet", "-o", "json", &record]).output().expect("the program runs");
    let again: Value = serde_json::from_str(&text(&again.stdout)).expect("JSON");
    for field in ["headline", "operations", "kills", "cause"] {
        assert_eq!(again["incidents"][0][field], verdict["incidents"][0][field]);
    }
    verdict
}

#[track_caller]
fn is_a_leak_of(verdict: &Value, operation: &str, service: &str, mib: std::ops::Range<f64>) {
    let incident = &verdict["incidents"][0];
    let what = format!("{:#}", incident["operations"]);
    assert_eq!(incident["cause"]["name"], "leak", "{}", incident["headline"]);
    assert_eq!(incident["operations"][0]["names"], serde_json::json!([operation]), "{what}");
    assert_eq!(incident["operations"][0]["service"], service, "{what}");
    let each = incident["operations"][0]["bytes_per_execution"]["mid"].as_f64().unwrap_or_default();
    assert!(mib.contains(&(each / f64::from(1 << 20))), "{what}");
}

/// Starts a service outside its limit until it is open, so that its code is in memory and charged to nobody: at its limit
/// a program that has to read its own code from the disk again and again may hang for minutes before the kernel kills.
fn read_once(service: &mut Command) {
    let mut service =
        service.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the service starts");
    let mut open = String::new();
    let _ = BufReader::new(service.stdout.take().expect("piped")).read_line(&mut open);
    let _ = service.kill();
    let _ = service.wait();
    assert!(open.contains("is open on"), "{open}");
}

#[test]
fn a_python_service_with_stock_packages_has_its_endpoint_named() {
    let python = packages("python").join("python/bin/python3");
    read_once(Command::new(&python).arg("examples/run/shop.py").current_dir(root()));
    let scratch = tempfile::tempdir().expect("a folder");
    let record = scratch.path().join("record");
    let mut run = exit137(&["run", "--quiet", "--memory", "200MiB", "-o", "json", "--save"]);
    run.arg(&record).arg("--").arg(python).args(["examples/run/shop.py", "--load"]);
    is_a_leak_of(&killed(run, &record), "GET /search", "shop", 0.8..1.3);
}

#[test]
fn a_node_service_with_stock_packages_has_its_endpoint_named() {
    let modules = packages("node").join("node/node_modules");
    let arguments =
        ["--require", "@opentelemetry/auto-instrumentations-node/register", "examples/run/gallery.js"];
    read_once(Command::new("node").args(arguments).env("NODE_PATH", &modules).current_dir(root()));
    let scratch = tempfile::tempdir().expect("a folder");
    let record = scratch.path().join("record");
    let mut run = exit137(&["run", "--quiet", "--memory", "250MiB", "-o", "json", "--save"]);
    run.arg(&record).args(["--", "node"]).args(arguments).arg("--load").env("NODE_PATH", modules);
    is_a_leak_of(&killed(run, &record), "GET /pictures/:id/thumbnail", "gallery", 2.5..3.6);
}

#[test]
fn a_program_without_telemetry_is_told_how_to_have_it() {
    let grow = "import time\nkept = []\nwhile True: kept.append(bytearray(1 << 20)); time.sleep(0.01)";
    let run = exit137(&["run", "--memory", "32MiB", "--", "python3", "-c", grow]).output().expect("it runs");
    let stderr = text(&run.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!((run.status.code(), run.stdout.as_slice()), (Some(137), &b""[..]), "{stderr}");
    for part in [
        "python3 was OOM-killed once at its limit of 32 MiB",
        "killed python3, pid ",
        "missing: traces of this command",
        "`pip install opentelemetry-distro opentelemetry-exporter-otlp`",
    ] {
        assert!(stderr.contains(part), "{part} is not in\n{stderr}");
    }
    // What only a cluster has is not asked of somebody without one.
    assert!(!stderr.contains("kubectl"), "{stderr}");
}

/// Runs `command` on a terminal of its own, with `keys` typed after a second.
fn on_a_terminal(command: &str, keys: &str) -> (Option<i32>, String) {
    let exit137 = env!("CARGO_BIN_EXE_exit137");
    let line = format!(
        "(sleep 1; printf '{keys}'; sleep 3) | TERM=xterm EXIT137='{exit137}' script -qec 'stty rows 24 cols 100; {command}' /dev/null"
    );
    let output = Command::new("sh").arg("-c").arg(line).output().expect("script, of util-linux");
    (output.status.code(), text(&output.stdout))
}

#[test]
fn on_a_terminal_the_last_row_shows_memory_and_is_given_back() {
    let (code, shown) =
        on_a_terminal("exec $EXIT137 run --memory 32MiB --name shop -- sh -c \"sleep 1; echo out\"", "");
    assert_eq!(code, Some(0), "{shown}");
    let line = shown.find("exit137 run: shop holds ").unwrap_or_else(|| panic!("no live line in {shown:?}"));
    assert!(shown[line..].contains(" of 32 MiB ("), "{shown:?}");
    // The region that scrolls ends above it, and is the whole screen again in the end.
    let (taken, given) =
        (shown.find("\u{1b}[1;23r").expect("taken"), shown.rfind("\u{1b}[r").expect("given back"));
    assert!(taken < line && line < given, "{shown:?}");
    assert!(shown[given..].contains("no OOM kill; memory peaked at"), "{shown:?}");
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    let command =
        "exec $EXIT137 run --memory 32MiB -- sh -c \"trap \\\"echo caught\\\" INT; sleep 2; exit 4\"";
    let (code, shown) = on_a_terminal(command, "\\003");
    assert_eq!(code, Some(4), "{shown:?}");
    assert_eq!(shown.matches("caught").count(), 1, "{shown:?}");
}
