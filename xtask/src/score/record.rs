//! A recorded incident: a folder with a `truth.yaml`, and inputs beside it. Which service it is of, and so in
//! which half of all records it stands.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use exit137_core::observation::Observations;
use exit137_sources::{NoProgress, ReadOptions, read};

use super::degrade::mixed;
use super::truth::Truth;

/// What lies beside the inputs and must not be read: the answer.
const NOT_INPUTS: [&str; 3] = ["truth.yaml", "README.md", "expected"];

/// Which part of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Half {
    /// What thresholds and weights may be fitted on
    #[value(name = "half-a")]
    A,
    /// What is quoted
    #[value(name = "half-b")]
    B,
    /// Both
    All,
}

/// One folder.
#[derive(Debug, Clone)]
pub struct Record {
    pub name: String,
    pub folder: PathBuf,
    pub truth: Truth,
}

impl Record {
    /// Reads the truth of a folder.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let truth = Truth::read(&folder.join("truth.yaml"))?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, folder: folder.to_owned(), truth })
    }

    /// Reads the inputs, as `exit137 diagnose` would if it were given them all.
    pub fn observations(&self) -> Result<Observations, String> {
        let entries = std::fs::read_dir(&self.folder).map_err(|error| error.to_string())?;
        let mut inputs: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        inputs.retain(|path| {
            path.file_name().is_some_and(|name| NOT_INPUTS.iter().all(|answer| name != *answer))
        });
        inputs.sort();
        // Records are many and small: the cores are kept busy by reading several of them.
        read(&inputs, &ReadOptions { threads: 1, ..ReadOptions::default() }, &NoProgress)
            .map_err(|error| error.to_string())
    }

    /// The program that was recorded: `checkout` of `checkout-leak-2`, `shop-catalog` of `d01-shop-catalog`.
    pub fn service(&self) -> &str {
        if let Some(service) = &self.truth.service {
            return service;
        }
        let (first, rest) = self.name.split_once('-').unwrap_or((&self.name, ""));
        let digits = first.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let numbered = first.len() - digits.len() <= 1
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        if numbered && !rest.is_empty() { rest } else { first }
    }

    /// The half in which all records of this service stand.
    pub fn half(&self) -> Half {
        let hash = self.service().bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        if mixed(hash) & 1 == 0 { Half::A } else { Half::B }
    }
}

/// Every folder at or below `folders` that has a truth, each once, by name.
pub fn find(folders: &[PathBuf]) -> Result<Vec<Record>, String> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut left: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = left.pop() {
        if folder.join("truth.yaml").is_file() {
            found.push(folder);
            continue;
        }
        let entries = std::fs::read_dir(&folder)
            .map_err(|error| format!("cannot open {}: {error}", folder.display()))?;
        left.extend(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()));
    }
    let mut records = found.iter().map(|folder| Record::open(folder)).collect::<Result<Vec<_>, _>>()?;
    records.sort_by(|a, b| (&a.name, &a.folder).cmp(&(&b.name, &b.folder)));
    records.dedup_by(|a, b| a.folder == b.folder);
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::{Half, Record, Truth};

    fn record(name: &str) -> Record {
        Record { name: name.to_owned(), folder: "x".into(), truth: Truth::default() }
    }

    #[test]
    fn a_record_is_of_the_service_that_its_folder_begins_with() {
        for (name, service) in [
            ("checkout-leak-2", "checkout"),
            ("d01-shop-catalog", "shop-catalog"),
            ("07-shop-catalog", "shop-catalog"),
            ("k8s-sidecar", "k8s"),
            ("plain", "plain"),
        ] {
            assert_eq!(record(name).service(), service, "{name}");
        }
    }

    #[test]
    fn all_records_of_a_service_are_in_one_half_and_both_halves_are_used() {
        assert_eq!(record("checkout-leak").half(), record("checkout-spike").half());
        let in_a = |name: &str| record(name).half() == Half::A;
        let halves = ["shop", "fleet", "hotel", "news", "bank", "mail", "chess", "tax"].map(in_a);
        assert!(halves.contains(&true) && halves.contains(&false), "{halves:?}");
    }
}
