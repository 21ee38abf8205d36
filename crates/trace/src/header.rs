//! What stands before the records: whose rings they are.

use crate::error::TraceError;
use smmu_core::Capabilities;
use smmu_core::spec::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

/// How a recording begins. The first byte is no opcode that an SMMU knows, so no raw dump begins
/// so; the line ends show whether something has rewritten the file as text.
pub const MAGIC: [u8; 8] = *b"\x89VCQ\r\n\x1a\n";

/// The format that is written, and the newest that is read.
pub const VERSION: u16 = 1;

/// Magic, version, length of the body.
const FIXED: usize = 14;

/// No writer writes a longer body.
const MOST_BYTES: usize = 1 << 20;

/// Which queue a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RingKind {
    /// The SMMU's own command queue.
    Cmdq,
    /// A virtual command queue, by its number in the VINTF.
    Vcmdq(u16),
    /// What a later writer may name: kind and number.
    Other(u8, u16),
}

impl RingKind {
    fn to_bytes(self) -> [u8; 3] {
        let (kind, number) = match self {
            Self::Cmdq => (0, 0),
            Self::Vcmdq(number) => (1, number),
            Self::Other(kind, number) => (kind, number),
        };
        let [low, high] = u16::to_le_bytes(number);
        [kind, low, high]
    }

    fn from_bytes([kind, low, high]: [u8; 3]) -> Self {
        match (kind, u16::from_le_bytes([low, high])) {
            (0, 0) => Self::Cmdq,
            (1, number) => Self::Vcmdq(number),
            (kind, number) => Self::Other(kind, number),
        }
    }
}

impl std::fmt::Display for RingKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cmdq => f.write_str("cmdq"),
            Self::Vcmdq(number) => write!(f, "vcmdq{number}"),
            Self::Other(kind, number) => write!(f, "ring{kind}.{number}"),
        }
    }
}

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// IDR0 to IDR5 of the frame.
    pub idr: [u32; 6],
    /// AIDR of the frame.
    pub aidr: u32,
    /// When time zero was, in nanoseconds since 1970 UTC; 0 if that is not known.
    pub started: u64,
    /// The machine: processors, what emulates or runs the guest.
    pub machine: String,
    /// The guest's kernel.
    pub kernel: String,
    /// Whatever else a reader should know: what the guest was doing.
    pub comment: String,
    /// The rings; records name them by their place here.
    pub rings: Vec<RingKind>,
}

impl Header {
    /// The header of a frame with these capabilities, without rings and texts.
    #[must_use]
    pub fn of(caps: &Capabilities) -> Self {
        let (idr0, idr1) = (caps.idr0.into_bits(), caps.idr1.into_bits());
        let (idr3, idr5) = (caps.idr3.into_bits(), caps.idr5.into_bits());
        Self {
            idr: [idr0, idr1, 0, idr3, 0, idr5],
            aidr: caps.aidr.into_bits(),
            ..Self::default()
        }
    }

    /// What the frame advertised.
    #[must_use]
    pub fn caps(&self) -> Capabilities {
        Capabilities {
            idr0: Idr0::from_bits(self.idr[0]),
            idr1: Idr1::from_bits(self.idr[1]),
            idr3: Idr3::from_bits(self.idr[3]),
            idr5: Idr5::from_bits(self.idr[5]),
            aidr: Aidr::from_bits(self.aidr),
        }
    }

