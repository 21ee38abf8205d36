//! The crate asked as the model is: its registers, requests and answers in the model's words.

use super::attributes::{Memory, of_raw};
use super::model::{Answer, Registers, Request};
use smmu_core::access::{Access, Operation, Transaction};
use smmu_core::attributes::{MemoryAttributes, MemoryType, Shareability};
use smmu_core::caps::Capabilities;
use smmu_core::config::StreamTable;
use smmu_core::spec::register::{Idr0, Idr1, Idr3, Idr5, StrtabBase, StrtabBaseCfg};
use smmu_core::translate::{Setup, Translated};
use smmu_core::walk::Leaf;
use smmu_core::{GuestMemory, StreamId, SubstreamId};

pub(crate) fn caps(registers: &Registers) -> Capabilities {
    Capabilities {
        idr0: Idr0::from_bits(registers.idr0),
        idr1: Idr1::from_bits(registers.idr1),
        idr3: Idr3::from_bits(registers.idr3),
        idr5: Idr5::from_bits(registers.idr5),
        ..Capabilities::default()
    }
}

pub(crate) fn setup(registers: &Registers) -> Setup {
    let caps = caps(registers);
    Setup {
        streams: StreamTable::from_registers(
            StrtabBase::from_bits(registers.strtab_base),
            StrtabBaseCfg::from_bits(registers.strtab_base_cfg),
            &caps,
        ),
        caps,
        e2h: registers.e2h,
        record_bad_stream_id: true,
    }
}

pub(crate) fn transaction(request: &Request) -> Transaction {
    Transaction {
        stream: StreamId(request.stream),
        substream: request.substream.map(SubstreamId),
        access: Access {
            address: request.address,
            operation: match (request.write, request.execute) {
                (true, _) => Operation::Write,
                (false, true) => Operation::Execute,
                (false, false) => Operation::Read,
            },
            privileged: request.privileged,
        },
    }
}

/// Memory attributes of the crate, in the model's words.
pub(crate) fn of_crate(attributes: MemoryAttributes) -> Memory {
    of_raw((attributes.mair(), attributes.shareability() as u64))
}

/// And the other way round.
pub(crate) fn for_crate(memory: Memory) -> MemoryAttributes {
    let (mair, shared) = memory.raw();
    let shareability = [Shareability::Non, Shareability::Inner, Shareability::Outer];
    MemoryAttributes::new(MemoryType::from_mair(mair), shareability[shared as usize])
}

/// What a request comes with, after the overrides of its STE.
pub(crate) fn input(
    setup: &Setup,
    memory: &impl GuestMemory,
    request: &Request,
) -> MemoryAttributes {
    let incoming = for_crate(request.incoming);
    let stream = StreamId(request.stream);
    let ste = setup.streams.ste(memory, stream, &setup.caps);
    let attributes = ste.as_ref().ok().and_then(|config| config.attributes());
    attributes.map_or(incoming, |attributes| attributes.memory.apply(incoming))
}

/// What the crate answers; `input` is what the request comes with after the [overrides](input). A page passes through the form in which caches hold it, of which nothing may be
/// lost.
pub(crate) fn answer(
    setup: &Setup,
    memory: &impl GuestMemory,
    request: &Request,
    input: MemoryAttributes,
) -> Answer {
    match setup.translate(memory, &transaction(request)) {
        Ok(Translated::Aborted) => Answer::SilentAbort,
        Ok(Translated::Bypassed(address)) => Answer::Bypass(address, of_crate(input)),
        Ok(Translated::Mapped(leaf)) => {
            let kept = Leaf::unpack(leaf.pack());
            assert_eq!(kept, Some(leaf), "as caches hold it");
            Answer::Page {
                output: leaf.output(request.address),
                bytes: 1 << leaf.shift,
                global: leaf.global,
                memory: of_crate(leaf.memory.output(input)),
            }
        }
        Err(failed) => Answer::Event(failed.record(None).0),
    }
}
