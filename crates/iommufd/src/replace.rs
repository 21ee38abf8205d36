//! Another stage 2 (law 9). The host has no way to exchange it under a vIOMMU, so there is a new one, and the
//! streams abort meanwhile.
//!
//! | step | streams |
//! |---|---|
//! | 1. a new stage 2, vIOMMU and its fixed tables | go on |
//! | 2. every stream aborts | abort |
//! | 3. nothing is invalidated: nothing is cached; calls to the old vIOMMU have ended | abort |
//! | 4. each stream's vdevice moves to the new vIOMMU | abort |
//! | 5. invalidations go to the new vIOMMU | abort |
//! | 6. each stream is attached to what the guest says | go on |
//! | 7. the old vIOMMU and stage 2 are destroyed | go on |

use crate::instance::HostInstance;
use crate::stream::Stream;
use crate::streams::{NestedStreams, locked};
use crate::viommu::ViommuError;
use smmu_core::StreamId;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// How long the streams aborted, from the first to the last.
    pub gap: Duration,
    /// Streams that could not follow, because of their device or the host: they abort until they are
    /// unplugged, or can follow to a later one. One that is stuck (`StreamObserver::stuck`) keeps the old stage 2 in use, and what the host tells
    /// of it there is not read any more.
    pub left_closed: Vec<StreamId>,
    /// Streams that could, and that the host could not attach to what the guest says, mostly because it had no
    /// memory. Their guest knows nothing of this: they abort until it tells their STE anew, or
    /// [`NestedStreams::reopened`] has it tried again.
    pub left_aborting: Vec<StreamId>,
}

impl NestedStreams {
    /// Replaces the stage 2 of an instance by what another IOAS maps; `device` is one behind its SMMU. When
    /// this returns, nothing uses the old one, and the old IOAS can be destroyed. Streams that had failed closed
    /// go on, as nothing is cached any more. If it fails, nothing has changed.
    ///
    /// Control call: from any thread, not inside a callback. Workers that tell about streams of the instance
    /// wait meanwhile.
    pub fn replace_stage2(
        &self,
        instance: &HostInstance,
        device: u32,
        ioas: u32,
    ) -> Result<Replaced, ViommuError> {
        let _turn = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let next = instance.prepare(device, ioas)?;
        let _reading = instance
            .reading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let plugged = self.of(instance);
        let mut streams: Vec<MutexGuard<'_, Stream>> = plugged
            .iter()
            .map(|plugged| locked(&plugged.stream))
            .collect();
        let began = Instant::now();
        for stream in &mut streams {
            // law9c: streams go on by the old stage 2 until they are attached to the new one.
            if !vcmdq_sync::broken!(break_law9c) {
                self.abort(stream);
            }
        }
        instance.target().replace(None);
        let mut left_closed = Vec::new();
        for stream in &mut streams {
            let moved = stream.move_to(&next).unwrap_or_else(|error| {
                self.stuck(stream, error);
                false
            });
            stream.set_failed(!moved);
            if !moved {
                left_closed.push(stream.id);
            }
        }
        let old = instance.exchange(&next);
        // law9d: nothing is invalidated any more.
        if !vcmdq_sync::broken!(break_law9d) {
            instance.target().replace(Some(next.id()));
        }
        let mut left_aborting = Vec::new();
        for stream in &mut streams {
            if !self.follow(instance, stream) {
                left_aborting.push(stream.id);
            }
        }
        let gap = began.elapsed();
        drop(streams);
        self.hear_out(instance, &old);
        instance.forget(&old);
        // The last reference, and its objects go with it: the locks above keep others from taking one. Only a
        // device that is stuck on it keeps it, and the old stage 2 with it.
        drop(old);
        self.counters.replaced.add(1);
        self.counters.gap(gap);
        Ok(Replaced {
            gap,
            left_closed,
            left_aborting,
        })
    }
}
