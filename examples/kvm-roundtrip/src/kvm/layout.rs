//! Where things lie in the guest's memory.
//!
//! ```text
//! 0x0000_1000  page tables, descriptors (x86_64/vcpu.rs)   0x0000_8000  code
//! 0x0001_0000  Params, 256 bytes for each vCPU             0x0002_0000  control words
//! 0x0010_0000  rings, a page for each vCPU
//! 0x0020_0000  queue pages, one for each vCPU: a memory slot of their own, which comes and goes
//! 0x0040_0000  results
//! 0x2000_0000  nothing: addresses that exit
//! ```

/// Most vCPUs that there is room for.
pub(crate) const MAX_VCPUS: usize = 64;
/// Most rounds of all vCPUs together that there is room for.
pub(crate) const MAX_ROUNDS: usize = 1 << 20;

/// Where the code lies.
pub(crate) const CODE: u64 = 0x8000;
/// Where each vCPU's [`Params`](super::params::Params) lie.
pub(crate) const PARAMS: u64 = 0x1_0000;
/// Bytes from one vCPU's to the next.
pub(crate) const PARAMS_STRIDE: u64 = 256;
/// Word: rounds count from now on.
pub(crate) const GO: u64 = 0x2_0000;
/// Word: vCPUs that have done all their rounds.
pub(crate) const FINISHED: u64 = GO + 128;
/// End of the first memory region, which holds the rings too.
pub(crate) const LOW_END: u64 = 0x20_0000;

/// The first vCPU's command queue: `2^RING_LOG2SIZE` entries of 16 bytes.
const RINGS: u64 = 0x10_0000;
/// log2 of the entries of a command queue.
pub(crate) const RING_LOG2SIZE: u8 = 8;

/// A page for each vCPU shaped like page 0 of a VCMDQ: CONS at +0, PROD at +4.
pub(crate) const QUEUE_PAGES: u64 = 0x20_0000;
/// Bytes of all of them.
pub(crate) const QUEUE_PAGES_BYTES: usize = MAX_VCPUS << 12;
/// Where PROD lies in its page.
pub(crate) const PROD_OFFSET: u64 = 4;

/// Two words for each round: ticks of the TSC, looks at the SYNC.
pub(crate) const RESULTS: u64 = 0x40_0000;
/// Bytes of a result.
pub(crate) const RESULT_BYTES: usize = 16;

/// Not RAM: a write exits, the value is PROD of the vCPU whose page it is.
pub(crate) const DOORBELLS: u64 = 0x2000_0000;
/// Not RAM: a write exits and means nothing, which is what an exit costs.
pub(crate) const NOTHING: u64 = 0x2010_0000;
/// Not RAM: the kernel handles the write and signals an eventfd.
pub(crate) const EVENT: u64 = 0x2010_1000;
/// Not RAM: a write ends the vCPU's run. The value is zero, or one if a SYNC was not seen in time.
pub(crate) const EXIT: u64 = 0x2010_2000;

const PAGE: u64 = 4096;

/// The vCPU's command queue.
pub(crate) const fn ring(vcpu: usize) -> u64 {
    RINGS + vcpu as u64 * PAGE
}

/// Where the vCPU's PROD traps.
pub(crate) const fn doorbell(vcpu: usize) -> u64 {
    DOORBELLS + vcpu as u64 * PAGE
}

/// The vCPU's queue page.
pub(crate) const fn queue_page(vcpu: usize) -> u64 {
    QUEUE_PAGES + vcpu as u64 * PAGE
}

/// Whose PROD a trapped write to `address` is.
pub(crate) fn vcpu_of(address: u64) -> Option<usize> {
    let of = |first: u64, offset: u64| {
        let at = address.checked_sub(first + offset)?;
        (at % PAGE == 0).then_some((at / PAGE) as usize)
    };
    of(DOORBELLS, 0)
        .or_else(|| of(QUEUE_PAGES, PROD_OFFSET))
        .filter(|vcpu| *vcpu < MAX_VCPUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trapped_prod_names_its_vcpu() {
        for vcpu in [0, 1, MAX_VCPUS - 1] {
            assert_eq!(vcpu_of(doorbell(vcpu)), Some(vcpu));
            assert_eq!(vcpu_of(queue_page(vcpu) + PROD_OFFSET), Some(vcpu));
        }
        for other in [queue_page(0), doorbell(MAX_VCPUS), NOTHING, EXIT] {
            assert_eq!(vcpu_of(other), None);
        }
    }
}
