//! Who is drawn with which ink, on every figure alike: blue is the engine, red who consumes
//! synchronously, grey what an engine cannot beat.

use crate::bench::plot::{Hue, Ink};
use kvm_roundtrip::Mode;
use vcmdq_measure::{drains, trips};

/// The ink of a contender of the in-process rows.
pub(super) fn of_contender(name: &str) -> Ink {
    match name {
        trips::SHARED_PAGE | drains::ENGINE => Hue::Blue.solid(),
        trips::PROTOCOL => Hue::Blue.dashed(),
        trips::VCMDQ_1 => Hue::Sky.solid(),
        trips::VCMDQ_8 => Hue::Sky.dashed(),
        drains::ENGINE_BARE => Hue::Sky.solid(),
        trips::DOORBELL => Hue::Green.solid(),
        drains::ONE_BY_ONE => Hue::Orange.solid(),
        drains::BASELINE => Hue::Red.solid(),
        drains::BASELINE_BARE => Hue::Red.dashed(),
        trips::RTRB => Hue::Purple.solid(),
        trips::ARRAY_QUEUE => Hue::Purple.dashed(),
        trips::TWO_LINES => Hue::Grey.solid(),
        _ => Hue::Grey.dashed(),
    }
}

/// The ink of a way in which a guest's queue is consumed.
pub(super) fn of_mode(mode: Mode) -> Ink {
    match mode {
        Mode::InExit => Hue::Red.solid(),
        Mode::Worker => Hue::Orange.solid(),
        Mode::Inline => Hue::Orange.dashed(),
        Mode::Coalesced => Hue::Green.solid(),
        Mode::SharedPage => Hue::Blue.solid(),
        Mode::Adaptive => Hue::Sky.solid(),
        Mode::Rtrb => Hue::Purple.solid(),
        Mode::Bare => Hue::Grey.solid(),
        Mode::EmptyExit | Mode::KernelExit => Hue::Grey.dashed(),
    }
}
