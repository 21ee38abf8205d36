//! One command as one line.

use serde::Serialize;
use smmu_core::Capabilities;
use smmu_core::command::{AtcInv, Cfgi, Command, PriResponse, ResumeAction, Signal, Tlbi};
use smmu_core::decode::decode;
use smmu_core::ids::{StreamId, SubstreamId};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::{RawCommand, opcode};
use std::collections::BTreeMap;
use std::fmt;

/// A record of a raw dump.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    index: usize,
    /// In bytes, from the beginning of the file.
    offset: String,
    #[serde(flatten)]
    pub(super) what: What,
}

/// A command.
#[derive(Debug, Serialize)]
pub(super) struct What {
    /// The architecture's own name.
    pub(super) name: &'static str,
    /// Both words.
    words: [String; 2],
    #[serde(flatten)]
    fields: Fields,
    /// Why the command is illegal.
    pub(super) illegal: Option<String>,
}

/// What a command names.
#[derive(Debug, Default, Serialize)]
struct Fields {
    #[serde(skip)]
    order: Vec<&'static str>,
    fields: BTreeMap<&'static str, String>,
    /// First and last address covered.
    range: Option<[String; 2]>,
    /// Granule of the entries: 4K, 16K, 64K, or any.
    granule: Option<&'static str>,
    /// Level promise; 0 is none.
    ttl: Option<u8>,
    leaf: Option<bool>,
}

impl Line {
    /// Decodes `raw`, record `index` of its stream, under `caps`.
    pub(super) fn of(index: usize, raw: RawCommand, caps: &Capabilities) -> Self {
        Self {
            index,
            offset: format!("{:#08x}", index as u64 * RawCommand::BYTES),
            what: What::of(raw, caps),
        }
    }
}

impl What {
    /// Decodes `raw` under `caps`.
    pub(super) fn of(raw: RawCommand, caps: &Capabilities) -> Self {
        let decoded = decode(raw, caps);
        let mut fields = Fields::default();
        if let Ok(command) = &decoded {
            fields.of(command);
        }
        Self {
            name: name(&raw, decoded.as_ref().ok()),
            words: [raw.dw0, raw.dw1].map(|word| format!("{word:#018x}")),
            fields,
            illegal: decoded.err().map(|why| why.to_string()),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8}  {}  {}", self.index, self.offset, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = match &self.illegal {
            Some(why) => format!("ILLEGAL: {why} ({} {})", self.words[0], self.words[1]),
            None => self.fields.to_string(),
        };
        let line = format!("{:<16}  {fields}", self.name);
        f.write_str(line.trim_end())
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<_> = self
            .order
            .iter()
            .map(|key| format!("{key}={}", self.fields[key]))
            .collect();
        if let Some([first, last]) = &self.range {
            words.push(format!("[{first}..{last}]"));
        }
        words.extend(self.granule.map(|granule| format!("granule={granule}")));
        let promise = self.ttl.filter(|ttl| *ttl != 0);
        words.extend(promise.map(|ttl| format!("ttl={ttl}")));
        words.extend((self.leaf == Some(true)).then(|| "leaf".to_owned()));
        f.write_str(&words.join(" "))
    }
}

impl Fields {
    fn of(&mut self, command: &Command) {
        match *command {
            Command::PrefetchConfig { stream, substream } => self.stream(stream, substream),
            Command::PrefetchAddr {
                stream,
                substream,
                addr,
                size,
            } => {
                self.stream(stream, substream);
                self.hex("addr", addr);
                self.add("size", size.to_string());
            }
            Command::Cfgi(cfgi) => self.cfgi(&cfgi),
            Command::Tlbi(tlbi) => self.tlbi(&tlbi),
            Command::AtcInv(inv) => self.atc_inv(&inv),
            Command::PriResp {
                stream,
                substream,
                group,
                response,
            } => {
                self.stream(stream, substream);
                self.add("group", group.to_string());
                let response = match response {
                    PriResponse::Failure => "failure",
                    PriResponse::Invalid => "invalid",
                    PriResponse::Success => "success",
                };
                self.add("response", response.to_owned());
            }
            Command::Resume {
                stream,
                stag,
                action,
            } => {
                self.stream(stream, None);
                self.hex("stag", u64::from(stag.0));
                let action = match action {
                    ResumeAction::Retry => "retry",
                    ResumeAction::Abort => "abort",
                    ResumeAction::Terminate => "terminate",
                };
                self.add("action", action.to_owned());
            }
            Command::StallTerm { stream } => self.stream(stream, None),
            Command::Sync(signal) => self.sync(signal),
        }
    }

