//! Where there is no guest.

use crate::data::Measured;
use crate::options::{Options, Progress};

/// Nothing can fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// As [`crate::measure`].
pub(crate) fn measure(_: &Options, _: &mut dyn Progress) -> Result<Measured, Error> {
    let why = "the guest is one for KVM on x86-64";
    Ok(Measured::Nothing(why.to_owned()))
}
