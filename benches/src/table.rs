//! Tables on the terminal.

/// Prints rows under a header, columns as wide as they need.
pub fn print(title: &str, header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(header[column].chars().count())
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:>width$}"));
        println!("  {}", padded.collect::<Vec<_>>().join("  "));
    };
    println!("\n{title}");
    line(&mut header.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

/// For a goal's last column.
#[must_use]
pub fn yes_no(met: bool) -> String {
    if met { "yes" } else { "no" }.to_owned()
}

/// So much more than something else: `+3.8 %`. What rounds to nothing has the sign of nothing.
#[must_use]
pub fn percent_more(more: f64) -> String {
    // Minus zero and zero are zero.
    let tenths = (more * 10.0).round() / 10.0 + 0.0;
    format!("{tenths:+.1} %")
}

#[cfg(test)]
mod tests {
    use super::percent_more;

    #[test]
    fn nothing_is_not_less_than_nothing() {
        assert_eq!(percent_more(-0.04), "+0.0 %");
        assert_eq!(percent_more(-3.75), "-3.8 %");
        assert_eq!(percent_more(12.34), "+12.3 %");
    }
}
