//! What is shown, made from what was measured; whoever shows it looks at nothing else.

use super::goals::Goal;
use super::plot::{Figure, Table};

/// Everything that the text, the README's table and the page say.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// When it was measured.
    pub(crate) date: String,
    /// CPU and how many of them.
    pub(crate) machine_in_short: String,
    /// What was found, in one sentence.
    pub(crate) headline: String,
    /// What the sentence leaves out.
    pub(crate) under: String,
    /// What makes figures doubtful.
    pub(crate) warnings: Vec<String>,
    pub(crate) goals: Vec<Goal>,
    pub(crate) figures: Vec<Figure>,
    /// Machine, kernel, compiler, revision, settings.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// Which thread ran where.
    pub(crate) placement: Table,
    /// What to call to do it again.
    pub(crate) command: String,
}
