//! Which streams a frame has, and to which instance each belongs (laws 1 and 2).

use crate::error::BindError;
use crate::instance::{Instance, InstanceId, Placement};
use smmu_core::StreamId;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A stream's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The instance that it belongs to.
    pub instance: InstanceId,
    /// Where the device is; must be where the instance is.
    pub placement: Placement,
}

/// The bound streams of a frame. Read by workers as a snapshot, changed by copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    bound: BTreeMap<StreamId, Binding>,
}

impl Streams {
    pub(crate) fn bind(
        &self,
        stream: StreamId,
        binding: Binding,
        instances: &[Arc<Instance>],
    ) -> Result<Self, BindError> {
        if let Some(Binding { instance: to, .. }) = self.bound.get(&stream).copied() {
            return Err(BindError::Bound { stream, to });
        }
        let instance = instances
            .iter()
            .find(|instance| instance.id == binding.instance)
            .ok_or(BindError::UnknownInstance(binding.instance))?;
        let (theirs, ours) = (binding.placement, instance.placement);
        // law1a: devices behind another SMMU are welcome.
        if theirs.smmu != ours.smmu && !vcmdq_sync::broken!(break_law1a) {
            return Err(BindError::OtherSmmu {
                stream,
                theirs,
                ours,
            });
        }
        // law1b: so are those with a stage 2 of their own.
        if theirs.stage2 != ours.stage2 && !vcmdq_sync::broken!(break_law1b) {
            return Err(BindError::OtherStage2 {
                stream,
                theirs,
                ours,
            });
        }
        let mut next = self.clone();
        next.bound.insert(stream, binding);
        Ok(next)
    }

    pub(crate) fn unbind(&self, stream: StreamId) -> Result<Self, BindError> {
        let mut next = self.clone();
        next.bound
            .remove(&stream)
            .ok_or(BindError::NotBound(stream))?;
        Ok(next)
    }

    /// Whether the stream belongs to the instance. A stream that nobody bound belongs to none:
    /// what names it reaches no backend.
    #[inline]
    pub(crate) fn belongs(&self, stream: StreamId, instance: InstanceId) -> bool {
        match self.bound.get(&stream) {
            Some(binding) => binding.instance == instance,
            // law2b: a stream that nobody bound is passed on.
            None => vcmdq_sync::broken!(break_law2b),
        }
    }

    pub(crate) fn is_bound(&self, stream: StreamId) -> bool {
        self.bound.contains_key(&stream)
    }

    pub(crate) fn within(
        &self,
        range: RangeInclusive<StreamId>,
    ) -> impl Iterator<Item = StreamId> + '_ {
        self.bound.range(range).map(|(stream, _)| *stream)
    }
}
