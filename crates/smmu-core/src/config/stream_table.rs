//! The stream table: linear, or two-level (IHI 0070, 3.3.1 and 5.1).

use super::load_words;
use super::ste::{StreamConfig, interpret};
use crate::caps::Capabilities;
use crate::fault::Fault;
use crate::guest_memory::{GuestMemory, load_u64};
use crate::ids::{Gpa, StreamId};
use crate::spec::pte::{self, L1Std};
use crate::spec::register::{StrtabBase, StrtabBaseCfg};
use crate::spec::ste::Ste;
use vcmdq_sync::atomic::Ordering;

/// Where the stream table lies and which form it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamTable {
    /// Aligned to the table's size (of the first level, if there are two).
    pub base: Gpa,
    /// log2 of the number of streams, at most IDR1.SIDSIZE.
    pub log2size: u8,
    /// StreamID bits of the second level: 6, 8 or 10. Without meaning in a linear table.
    pub split: u8,
    /// Two levels.
    pub two_level: bool,
}

/// The largest Span that is not reserved.
const MAX_SPAN: u8 = 11;

impl StreamTable {
    /// The table that STRTAB_BASE and STRTAB_BASE_CFG describe. As the hardware does: a
    /// LOG2SIZE above IDR1.SIDSIZE is capped, a reserved SPLIT is 6, a reserved FMT is linear, a
    /// two-level FMT too without IDR0.ST_LEVEL, and the base is aligned down to the table's
    /// size (by LOG2SIZE as written).
    #[must_use]
    pub fn from_registers(base: StrtabBase, cfg: StrtabBaseCfg, caps: &Capabilities) -> Self {
        let split = match cfg.split() {
            known @ (8 | 10) => known,
            _ => 6,
        };
        let two_level = cfg.fmt() == 1 && caps.idr0.st_level() == 1;
        let log2_bytes = if two_level {
            (3 + cfg.log2size().saturating_sub(split)).max(6)
        } else {
            cfg.log2size() + 6
        };
        let mask = u64::MAX.checked_shl(u32::from(log2_bytes)).unwrap_or(0);
        Self {
            base: Gpa(base.addr() & mask),
            log2size: cfg.log2size().min(caps.idr1.sidsize()),
            split,
            two_level,
        }
    }

    /// What the STE of `stream` says, or C_BAD_STREAMID, F_STE_FETCH or C_BAD_STE.
    pub fn ste<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        stream: StreamId,
        caps: &Capabilities,
    ) -> Result<StreamConfig, Fault> {
        interpret(&self.raw_ste(memory, stream)?, caps)
    }

    /// The STE of `stream` as it lies in memory, valid or not, for a host that wants the guest's
    /// own words. Fails with C_BAD_STREAMID or F_STE_FETCH.
    pub fn raw_ste<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        stream: StreamId,
    ) -> Result<Ste, Fault> {
        let at = self.locate(memory, stream)?;
        load_words(memory, at)
            .map(Ste)
            .map_err(|_| Fault::SteFetch(at))
    }

    /// Where the STE of `stream` lies.
    fn locate<M: GuestMemory + ?Sized>(&self, memory: &M, stream: StreamId) -> Result<Gpa, Fault> {
        let stream = u64::from(stream.0);
        if stream.checked_shr(self.log2size.into()).unwrap_or(0) != 0 {
            return Err(Fault::BadStreamId);
        }
        if !self.two_level {
            return Ok(Gpa(self.base.0.wrapping_add(stream * Ste::BYTES)));
        }
        let split = u32::from(self.split).min(31);
        let first_at = Gpa(self.base.0.wrapping_add((stream >> split) * pte::BYTES));
        let first = load_u64(memory, first_at, Ordering::Acquire)
            .map(L1Std::from_bits)
            .map_err(|_| Fault::SteFetch(first_at))?;
        let span = first.span();
        let index = stream & ((1 << split) - 1);
        if span == 0 || span > MAX_SPAN || u32::from(span) > split + 1 || index >> (span - 1) != 0 {
            return Err(Fault::BadStreamId);
        }
        let second = (first.l2ptr() << 6) & !((Ste::BYTES << (span - 1)) - 1);
        Ok(Gpa(second + index * Ste::BYTES))
    }
}
