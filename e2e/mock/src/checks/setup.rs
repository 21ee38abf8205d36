//! What several checks need.

use anyhow::{Result, bail, ensure};
use rustix::io::Errno;
use std::fmt::Debug;
use std::io;

/// What was called must have failed, with this.
pub(super) fn error_of<T: Debug>(result: io::Result<T>, expected: Errno) -> Result<()> {
    match result {
        Ok(done) => bail!("it worked, and {expected} was expected: {done:?}"),
        Err(error) => {
            let expected = io::Error::from(expected);
            ensure!(
                error.raw_os_error() == expected.raw_os_error(),
                "{error}, and {expected} was expected"
            );
            Ok(())
        }
    }
}
