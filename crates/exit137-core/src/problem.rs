//! What was wrong with the input: one bad record never loses the file, and never goes unsaid.

use std::collections::BTreeMap;

/// Per file, so that one broken file cannot hide the others.
const PROBLEMS_PER_FILE_MAX: usize = 20;

/// Over all files, so that a folder of rubbish cannot eat memory.
const PROBLEMS_MAX: usize = 1000;

/// One thing that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// File and line: `otlp/traces.jsonl:412`, or the file alone.
    pub source: String,
    /// What was expected and what was found.
    pub message: String,
}

/// The problems of a whole reading, bounded; what is over the bound is counted.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    kept: Vec<Problem>,
    per_file: BTreeMap<String, (usize, usize)>,
}

impl Problems {
    /// Notes that `message` is wrong at `line` (counted from 1; `None` for the whole file) of `file`.
    pub fn add(&mut self, file: &str, line: Option<usize>, message: impl Into<String>) {
        let (kept, more) = self.per_file.entry(file.to_owned()).or_default();
        if *kept >= PROBLEMS_PER_FILE_MAX || self.kept.len() >= PROBLEMS_MAX {
            *more += 1;
            return;
        }
        *kept += 1;
        let source = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        self.kept.push(Problem { source, message: message.into() });
    }

    /// Adds another reading's problems.
    pub fn absorb(&mut self, other: Self) {
        self.kept.extend(other.kept);
        for (file, (kept, more)) in other.per_file {
            let entry = self.per_file.entry(file).or_default();
            entry.0 += kept;
            entry.1 += more;
        }
    }

    /// All problems kept, in a stable order, each file's uncounted rest in one last line.
    pub fn list(&self) -> Vec<Problem> {
        let mut problems = self.kept.clone();
        problems.sort();
        problems.extend(self.per_file.iter().filter(|(_, (_, more))| *more > 0).map(|(file, (_, more))| {
            Problem {
                source: file.clone(),
                message: format!("{more} more bad records of this file are not listed"),
            }
        }));
        problems
    }

    /// Whether everything could be used.
    pub fn is_empty(&self) -> bool {
        self.per_file.is_empty()
    }
}
