//! The program as a shell sees it: exit codes, what goes to which stream, messages.

mod support;

use std::process::{Command, Output, Stdio};

use support::scratch;

fn exit137(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
    command.args(arguments).env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = exit137(arguments).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A folder with one file in which there is nothing to find.
fn nothing_to_find(name: &str) -> String {
    let folder = scratch(name);
    std::fs::write(folder.join("notes.txt"), "nothing here\n").expect("written");
    folder.to_string_lossy().into_owned()
}

#[test]
fn a_missing_file_is_named_with_its_reason() {
    let (code, stdout, stderr) = run(&["diagnose", "no-such-file.json"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(stderr, "cannot open no-such-file.json: No such file or directory\n");
}

#[test]
fn a_hostile_file_name_cannot_steer_the_terminal() {
    let (code, _, stderr) = run(&["diagnose", "no\u{1b}[31m\u{202e}file\n2"]);
    assert_eq!(code, 2);
    assert_eq!(stderr, "cannot open nofile 2: No such file or directory\n");
}

#[test]
fn finding_nothing_is_one() {
    let folder = nothing_to_find("nothing");
    let (code, stdout, _) = run(&["diagnose", &folder, "--quiet"]);
    assert_eq!(code, 1);
    assert!(stdout.starts_with("no OOM kill found\n  looked in: Kubernetes (nothing)"), "{stdout}");
    assert!(stdout.contains("\nhint: "), "{stdout}");

    let filters = ["--namespace", "shop", "--container", "cart", "--since", "2026-11-22T09:00:00Z"];
    let (code, stdout, _) = run(&[&["diagnose", folder.as_str(), "--quiet"][..], &filters].concat());
    assert_eq!(code, 1);
    assert!(
        stdout.starts_with("no OOM kill found for shop/cart since 2026-11-22T09:00:00.000Z\n"),
        "{stdout}"
    );
}

#[test]
fn input_without_anything_is_named() {
    let folder = scratch("empty");
    let file = folder.join("empty.json");
    std::fs::write(&file, "").expect("written");
    let (file, none) =
        (file.to_string_lossy().into_owned(), scratch("no-files").to_string_lossy().into_owned());
    for (path, problem) in [
        (&file, "expected records, found nothing at all"),
        (&none, "expected files in this folder, found none"),
    ] {
        let (code, _, stderr) = run(&["diagnose", path]);
        assert_eq!((code, stderr), (1, format!("1 problem in the input: {path}: {problem}\n")));
    }
}

#[test]
fn a_kernel_log_without_times_dates_nothing() {
    let log = scratch("undated").join("log");
    let lines = "sh invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=984\n\
        Memory cgroup out of memory: Killed process 12 (sh) total-vm:4kB, anon-rss:3kB, file-rss:2kB, \
        shmem-rss:1kB, UID:0 pgtables:1kB oom_score_adj:984\n";
    std::fs::write(&log, lines).expect("written");
    let log = log.to_string_lossy();
    let (code, stdout, stderr) = run(&["diagnose", &log]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("at an unknown time killed sh, pid 12") && !stdout.contains("1970"), "{stdout}");
    let (_, json, _) = run(&["diagnose", &log, "-o", "json"]);
    assert!(json.contains("\"at\": null") && !json.contains("1970"), "{json}");
}

#[test]
fn the_sampling_script_writes_what_is_read() {
    let root = scratch("cgroups");
    let cgroup =
        root.join("kubepods/burstable/podbebafea1-eb56-4b3e-bb34-7ce2f19a11b3").join("7e".repeat(32));
    std::fs::create_dir_all(&cgroup).expect("made");
    for (file, content) in [
        ("memory.current", "1000000\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 500\nfile 300\nshmem 0\nfile_mapped 4\nkernel 77\n"),
        ("memory.events", "low 0\nmax 3\noom 1\noom_kill 1\n"),
        ("cgroup.procs", "1\n"),
    ] {
        std::fs::write(cgroup.join(file), content).expect("written");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sample-cgroups.sh");
    let sampled =
        Command::new("sh").args([script, "once"]).env("CGROUP_ROOT", &root).output().expect("sh runs");
    let text = String::from_utf8(sampled.stdout).expect("UTF-8");
    let sample: serde_json::Value = serde_json::from_str(&text).expect(&text);
    for (field, value) in
        [("usage", 1_000_000), ("anon", 500), ("mapped_file", 4), ("max", 3), ("oom_kill", 1)]
    {
        assert_eq!(sample[field], value, "{text}");
    }
    assert!(sample.get("limit").is_none(), "{text}");
    assert!(String::from_utf8_lossy(&sampled.stderr).is_empty());
    let samples = root.join("samples.jsonl");
    std::fs::write(&samples, text).expect("written");
    let (_, stdout, stderr) = run(&["diagnose", &samples.to_string_lossy()]);
    assert!(stdout.contains("cgroup files (1 record in 1 file)"), "{stdout}{stderr}");
}

#[test]
fn every_format_is_printed_even_if_nothing_was_found() {
    let folder = nothing_to_find("formats");
    for (format, start) in [
        ("json", "{\n  \"schema\": \"exit137.verdict/1\""),
        ("markdown", "## No OOM kill"),
        ("html", "<!doctype html>"),
    ] {
        let (code, stdout, stderr) = run(&["diagnose", &folder, "--quiet", "--output", format]);
        assert_eq!((code, stderr.as_str()), (1, ""), "{format}");
        assert!(stdout.starts_with(start), "{format}: {stdout}");
    }
}

#[test]
fn out_writes_a_file_and_nothing_else() {
    let folder = nothing_to_find("out");
    let page = scratch("out-page").join("report.html");
    let page = page.to_string_lossy();
    let (code, stdout, _) = run(&["diagnose", &folder, "-q", "-o", "html", "--out", &page]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(std::fs::read_to_string(&*page).expect("written").ends_with("</html>\n"));

    let (code, _, stderr) = run(&["diagnose", &folder, "-q", "--out", "/nonexistent/report.txt"]);
    assert_eq!(code, 2);
    assert_eq!(stderr, "cannot write /nonexistent/report.txt: No such file or directory\n");
}

#[test]
fn wrong_usage_is_two() {
    let cases: [&[&str]; 6] = [
        &[],
        &["diagnose"],
        &["diagnose", "x", "--output", "yaml"],
        &["diagnose", "x", "--since", "yesterday"],
        &["diagnose", "x", "--threads", "0"],
        &["completions", "tcsh"],
    ];
    for arguments in cases {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn color_is_off_in_a_pipe_and_on_when_forced() {
    let folder = nothing_to_find("color");
    let (_, plain, _) = run(&["diagnose", &folder, "-q"]);
    assert!(!plain.contains('\u{1b}'));
    let (_, colored, _) = run(&["diagnose", &folder, "-q", "--color", "always"]);
    assert!(colored.contains('\u{1b}'));
    let (_, json, _) = run(&["diagnose", &folder, "-q", "--color", "always", "-o", "json"]);
    assert!(!json.contains('\u{1b}'));
}

#[test]
fn width_wraps_the_text() {
    let folder = nothing_to_find("width");
    for (asked, columns) in [("20", 60), ("60", 60), ("120", 120), ("1000", 160)] {
        let (_, stdout, _) = run(&["diagnose", &folder, "-q", "--width", asked]);
        assert!(stdout.lines().all(|line| line.chars().count() <= columns), "{asked}: {stdout}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = exit137(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn shells_and_man_are_served() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, stdout, _) = run(&["completions", shell]);
        assert_eq!(code, 0, "{shell}");
        assert!(stdout.contains("diagnose"), "{shell}");
    }
    let (code, page, _) = run(&["man"]);
    assert_eq!(code, 0);
    assert!(page.contains(".TH exit137"), "{page}");

    let folder = scratch("man");
    let (code, ..) = run(&["man", "--dir", &folder.to_string_lossy()]);
    assert_eq!(code, 0);
    let mut pages: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    pages.sort();
    assert_eq!(
        pages,
        [
            "exit137-agent.1",
            "exit137-capture.1",
            "exit137-completions.1",
            "exit137-diagnose.1",
            "exit137-journal.1",
            "exit137-leaks.1",
            "exit137-man.1",
            "exit137-run.1",
            "exit137-serve.1",
            "exit137.1"
        ]
    );
}

#[test]
fn help_says_how() {
    let (code, help, _) = run(&["diagnose", "--help"]);
    assert_eq!(code, 0);
    for part in ["Examples:", "Exit codes:", "Environment:", "kubectl get pods", "NO_COLOR", "--timezone"] {
        assert!(help.contains(part), "{part}");
    }
}
