//! A frame whose streams are devices of the mock: what the guest's stream table says decides what page tables
//! they are attached to.
//!
//! | file | what |
//! |---|---|
//! | `flavour.rs` | the mock as an IOMMU that a vIOMMU can stand for |
//! | `port.rs` | attaches a device of the mock, as a VMM attaches one of VFIO |
//! | `guest.rs` | a driver for the frame's registers |
//! | `machine.rs` | these together |

mod flavour;
mod guest;
mod machine;
mod port;

pub(crate) use flavour::{Mock, REFUSED};
pub(crate) use guest::until;
pub(crate) use machine::{World, capabilities, host};
pub(crate) use port::Port;
