//! What the tests share: the sample verdict, the cases, golden files, the schema.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) mod case;
pub(crate) mod clock;
#[path = "../../src/output/sample.rs"]
pub(crate) mod sample;

const SCHEMA: &str = include_str!("../../../../docs/verdict.schema.json");

/// Compares `actual` with `tests/golden/<name>`; with `UPDATE_EXPECT=1` it writes the file instead.
#[track_caller]
pub(crate) fn check_golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if let Err(difference) = compare(&path, actual) {
        panic!("{name}:{difference}");
    }
}

/// Compares `actual` with the file at `path`, or with `UPDATE_EXPECT=1` writes it there. The error is the first
/// line that differs.
pub(crate) fn compare(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("the folder can be made");
        }
        std::fs::write(path, actual).expect("the expected file can be written");
        return Ok(());
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    let differing = expected.lines().zip(actual.lines()).position(|(a, b)| a != b);
    let at = differing.unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
    Err(format!(
        "{} differs (UPDATE_EXPECT=1 rewrites it)\n  expected: {:?}\n  actual:   {:?}",
        at + 1,
        expected.lines().nth(at),
        actual.lines().nth(at)
    ))
}

/// What the schema has against this document.
pub(crate) fn schema_errors(document: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("the schema is a schema");
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// A folder for one test, made anew.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the folder can be made");
    path
}
