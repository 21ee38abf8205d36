//! QEMU's devicetree, read, edited and written again.

mod edit;
mod tree;

pub use edit::{Place, with_smmu};
pub use tree::{Malformed, Node, Tree};
