//! What a reviewer should not have to look for: the pages say what the code does, links resolve, files stay small.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use exit137_core::verdict::Cause;

/// Longer files hold more than one thing. A table may be longer: its head says that it is one.
const FILE_LINES_MAX: usize = 600;

/// The entry point decides nothing.
const MAIN_LINES_MAX: usize = 60;

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("crates/exit137 lies two folders down").to_owned()
}

/// All files of the repository with one of these endings, by their path from its root.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
            let entry = entry.expect("an entry");
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let built = matches!(name.as_str(), ".git" | "target" | "node_modules" | "corpus" | "artifacts");
            if entry.file_type().expect("a type").is_dir() {
                if !built {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending))
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                let name = path.strip_prefix(&root).expect("inside").to_string_lossy().into_owned();
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Each member of the workspace with those other members that it is built from.
fn manifests() -> BTreeMap<String, BTreeSet<String>> {
    let workspace = read("Cargo.toml");
    let members =
        workspace.lines().find(|line| line.starts_with("members = [")).expect("members on one line");
    let folders: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    let manifests: Vec<(String, String)> =
        folders.iter().map(|folder| (name_of(folder), read(&format!("{folder}/Cargo.toml")))).collect();
    let names: BTreeSet<String> = manifests.iter().map(|(name, _)| name.clone()).collect();
    let uses = |manifest: &str| {
        let section = manifest.split("\n[").find(|section| section.starts_with("dependencies]"));
        let lines = section.unwrap_or_default().lines();
        let keys = lines.filter_map(|line| line.split(['.', '=', ' ']).next());
        keys.filter(|key| names.contains(*key)).map(str::to_owned).collect()
    };
    manifests.iter().map(|(name, manifest)| (name.clone(), uses(manifest))).collect()
}

fn name_of(folder: &str) -> String {
    folder.rsplit('/').next().unwrap_or(folder).to_owned()
}

#[test]
fn the_architecture_page_knows_every_crate_and_arrow() {
    let page = read("ARCHITECTURE.md");
    let quoted =
        |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let table =
        page.split("## Crates").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("## Crates");
    let rows = table.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.split('|').collect();
        (quoted(cells[1]).into_iter().next().unwrap_or_default(), quoted(cells[2]))
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), manifests());
}

#[test]
fn the_readme_tests_what_ci_tests() {
    let check = read("xtask/src/check.rs");
    let first = check.split("STEPS: &[&str] = &[").nth(1).and_then(|rest| rest.split('"').nth(1));
    let first = first.expect("a list of steps");
    assert!(read("README.md").contains(&format!("$ {first}\n")), "README.md does not show `{first}`");
    assert!(read(".ci/run").contains("\ncargo --locked xtask check\n"), ".ci/run does not run the check");
}

/// The README shows the first things that two verdicts say. `UPDATE_EXPECT=1` rewrites them there too.
#[test]
fn the_readme_shows_what_is_printed() {
    let mut readme = read("README.md");
    let mut complaints = Vec::new();
    for (number, case) in ["shop-catalog-leak", "shop-run-leak"].into_iter().enumerate() {
        let transcript = transcript_of(case);
        let start = readme.match_indices("```text\n").nth(number).expect("a transcript").0;
        let end = start + readme[start + 3..].find("```").expect("its end") + 6;
        if readme[start..end] != transcript {
            complaints.push(format!("README.md should show (UPDATE_EXPECT=1 rewrites it):\n{transcript}"));
            readme.replace_range(start..end, &transcript);
        }
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return std::fs::write(root().join("README.md"), readme).expect("written");
    }
    none(complaints);
}

