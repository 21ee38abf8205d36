//! The page: one file, with everything in it.

mod figures;
mod goals;
mod page;
mod style;
#[cfg(test)]
mod tests;

/// `text` with figures that stay beside their units.
fn tied(text: &str) -> String {
    let units = ["ns", "µs", "ms", "%", "k/s", "M/s", "G/s"];
    units.iter().fold(text.to_owned(), |text, unit| {
        text.replace(&format!(" {unit}"), &format!("\u{a0}{unit}"))
    })
}

pub(crate) use page::{in_words, page};
