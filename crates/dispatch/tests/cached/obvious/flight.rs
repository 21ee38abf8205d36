//! An access that is under way, and how it may end.

use super::kept::Translation;
use crate::memory::{Past, Reading};
use crate::naive::attributes::Memory as Attributes;
use crate::naive::model::Request;

/// How an access ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Abort,
    At {
        address: u64,
        /// How many bytes from there on belong to it.
        bytes: u64,
        memory: Attributes,
    },
    Event([u64; 4]),
}
/// An access that is under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(super) request: Request,
    /// Configurations that it may be using.
    pub(super) readings: Vec<Reading>,
    /// Pages of stage 2, tables and translations, that it may be using.
    pub(super) past: Past,
    pub(super) translations: Vec<Translation>,
    /// How it may end, by the present tables.
    pub(crate) fresh: Vec<Outcome>,
    /// How it may end by what is kept of tables of stage 1.
    pub(crate) from_tables: Vec<Outcome>,
    /// How it may end otherwise.
    pub(crate) kept: Vec<Outcome>,
}

impl Flight {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            request: *request,
            readings: Vec::new(),
            past: Past::default(),
            translations: Vec::new(),
            fresh: Vec::new(),
            from_tables: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub(crate) fn allows(&self, outcome: &Outcome) -> bool {
        let all = [&self.fresh, &self.from_tables, &self.kept];
        all.iter().any(|some| some.contains(outcome))
    }
}
