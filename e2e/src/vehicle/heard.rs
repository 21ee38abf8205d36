//! Which commands come to the SMMU's own queue, as the guest wrote them: before anything becomes one.

use smmu_core::spec::command::{RawCommand, StreamWord0, TlbiWord0, opcode};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use vcmdq::tap::{Fetched, Tap};

/// How often each kind of command: its name without its class, and the VMID or StreamID in it.
pub type Commands = BTreeMap<(String, Option<u64>), u64>;

/// Counts commands since it was asked last.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    commands: Commands,
    /// Index and wrap bit behind the last that was counted.
    next: u32,
}

impl Heard {
    /// What has come since this was asked last. A command whose SYNC is complete is among it.
    #[must_use]
    pub fn take(&self) -> Commands {
        std::mem::take(&mut self.lock().commands)
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap for Heard {
    fn published(&self, _prod: u32) {}

    /// Counted here and not when it is consumed: who sees CONS finds it counted.
    fn fetched(&self, window: &Fetched<'_>) {
        let mut count = self.lock();
        let mask = (2u32 << window.log2size) - 1;
        // Those behind a SYNC that waits are fetched, and told, again.
        let again = count.next.wrapping_sub(window.first) & mask;
        let new = window.commands.get(again as usize..);
        // Nothing of it is new, or the queue has begun anew.
        let new = new.unwrap_or(window.commands);
        for command in new {
            if let Some(kind) = kind(command) {
                *count.commands.entry(kind).or_default() += 1;
            }
        }
        let end = window.first.wrapping_add(window.commands.len() as u32);
        count.next = end & mask;
    }

    fn completed(&self, _index: u32) {}

    fn consumed(&self, _cons: u32) {}
}

/// `None` for a SYNC, and for what no guest here sends.
fn kind(command: &RawCommand) -> Option<(String, Option<u64>)> {
    let vmid = u64::from(TlbiWord0::from_bits(command.dw0).vmid());
    let stream = u64::from(StreamWord0::from_bits(command.dw0).stream());
    let (name, whose) = match command.dw0 as u8 {
        opcode::CFGI_STE => ("CFGI_STE", Some(stream)),
        opcode::CFGI_STE_RANGE => ("CFGI_STE_RANGE", None),
        opcode::CFGI_CD => ("CFGI_CD", Some(stream)),
        opcode::CFGI_CD_ALL => ("CFGI_CD_ALL", Some(stream)),
        opcode::ATC_INV => ("ATC_INV", Some(stream)),
        opcode::TLBI_NH_ALL => ("NH_ALL", Some(vmid)),
        opcode::TLBI_NH_ASID => ("NH_ASID", Some(vmid)),
        opcode::TLBI_NH_VA => ("NH_VA", Some(vmid)),
        opcode::TLBI_NH_VAA => ("NH_VAA", Some(vmid)),
        opcode::TLBI_S12_VMALL => ("S12_VMALL", Some(vmid)),
        opcode::TLBI_S2_IPA => ("S2_IPA", Some(vmid)),
        opcode::TLBI_NSNH_ALL => ("NSNH_ALL", None),
        _ => return None,
    };
    Some((name.to_owned(), whose))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smmu_core::Gpa;

    fn fetched(heard: &Heard, first: u32, commands: &[RawCommand]) {
        heard.fetched(&Fetched {
            base: Gpa(0),
            log2size: 2,
            first,
            commands,
        });
    }

    fn of(opcode: u8, vmid: u16) -> RawCommand {
        let word = TlbiWord0::new().with_opcode(opcode).with_vmid(vmid);
        RawCommand {
            dw0: word.into_bits(),
            dw1: 0,
        }
    }

    #[test]
    fn what_is_fetched_again_is_counted_once() {
        let heard = Heard::default();
        let one = of(opcode::TLBI_NH_ALL, 3);
        let sync = of(opcode::SYNC, 0);
        let count = |heard: &Heard| heard.take().into_values().sum::<u64>();
        fetched(&heard, 0, &[one, sync, one]);
        assert_eq!(count(&heard), 2);
        // Behind the SYNC, which waited, and more; then around the end of the queue, with the wrap bit.
        fetched(&heard, 2, &[one, one]);
        fetched(&heard, 4, &[one, one, one, one]);
        fetched(&heard, 0, &[one]);
        assert_eq!(count(&heard), 1 + 4 + 1);
        // Nothing of it is new.
        fetched(&heard, 7, &[one, one]);
        assert_eq!(count(&heard), 0);
    }

    #[test]
    fn a_command_is_of_whom_it_names() {
        let heard = Heard::default();
        let stream = StreamWord0::new()
            .with_opcode(opcode::CFGI_CD)
            .with_stream(0x10);
        let stream = RawCommand {
            dw0: stream.into_bits(),
            dw1: 0,
        };
        fetched(&heard, 0, &[of(opcode::TLBI_NH_ASID, 5), stream]);
        let kinds: Vec<_> = heard.take().into_keys().collect();
        let kind = |name: &str, whose| (name.to_owned(), Some(whose));
        assert_eq!(kinds, [kind("CFGI_CD", 0x10), kind("NH_ASID", 5)]);
    }
}
