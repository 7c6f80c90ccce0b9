//! What was wrong with the input: one bad record never loses the file, and never goes unsaid.

use std::collections::{BTreeMap, BTreeSet};

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

/// The problems of a whole reading, bounded; what is over the bound is counted. Of each file the first by line
/// are kept, in whatever order they are found.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    per_file: BTreeMap<String, FileProblems>,
    kept: usize,
}

#[derive(Debug, Clone, Default)]
struct FileProblems {
    kept: BTreeSet<(Option<usize>, String)>,
    more: usize,
}

impl Problems {
    /// Notes that `message` is wrong at `line` (counted from 1; `None` for the whole file) of `file`.
    pub fn add(&mut self, file: &str, line: Option<usize>, message: impl Into<String>) {
        if !self.per_file.contains_key(file) {
            self.per_file.insert(file.to_owned(), FileProblems::default());
        }
        let Some(of_file) = self.per_file.get_mut(file) else {
            return;
        };
        if !of_file.kept.insert((line, message.into())) {
            of_file.more += 1;
            return;
        }
        self.kept += 1;
        if of_file.kept.len() > PROBLEMS_PER_FILE_MAX || self.kept > PROBLEMS_MAX {
            of_file.kept.pop_last();
            of_file.more += 1;
            self.kept -= 1;
        }
    }

    /// Adds another reading's problems.
    pub fn absorb(&mut self, other: Self) {
        for (file, of_file) in other.per_file {
            for (line, message) in of_file.kept {
                self.add(&file, line, message);
            }
            self.per_file.entry(file).or_default().more += of_file.more;
        }
    }

    /// All problems kept, in a stable order, each file's uncounted rest in one last line.
    pub fn list(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (file, of_file) in &self.per_file {
            problems.extend(of_file.kept.iter().map(|(line, message)| Problem {
                source: line.map_or_else(|| file.clone(), |line| format!("{file}:{line}")),
                message: message.clone(),
            }));
        }
        for (file, of_file) in self.per_file.iter().filter(|(_, of_file)| of_file.more > 0) {
            let message = format!("{} more bad records of this file are not listed", of_file.more);
            problems.push(Problem { source: file.clone(), message });
        }
        problems
    }

    /// Whether everything could be used.
    pub fn is_empty(&self) -> bool {
        self.per_file.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_of_a_file_are_kept_whoever_finds_them_first() {
        let mut forwards = Problems::default();
        let (mut even, mut odd) = (Problems::default(), Problems::default());
        for line in 1..=60 {
            forwards.add("a", Some(line), "bad");
            if line % 2 == 0 {
                even.add("a", Some(62 - line), "bad")
            } else {
                odd.add("a", Some(line), "bad")
            }
        }
        even.absorb(odd);
        assert_eq!(forwards.list(), even.list());
        let list = forwards.list();
        assert_eq!((list[0].source.as_str(), list[19].source.as_str()), ("a:1", "a:20"));
        assert_eq!(list[20].message, "40 more bad records of this file are not listed");
    }
}
