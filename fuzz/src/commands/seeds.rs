//! Inputs that lead far in.

use super::{DEVICE, OPCODES};
use crate::input::Output;

/// Every command once, a ring that fills, and a PROD and a queue that are nowhere.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for features in [0, 0x6f] {
        let mut to = Output::default().u8(features).u8(5);
        for nth in 0..OPCODES.len() as u8 {
            // 28 divides 252: kinds from 28 on name every opcode in turn.
            to = to.u8(0).u8(28 + nth).words(&[1 << 32, 0x1000]).u8(5);
            to = to.u8(6);
        }
        seeds.push(to.done());
    }
    let sync = |to: Output| to.u8(28 + 24).words(&[0, 0]);
    let eight = (0..8).fold(Output::default().u8(0).u8(2).u8(7 << 3), |to, _| sync(to));
    seeds.push(eight.u8(5).u8(4).u32(0x1234).u8(5).done());
    let lost = Output::default().u8(0).u8(3).u8(2 << 3 | 7);
    seeds.push(sync(lost.u8(0)).u8(5).done());
    seeds.push(device_seed());
    seeds
}

/// A device that keeps an answer, gives it, fails the next one, and is acknowledged.
fn device_seed() -> Vec<u8> {
    // Two commands: ATC_INV of all of stream 1, SYNC.
    let pair = |to: Output| {
        let to = to.u8(1 << 3).u8(28 + 19).words(&[1 << 32, 52]);
        to.u8(28 + 24).words(&[0, 0])
    };
    let turn = |to: Output, what: u8| to.u8(what << 3 | 5);
    let to = turn(Output::default().u8(1 << DEVICE).u8(4), 2);
    let to = turn(turn(pair(to), 0), 4);
    let to = turn(pair(turn(to, 3)), 0);
    turn(to.u8(6), 1).done()
}