fn transcript_of(case: &str) -> String {
    let verdict = read(&format!("cases/{case}/expected/verdict.txt"));
    let part = |from: &str, to: &str| {
        let lines = verdict.lines().skip_while(|line| !line.contains(from));
        let to = to.to_owned();
        lines.take_while(move |line| to.is_empty() || !line.contains(&to)).collect::<Vec<_>>().join("\n")
    };
    let shown =
        [part("", "  else "), part(", against the limit of", "operations"), part("operations", "why a")];
    format!("```text\n{}\n\n…\n```", shown.map(|part| part.trim_end().to_owned()).join("\n\n"))
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let lines = text.lines().count();
        // Services of the lab and examples are single files on purpose: each is a stranger's program.
        let service = path.starts_with("lab/")
            || ["/examples/", "/benches/", "/tests/"].iter().any(|part| path.contains(part));
        let main = path.ends_with("/main.rs") && !service;
        let most = if main { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if head.is_empty() {
            complaints.push(format!("{path}: does not open with //!, what it is for"));
        }
        if lines > most && (main || !head.to_lowercase().contains("a table")) {
            complaints.push(format!("{path}: {lines} lines, at most {most} expected"));
        }
    }
    none(complaints);
}

#[test]
fn every_cause_has_a_section_and_a_place_in_the_schema() {
    let page = read("docs/causes.md");
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: Vec<String> = Cause::ALL.iter().map(|cause| format!("`{}`", cause.name())).collect();
    assert_eq!(headings, names, "docs/causes.md");
    let schema: serde_json::Value =
        serde_json::from_str(&read("docs/verdict.schema.json")).expect("the schema is JSON");
    let listed = schema["$defs"]["cause_name"]["enum"].as_array().expect("a list").clone();
    let names: Vec<&str> = Cause::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!(listed, names, "docs/verdict.schema.json");
}

#[test]
fn every_metric_that_is_kept_is_documented() {
    let source = read("crates/exit137-core/src/observation/metric.rs");
    let page = read("docs/formats.md");
    let rows = source.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split_once("\", S::"));
    let names: Vec<&str> = rows.map(|(name, _)| name).collect();
    assert!(names.len() > 50, "the table of metrics was not found");
    let missing = names.iter().filter(|name| !page.contains(&format!("`{name}`")));
    none(missing.map(|name| format!("docs/formats.md: `{name}` is missing")).collect());
}

#[test]
fn every_decision_is_listed() {
    let list = read("docs/decisions/README.md");
    let pages = files(&[".md"]).into_iter().filter_map(|(path, _)| {
        let name = path.strip_prefix("docs/decisions/")?.to_owned();
        (name != "README.md" && !list.contains(&format!("({name})"))).then_some(path)
    });
    none(pages.map(|path| format!("{path}: not in docs/decisions/README.md")).collect());
}

#[test]
fn links_between_pages_resolve() {
    let pages: BTreeMap<String, String> = files(&[".md"]).into_iter().collect();
    let mut complaints = Vec::new();
    for (path, text) in &pages {
        for link in links(text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => Some(path.clone()),
                file => resolve(path, file),
            };
            let there = target.as_ref().filter(|target| root().join(target).exists());
            let anchored = anchor.is_empty()
                || there.and_then(|target| pages.get(target)).is_some_and(|page| has_anchor(page, anchor));
            if there.is_none() || !anchored {
                complaints.push(format!("{path}: nothing at {link}"));
            }
        }
    }
    none(complaints);
}

/// The targets of Markdown links to places inside the repository; code is not looked at.
fn links(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target);
            }
        }
    }
    found
}

/// The path from the root of what `file` means on the page at `path`; `None` outside the repository.
fn resolve(path: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in file.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn has_anchor(page: &str, anchor: &str) -> bool {
    page.lines().filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>() == anchor
    })
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let root = root().to_string_lossy().into_owned();
    // Written in halves, or this file would find itself.
    let places = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/var", "/tmp"),
        &root,
    ];
    let endings = [
        ".md", ".rs", ".toml", ".json", ".jsonl", ".yaml", ".yml", ".sh", ".html", ".txt", ".css", ".log",
        "run",
    ];
    let complaints = files(&endings).into_iter().flat_map(|(path, text)| {
        let known = places.iter().filter(|place| text.contains(*place));
        known.map(|place| format!("{path}: holds {place}")).collect::<Vec<_>>()
    });
    none(complaints.collect());
}
