//! The figures, made from what was measured.
//!
//! | file | of |
//! |---|---|
//! | `from_kvm`, `unmap`, `kinds` | a guest under KVM |
//! | `from_rows` and the others | one process |
//! | `content`, `inks` | what all of them share |

mod content;
mod from_kvm;
mod from_rows;
mod full_rings;
mod group;
mod idle;
mod inks;
mod invalidations;
mod kinds;
mod many;
mod unmap;

use super::plot::Figure;
use super::results::Results;

/// Every figure, in the order of the page.
pub(crate) fn all(results: &Results) -> Vec<Figure> {
    let mut figures = from_kvm::figures(&results.kvm);
    figures.extend(from_rows::figures(&results.rows));
    figures
}
