//! What executes commands, the same for all who consume.

use crate::data::Cost;
use dispatch::Backend;
use dispatch::backend::Software;
use std::sync::Arc;
use vcmdq_benches::backends::{Costly, InjectedCost};

/// A software backend, perhaps at a price.
pub(crate) struct Executor {
    pub(crate) backend: Arc<dyn Backend>,
    costly: Option<Arc<Costly>>,
}

impl Executor {
    /// A new one, without translations in it.
    pub(crate) fn of(cost: Cost) -> Self {
        let software = Arc::new(Software::default());
        if cost != Cost::Injected {
            return Self {
                backend: software,
                costly: None,
            };
        }
        let costly = Arc::new(Costly::new(software, InjectedCost::HOST));
        Self {
            backend: costly.clone(),
            costly: Some(costly),
        }
    }

    /// Calls and requests that were paid for; `None` if there is no price.
    pub(crate) fn paid(&self) -> Option<(u64, u64)> {
        let counts = self.costly.as_ref()?.counts();
        Some((counts.calls, counts.commands))
    }
}
