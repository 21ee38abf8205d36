//! The checks, each by its name in `vcmdq mock`.

mod engine;
mod engine_failures;
mod events;
mod failures;
mod faults;
mod invalidate;
mod objects;
mod setup;

use crate::report::verdict;
use anyhow::Result;

type Check = (&'static str, fn() -> Result<String>);

/// In the order in which they are made.
const CHECKS: [Check; 14] = [
    ("hw-info", objects::hw_info),
    ("tables", objects::tables),
    ("viommu", objects::viommu),
    ("nested", objects::nested),
    ("exact", invalidate::exact),
    ("partial", invalidate::partial),
    ("refusals", invalidate::refusals),
    ("events", events::events),
    ("faults", faults::faults),
    ("fail-nth", failures::fail_nth),
    ("engine-exact", engine::exact),
    ("engine-law4-gone", engine::law4_gone),
    ("engine-law4-fail-nth", engine_failures::law4_fail_nth),
    ("engine-calls", engine::calls),
];

/// Makes them all; `true` if they held.
pub(crate) fn run() -> bool {
    let mut held = true;
    for (name, check) in CHECKS {
        held &= verdict(name, &check());
    }
    held
}
