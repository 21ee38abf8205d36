//! The one call.

use crate::Error;
use crate::data::Measured;
use crate::options::{Options, Progress};

/// Measures what the options ask for, with [`Options::default`] in about 80 seconds. Blocks; while it
/// runs, nothing else should.
///
/// # Errors
///
/// If a measurement fails. A machine on which there is none is [`Measured::Nothing`].
pub fn measure(options: &Options, progress: &mut dyn Progress) -> Result<Measured, Error> {
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    use crate::elsewhere::measure;
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    use crate::kvm::measure;
    measure(options, progress)
}