    fn add(&mut self, key: &'static str, value: String) {
        self.order.push(key);
        self.fields.insert(key, value);
    }

    fn hex(&mut self, key: &'static str, value: u64) {
        self.add(key, format!("{value:#x}"));
    }

    fn stream(&mut self, stream: StreamId, substream: Option<SubstreamId>) {
        self.add("sid", stream.to_string());
        if let Some(substream) = substream {
            self.add("ssid", substream.to_string());
        }
    }

    fn cfgi(&mut self, cfgi: &Cfgi) {
        match *cfgi {
            Cfgi::Ste { stream, leaf } => {
                self.stream(stream, None);
                self.leaf = Some(leaf);
            }
            Cfgi::SteRange { stream, range } => {
                let low = (1u64 << (u32::from(range.min(31)) + 1)) - 1;
                let first = u64::from(stream.0) & !low;
                self.add("sids", format!("{first:#x}..{:#x}", first | low));
            }
            Cfgi::All => {}
            Cfgi::Cd {
                stream,
                substream,
                leaf,
            } => {
                self.stream(stream, Some(substream));
                self.leaf = Some(leaf);
            }
            Cfgi::CdAll { stream } => self.stream(stream, None),
        }
    }

    fn tlbi(&mut self, tlbi: &Tlbi) {
        let (vmid, asid, range) = match *tlbi {
            Tlbi::NhAll { vmid } | Tlbi::S12VmAll { vmid } => (Some(vmid), None, None),
            Tlbi::NhAsid { vmid, asid } => (Some(vmid), Some(asid), None),
            Tlbi::NhVa { vmid, asid, range } => (Some(vmid), Some(asid), Some(range)),
            Tlbi::NhVaa { vmid, range } | Tlbi::S2Ipa { vmid, range } => {
                (Some(vmid), None, Some(range))
            }
            Tlbi::El2Asid { asid } => (None, Some(asid), None),
            Tlbi::El2Va { asid, range } => (None, Some(asid), Some(range)),
            Tlbi::El2Vaa { range } => (None, None, Some(range)),
            Tlbi::El2All | Tlbi::NsnhAll => (None, None, None),
        };
        if let Some(vmid) = vmid {
            self.add("vmid", vmid.to_string());
        }
        if let Some(asid) = asid {
            self.add("asid", asid.to_string());
        }
        if let Some(range) = range {
            self.addresses(&range);
        }
    }

    fn addresses(&mut self, range: &TlbiRange) {
        self.covers(range.addr, range.last());
        self.granule = Some(match range.granule {
            None => "any",
            Some(Granule::K4) => "4K",
            Some(Granule::K16) => "16K",
            Some(Granule::K64) => "64K",
        });
        self.ttl = Some(range.ttl);
        self.leaf = Some(range.leaf);
    }

    fn covers(&mut self, first: u64, last: u64) {
        self.range = Some([first, last].map(|addr| format!("{addr:#x}")));
    }

    fn atc_inv(&mut self, inv: &AtcInv) {
        self.stream(inv.stream, inv.substream);
        if inv.global {
            self.add("global", "1".to_owned());
        }
        self.covers(inv.addr, inv.last());
    }

    fn sync(&mut self, signal: Signal) {
        let cs = match signal {
            Signal::None => "NONE",
            Signal::Irq { .. } => "IRQ",
            Signal::Sev => "SEV",
        };
        self.add("cs", cs.to_owned());
        if let Signal::Irq { msi: Some(msi) } = signal {
            self.add("msiaddr", msi.addr.to_string());
            self.hex("msidata", u64::from(msi.data));
        }
    }
}

/// The name of a command, legal or not.
fn name(raw: &RawCommand, command: Option<&Command>) -> &'static str {
    match command {
        Some(Command::Cfgi(Cfgi::All)) => "CFGI_ALL",
        _ => opcode::name(raw.opcode()),
    }
}
