//! How thorough a run is to be.

/// Whether this run only has to show that everything works: under `cargo test`, or with `--test`
/// or `--quick`, or where something else than the goals is wanted.
#[must_use]
pub fn is_quick() -> bool {
    let mut bench = false;
    for arg in std::env::args() {
        match arg.as_str() {
            "--test" | "--quick" | "--list" | "--profile-time" => return true,
            "--bench" => bench = true,
            _ => {}
        }
    }
    !bench
}
