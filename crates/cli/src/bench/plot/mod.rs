//! Figures: what they show, and how they are drawn.
//!
//! | file | holds |
//! |---|---|
//! | `figure` | a figure as data, whoever measured it |
//! | `axis`, `unit` | where a value lies and how it is written |
//! | `ink` | colours that mean the same in every figure |
//! | `canvas`, `lines`, `dots` | drawing with plotters into SVG |
//! | `labels` | names beside lines instead of a key |
//! | `tips` | what is shown when somebody points at a value |

mod axis;
mod canvas;
mod dots;
mod figure;
mod ink;
mod labels;
mod lines;
mod tips;
mod unit;

pub(crate) use axis::{Axis, Scale};
pub(crate) use canvas::{Size, svg};
pub(crate) use figure::{Dot, Dots, Figure, Lines, Panel, Plot, Point, Row, Series, Table};
pub(crate) use ink::{AXIS, GRID, Hue, Ink, TEXT, hex};
pub(crate) use unit::{Unit, digits};