    /// The bytes as they begin a file. Texts are cut to 65,535 bytes at most, rings to 65,535.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let registers = self.idr.iter().chain([&self.aidr]);
        registers.for_each(|register| body.extend(register.to_le_bytes()));
        body.extend(self.started.to_le_bytes());
        for text in [&self.machine, &self.kernel, &self.comment] {
            let text = fitting(text);
            body.extend((text.len() as u16).to_le_bytes());
            body.extend(text.as_bytes());
        }
        let rings = &self.rings[..self.rings.len().min(usize::from(u16::MAX))];
        body.extend((rings.len() as u16).to_le_bytes());
        rings.iter().for_each(|ring| body.extend(ring.to_bytes()));
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    /// Reads a header, and says how many bytes it takes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Self, usize), TraceError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(TraceError::NotARecording);
        }
        let mut fields = Fields { bytes, at: 8 };
        let version = u16::from_le_bytes(fields.array("format version")?);
        if version == 0 || version > VERSION {
            let known = VERSION;
            return Err(TraceError::Version {
                found: version,
                known,
            });
        }
        let length = u32::from_le_bytes(fields.array("length")?) as usize;
        let end = FIXED + length.min(MOST_BYTES);
        if length > MOST_BYTES || end > bytes.len() {
            let what = "it is longer than the file, or than any header";
            return Err(TraceError::Header { offset: 10, what });
        }
        let mut fields = Fields {
            bytes: &bytes[..end],
            at: FIXED,
        };
        // What a later writer of this version puts behind the rings is not looked at.
        Ok((Self::body(&mut fields)?, end))
    }

    fn body(fields: &mut Fields<'_>) -> Result<Self, TraceError> {
        let mut idr = [0; 6];
        for idr in &mut idr {
            *idr = u32::from_le_bytes(fields.array("identification registers")?);
        }
        let aidr = u32::from_le_bytes(fields.array("identification registers")?);
        let started = u64::from_le_bytes(fields.array("time of the beginning")?);
        let machine = fields.text("text about the machine")?;
        let kernel = fields.text("text about the kernel")?;
        let comment = fields.text("comment")?;
        let count = u16::from_le_bytes(fields.array("number of rings")?);
        let mut rings = Vec::new();
        for _ in 0..count {
            rings.push(RingKind::from_bytes(fields.array("list of rings")?));
        }
        Ok(Self {
            idr,
            aidr,
            started,
            machine,
            kernel,
            comment,
            rings,
        })
    }
}

/// As much of a text as its length field can say, without half a character.
fn fitting(text: &str) -> &str {
    let most = usize::from(u16::MAX);
    let end = (0..=text.len().min(most)).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], TraceError> {
        let offset = self.at;
        let damaged = TraceError::Header { offset, what };
        let bytes = self.bytes.get(offset..offset + count).ok_or(damaged)?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], TraceError> {
        let offset = self.at;
        let bytes = self.take(N, what)?;
        let damaged = |_| TraceError::Header { offset, what };
        bytes.try_into().map_err(damaged)
    }

    fn text(&mut self, what: &'static str) -> Result<String, TraceError> {
        let length = u16::from_le_bytes(self.array(what)?);
        let offset = self.at;
        let bytes = self.take(usize::from(length), what)?;
        let damaged = |_| TraceError::Header { offset, what };
        String::from_utf8(bytes.to_vec()).map_err(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            machine: "8 CPUs".into(),
            kernel: "7.2.13".into(),
            comment: "µ".into(),
            started: 7,
            rings: vec![RingKind::Cmdq, RingKind::Vcmdq(3), RingKind::Other(9, 1)],
            ..Header::of(&Capabilities::default())
        }
    }

    #[test]
    fn a_header_comes_back_with_its_length() {
        let mut bytes = header().to_bytes();
        let length = bytes.len();
        bytes.push(0xAA);
        assert_eq!(Header::from_bytes(&bytes), Ok((header(), length)));
        assert_eq!(header().caps(), Capabilities::default());
    }

    #[test]
    fn what_a_later_writer_adds_is_skipped() {
        let mut bytes = header().to_bytes();
        bytes.extend([1, 2, 3]);
        let body = (bytes.len() - FIXED) as u32;
        bytes[10..14].copy_from_slice(&body.to_le_bytes());
        assert_eq!(Header::from_bytes(&bytes), Ok((header(), bytes.len())));
    }

    #[test]
    fn every_cut_and_a_later_version_is_named() {
        let mut bytes = header().to_bytes();
        for end in 0..bytes.len() {
            let error = Header::from_bytes(&bytes[..end]).expect_err("cut off");
            let told = match error {
                TraceError::NotARecording => end < MAGIC.len(),
                TraceError::Header { offset, .. } => offset <= end,
                _ => false,
            };
            assert!(told, "{end}: {error:?}");
        }
        bytes[8] = 2;
        let version = TraceError::Version { found: 2, known: 1 };
        assert_eq!(Header::from_bytes(&bytes), Err(version));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let comment = "µ".repeat(40_000);
        let long = Header {
            comment,
            ..header()
        };
        let (read, _) = Header::from_bytes(&long.to_bytes()).expect("legal");
        assert_eq!(read.comment, "µ".repeat(32_767));
    }
}
