//! Prints a made-up verdict that has something in every field, to look at the outputs without any input:
//! `cargo run --example sample -- html > sample.html`.

#[path = "../src/output/sample.rs"]
mod sample;

use clap::ValueEnum;
use exit137::output::{Format, Paper};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let format = arguments.first().map_or("text", String::as_str);
    let Ok(format) = Format::from_str(format, true) else {
        eprintln!("usage: sample [text|json|html|markdown] [WIDTH] [color] [ascii] [empty]");
        std::process::exit(2);
    };
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let paper = Paper {
        width: arguments.get(1).and_then(|width| width.parse().ok()).unwrap_or(100),
        color: has("color"),
        unicode: !has("ascii"),
        ..Paper::default()
    };
    let mut verdict = sample::verdict();
    if has("empty") {
        verdict.incidents.clear();
        verdict.leaks.clear();
    }
    print!("{}", format.render(&verdict, &paper));
}
