//! The guest's double against a consumer that is too simple to be wrong.

mod consumer;
mod errors;
mod memory;
mod numbers;
mod producers;

use super::{Completion, GuestQueue, HeapMemory, QueueSettings};
use consumer::Consumer;
use smmu_core::ids::Gpa;
use smmu_core::spec::command::RawCommand;
use std::sync::Arc;
use std::time::Duration;

const BASE: Gpa = Gpa(0x4000_0000);

/// A command that only `number` distinguishes; its opcode is TLBI_NH_ASID's.
fn numbered(number: u64) -> RawCommand {
    RawCommand {
        dw0: 0x11,
        dw1: number,
    }
}

fn settings(log2size: u8) -> QueueSettings {
    QueueSettings {
        patience: Duration::from_secs(20),
        ..QueueSettings::new(BASE, log2size)
    }
}

/// A queue and its consumer, which works inside of each write of PROD.
fn inline(settings: QueueSettings) -> (GuestQueue, Arc<Consumer>) {
    let memory = Arc::new(HeapMemory::with_regions(&[(BASE, 16 << settings.log2size)]));
    let consumer = Arc::new(Consumer::new(memory.clone(), settings, true));
    let queue = GuestQueue::new(settings, memory, consumer.clone()).expect("backed");
    (queue, consumer)
}

fn with(completion: Completion, log2size: u8) -> QueueSettings {
    QueueSettings {
        completion,
        ..settings(log2size)
    }
}
