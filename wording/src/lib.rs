//! How the tools of this workspace word what they print.
#![forbid(unsafe_code)]

mod count;

pub use count::count;
