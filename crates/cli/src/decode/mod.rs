//! `vcmdq decode`: a stream as a person reads it.

mod listing;
mod timeline;

use crate::args::{Caps, DEFAULT_IDRS, DecodeArgs};
use crate::error::ToolError;
use crate::output;
use crate::trace::{self, Contents, CutOff};
use listing::Line;
use serde::Serialize;
use smmu_core::Capabilities;
use smmu_core::spec::command::RawCommand;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use timeline::Timeline;
use vcmdq_wording::count;

/// A whole listing.
#[derive(Debug, Serialize)]
struct Listing {
    file: String,
    records: Vec<Line>,
    /// How many records of each name.
    names: BTreeMap<&'static str, usize>,
    illegal: usize,
    /// A record that is cut off at the end of the file.
    cut_off: Option<CutOffRecord>,
}

#[derive(Debug, Serialize)]
struct CutOffRecord {
    offset: String,
    bytes: usize,
}

/// Lists a file. Exit code 1 if some of its records are damaged.
pub(crate) fn run(args: &DecodeArgs) -> Result<ExitCode, ToolError> {
    let bytes = trace::bytes(&args.file)?;
    let name = args.file.display().to_string();
    let (commands, cut) = match Contents::of(&name, &bytes)? {
        Contents::Recording(recording) => {
            let caps = args.caps.map_or(recording.header.caps(), |Caps(caps)| caps);
            let timeline = Timeline::of(&name, &bytes, &recording, &caps);
            if args.json {
                output::json(&timeline)?;
            } else {
                let mut out = output::stdout();
                timeline.print(&mut out)?;
                output::finish(out)?;
            }
            return Ok(ExitCode::from(u8::from(timeline.is_damaged())));
        }
        Contents::Raw(commands, cut) => (commands, cut),
    };
    if commands.is_empty() && cut.is_none() {
        return Err(ToolError::Empty { name });
    }
    let Caps(caps) = match args.caps {
        Some(caps) => caps,
        None => DEFAULT_IDRS.parse()?,
    };
    let listing = Listing::of(name, &commands, cut, &caps);
    if args.json {
        output::json(&listing)?;
    } else {
        let mut out = output::stdout();
        listing.print(&mut out)?;
        output::finish(out)?;
    }
    let damaged = listing.illegal > 0 || listing.cut_off.is_some();
    Ok(ExitCode::from(u8::from(damaged)))
}

