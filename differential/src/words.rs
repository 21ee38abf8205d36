//! What is said of an access, its world and what became of it: the architecture's names, and numbers in hex.

use crate::ours;
use crate::theirs::{self, Landed};
use crate::world::{Kind, Request, World};
use smmu_core::command::Command;
use smmu_core::encode::encode;
use smmu_core::spec::command::opcode;
use smmu_core::spec::event::{Class, EventId, EventRecord};
use std::fmt;

/// Words of a table, of a record, of a register.
pub(crate) fn words(words: &[u64]) -> String {
    let hex: Vec<_> = words.iter().map(|word| format!("{word:#x}")).collect();
    hex.join(" ")
}

/// The context of a world.
pub(crate) fn context(world: &World) -> String {
    world
        .context()
        .map_or_else(|| "none".to_owned(), |cd| words(&cd))
}

/// A command: its name and both its words, which `vcmdq decode` takes apart.
pub(crate) fn command(command: &Command) -> String {
    let raw = encode(command);
    let name = opcode::name(raw.opcode());
    format!("{name} ({})", words(&[raw.dw0, raw.dw1]))
}

/// Commands in their order.
pub(crate) fn list(commands: &[Command]) -> String {
    let all: Vec<_> = commands.iter().map(command).collect();
    all.join(", ")
}

/// What was recorded, without addresses: accesses of which the same is said have the same reason.
pub(crate) fn recorded(records: &[EventRecord]) -> String {
    match records {
        [] => "no record".to_owned(),
        [one] => name(one),
        [first, ..] => format!("{} records, first {}", records.len(), name(first)),
    }
}

/// `F_TRANSLATION of stage 2, CLASS TT`.
fn name(record: &EventRecord) -> String {
    let (code, how) = (record.dw0().id(), record.dw1());
    let Some(event) = record.id() else {
        return format!("event {code:#04x}");
    };
    let stage = if how.s2() { 2 } else { 1 };
    let class = match Class::from_code(how.class()) {
        Some(Class::Cd) => "CD",
        Some(Class::TranslationTable) => "TT",
        Some(Class::Input) => "IN",
        None => "3",
    };
    match event {
        // 7.3: others have neither S2 nor CLASS.
        EventId::WalkAbort
        | EventId::Translation
        | EventId::AddressSize
        | EventId::AccessFlag
        | EventId::Permission => format!("{} of stage {stage}, CLASS {class}", event.name()),
        _ => event.name().to_owned(),
    }
}

/// With every bit of them.
fn in_full(records: &[EventRecord]) -> String {
    let each = |record: &EventRecord| format!("{} ({})", name(record), words(&record.0));
    match records {
        [] => "no record".to_owned(),
        _ => records.iter().map(each).collect::<Vec<_>>().join("; "),
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Abort => "abort",
            Self::Bypass => "bypass",
            Self::First => "stage 1",
            Self::Second => "stage 2",
            Self::Nested => "nested",
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.read { "read" } else { "write" };
        write!(f, "a {what} at {:#x}", self.address)
    }
}

impl fmt::Display for Landed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::There => "done",
            Self::Elsewhere => "done at another address",
            Self::Failed => "not done",
            Self::Unknown => "done or not, nobody can tell",
        })
    }
}

impl fmt::Display for ours::Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reached, &self.fault) {
            (Some(at), _) => write!(f, "done at {at:#x}")?,
            (None, Some(fault)) => write!(f, "not done: {fault}")?,
            (None, None) => f.write_str("not done: the STE says abort")?,
        }
        write!(f, "; {}", in_full(self.record.as_slice()))
    }
}

impl fmt::Display for theirs::Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.landed, in_full(&self.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smmu_core::command::Tlbi;
    use smmu_core::fault::{Fault, Place};

    /// F_TRANSLATION of a read at stage 2, CLASS=TT.
    const TRANSLATION: EventRecord = EventRecord([0x10, 0x188_0000_0000, 0x1000, 0x2000]);
    /// C_BAD_STE, with a bit where others have S2.
    const BAD_STE: EventRecord = EventRecord([0x04, 0x80_0000_0000, 0, 0]);

    #[test]
    fn records_are_named_as_the_architecture_names_them() {
        assert_eq!(
            recorded(&[TRANSLATION]),
            "F_TRANSLATION of stage 2, CLASS TT"
        );
        assert_eq!(recorded(&[BAD_STE]), "C_BAD_STE");
        assert_eq!(recorded(&[]), "no record");
        let two = recorded(&[BAD_STE, TRANSLATION]);
        assert_eq!(two, "2 records, first C_BAD_STE");
        assert_eq!(recorded(&[EventRecord([0xEE, 0, 0, 0])]), "event 0xee");
    }

    #[test]
    fn outcomes_say_what_became_of_the_access_and_every_bit_of_its_record() {
        let ours = ours::Outcome {
            reached: None,
            record: Some(BAD_STE),
            fault: Some(Fault::BadSte),
        };
        assert_eq!(
            ours.to_string(),
            "not done: the STE is invalid; C_BAD_STE (0x4 0x8000000000 0x0 0x0)"
        );
        let silent = ours::Outcome {
            record: None,
            fault: Some(Fault::Translation(Place::Stage1)),
            ..ours
        };
        assert_eq!(silent.to_string(), "not done: no translation; no record");
        let theirs = theirs::Outcome {
            landed: Landed::There,
            records: Vec::new(),
        };
        assert_eq!(theirs.to_string(), "done; no record");
    }

    #[test]
    fn commands_and_accesses_have_names_and_numbers() {
        let all = [Command::Tlbi(Tlbi::El2All), Command::Tlbi(Tlbi::NsnhAll)];
        assert_eq!(
            list(&all),
            "TLBI_EL2_ALL (0x20 0x0), TLBI_NSNH_ALL (0x30 0x0)"
        );
        let request = Request {
            address: 0x1000,
            read: false,
        };
        assert_eq!(request.to_string(), "a write at 0x1000");
        assert_eq!(Kind::First.to_string(), "stage 1");
    }
}
