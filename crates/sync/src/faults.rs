//! Faults on purpose: the laws that the product can break, one at a time, to show that a test notices.

/// Whether the switch `break_law<number><letter>` is on. In a product build it is `false`, and so
/// nothing is left of it.
///
/// Only a build with `--cfg break_laws` can break anything: it holds all switches, and a process turns
/// on the one that its environment names as [`VARIABLE`](crate::faults::VARIABLE).
///
/// ```
/// assert!(!vcmdq_sync::broken!(break_law4a));
/// ```
#[macro_export]
macro_rules! broken {
    ($switch:ident) => {
        $crate::faults::is_on(stringify!($switch))
    };
}

/// The environment variable that names the switch.
pub const VARIABLE: &str = "BREAK_LAW";

#[doc(hidden)]
#[cfg(not(break_laws))]
#[inline(always)]
#[must_use]
pub const fn is_on(_switch: &str) -> bool {
    false
}

#[doc(hidden)]
#[cfg(break_laws)]
#[must_use]
pub fn is_on(switch: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN
        .get_or_init(|| std::env::var(VARIABLE).ok())
        .as_deref()
        == Some(switch)
}
