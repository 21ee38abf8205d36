//! Colours. A thing has the same colour in every figure.
//!
//! An SVG of plotters names a colour as an attribute. The style sheet of the page finds lines by that
//! attribute and gives them the colour for a light or a dark page, and dashes. So each ink is one
//! colour that occurs nowhere else.

use plotters::style::RGBColor;

/// What a line or a dot is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ink {
    pub(crate) hue: Hue,
    /// For what a line is compared with, or a second kind of the same thing.
    pub(crate) dashed: bool,
}

/// Hues that differ for the colour-blind too; they are based on the palette of Okabe and Ito,
/// darker on a light page and lighter on a dark one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hue {
    Blue,
    Sky,
    Green,
    Purple,
    Orange,
    Red,
    Grey,
}

impl Hue {
    pub(crate) const ALL: [Self; 7] = [
        Self::Blue,
        Self::Sky,
        Self::Green,
        Self::Purple,
        Self::Orange,
        Self::Red,
        Self::Grey,
    ];

    /// Red, green, blue on a light page. The last bit is free for dashes.
    fn light(self) -> (u8, u8, u8) {
        match self {
            Self::Blue => (0x00, 0x5F, 0xAE),
            Self::Sky => (0x2F, 0x96, 0xD0),
            Self::Green => (0x00, 0x86, 0x66),
            Self::Purple => (0xA8, 0x4A, 0x94),
            Self::Orange => (0xC4, 0x77, 0x00),
            Self::Red => (0xC4, 0x3A, 0x12),
            Self::Grey => (0x7B, 0x82, 0x8E),
        }
    }

    /// The colour on a dark page.
    pub(crate) fn dark(self) -> &'static str {
        match self {
            Self::Blue => "#5AA9F0",
            Self::Sky => "#8AD0F5",
            Self::Green => "#35C49A",
            Self::Purple => "#DE92CB",
            Self::Orange => "#F0AE3C",
            Self::Red => "#F47B52",
            Self::Grey => "#9AA1AC",
        }
    }

    pub(crate) fn solid(self) -> Ink {
        Ink {
            hue: self,
            dashed: false,
        }
    }

    pub(crate) fn dashed(self) -> Ink {
        Ink {
            hue: self,
            dashed: true,
        }
    }
}

impl Ink {
    pub(crate) fn colour(self) -> RGBColor {
        let (red, green, blue) = self.hue.light();
        RGBColor(red, green, (blue & !1) | u8::from(self.dashed))
    }

    pub(crate) fn hex(self) -> String {
        hex(self.colour())
    }
}

/// A colour as plotters writes it.
pub(crate) fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Words in a figure.
pub(crate) const TEXT: RGBColor = RGBColor(0x3A, 0x40, 0x4A);
/// Axes.
pub(crate) const AXIS: RGBColor = RGBColor(0x9C, 0xA3, 0xAE);
/// Lines of the grid.
pub(crate) const GRID: RGBColor = RGBColor(0xE4, 0xE7, 0xEB);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_colour_has_two_meanings() {
        let inks = Hue::ALL.map(|hue| [hue.solid(), hue.dashed()]);
        let mut seen: BTreeSet<_> = inks.iter().flatten().map(|ink| ink.hex()).collect();
        seen.extend([TEXT, AXIS, GRID].map(hex));
        assert_eq!(seen.len(), 2 * Hue::ALL.len() + 3);
    }
}
