//! All targets, by name.

use crate::reached::Reached;
use crate::{ats, cd, commands, descriptors, pri, registers, ste};

/// A function that any bytes may be given to.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What its program is called.
    pub name: &'static str,
    /// Reads the bytes as its module says and panics if something is wrong. Bounded in time and
    /// memory, the same every time.
    pub run: fn(&[u8]) -> Reached,
    /// Inputs to begin with, which lead far in.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "ste",
        run: ste::run,
        seeds: ste::seeds,
    },
    Target {
        name: "cd",
        run: cd::run,
        seeds: cd::seeds,
    },
    Target {
        name: "descriptors",
        run: descriptors::run,
        seeds: descriptors::seeds,
    },
    Target {
        name: "ats",
        run: ats::run,
        seeds: ats::seeds,
    },
    Target {
        name: "commands",
        run: commands::run,
        seeds: commands::seeds,
    },
    Target {
        name: "pri",
        run: pri::run,
        seeds: pri::seeds,
    },
    Target {
        name: "registers",
        run: registers::run,
        seeds: registers::seeds,
    },
];
