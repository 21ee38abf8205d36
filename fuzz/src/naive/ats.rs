//! ATS requests as IHI 0070, 3.9 has them, by whole translations of the naive SMMU.

use super::configuration::{check_ste, find_ste};
use super::model::{
    self, Answer, Registers, Request, Wrong, bit, bits, fetch_structure, override_access,
    through_stage1,
};
use super::second::Second;
use crate::memory::{Log, Ram};

/// What an ATS Translation Request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// UR, with F_BAD_ATS_TREQ or without an event.
    Unsupported(bool),
    /// CA, because of what would be this event.
    Abort(u8),
    /// Success without any right.
    Nothing,
    /// Success.
    Granted {
        from: u64,
        to: u64,
        bytes: u64,
        /// Read, write, execute.
        rights: [bool; 3],
        global: bool,
    },
}

/// What becomes of an ATS-translated transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    To(u64),
    /// Aborted, with this event if there is one.
    Aborted(Option<u8>),
}

/// STE.EATS as it takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Eats {
    Refused,
    Full,
    Split,
}

/// What is read of memory and registers.
pub(crate) struct Naive<'a> {
    pub(crate) ram: &'a Ram,
    pub(crate) regs: &'a Registers,
    /// CR0.ATSCHK.
    pub(crate) checks: bool,
}

impl Naive<'_> {
    /// The valid STE of a stream, nothing if it aborts; else the event.
    fn ste(&self, stream: u32) -> Result<Option<[u64; 8]>, u8> {
        let at = find_ste(self.ram, self.regs, stream).map_err(|wrong| id(&wrong))?;
        let ste = fetch_structure(self.ram, at, 0x03).map_err(|wrong| id(&wrong))?;
        if !bit(ste[0], 0) {
            return Err(0x04);
        }
        if bits(ste[0], 3, 1) < 4 {
            return Ok(None);
        }
        check_ste(&ste, self.regs).map_err(|wrong| id(&wrong))?;
        Ok(Some(ste))
    }

    fn eats(&self, ste: &[u64; 8]) -> Eats {
        let offered = bit(self.regs.idr0.into(), 10) && bits(ste[0], 3, 1) != 4;
        match bits(ste[1], 29, 28) {
            1 | 3 if offered => Eats::Full,
            2 if offered => Eats::Split,
            _ => Eats::Refused,
        }
    }

    /// A translation by both stages, or by the first alone; else the event. And what was done.
    fn translate(
        &self,
        request: &Request,
        ste: &[u64; 8],
        eats: Eats,
    ) -> (Result<Answer, u8>, Log) {
        self.ram.take_log();
        let answer = if eats == Eats::Split {
            let mut request = *request;
            override_access(ste, self.regs, &mut request);
            let stage2 = Second {
                on: true,
                ste: *ste,
                regs: self.regs,
            };
            through_stage1(self.ram, &stage2, &request).map_err(|wrong| id(&wrong))
        } else {
            match model::translate(self.ram, self.regs, request) {
                Answer::Event([first, ..]) => Err(first as u8),
                answer => Ok(answer),
            }
        };
        (answer, self.ram.take_log())
    }

    /// The answer to a request, and what was done for each right that was tried. What is written, stays.
    /// `write` says that NW is clear, `execute` that Execute is requested.
    pub(crate) fn reply(&self, request: &Request, write: bool, execute: bool) -> (Reply, Vec<Log>) {
        let mut logs = Vec::new();
        let (Ok(reply) | Err(reply)) = self.attempt(request, [write, execute], &mut logs);
        (reply, logs)
    }

    fn attempt(
        &self,
        request: &Request,
        [write, execute]: [bool; 2],
        logs: &mut Vec<Log>,
    ) -> Result<Reply, Reply> {
        let ste = self.ste(request.stream).map_err(Reply::Abort)?;
        let ste = ste.ok_or(Reply::Unsupported(false))?;
        let eats = match self.eats(&ste) {
            Eats::Refused => return Err(Reply::Unsupported(true)),
            Eats::Split if !self.checks => return Err(Reply::Unsupported(true)),
            eats => eats,
        };
        let pasid = request.substream.is_some();
        let read = Request {
            address: request.address >> 12 << 12,
            privileged: request.privileged && pasid,
            write: false,
            execute: false,
            ..*request
        };
        let writing = Request {
            write: true,
            ..read
        };
        let executing = Request {
            execute: true,
            ..read
        };
        let mut translate = |request: &Request| {
            let (answer, log) = self.translate(request, &ste, eats);
            logs.push(log);
            answer
        };
        let mut found = if write {
            translate(&writing)
        } else {
            Err(0x13)
        };
        // Another right may be there.
        if found == Err(0x13) {
            found = translate(&read);
        }
        let (output, bytes, global) = match found {
            Ok(Answer::Page {
                output,
                bytes,
                global,
                ..
            }) => (output, bytes, global),
            Ok(Answer::Bypass(address, _)) => (address, 0x1000, false),
            Ok(other) => unreachable!("{other:?} was looked at"),
            Err(0x10..=0x13) => return Err(Reply::Nothing),
            Err(event) => return Err(Reply::Abort(event)),
        };
        let mut may = |request| translate(request).is_ok();
        let reads = may(&read);
        let writes = write && may(&writing);
        let executes = reads && pasid && execute && may(&executing);
        Ok(Reply::Granted {
            from: read.address / bytes * bytes,
            to: output / bytes * bytes,
            bytes,
            rights: [reads, writes, executes],
            global: global && pasid,
        })
    }

    /// What becomes of a transaction whose address has been translated.
    pub(crate) fn pass(&self, request: &Request) -> Passed {
        let oas = model::size_of_code(bits(self.regs.idr5.into(), 2, 0));
        let straight = match request.address >> oas {
            0 => Passed::To(request.address),
            _ => Passed::Aborted(None),
        };
        if !self.checks {
            return straight;
        }
        let Ok(Some(ste)) = self.ste(request.stream) else {
            return Passed::Aborted(None);
        };
        match self.eats(&ste) {
            Eats::Full => straight,
            Eats::Refused => Passed::Aborted(Some(0x07)),
            Eats::Split => {
                let mut request = *request;
                override_access(&ste, self.regs, &mut request);
                let stage2 = Second {
                    on: true,
                    ste,
                    regs: self.regs,
                };
                match stage2.of_input(self.ram, request.address, &request) {
                    Ok((output, _)) => Passed::To(output),
                    Err(wrong) => Passed::Aborted(Some(id(&wrong))),
                }
            }
        }
    }
}

/// The number of the event that would tell of it.
fn id(wrong: &Wrong) -> u8 {
    match *wrong {
        Wrong::Config(id, _) | Wrong::Translation(id) | Wrong::Second(id, ..) => id,
        Wrong::SecondUpdate(_) => 0x13,
        Wrong::Walk(_) | Wrong::SecondWalk(..) => 0x0b,
    }
}
