//! A case: a folder with what was recorded around a kill, the truth about it, and the verdict owed for it.

use std::path::{Path, PathBuf};

use exit137::output::{Format, Paper};
use exit137_core::observation::Observations;
use exit137_core::time::UnixNanos;
use exit137_core::verdict::Verdict;
use exit137_sources::{NoProgress, ReadOptions, read};
use serde::Deserialize;

/// One folder of `cases/`.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// What really happened. The reader of the program knows nothing of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Truth {
    /// `none` when nothing was killed and nothing leaks.
    pub(crate) cause: String,
    #[serde(default)]
    pub(crate) also_acceptable_causes: Vec<String>,
    /// Span names.
    #[serde(default)]
    pub(crate) culprit_operations: Vec<String>,
    /// `true`, `weak` or `false`: whether the record tells the culprit at all.
    #[serde(default)]
    pub(crate) culprit_inferable: Inferable,
    pub(crate) introduced_by: Option<String>,
    pub(crate) kills: Vec<TrueKill>,
}

/// YAML's `true` is no string.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Inferable {
    Plain(bool),
    Word(String),
}

impl Default for Inferable {
    fn default() -> Self {
        Self::Plain(false)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct TrueKill {
    time: String,
    pub(crate) container_id: String,
    pub(crate) container_exited: bool,
}

impl TrueKill {
    pub(crate) fn at(&self) -> UnixNanos {
        UnixNanos::parse_rfc3339(&self.time).expect("the truth tells times in RFC 3339")
    }
}

impl Truth {
    /// Whether a verdict may name this cause.
    pub(crate) fn allows(&self, cause: &str) -> bool {
        self.cause == cause || self.also_acceptable_causes.iter().any(|other| other == cause)
    }
}

impl Case {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), folder: cases_folder().join(name) }
    }

    /// Reads the folder as `exit137 diagnose cases/<name>` does.
    pub(crate) fn observations(&self, threads: usize) -> Observations {
        let options = ReadOptions { threads, ..ReadOptions::default() };
        read(std::slice::from_ref(&self.folder), &options, &NoProgress).expect("the case can be read")
    }

    pub(crate) fn verdict(&self) -> Verdict {
        exit137_core::diagnose(&self.observations(0))
    }

    /// `None` where another test tells what is true.
    pub(crate) fn truth(&self) -> Option<Truth> {
        let text = std::fs::read_to_string(self.folder.join("truth.yaml")).ok()?;
        Some(serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", self.name)))
    }
}

/// All of them, by name.
pub(crate) fn cases() -> Vec<Case> {
    let folder = cases_folder();
    let entries = std::fs::read_dir(&folder).expect("there are cases");
    let is_case = |entry: &std::fs::DirEntry| entry.path().is_dir();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.filter_map(Result::ok).filter(is_case).map(name).collect();
    names.sort();
    names.iter().map(|name| Case::named(name)).collect()
}

pub(crate) fn json(verdict: &Verdict) -> String {
    Format::Json.render(verdict, &Paper::default())
}

fn cases_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases")
}
