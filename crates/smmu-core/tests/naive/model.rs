//! The obvious SMMU: one function for each table of the architecture, in its order.

use super::Ram;
use super::attributes::{self, Memory};
use super::configuration::{check_cd, check_ste, choose_cd, find_cd, find_ste, stage1_of};
use super::second::Second;
use super::tables::walk;

/// Everything that the model knows of its registers, as raw numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    pub(crate) idr0: u32,
    pub(crate) idr1: u32,
    pub(crate) idr3: u32,
    pub(crate) idr5: u32,
    pub(crate) strtab_base: u64,
    pub(crate) strtab_base_cfg: u32,
    pub(crate) e2h: bool,
}

/// A transaction as raw numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) stream: u32,
    pub(crate) substream: Option<u32>,
    pub(crate) address: u64,
    pub(crate) write: bool,
    pub(crate) execute: bool,
    pub(crate) privileged: bool,
    /// The memory attributes that it comes with.
    pub(crate) incoming: Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    SilentAbort,
    Bypass(u64, Memory),
    Page {
        output: u64,
        bytes: u64,
        global: bool,
        memory: Memory,
    },
    /// The four words of the event record of a transaction that does not stall.
    Event([u64; 4]),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Event, and the address of what could not be fetched.
    Config(u8, u64),
    Translation(u8),
    Walk(u64),
    /// Event, CLASS and IPA of a fault of stage 2.
    Second(u8, u8, u64),
    /// CLASS, and the address of a descriptor of stage 2.
    SecondWalk(u8, u64),
    /// Stage 2 does not let the descriptor of stage 1 at an IPA be written.
    SecondUpdate(u64),
}

pub(crate) fn bits(word: u64, high: u32, low: u32) -> u64 {
    (word >> low) & (u64::MAX >> (63 - (high - low)))
}

pub(crate) fn bit(word: u64, at: u32) -> bool {
    bits(word, at, at) == 1
}

pub(crate) fn size_of_code(code: u64) -> u32 {
    [32, 36, 40, 42, 44, 48, 52, 52][code as usize]
}

pub(crate) fn translate(ram: &Ram, regs: &Registers, request: &Request) -> Answer {
    let mut request = *request;
    match attempt(ram, regs, &mut request) {
        Ok(answer) => answer,
        Err(wrong) => Answer::Event(event(&wrong, &request)),
    }
}

pub(crate) fn event(wrong: &Wrong, request: &Request) -> [u64; 4] {
    let id = match wrong {
        Wrong::Config(id, _) | Wrong::Translation(id) | Wrong::Second(id, ..) => *id,
        Wrong::Walk(_) | Wrong::SecondWalk(..) => 0x0b,
        Wrong::SecondUpdate(_) => 0x13,
    };
    let mut first = u64::from(id) | u64::from(request.stream) << 32;
    if let Some(substream) = request.substream {
        if id != 0x06 {
            first |= u64::from(substream) << 12;
        }
        if id != 0x06 && id != 0x08 {
            first |= 1 << 11;
        }
    }
    let access = u64::from(request.privileged) << 33
        | u64::from(request.execute) << 34
        | u64::from(!request.write) << 35;
    match *wrong {
        Wrong::Config(_, fetch) => [first, 0, 0, fetch],
        // CLASS is IN for stage 1.
        Wrong::Translation(_) => [first, access | 2 << 40, request.address, 0],
        // CLASS is TT.
        Wrong::Walk(fetch) => [first, access | 1 << 40, request.address, fetch],
        Wrong::Second(id, class, ipa) => {
            let table_read = u64::from(id == 0x13 && class == 1) << 44;
            let how = access | 1 << 39 | u64::from(class) << 40 | table_read;
            [first, how, request.address, bits(ipa, 55, 12) << 12]
        }
        // CLASS is TT, and TTRnW clear: the table was to be written.
        Wrong::SecondUpdate(ipa) => {
            let how = access | 1 << 39 | 1 << 40;
            [first, how, request.address, bits(ipa, 55, 12) << 12]
        }
        Wrong::SecondWalk(class, fetch) => {
            let how = access | 1 << 39 | u64::from(class) << 40;
            [first, how, request.address, fetch]
        }
    }
}

