//! Layouts of IHI 0070 (edition G.b) and nothing else: bit positions, no behaviour.
//!
//! Every structure is one or more 64-bit words; a word in guest memory is little-endian and
//! is converted where it is loaded ([`crate::guest_memory::load_le`]). Reserved fields are
//! not named and ignored, as 4.1.3 allows and Linux relies on. Where a field holds address
//! bits its accessor yields those bits, unshifted; the shift is the field's lowest bit.

pub mod cd;
pub mod command;
pub mod event;
pub mod pte;
pub mod register;
pub mod ste;
pub mod vcmdq;

const _: () = {
    assert!(size_of::<command::RawCommand>() as u64 == command::RawCommand::BYTES);
    assert!(size_of::<pte::L1Std>() as u64 == pte::BYTES);
    assert!(size_of::<pte::L1Cd>() as u64 == pte::BYTES);
    assert!(size_of::<pte::TableDescriptor>() as u64 == pte::BYTES);
    assert!(size_of::<pte::LeafDescriptor>() as u64 == pte::BYTES);
};
