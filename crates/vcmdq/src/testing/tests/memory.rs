//! Guest memory on the heap.

use super::super::Holed;
use super::*;
use smmu_core::guest_memory::{GuestMemory, MemoryError, load_u64, store_u64};
use vcmdq_sync::atomic::Ordering;

#[test]
fn runs_end_where_a_region_does() {
    let memory = HeapMemory::with_regions(&[(Gpa(0x1000), 0x1000), (Gpa(0x2000), 0x1000)]);
    assert_eq!(memory.words(Gpa(0x1FF0), 9).expect("backed").len(), 2);
    assert_eq!(memory.words(Gpa(0x2000), 9).expect("backed").len(), 9);
    for outside in [Gpa(0), Gpa(0xFF8), Gpa(0x3000), Gpa(u64::MAX - 7)] {
        let error = memory.words(outside, 1).map(drop);
        assert_eq!(error, Err(MemoryError::NotBacked(outside)));
    }
    let error = memory.words(Gpa(0x1004), 1).map(drop);
    assert_eq!(error, Err(MemoryError::Misaligned(Gpa(0x1004), 8)));
}

#[test]
fn half_words_leave_the_other_half() {
    let memory = HeapMemory::new(16);
    store_u64(&memory, Gpa(8), 0x1111_2222_3333_4444, Ordering::Relaxed).expect("backed");
    memory
        .store_u32(Gpa(8), 0, Ordering::Release)
        .expect("backed");
    memory
        .store_u32(Gpa(12), 7, Ordering::Release)
        .expect("backed");
    assert_eq!(load_u64(&memory, Gpa(8), Ordering::Relaxed), Ok(7 << 32));
    let error = memory.store_u32(Gpa(2), 0, Ordering::Relaxed);
    assert_eq!(error, Err(MemoryError::Misaligned(Gpa(2), 4)));
}

#[test]
fn what_is_written_is_dirty_once() {
    let memory = HeapMemory::with_regions(&[(Gpa(0x10_0000), 0x5_0000), (Gpa(0x8000), 0x1000)]);
    memory.mark_dirty(Gpa(0x10_0FFF), 2);
    memory.mark_dirty(Gpa(0x14_8000), 1);
    memory.mark_dirty(Gpa(0x10_8000), 0);
    memory
        .store_u32(Gpa(0x8004), 1, Ordering::Relaxed)
        .expect("backed");
    let pages = [Gpa(0x10_0000), Gpa(0x10_1000), Gpa(0x14_8000), Gpa(0x8000)];
    assert_eq!(memory.take_dirty(), pages);
    assert_eq!(memory.take_dirty(), []);
}

#[test]
fn a_hole_is_not_backed_while_it_is_there() {
    let view = Holed::new(Arc::new(HeapMemory::new(0x1000)));
    assert_eq!(view.words(Gpa(0), 512).expect("backed").len(), 512);
    view.set_hole(Gpa(0x40), 16);
    assert_eq!(view.words(Gpa(0), 512).expect("backed").len(), 8);
    assert_eq!(
        view.words(Gpa(0x48), 1).map(drop),
        Err(MemoryError::NotBacked(Gpa(0x48)))
    );
    assert_eq!(view.words(Gpa(0x50), 512).expect("backed").len(), 512 - 10);
    let error = view.store_u32(Gpa(0x44), 1, Ordering::Relaxed);
    assert_eq!(error, Err(MemoryError::NotBacked(Gpa(0x44))));
    view.set_hole(Gpa(0), 0);
    assert_eq!(view.words(Gpa(0x40), 1).expect("backed").len(), 1);
}
