//! Real kernel kills under `exit137 run`: main process, child, several at once, one after the other, tmpfs, a group, a limit
//! above, no rights, signals. `kernel/kills.sh` does them, on this machine and, for cgroup v2, in a virtual one.
//!
//! The tests need root and memory cgroups. The virtual machine is made of Debian packages that are kept outside the
//! clone: qemu, a kernel, busybox; and of the program that was just built.

mod kernel {
    pub(crate) mod machine;
}

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What `kills.sh` told of one case.
#[derive(Debug, Default)]
struct Told {
    code: i32,
    leftovers: u32,
    stdout: String,
    stderr: String,
    verdict: Value,
}

/// A kill, in the words of the verdict.
type Kill<'a> = (&'a str, u64, &'a str, bool);

impl Told {
    #[track_caller]
    fn is(&self, code: i32, stdout: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.leftovers), (code, stdout, 0), "{self:#?}");
    }

    /// All kills of the verdict: limit that was hit, MiB of it, victim, whether that was the main process.
    #[track_caller]
    fn killed(&self, cause: &str, expected: &[Kill<'_>]) {
        let incidents = self.verdict["incidents"].as_array().unwrap_or_else(|| panic!("{self:#?}"));
        assert_eq!(incidents.len(), 1, "{self:#?}");
        let kills = incidents[0]["kills"].as_array().expect("kills");
        let words: Vec<Kill<'_>> = kills
            .iter()
            .map(|kill| {
                (
                    kill["limit_hit"].as_str().unwrap_or("?"),
                    kill["limit_bytes"].as_u64().unwrap_or_default() >> 20,
                    kill["victim"]["comm"].as_str().unwrap_or("?"),
                    kill["victim"]["main_process"].as_bool().unwrap_or_default(),
                )
            })
            .collect();
        assert_eq!(words, expected, "{self:#?}");
        assert_eq!(incidents[0]["cause"]["name"], cause, "{self:#?}");
        let sure = |kill: &Value| kill["uncertainty_seconds"].as_f64().is_some_and(|seconds| seconds < 0.5);
        assert!(kills.iter().all(sure), "{self:#?}");
    }

    fn count(&self) -> usize {
        self.verdict["incidents"][0]["kills"].as_array().map_or(0, Vec::len)
    }

    #[track_caller]
    fn is_quiet(&self) {
        assert!(self.verdict.is_null(), "{self:#?}");
    }
}

fn read(text: &str) -> BTreeMap<String, Told> {
    let text = text.replace('\r', "");
    let mut cases = BTreeMap::new();
    for part in text.split("=== ").skip(1).filter(|part| part.contains(" code=")) {
        let (head, body) = part.split_once('\n').expect("a line");
        let mut words = head.split([' ', '=']);
        let name = words.next().expect("a name").to_owned();
        let mut number = || words.nth(1).expect("a number").trim().parse::<i32>().expect("a number");
        let (code, leftovers) = (number(), number() as u32);
        let between = |from: &str, to: &str| {
            let rest = body.split_once(from).expect("a part").1;
            rest.split_once(to).expect("its end").0.to_owned()
        };
        let stderr = between("--- stderr\n", "--- verdict\n");
        let told = body.split_once("--- verdict\n").expect("a verdict").1;
        // Without a file it was printed.
        let json =
            if told.trim().is_empty() { stderr.find('{').map_or("", |at| &stderr[at..]) } else { told };
        // What the script's own commands complain of may follow, where both go to one console.
        let verdict = serde_json::Deserializer::from_str(json).into_iter().next();
        let verdict = verdict.and_then(Result::ok).unwrap_or_default();
        let stdout = between("--- stdout\n", "--- stderr\n");
        cases.insert(name, Told { code, leftovers, stdout, stderr, verdict });
    }
    assert!(text.contains("=== done"), "it did not come to its end:\n{text}");
    cases
}

/// What holds on every machine.
fn check(cases: &BTreeMap<String, Told>) {
    let case = |name: &str| cases.get(name).unwrap_or_else(|| panic!("{name} was not told of"));
    let dd = |main| ("container", 32, "dd", main);
    case("none").is(3, "fine\n");
    case("none").is_quiet();
    assert!(case("none").stderr.starts_with("loud\nexit137 run: no OOM kill; memory peaked at "));
    case("main").is(137, "");
    case("main").killed("unknown", &[dd(true)]);
    case("child").is(0, "survived\n");
    case("child").killed("child_process", &[dd(false)]);
    // Four of 20 MiB do not fit into 48 MiB, two do; two that ask at the same moment may both go.
    case("several").is(0, "survived\n");
    let child = ("container", 48, "dd", false);
    let count = case("several").count();
    assert!((2..=3).contains(&count), "{count} killed");
    case("several").killed("child_process", &vec![child; count]);
    case("repeat").is(137, "");
    case("repeat").killed("unknown", &[dd(true), dd(true), dd(true)]);
    case("tmpfs").is(137, "");
    case("tmpfs").killed("tmpfs_or_page_cache", &[dd(true)]);
    case("outer").is(137, "");
    case("outer").killed("node_pressure", &[("ancestor", 128, "dd", true)]);
    case("signal").is(7, "ready\nasked\n");
    case("signal").is_quiet();
    case("after").is(0, "");
    case("refused").is(125, "");
    let refusal = &case("refused").stderr;
    assert!(refusal.contains("cannot make a memory cgroup in /sys/fs/cgroup"), "{refusal}");
    assert!(refusal.contains(": Permission denied\nhint: "), "{refusal}");
}

fn exit137() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_exit137"))
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel").join(name)
}

#[test]
fn kills_on_this_machine_are_explained() {
    let mut script = Command::new("sh");
    script.arg(here("kills.sh")).env("EXIT137", exit137()).env("LC_ALL", "C");
    let output = script.output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let cases = read(&text);
    check(&cases);
    if Path::new("/sys/fs/cgroup/memory").exists() {
        cases["group"].is(125, "");
        assert!(cases["group"].stderr.contains("`--group-kill` needs cgroup v2"));
    }
}

#[test]
fn kills_on_cgroup_v2_are_explained() {
    let job = "EXIT137=/exit137 sh /kills.sh vm";
    let files = [("exit137", exit137()), ("kills.sh", &here("kills.sh"))];
    let text = kernel::machine::run(job, &files);
    let cases = read(&text);
    check(&cases);
    let dd = |main| ("container", 32, "dd", main);
    // The sleep beside it went too, and all of it is one kill.
    cases["group"].is(137, "");
    cases["group"].killed("child_process", &[dd(true)]);
    // Without the kernel's log: who it was is not known, that it was the command is.
    let delegated = &cases["delegated"];
    delegated.is(137, "");
    let kill = &delegated.verdict["incidents"][0]["kills"][0];
    assert_eq!(kill["seen_by"], serde_json::json!(["cgroup"]), "{delegated:#?}");
    assert_eq!(kill["victim"]["main_process"], true, "{delegated:#?}");
    assert_eq!(kill["container_survived"], false, "{delegated:#?}");
    // The machine itself ran out; nobody had set a limit.
    cases["node"].is(137, "");
    cases["node"].killed("node_pressure", &[("node", 0, "tail", true)]);
}
