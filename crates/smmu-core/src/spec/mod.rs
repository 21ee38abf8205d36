//! Layouts of IHI 0070 and nothing else: bit positions, no behaviour.
//!
//! Every structure is one or more 64-bit words; a word in guest memory is little-endian and
//! is converted where it is loaded ([`crate::guest_memory::load_le`]). Reserved fields are
//! not named and ignored, as 4.1.3 allows and Linux relies on.

pub mod command;
pub mod register;
