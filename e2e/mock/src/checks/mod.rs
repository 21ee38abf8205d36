//! The checks, each by its name in `vcmdq mock`.

mod control_failures;
mod engine;
mod engine_failures;
mod events;
mod failures;
mod faults;
mod invalidate;
mod objects;
mod setup;
mod streams;
mod told;

use crate::report::verdict;
use anyhow::Result;

type Check = (&'static str, fn() -> Result<String>);

/// In the order in which they are made.
const CHECKS: [Check; 21] = [
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
    ("streams-attach", streams::attach),
    ("streams-plug", streams::plug),
    ("streams-law4-gone", streams::law4_gone),
    ("streams-law9-stage2", streams::law9_stage2),
    ("streams-events", told::events),
    ("streams-faults", told::faults),
    ("streams-fail-nth", control_failures::fail_nth),
];

/// Makes them all; `true` if they held.
pub(crate) fn run() -> bool {
    let mut held = true;
    for (name, check) in CHECKS {
        held &= verdict(name, &check());
    }
    held
}