impl Listing {
    fn of(file: String, commands: &[RawCommand], cut: Option<CutOff>, caps: &Capabilities) -> Self {
        let records: Vec<_> = commands
            .iter()
            .enumerate()
            .map(|(index, raw)| Line::of(index, *raw, caps))
            .collect();
        let mut names = BTreeMap::new();
        for record in &records {
            *names.entry(record.what.name).or_default() += 1;
        }
        Self {
            file,
            illegal: records
                .iter()
                .filter(|record| record.what.illegal.is_some())
                .count(),
            names,
            records,
            cut_off: cut.map(|CutOff { offset, bytes }| CutOffRecord {
                offset: format!("{offset:#08x}"),
                bytes,
            }),
        }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(
            out,
            "{:>8}  {:>8}  {:<16}  fields",
            "index", "offset", "command"
        )?;
        for record in &self.records {
            writeln!(out, "{record}")?;
        }
        if let Some(CutOffRecord { offset, bytes }) = &self.cut_off {
            let index = self.records.len();
            writeln!(
                out,
                "{index:>8}  {offset}  damaged: {} where 16 are needed",
                count(*bytes, "byte")
            )?;
        }
        // Whatever is no recording is read so: who meant one learns it here.
        let commands = count(self.records.len(), "command");
        writeln!(out, "\n{}: {commands}, read as a raw dump", self.file)?;
        for (name, number) in &self.names {
            writeln!(out, "{number:>8}  {name}")?;
        }
        if self.illegal > 0 {
            writeln!(out, "{:>8}  illegal", self.illegal)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Caps;

    fn listing(commands: &[RawCommand], cut: Option<CutOff>) -> String {
        let Caps(caps) = "0x0d44341b,0x02730010,0,0x1414,0,0x74"
            .parse()
            .expect("well formed");
        let mut text = Vec::new();
        let listing = Listing::of("a.cmdq".into(), commands, cut, &caps);
        listing.print(&mut text).expect("memory");
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn a_listing_names_commands_ranges_and_damage() {
        let raw = |dw0, dw1| RawCommand { dw0, dw1 };
        let commands = [
            raw(0x4, 0x1f),
            raw(0x8_0000_0005, 1),
            raw(0x0003_0000_0000_0012, 0xffff_2701),
            raw(0x0002_0000_0040_0012, 0xfff1_0701),
            raw(0x0007_0000_0000_0012, 0xffff_2000),
            raw(0x0007_0000_0000_0012, 0x1400),
            raw(0x0007_0000_0000_0011, 0),
            raw(0x30, 0),
            raw(0x18_0000_5840, 0x7fff_0000_0004),
            raw(0x10_0000_0040, 52),
            raw(0x10_0000_0001, 0),
            raw(0x0fc0_1046, 0x4000_1230),
            raw(0x0fc0_2046, 0),
            raw(0x99, 0),
        ];
        let expected = "   index    offset  command           fields
       0  0x000000  CFGI_ALL
       1  0x000010  CFGI_CD           sid=0x8 ssid=0x0 leaf
       2  0x000020  TLBI_NH_VA        vmid=0x0 asid=0x3 [0xffff2000..0xffff2fff] granule=4K ttl=3 leaf
       3  0x000030  TLBI_NH_VA        vmid=0x0 asid=0x2 [0xfff10000..0xfff1ffff] granule=4K ttl=3 leaf
       4  0x000040  TLBI_NH_VA        vmid=0x0 asid=0x7 [0xffff2000..0xffff2fff] granule=any
       5  0x000050  TLBI_NH_VA        ILLEGAL: range invalidation with the reserved combination NUM=SCALE=TTL=0 (0x0007000000000012 0x0000000000001400)
       6  0x000060  TLBI_NH_ASID      vmid=0x0 asid=0x7
       7  0x000070  TLBI_NSNH_ALL
       8  0x000080  ATC_INV           sid=0x18 ssid=0x5 [0x7fff00000000..0x7fff0000ffff]
       9  0x000090  ATC_INV           sid=0x10 [0x0..0xffffffffffffffff]
      10  0x0000a0  PREFETCH_CONFIG   sid=0x10
      11  0x0000b0  SYNC              cs=IRQ msiaddr=0x40001230 msidata=0x0
      12  0x0000c0  SYNC              cs=SEV
      13  0x0000d0  RESERVED          ILLEGAL: opcode 0x99 is reserved (0x0000000000000099 0x0000000000000000)
      14  0x0000e0  damaged: 3 bytes where 16 are needed

a.cmdq: 14 commands, read as a raw dump
       2  ATC_INV
       1  CFGI_ALL
       1  CFGI_CD
       1  PREFETCH_CONFIG
       1  RESERVED
       2  SYNC
       1  TLBI_NH_ASID
       4  TLBI_NH_VA
       1  TLBI_NSNH_ALL
       2  illegal
";
        let cut = CutOff {
            offset: 0xe0,
            bytes: 3,
        };
        pretty_eq(&listing(&commands, Some(cut)), expected);
    }

    fn pretty_eq(ours: &str, expected: &str) {
        for (line, other) in ours.lines().zip(expected.lines()) {
            assert_eq!(line, other);
        }
        assert_eq!(ours, expected);
    }

    #[test]
    fn every_opcode_with_any_bits_is_listed() {
        for op in 0..=255u64 {
            for rest in [0, u64::MAX, 0x5555_5555_5555_5555] {
                let raw = RawCommand {
                    dw0: op | rest << 8,
                    dw1: rest,
                };
                let text = listing(&[raw], None);
                assert!(text.contains("a.cmdq: 1 command,"), "{text}");
            }
        }
    }
}
