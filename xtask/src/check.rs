//! `cargo xtask check`: exactly what continuous integration runs. `.ci/run` prepares a bare machine and then runs
//! this, so a change that passes here passes there.
//!
//! Everything works offline once the dependencies are there.

use std::process::Command;
use std::time::Instant;

/// The line in `cargo xtask`'s list.
pub const ABOUT: &str = "tests, formatting, lints and dependencies: exactly what CI runs";

/// In the order in which a failure is worth knowing. The first is the README's test command; `--locked` keeps a
/// changed `Cargo.lock` from passing unseen.
const STEPS: &[&str] = &[
    "cargo test --workspace --locked",
    "cargo fmt --all --check",
    "cargo clippy --workspace --all-targets --locked -- -D warnings",
    "cargo deny --locked check bans licenses sources",
];

/// Runs every step until one fails.
pub fn run(words: &[String]) -> Result<(), String> {
    if let Some(word) = words.first() {
        return Err(format!("cargo xtask check takes no arguments, but got {word:?}"));
    }
    for step in STEPS {
        let start = Instant::now();
        eprintln!("$ {step}");
        let mut parts = step.split(' ');
        let program = parts.next().unwrap_or_default();
        let status = Command::new(program)
            .args(parts)
            .status()
            .map_err(|error| format!("cannot run `{step}`: {error}"))?;
        if !status.success() {
            return Err(format!("failed: {step}{}", hint(step)));
        }
        eprintln!("  {} s", start.elapsed().as_secs());
    }
    Ok(())
}

/// What to do about a step that fails on a machine where nothing was set up.
fn hint(step: &str) -> &'static str {
    if step.starts_with("cargo deny") {
        "\nhint: cargo-deny is a program of its own: `cargo install cargo-deny --locked`"
    } else if step.starts_with("cargo fmt") {
        "\nhint: `cargo fmt --all` writes what is wanted"
    } else {
        ""
    }
}
