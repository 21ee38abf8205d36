//! Aligned units of 16 bytes in memory that somebody else writes: loaded as a whole where the host
//! can do that.
//!
//! | host | how | torn |
//! |---|---|---|
//! | x86-64 with AVX | one aligned 16-byte load, which Intel and AMD promise to be atomic where AVX is | never |
//! | AArch64 with FEAT_LSE2 | one aligned LDP, and a barrier that makes it an acquire | never |
//! | any other | two 64-bit loads, repeated until they say the same twice, at most [`LOOKS`] times | if a writer changes the unit all that time |
//!
//! Without the feature `std` the first two are used only if the compiler was told that the host
//! has AVX or LSE2. Under loom, which knows no 16-byte access, a unit is two loads.
#![cfg_attr(
    not(loom),
    expect(
        unsafe_code,
        reason = "Rust has no 128-bit atomics; the host's instructions are named instead"
    )
)]

use crate::atomic::{AtomicU64, Ordering};

/// How often a host without such a load looks at most. Under loom, which has no torn unit to find,
/// every look would be a branch of its search.
pub const LOOKS: u32 = if cfg!(loom) { 1 } else { 8 };

/// Whether [`load`] and [`store`] take an aligned unit as a whole on this host.
#[must_use]
#[inline]
pub fn is_whole() -> bool {
    host::is_whole()
}

/// Loads a unit: each word as an acquire load does, and both at the same moment if the unit is
/// aligned to 16 bytes and the host [can](is_whole). From any thread, never waits.
#[must_use]
#[inline]
pub fn load(unit: &[AtomicU64; 2]) -> [u64; 2] {
    if is_aligned(unit) && is_whole() {
        host::load(unit)
    } else {
        settled(unit)
    }
}

/// Stores a unit: each word as a release store does, and both at the same moment if the unit is
/// aligned to 16 bytes and the host [can](is_whole); else word 1 first. The engine itself never
/// stores so; it is what a guest does to a descriptor.
#[inline]
pub fn store(unit: &[AtomicU64; 2], words: [u64; 2]) {
    if is_aligned(unit) && is_whole() {
        host::store(unit, words);
    } else {
        unit[1].store(words[1], Ordering::Release);
        unit[0].store(words[0], Ordering::Release);
    }
}

#[inline]
fn is_aligned(unit: &[AtomicU64; 2]) -> bool {
    unit.as_ptr().addr() % 16 == 0
}

/// Until two looks in a row see the same; what was seen last if that does not come to pass. Word 0
/// first, as it holds the valid bit.
#[cold]
fn settled(unit: &[AtomicU64; 2]) -> [u64; 2] {
    let look = || [0, 1].map(|n: usize| unit[n].load(Ordering::Acquire));
    let mut seen = look();
    let mut looks = 1;
    while looks < LOOKS {
        let again = look();
        if again == seen {
            break;
        }
        (seen, looks) = (again, looks + 1);
    }
    seen
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(loom)))]
mod host {
    use super::AtomicU64;
    use core::arch::asm;
    use core::arch::x86_64::__m128i;

    #[inline]
    pub(super) fn is_whole() -> bool {
        #[cfg(feature = "std")]
        return std::arch::is_x86_feature_detected!("avx");
        #[cfg(not(feature = "std"))]
        return cfg!(target_feature = "avx");
    }

    /// The unit is aligned and the host has AVX.
    #[inline]
    pub(super) fn load(unit: &[AtomicU64; 2]) -> [u64; 2] {
        let whole: __m128i;
        // SAFETY: the reference says that 16 bytes are there, and they are aligned as MOVDQA wants
        // it. The instruction is in the baseline of this target; AVX is what promises that it is
        // atomic. It only reads, as a load of two relaxed atomics would, and x86 orders every
        // load as an acquire; without `nomem` the compiler moves nothing across it either.
        unsafe {
            asm!(
                "movdqa {whole}, xmmword ptr [{at}]",
                whole = out(xmm_reg) whole,
                at = in(reg) unit.as_ptr(),
                options(nostack, preserves_flags, readonly),
            );
        }
        // SAFETY: both are 16 bytes in which every pattern is a value; x86 is little-endian, so the
        // word at the lower address is the first of the two.
        unsafe { core::mem::transmute::<__m128i, [u64; 2]>(whole) }
    }

