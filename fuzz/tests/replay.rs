//! Every target over its seeds, over spoiled seeds and over noise, without libFuzzer.

use vcmdq::testing::Numbers;
use vcmdq_fuzz::Reached;
use vcmdq_fuzz::targets::{TARGETS, Target};

fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.expect("a target")
}

fn seeds_reach(name: &str) -> Reached {
    let target = target(name);
    let mut reached = Reached::NOTHING;
    for seed in (target.seeds)() {
        reached |= (target.run)(&seed);
    }
    reached
}

/// Seeds with some bytes changed, and noise.
fn spoil(name: &str, runs: usize) {
    let (target, mut dice) = (target(name), Numbers::new(1));
    let seeds = (target.seeds)();
    for _ in 0..runs {
        let seed = dice.below(seeds.len() as u64) as usize;
        let mut input = seeds[seed].clone();
        if dice.below(8) == 0 {
            input = (0..dice.below(256)).map(|_| dice.word() as u8).collect();
        }
        for _ in 0..dice.below(16) {
            if !input.is_empty() {
                let at = dice.below(input.len() as u64) as usize;
                input[at] = dice.word() as u8;
            }
        }
        (target.run)(&input);
    }
}

fn assert_reached(name: &str, wanted: &[Reached]) {
    let reached = seeds_reach(name);
    for &what in wanted {
        assert!(reached.has(what), "{name}: {what:?} of {reached:?}");
    }
}

#[test]
fn law8_ste() {
    use Reached as R;
    assert_reached("ste", &[R::LEGAL, R::ABORT, R::BYPASS, R::STAGE2]);
    spoil("ste", 4000);
}

#[test]
fn law8_cd() {
    use Reached as R;
    assert_reached("cd", &[R::LEGAL, R::PAGE, R::event(0x06), R::event(0x08)]);
    spoil("cd", 4000);
}

#[test]
fn law8_descriptors() {
    use Reached as R;
    let faults = [0x10, 0x12, 0x13].map(R::event);
    assert_reached("descriptors", &[R::PAGE, R::STAGE2, R::UPDATE]);
    assert_reached("descriptors", &faults);
    spoil("descriptors", 4000);
}

#[test]
fn law8_ats() {
    use Reached as R;
    assert_reached("ats", &[R::PAGE, R::REFUSED, R::BYPASS, R::event(0x07)]);
    spoil("ats", 4000);
}

#[test]
fn law8_commands() {
    use Reached as R;
    let wanted = [R::CONSUMED, R::ILLEGAL, R::UNREADABLE, R::BAD_PROD];
    assert_reached("commands", &wanted);
    let wanted = [R::WAITED, R::UNANSWERED];
    assert_reached("commands", &wanted);
    spoil("commands", 400);
}

#[test]
fn law8_pri() {
    use Reached as R;
    assert_reached("pri", &[R::PAGE, R::OVERFLOW, R::CONSUMED]);
    spoil("pri", 400);
}

#[test]
fn law8_registers() {
    use Reached as R;
    assert_reached("registers", &[R::ENABLED, R::VCMDQ, R::EVENT]);
    spoil("registers", 400);
}

/// A search can look only where the seeds have led it if the same bytes do the same.
#[test]
fn an_input_leads_to_the_same_every_time() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            assert_eq!((target.run)(&seed), (target.run)(&seed), "{}", target.name);
        }
    }
}

/// Programs, targets and tests have the same names.
#[test]
fn every_target_has_a_program() {
    for target in TARGETS {
        let path = format!("{}/targets/{}.rs", env!("CARGO_MANIFEST_DIR"), target.name);
        let text = std::fs::read_to_string(path).expect("a program");
        assert!(text.contains(&format!("vcmdq_fuzz::{}::run", target.name)));
    }
}
