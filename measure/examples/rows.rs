//! Measures the parts that are named on the command line, or all, and prints JSON.

use std::env::args;
use vcmdq_measure::{Options, Part, Progress, measure};

struct Stderr;

impl Progress for Stderr {
    fn part(&self, part: Part, steps: u64) {
        eprintln!("{}: {steps} steps", part.name());
    }
}

fn main() {
    let words: Vec<String> = args().skip(1).collect();
    let named = |part: &Part| {
        words
            .iter()
            .any(|word| part.name().starts_with(word.as_str()))
    };
    let only: Vec<Part> = Part::ALL.into_iter().filter(named).collect();
    let options = Options {
        quick: words.iter().any(|word| word == "--quick"),
        only: (!only.is_empty()).then_some(only),
    };
    let measured = measure(&options, &Stderr);
    println!(
        "{}",
        serde_json::to_string_pretty(&measured).expect("plain data")
    );
}
