//! A bar while the tool works, if somebody looks.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// A progress bar on standard error, or nothing if that is no terminal or `quiet`.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

/// Submissions between two strokes: drawing must not be measured.
const STRIDE: u64 = 4096;

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if !quiet && io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let style = ProgressStyle::with_template("{msg:42} {wide_bar} {percent:>3}% {elapsed:>4}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Begins a stage of `steps`.
    pub(crate) fn begin(&self, what: &str, steps: u64) {
        self.0.reset();
        self.0.set_length(steps);
        self.0.set_message(what.to_owned());
    }

    /// Called after each step with its number.
    pub(crate) fn step(&self, number: u64) {
        if number % STRIDE == STRIDE - 1 {
            self.0.inc(STRIDE);
        }
    }

    /// Called after each step, where steps are few and long.
    #[cfg(feature = "bench")]
    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
