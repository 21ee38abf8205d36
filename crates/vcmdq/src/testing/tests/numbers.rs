//! The same seed is the same sequence.

use crate::testing::Numbers;

/// The first numbers of the generator's reference code for seed 0.
#[test]
fn numbers_are_those_of_splitmix64() {
    let mut numbers = Numbers::new(0);
    let first = [numbers.word(), numbers.word()];
    assert_eq!(first, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
}

#[test]
fn numbers_stay_below_their_bound_and_differ_by_seed() {
    let take = |seed| {
        let mut numbers = Numbers::new(seed);
        [(); 8].map(|()| numbers.below(1000))
    };
    assert_eq!(take(1), take(1));
    assert_ne!(take(1), take(2));
    assert!(take(3).iter().all(|number| *number < 1000));
    assert_eq!(Numbers::new(4).below(0), 0);
}
