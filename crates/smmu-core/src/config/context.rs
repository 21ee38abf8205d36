//! From a SubstreamID to a context (IHI 0070, 3.3 and 5.3).

use super::Updates;
use super::descriptor::interpret;
use super::load_words;
use super::ste::{ContextTable, ContextTableFormat, DefaultSubstream, Stage1Config};
use crate::caps::Capabilities;
use crate::fault::{Fault, FaultPolicy};
use crate::guest_memory::{GuestMemory, load_u64};
use crate::ids::{Asid, Gpa, SubstreamId};
use crate::range::Granule;
use crate::spec::cd::Cd;
use crate::spec::event::Class;
use crate::spec::pte::{self, L1Cd};
use crate::walk::IpaSpace;
use vcmdq_sync::atomic::Ordering;

/// One address space: what stage 1 does with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// Tags its translations that are not global. Zero in EL2 without E2H, where there are none.
    pub asid: Asid,
    /// Whose translation regime it is.
    pub world: World,
    /// Addresses with bit 55 clear (TTB0), unless EPD0.
    pub lower: Option<Half>,
    /// Addresses with bit 55 set (TTB1), unless EPD1.
    pub upper: Option<Half>,
    /// What becomes of faults.
    pub policy: FaultPolicy,
    /// A clear access flag is a fault, unless it is set by the walk.
    pub access_flag_faults: bool,
    /// What the walk writes.
    pub updates: Updates,
    /// What is writable is not executable.
    pub writable_never_executable: bool,
    /// Privileged accesses may not touch unprivileged data.
    pub privileged_access_never: bool,
    /// Big-endian descriptors.
    pub big_endian: bool,
    /// Memory attributes, a byte for each AttrIndx.
    pub mair: u64,
}

/// A translation regime of stage 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum World {
    /// NS-EL1: two levels of privilege, ASIDs.
    El1,
    /// EL2: one level of privilege, no ASIDs, no upper half.
    El2,
    /// EL2-E2H: as EL1, for a host that runs at EL2.
    El2E2h,
}

/// Half of a context's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Half {
    /// The table of the start level, aligned to its size.
    pub table: u64,
    /// The granule.
    pub granule: Granule,
    /// The level at which a walk starts: 0 to 3, or -1.
    pub start_level: i8,
    /// Addresses have so many bits below the ones that repeat bit 55.
    pub input_bits: u32,
    /// Output addresses have so many bits.
    pub output_bits: u32,
    /// 52-bit addresses with 4 KiB and 16 KiB granules.
    pub wide: bool,
    /// 64 KiB descriptors hold address bits \[51:48\].
    pub output52: bool,
    /// TBI: bits \[63:56\] do not count.
    pub ignores_top_byte: bool,
    /// Table descriptors restrict what lies below (HAD clear).
    pub hierarchical: bool,
    /// E0PD: unprivileged accesses fault.
    pub privileged_only: bool,
    /// SH of every page where [`wide`](Self::wide) descriptors have no room for it.
    pub shareability: u8,
}

/// What stage 1 does with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextLookup {
    /// S1DSS: nothing.
    BypassStage1,
    /// It translates.
    Context(Context),
}

/// Which CD a transaction uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextIndex {
    /// None: stage 1 is bypassed.
    BypassStage1,
    /// The CD with this index.
    Use(SubstreamId),
}

/// Finds and reads the context of a transaction. `e2h` is CR2.E2H; `ipas` translates table
/// addresses under stage 2. Fails with F_STREAM_DISABLED, C_BAD_SUBSTREAMID, F_CD_FETCH,
/// C_BAD_CD or, with CLASS=CD, a stage 2 fault.
pub fn lookup<M: GuestMemory + ?Sized, S: IpaSpace + ?Sized>(
    memory: &M,
    ipas: &S,
    stage1: &Stage1Config,
    substream: Option<SubstreamId>,
    caps: &Capabilities,
    e2h: bool,
) -> Result<ContextLookup, Fault> {
    let index = match stage1.index(substream)? {
        ContextIndex::BypassStage1 => return Ok(ContextLookup::BypassStage1),
        ContextIndex::Use(index) => index,
    };
    let ipa = stage1.contexts.locate(memory, ipas, index)?;
    let at = ipas.physical(ipa.0, Class::Cd)?;
    let cd = load_words(memory, at).map_err(|_| Fault::CdFetch(at))?;
    let world = match (stage1.el2, e2h) {
        (false, _) => World::El1,
        (true, false) => World::El2,
        (true, true) => World::El2E2h,
    };
    interpret(&Cd(cd), world, stage1.stall_disabled, caps).map(ContextLookup::Context)
}

impl Stage1Config {
    /// Which CD a transaction uses, or F_STREAM_DISABLED or C_BAD_SUBSTREAMID.
    pub fn index(&self, substream: Option<SubstreamId>) -> Result<ContextIndex, Fault> {
        let single = self.contexts.log2size == 0;
        match substream {
            None if single => Ok(ContextIndex::Use(SubstreamId(0))),
            None => match self.default_substream {
                DefaultSubstream::Terminate => Err(Fault::StreamDisabled),
                DefaultSubstream::Bypass => Ok(ContextIndex::BypassStage1),
                DefaultSubstream::UseContext0 => Ok(ContextIndex::Use(SubstreamId(0))),
            },
            Some(substream) => {
                let size = 1u64 << self.contexts.log2size.min(20);
                if single || u64::from(substream.0) >= size {
                    Err(Fault::BadSubstreamId)
                } else if substream.0 == 0
                    && self.default_substream == DefaultSubstream::UseContext0
                {
                    Err(Fault::StreamDisabled)
                } else {
                    Ok(ContextIndex::Use(substream))
                }
            }
        }
    }
}

impl ContextTable {
    /// Where the CD with an index lies, as the table says it: under stage 2 an IPA.
    fn locate<M: GuestMemory + ?Sized, S: IpaSpace + ?Sized>(
        &self,
        memory: &M,
        ipas: &S,
        index: SubstreamId,
    ) -> Result<Gpa, Fault> {
        let index = u64::from(index.0);
        let ContextTableFormat::TwoLevel(leaf_bits) = self.format else {
            return Ok(Gpa(self.base.0 + index * Cd::BYTES));
        };
        let ipa = self.base.0 + (index >> leaf_bits) * pte::BYTES;
        let at = ipas.physical(ipa, Class::Cd)?;
        let first = load_u64(memory, at, Ordering::Acquire)
            .map(L1Cd::from_bits)
            .map_err(|_| Fault::CdFetch(at))?;
        if !first.v() {
            return Err(Fault::BadSubstreamId);
        }
        let in_leaf = index & ((1 << leaf_bits) - 1);
        let leaf = (first.l2ptr() << 12) & !((Cd::BYTES << leaf_bits) - 1);
        Ok(Gpa(leaf + in_leaf * Cd::BYTES))
    }
}
