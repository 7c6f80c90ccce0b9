//! Settings of what stays up: a TOML file, then the environment, then flags, in that order; each overrules the one
//! before. This is the part that all of it shares: reading the file, and the types of values.
//!
//! The environment and the flags are clap's. A key of the file that nobody knows is an error that names the line and
//! the nearest key that exists: a misspelt budget must not go unnoticed until the disk is full.

mod listen;
mod nearest;
mod size;
mod span;

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use nearest::nearest;

pub(crate) use listen::Listen;
pub(crate) use size::Size;
pub(crate) use span::Span;

/// Why a file of settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("cannot open {}", path.display())]
    Open {
        /// As the user typed it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is not as expected.
    #[error("{}:{line}: {message}", path.display())]
    Content {
        /// As the user typed it.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what was expected.
        message: String,
    },
}

/// Reads the file at `path`.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Open { path: path.to_owned(), source })?;
    parse(&text, path)
}

fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::Content { path: path.to_owned(), line, message: told(error.message()) }
    })
}

/// The parser's words for an unknown key list every key there is; the nearest one is what helps.
fn told(message: &str) -> String {
    let line = message.lines().collect::<Vec<_>>().join("; ");
    let Some(rest) = line.strip_prefix("unknown field ") else {
        return line;
    };
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let key = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    match nearest(key, &known) {
        Some(meant) => format!("unknown key \"{key}\"; did you mean \"{meant}\"?"),
        None => format!("unknown key \"{key}\"; expected one of {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Settings {
        disk_budget: Option<Size>,
        keep: Option<Keep>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Keep {
        spans: Option<Span>,
        metrics: Option<Span>,
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("\n\ndisk_bugdet = 1\n", "x.toml:3: unknown key \"disk_bugdet\"; did you mean \"disk_budget\"?"),
            ("[keep]\nspan = \"1h\"\n", "x.toml:2: unknown key \"span\"; did you mean \"spans\"?"),
            ("[keep]\nzebra = 1\n", "x.toml:2: unknown key \"zebra\"; expected one of spans, metrics"),
            (
                "disk_budget = \"1 fortnight\"\n",
                "x.toml:1: expected a size like 512MiB or 10GiB, found \"1 fortnight\"",
            ),
            (
                "[keep]\n\nspans = 12\n",
                "x.toml:3: invalid type: integer `12`, expected a time like 30s, 12h or 14d",
            ),
        ] {
            let error = parse::<Settings>(text, Path::new("x.toml")).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_broken_file_names_the_line_where_it_breaks() {
        let error = parse::<Settings>("disk_budget = \"1GiB\"\n[keep\n", Path::new("x.toml"));
        let error = error.expect_err("no TOML").to_string();
        assert!(error.starts_with("x.toml:2: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
