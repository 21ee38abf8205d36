//! Two threads and two rings between them, without a guest.

use super::error::Error;
use super::placement::Cpus;
use core_affinity::CoreId;
use std::io;
use vcmdq_benches::ping_pong::{Pins, Trips, clock_cost, no_trips, rtrb};

/// Rounds before those that count.
const WARM_UP: u64 = 1000;

/// So many trips through rings of the crate rtrb, between the processors that vCPU and worker have
/// where there is one vCPU. What a look at the clock costs is taken off.
///
/// # Errors
///
/// If there is no thread to be had, or are no two processors.
pub(crate) fn trips(cpus: &Cpus, count: u64) -> Result<Trips, Error> {
    let core = |cpu: Option<usize>| cpu.map(|id| CoreId { id });
    let (Some(asks), Some(answers)) = (core(cpus.of_vcpu(0)), core(cpus.of_worker(1))) else {
        return Err(io::Error::other("processors are not known").into());
    };
    let body = move || {
        core_affinity::set_for_current(asks);
        let pins = Pins { asks, answers };
        let clock = clock_cost();
        rtrb(pins, WARM_UP, clock, &mut no_trips());
        let mut trips = no_trips();
        rtrb(pins, count, clock, &mut trips);
        trips
    };
    // A thread of its own: the caller stays where it is.
    let thread = std::thread::Builder::new().spawn(body)?;
    match thread.join() {
        Ok(trips) => Ok(trips),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