fn attempt(ram: &Ram, regs: &Registers, request: &mut Request) -> Result<Answer, Wrong> {
    let at = find_ste(ram, regs, request.stream)?;
    let ste = fetch_structure(ram, at, 0x03)?;
    if !bit(ste[0], 0) {
        return Err(Wrong::Config(0x04, 0));
    }
    let config = bits(ste[0], 3, 1);
    if config < 4 {
        return Ok(Answer::SilentAbort);
    }
    check_ste(&ste, regs)?;
    override_access(&ste, regs, request);
    let stage2 = Second {
        on: config & 2 == 2,
        ste,
        regs,
    };
    request.incoming = attributes::overridden(&ste, regs, request.incoming);
    let oas = size_of_code(bits(regs.idr5.into(), 2, 0));
    if config & 1 == 0 && request.substream.is_some() {
        return Err(Wrong::Config(0x08, 0));
    }
    let first = match config {
        4 => return bypass(request, oas),
        6 => bypass(request, intermediate_width(regs))?,
        _ => through_stage1(ram, &stage2, request)?,
    };
    if !stage2.on {
        return Ok(first);
    }
    match first {
        Answer::Page {
            output,
            bytes,
            global,
            memory,
        } => {
            let (output, page) = stage2.of_input(ram, output, request)?;
            Ok(Answer::Page {
                output,
                bytes: bytes.min(page.bytes),
                global,
                memory: stage2.attributes(&page, memory),
            })
        }
        _ => {
            let (output, page) = stage2.of_input(ram, request.address, request)?;
            Ok(Answer::Page {
                output,
                bytes: page.bytes,
                global: true,
                memory: stage2.attributes(&page, request.incoming),
            })
        }
    }
}

pub(crate) fn through_stage1(
    ram: &Ram,
    stage2: &Second,
    request: &Request,
) -> Result<Answer, Wrong> {
    let regs = stage2.regs;
    let stage1 = stage1_of(&stage2.ste, regs)?;
    let Some(index) = choose_cd(&stage1, request.substream)? else {
        return bypass(request, intermediate_width(regs));
    };
    let at = stage2.of_cd(ram, find_cd(ram, &stage1, index, stage2)?)?;
    let cd = fetch_structure(ram, at, 0x09)?;
    check_cd(&cd, regs, &stage1)?;
    walk(ram, stage2, &cd, &stage1, request)
}

/// Overrides of privilege and instruction, if the SMMU has them.
pub(crate) fn override_access(ste: &[u64; 8], regs: &Registers, request: &mut Request) {
    if !bit(regs.idr1.into(), 26) {
        return;
    }
    match bits(ste[1], 49, 48) {
        2 => request.privileged = false,
        3 => request.privileged = true,
        _ => {}
    }
    if !request.write {
        match bits(ste[1], 51, 50) {
            2 => request.execute = false,
            3 => request.execute = true,
            _ => {}
        }
    }
}

/// IAS: OAS, or what AArch32 tables reach.
fn intermediate_width(regs: &Registers) -> u32 {
    let oas = size_of_code(bits(regs.idr5.into(), 2, 0));
    let aarch32 = bit(regs.idr0.into(), 2);
    if aarch32 { oas.max(40) } else { oas }
}

fn bypass(request: &Request, width: u32) -> Result<Answer, Wrong> {
    if request.address < 1 << width {
        Ok(Answer::Bypass(request.address, request.incoming))
    } else {
        Err(Wrong::Translation(0x11))
    }
}

pub(crate) fn fetch_structure(ram: &Ram, at: u64, id: u8) -> Result<[u64; 8], Wrong> {
    let mut words = [0; 8];
    for (index, word) in words.iter_mut().enumerate() {
        *word = ram
            .get(at + 8 * index as u64)
            .ok_or(Wrong::Config(id, at))?;
    }
    Ok(words)
}
