//! What is invalidated is there before: entries that a stream must remove, and bystanders that it
//! must not.

use crate::rig::{STREAM, capabilities};
use dispatch::backend::Software;
use smmu_core::command::{Command, Tlbi};
use smmu_core::decode::decode;
use smmu_core::spec::command::RawCommand;
use smmu_core::tlb::{Entry, PageClass, Space};
use smmu_core::{Asid, Vmid};

/// The ASID of the bystanders; no stream of the benches names it.
const BYSTANDER: Asid = Asid(0xFFFF);

/// An entry of each command that removes by address: its last 4 KiB page.
#[must_use]
pub fn of(commands: &[RawCommand]) -> Vec<Entry> {
    let caps = capabilities();
    let removed = |raw: &RawCommand| match decode(*raw, &caps) {
        Ok(Command::Tlbi(Tlbi::NhVa { asid, range, .. })) => Some(entry(asid, range.last())),
        _ => None,
    };
    commands.iter().filter_map(removed).collect()
}

fn entry(asid: Asid, va: u64) -> Entry {
    Entry {
        vmid: Vmid(0),
        space: Space::Asid(asid),
        va,
        class: PageClass::Page4K,
        payload: [va, 0],
    }
}

/// Caches all of them, as walks would.
pub fn plant(software: &Software, entries: &[Entry]) {
    for entry in entries {
        let Space::Asid(asid) = entry.space else {
            continue;
        };
        let ticket = software.ticket(entry.vmid, asid);
        software.fill(entry, &ticket);
    }
}

/// How many of them are cached.
#[must_use]
pub fn cached(software: &Software, entries: &[Entry]) -> usize {
    let is_cached = |entry: &&Entry| match entry.space {
        Space::Asid(asid) => software
            .lookup(STREAM, entry.vmid, asid, entry.va)
            .is_some(),
        Space::Global | Space::Stage2 => false,
    };
    entries.iter().filter(is_cached).count()
}

/// Has `consume` execute `commands` with entries planted, and looks what became of them.
///
/// # Panics
///
/// If anything that had to go is still there, or if a bystander has gone although no command
/// asks for more than addresses and ASIDs.
pub fn verify(software: &Software, commands: &[RawCommand], consume: impl FnOnce()) {
    let (entries, bystanders) = (of(commands), bystanders());
    plant(software, &entries);
    plant(software, &bystanders);
    let before = cached(software, &entries);
    assert!(before * 2 > entries.len(), "most entries fit: {before}");
    let bystanding = cached(software, &bystanders);
    assert!(bystanding * 2 > bystanders.len(), "so do most bystanders");
    consume();
    assert_eq!(cached(software, &entries), 0, "a stale entry is left");
    let spared = cached(software, &bystanders);
    assert!(
        spared == bystanding || has_wide(commands),
        "a bystander is gone"
    );
}

/// Whether any command removes more than addresses and one ASID.
fn has_wide(commands: &[RawCommand]) -> bool {
    let caps = capabilities();
    let wide = |raw: &RawCommand| match decode(*raw, &caps) {
        Ok(Command::Tlbi(tlbi)) => !matches!(tlbi, Tlbi::NhVa { .. } | Tlbi::NhAsid { .. }),
        _ => false,
    };
    commands.iter().any(wide)
}

fn bystanders() -> Vec<Entry> {
    (0..64).map(|page| entry(BYSTANDER, page << 12)).collect()
}
