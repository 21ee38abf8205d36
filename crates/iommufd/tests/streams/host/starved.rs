//! A host without memory.

use super::Call;

/// Which calls find no memory: so many, behind so many that find some. Destroying needs none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Starved {
    pub(crate) behind: usize,
    pub(crate) calls: usize,
}

impl Starved {
    pub(super) fn hits(&mut self, call: Call) -> bool {
        if matches!(call, Call::Destroy) || self.calls == 0 {
            return false;
        }
        let hits = self.behind == 0;
        match hits {
            true => self.calls -= 1,
            false => self.behind -= 1,
        }
        hits
    }
}
