//! Records as they stand in a file. Any bytes at all may be given: what is damaged is an error
//! with its offset, and nothing is allocated beyond the header.

use crate::checksum::Checksum;
use crate::error::TraceError;
use crate::header::Header;
use crate::record::{Body, CHECKSUM_BYTES, Commands, Event, MOST_PAYLOAD, Record, Totals, kind};
use crate::varint;

/// The records of a recording that lies in memory, in the order of the file. Ends behind the last
/// one, or behind an error that [is final](TraceError::is_final): that the checksum does not fit is told
/// behind the last record, when all others have been given out.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    header: Header,
    bytes: &'a [u8],
    at: usize,
    time: u64,
    /// What is to be told behind the last record.
    checksum: Option<TraceError>,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, TraceError> {
        let (header, at) = Header::from_bytes(bytes)?;
        Ok(Self {
            header,
            bytes,
            at,
            time: 0,
            checksum: None,
        })
    }

    /// Whose rings they are.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The payload of the record that begins here; the next one begins behind it.
    fn payload(&mut self) -> Result<(u8, &'a [u8]), TraceError> {
        let offset = self.at;
        let mut rest = &self.bytes[offset..];
        let kind = rest[0];
        rest = &rest[1..];
        let Some(length) = varint::take(&mut rest) else {
            let missing = 1;
            return Err(if rest.len() < varint::MOST_BYTES {
                TraceError::CutOff { offset, missing }
            } else {
                TraceError::Length { offset }
            });
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MOST_PAYLOAD {
            return Err(TraceError::Length { offset });
        }
        let Some(payload) = rest.get(..length) else {
            let missing = length - rest.len();
            return Err(TraceError::CutOff { offset, missing });
        };
        self.at = self.bytes.len() - rest.len() + length;
        Ok((kind, payload))
    }

    /// Holds the checksum at the beginning of `rest`, the end of the last record, against the bytes before it.
    /// Whether there is one. Only of a record that ends the file, so that each byte is looked at once.
    fn check(&mut self, rest: &[u8]) -> Result<bool, &'static str> {
        if self.at < self.bytes.len() {
            return Err("it is to be the last one, and more follows it");
        }
        if rest.is_empty() {
            return Ok(false);
        }
        let found = rest.first_chunk::<CHECKSUM_BYTES>();
        let found = u32::from_le_bytes(*found.ok_or("its checksum does not end")?);
        let offset = self.bytes.len() - rest.len();
        let computed = Checksum::of(&self.bytes[..offset]).value();
        self.checksum = (found != computed).then_some(TraceError::Checksum {
            offset,
            found,
            computed,
        });
        Ok(true)
    }

    /// The last record.
    fn end(&mut self, payload: &mut &'a [u8]) -> Result<Body<'a>, &'static str> {
        let totals = Totals {
            records: number(payload)?,
            commands: number(payload)?,
            dropped_events: number(payload)?,
            dropped_commands: number(payload)?,
            left_out: number(payload)?,
        };
        let has_checksum = self.check(payload)?;
        Ok(Body::End {
            totals,
            has_checksum,
        })
    }

    fn body(&mut self, kind: u8, mut payload: &'a [u8]) -> Result<Body<'a>, &'static str> {
        let payload = &mut payload;
        match kind {
            kind::PUBLISHED..=kind::LAYOUT => {}
            kind::END => return self.end(payload),
            _ => {
                let bytes = payload.len();
                return Ok(Body::Unknown { kind, bytes });
            }
        }
        let ring = u16::try_from(number(payload)?).ok();
        let ring = ring.filter(|ring| usize::from(*ring) < self.header.rings.len());
        let ring = ring.ok_or("the header has no such ring")?;
        let step = varint::take_signed(payload).ok_or("its time does not end")?;
        let time = self.time.checked_add_signed(step);
        let time = time.ok_or("its time lies before the beginning")?;
        let small = |payload: &mut &[u8]| -> Result<u32, &'static str> {
            u32::try_from(number(payload)?).map_err(|_| "a pointer has more than 32 bits")
        };
        let event = match kind {
            kind::PUBLISHED => Event::Published {
                prod: small(payload)?,
            },
            kind::FETCHED => {
                let first = small(payload)?;
                let commands = Commands::new(payload).ok_or("a command has not 16 bytes")?;
                Event::Fetched { first, commands }
            }
            kind::COMPLETED => Event::Completed {
                index: small(payload)?,
            },
            kind::CONSUMED => Event::Consumed {
                cons: small(payload)?,
            },
            kind::GAP => Event::Gap {
                events: number(payload)?,
                commands: number(payload)?,
            },
            _ => Event::Layout {
                base: number(payload)?,
                log2size: u8::try_from(number(payload)?)
                    .ok()
                    .filter(|log2size| *log2size <= smmu_core::queue_index::MAX_LOG2SIZE)
                    .ok_or("no queue is that large")?,
            },
        };
        // What a later writer adds to a kind, other than to commands, is not looked at.
        self.time = time;
        Ok(Body::Ring { ring, time, event })
    }
}

fn number(payload: &mut &[u8]) -> Result<u64, &'static str> {
    varint::take(payload).ok_or("a number does not end")
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.at;
        if offset >= self.bytes.len() {
            return self.checksum.take().map(Err);
        }
        let (kind, payload) = match self.payload() {
            Ok(whole) => whole,
            Err(error) => {
                self.at = self.bytes.len();
                return Some(Err(error));
            }
        };
        let body = self.body(kind, payload);
        Some(match body {
            Ok(body) => Ok(Record { offset, body }),
            Err(what) => Err(TraceError::Record { offset, kind, what }),
        })
    }
}
