//! For a memory of which nothing is cached: the walk goes by what lies in it, and by nothing else.

use super::Ram;
use super::known::{Table, Way};
use super::model::Wrong;
use super::second::Page;

impl Ram {
    /// What may be used instead of what the tables of stage 2 say of an intermediate address: nothing
    /// is cached here.
    pub(crate) fn instead(
        &self,
        _vmid: u64,
        _ipa: u64,
        _found: &[Result<Page, Wrong>],
    ) -> Option<Result<Page, Wrong>> {
        None
    }

    /// A table from which a walk may start, and a table that one has come to: nothing is kept here.
    pub(crate) fn known_table(&self, _way: Way) -> Option<Table> {
        None
    }

    /// All of them.
    pub(crate) fn known_tables(&self, _way: Way) -> Vec<Table> {
        Vec::new()
    }

    pub(crate) fn found_table(&self, _table: Table) {}
}
