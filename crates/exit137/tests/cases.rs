//! Every case, twice: against the truth, which no change of ours can move, and against the verdict as last read
//! by a person (`UPDATE_EXPECT=1` rewrites that one; read the difference as code).

mod support;

use exit137::output::{Format, Paper};
use exit137_core::time::SECOND;
use exit137_core::verdict::{IncidentVerdict, Kill, Verdict};
use support::case::{Case, Inferable, TrueKill, Truth, cases, json};
use support::{compare, schema_errors};

/// Kubernetes tells whole seconds, and a kernel clock that is placed by `btime` is as exact as that.
const KILL_TIME_ERROR_MAX: i64 = SECOND * 3 / 2;

#[test]
fn every_verdict_is_what_a_person_last_read() {
    let mut differences = Vec::new();
    for case in cases() {
        let verdict = case.verdict();
        let json = json(&verdict);
        let document = serde_json::from_str(&json).expect("the verdict is JSON");
        assert_eq!(schema_errors(&document), Vec::<String>::new(), "{}", case.name);
        let text = Format::Text.render(&verdict, &Paper::default());
        for (file, actual) in [("verdict.txt", text), ("verdict.json", json)] {
            let path = case.folder.join("expected").join(file);
            if let Err(difference) = compare(&path, &actual) {
                differences.push(format!("{}/expected/{file}:{difference}", case.name));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_verdict_is_true() {
    let mut lies = Vec::new();
    for case in cases() {
        let Some(truth) = case.truth() else { continue };
        let verdict = case.verdict();
        let found = match (truth.kills.is_empty(), truth.cause.as_str()) {
            (true, "none") => nothing(&verdict),
            (true, _) => leak(&verdict, &truth),
            (false, _) => incident(&verdict, &truth),
        };
        lies.extend(found.into_iter().map(|lie| format!("{}: {lie}", case.name)));
    }
    assert!(lies.is_empty(), "{}", lies.join("\n"));
}

#[test]
fn every_case_says_what_it_is() {
    for Case { name, folder } in cases() {
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        assert!(readme.starts_with("# "), "{name}/README.md has no title");
        for part in ["\n- What died: ", "\n- Why", "\n- How we know: "] {
            assert!(readme.contains(part), "{name}/README.md lacks {part:?}");
        }
    }
}

/// What is said although nothing was wrong.
fn nothing(verdict: &Verdict) -> Vec<String> {
    let incidents = verdict.incidents.iter().map(|incident| incident.headline.clone());
    incidents.chain(verdict.leaks.iter().map(|leak| leak.headline.clone())).collect()
}

/// What is wrong about a leak that was not killed.
fn leak(verdict: &Verdict, truth: &Truth) -> Vec<String> {
    let mut lies: Vec<String> = verdict.incidents.iter().map(|incident| incident.headline.clone()).collect();
    match verdict.leaks.as_slice() {
        [leak] => lies.extend(culprit(leak.operations.first().map(|claim| &claim.names[..]), truth)),
        leaks => lies.push(format!("1 leak expected, {} found", leaks.len())),
    }
    lies
}

/// What is wrong about the one incident.
fn incident(verdict: &Verdict, truth: &Truth) -> Vec<String> {
    let [incident] = verdict.incidents.as_slice() else {
        return vec![format!("1 incident expected, {} found", verdict.incidents.len())];
    };
    let mut lies = Vec::new();
    if !truth.allows(incident.cause.name()) {
        lies.push(format!("cause is {}, found {}", truth.cause, incident.cause.name()));
    }
    lies.extend(culprit(incident.operations.first().map(|claim| &claim.names[..]), truth));
    let introduced_by = incident.introduced_by.as_ref().map(|introduced| introduced.version.as_str());
    if introduced_by != truth.introduced_by.as_deref() {
        lies.push(format!("introduced by {:?}, found {introduced_by:?}", truth.introduced_by));
    }
    lies.extend(kills(incident, truth));
    lies
}

/// What is wrong about who did it, where the record tells.
fn culprit(named: Option<&[String]>, truth: &Truth) -> Option<String> {
    let told = matches!(truth.culprit_inferable, Inferable::Plain(true));
    let named = named.unwrap_or_default();
    let right = named.iter().all(|name| truth.culprit_operations.contains(name)) && !named.is_empty();
    (told && !right).then(|| format!("culprit is {:?}, found {named:?}", truth.culprit_operations))
}

fn kills(incident: &IncidentVerdict, truth: &Truth) -> Vec<String> {
    if incident.kills.len() != truth.kills.len() {
        return vec![format!("{} kills, found {}", truth.kills.len(), incident.kills.len())];
    }
    let pairs = truth.kills.iter().zip(&incident.kills);
    pairs.filter_map(|(truth, found)| kill(found, truth)).collect()
}

fn kill(found: &Kill, truth: &TrueKill) -> Option<String> {
    let error = found.at.at.since(truth.at());
    let right = error.abs() <= KILL_TIME_ERROR_MAX
        && found.container_id.as_ref() == Some(&truth.container_id)
        && found.container_survived == Some(!truth.container_exited);
    (!right).then(|| {
        let (at, id, survived) = (found.at.at, &found.container_id, found.container_survived);
        format!("{truth:?}, found at {at} in {id:?}, survived {survived:?}")
    })
}