    /// The unit is aligned and the host has AVX.
    #[inline]
    pub(super) fn store(unit: &[AtomicU64; 2], words: [u64; 2]) {
        // SAFETY: as in `load`.
        let whole = unsafe { core::mem::transmute::<[u64; 2], __m128i>(words) };
        // SAFETY: as in `load`; the words are atomics, which may be written through a shared
        // reference. x86 orders every store as a release.
        unsafe {
            asm!(
                "movdqa xmmword ptr [{at}], {whole}",
                whole = in(xmm_reg) whole,
                at = in(reg) unit.as_ptr(),
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(all(target_arch = "aarch64", not(loom)))]
mod host {
    use super::AtomicU64;
    use core::arch::asm;

    #[inline]
    pub(super) fn is_whole() -> bool {
        #[cfg(feature = "std")]
        return std::arch::is_aarch64_feature_detected!("lse2");
        #[cfg(not(feature = "std"))]
        return cfg!(target_feature = "lse2");
    }

    /// The unit is aligned and the host has FEAT_LSE2.
    #[inline]
    pub(super) fn load(unit: &[AtomicU64; 2]) -> [u64; 2] {
        let (first, second): (u64, u64);
        // SAFETY: the reference says that 16 bytes are there, and they are aligned. LDP is in the
        // baseline; FEAT_LSE2 is what promises that it is atomic. It only reads. DMB ISHLD orders
        // it before every later access, which makes an acquire of it.
        unsafe {
            asm!(
                "ldp {first}, {second}, [{at}]",
                "dmb ishld",
                first = out(reg) first,
                second = out(reg) second,
                at = in(reg) unit.as_ptr(),
                options(nostack, preserves_flags),
            );
        }
        [first, second]
    }

    /// The unit is aligned and the host has FEAT_LSE2.
    #[inline]
    pub(super) fn store(unit: &[AtomicU64; 2], words: [u64; 2]) {
        let [first, second] = words;
        // SAFETY: as in `load`; the words are atomics, which may be written through a shared
        // reference. DMB ISH orders it behind every earlier access, which makes a release of it.
        unsafe {
            asm!(
                "dmb ish",
                "stp {first}, {second}, [{at}]",
                first = in(reg) first,
                second = in(reg) second,
                at = in(reg) unit.as_ptr(),
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(any(
    loom,
    not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        target_arch = "aarch64"
    ))
))]
mod host {
    use super::{AtomicU64, settled};

    pub(super) fn is_whole() -> bool {
        false
    }

    /// Never called: the host cannot.
    pub(super) fn load(unit: &[AtomicU64; 2]) -> [u64; 2] {
        settled(unit)
    }

    /// Never called: the host cannot.
    pub(super) fn store(unit: &[AtomicU64; 2], words: [u64; 2]) {
        super::store(unit, words);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Aligned([AtomicU64; 4]);

    /// The pairs that begin at words 0, 1 and 2: the second is not aligned.
    fn pairs(words: &Aligned) -> [&[AtomicU64; 2]; 3] {
        [0, 1, 2].map(|n| words.0[n..].first_chunk().expect("two words"))
    }

    #[test]
    fn words_keep_their_places_aligned_or_not() {
        let memory = Aligned([1, 2, 3, 4].map(AtomicU64::new));
        let [first, across, second] = pairs(&memory);
        assert!(is_aligned(first) && !is_aligned(across) && is_aligned(second));
        assert_eq!(
            (load(first), load(across), load(second)),
            ([1, 2], [2, 3], [3, 4])
        );
        store(second, [7, 8]);
        store(across, [5, 6]);
        let now = [0, 1, 2, 3].map(|n: usize| memory.0[n].load(Ordering::Relaxed));
        assert_eq!(now, [1, 5, 6, 8]);
    }

    #[test]
    fn a_host_that_cannot_looks_until_it_sees_the_same_twice() {
        let unit = [AtomicU64::new(3), AtomicU64::new(9)];
        assert_eq!(settled(&unit), [3, 9]);
    }
}
