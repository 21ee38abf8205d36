//! Which boots there are, and what each checks.

use super::args::{BootArgs, Offer, Whose};
use clap::ValueEnum;

/// How the guest's kernel uses the SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Each unmap is followed by an invalidation (`iommu.strict=1`).
    Strict,
    /// Invalidations are put off and then done all at once (`iommu.strict=0`).
    Lazy,
    /// Devices use guest-physical addresses (`iommu.passthrough=1`).
    Passthrough,
}

impl Mode {
    /// The kernel's options.
    #[must_use]
    pub fn options(self) -> &'static str {
        match self {
            Self::Strict => "iommu.passthrough=0 iommu.strict=1",
            Self::Lazy => "iommu.passthrough=0 iommu.strict=0",
            Self::Passthrough => "iommu.passthrough=1",
        }
    }

    /// What the verdict calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Lazy => "lazy",
            Self::Passthrough => "passthrough",
        }
    }
}

/// What one machine does: a list of checks for each boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of all its boots.
    pub mode: Mode,
    /// Names as `/init` knows them.
    pub boots: Vec<Vec<&'static str>>,
}

/// What needs no SMMU.
const PLAIN: [&str; 5] = ["probe", "content", "parallel", "rebind", "rescan"];
/// What needs one that translates: faults, errors of commands.
const TRANSLATING: [&str; 2] = ["fault", "cmderr"];
/// A program with stage 2, nested translation and dirty tracking; what it finds, and that the disk is back.
const NESTING: [&str; 20] = [
    "stage2-attach",
    "stage2-content",
    "stage2-remap",
    "stage2-fault",
    "nested-attach",
    "nested-content",
    "nested-remap",
    "nested-remap2",
    "nested-fault",
    "nested-traffic",
    "dirty-pages",
    "engine-attach",
    "engine-content",
    "engine-remap",
    "engine-ste",
    "engine-event",
    "engine-traffic",
    "engine-stage2",
    "engine-withheld",
    "nesting-back",
];
/// What is not asked of an SMMU that loses invalidations: its disk may not come back for a minute.
const GIVEN_BACK: &str = "nesting-back";
/// The same where the SMMU cannot update tables.
const WITHOUT_UPDATES: &str = "dirty-pages";
/// One point for each size in KiB.
const LATENCY: [&str; 5] = [
    "latency-4",
    "latency-16",
    "latency-64",
    "latency-128",
    "latency-256",
];
/// A boot that shows that the SMMU comes up again after it has been switched off.
const AGAIN: [&str; 2] = ["probe", "content"];

impl Plan {
    /// The machines of a run.
    #[must_use]
    pub fn of(args: &BootArgs) -> Vec<Self> {
        args.modes
            .iter()
            .map(|&mode| Self::one(args, mode))
            .collect()
    }

    /// A machine that measures.
    #[must_use]
    pub fn latency() -> Self {
        Self {
            mode: Mode::Strict,
            boots: vec![vec!["latency"]],
        }
    }

    fn one(args: &BootArgs, mode: Mode) -> Self {
        if args.record.is_some() {
            let boots = vec![vec!["probe", "load"]];
            return Self { mode, boots };
        }
        if args.smmu == Whose::Qemu {
            let boots = vec![vec!["probe", "nesting_qemu"]];
            return Self { mode, boots };
        }
        if args.nesting && args.drop_invalidations.is_some() {
            // The program is to notice, not what runs on stage 1 before it.
            let boots = vec![vec!["probe", "nesting_broken"]];
            return Self { mode, boots };
        }
        let translating = !args.no_smmu && mode != Mode::Passthrough;
        let mut all = PLAIN.to_vec();
        if args.nesting {
            // Before other checks provoke events: the kernel logs only so many in five seconds.
            all.insert(2, "nesting");
        }
        if translating {
            all.extend(TRANSLATING);
        }
        if args.cmdqv && mode != Mode::Passthrough {
            all.push("cmdqv");
        }
        if args.offer() == Offer::Two && mode != Mode::Passthrough {
            all.push("stage2");
        }
        let mut boots = vec![all; args.boots as usize];
        // The first machine of a short run is started again, so that this is seen each time.
        if args.boots == 1 && args.modes.first() == Some(&mode) {
            boots.push(AGAIN.to_vec());
        }
        let last = boots.len() - 1;
        for boot in &mut boots[..last] {
            boot.push("reboot");
        }
        Self { mode, boots }
    }

    /// The verdicts that a list of checks must give. A check that is missing has failed.
    #[must_use]
    pub fn expected(checks: &[&str]) -> Vec<&'static str> {
        let mut names = Vec::new();
        for &check in checks {
            if check == "nesting_broken" {
                names.extend(NESTING.iter().filter(|name| **name != GIVEN_BACK));
            }
            if check == "nesting_qemu" {
                names.extend(NESTING.iter().filter(|name| **name != WITHOUT_UPDATES));
            }
            let of_check: &[&str] = match check {
                "probe" => &["probe"],
                "content" => &["content", "content-host"],
                "parallel" => &["parallel"],
                "rebind" => &["rebind"],
                "rescan" => &["rescan"],
                "fault" => &["fault-device", "fault-log"],
                "cmdqv" => &["cmdqv", "cmdqv-traffic"],
                "nesting" => &NESTING,
                "stage2" => &["stage2"],
                "latency" => &LATENCY,
                "load" => &["load"],
                "cmderr" => &["cmderr", "recovered"],
                _ => &[],
            };
            names.extend(of_check);
        }
        names.push("kernel-log");
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        boot: BootArgs,
    }

    fn plans(arguments: &[&str]) -> Vec<Plan> {
        let arguments = ["boot"].iter().chain(arguments);
        Plan::of(&Cli::parse_from(arguments).boot)
    }

    #[test]
    fn a_short_run_has_every_mode_and_one_second_boot() {
        let plans = plans(&[]);
        let boots: Vec<_> = plans
            .iter()
            .map(|plan| (plan.mode, plan.boots.len()))
            .collect();
        let modes = [(Mode::Strict, 2), (Mode::Lazy, 1), (Mode::Passthrough, 1)];
        assert_eq!(boots, modes);
        assert_eq!(plans[0].boots[0].last(), Some(&"reboot"));
        assert_eq!(plans[0].boots[1], AGAIN);
        assert!(plans[1].boots[0].contains(&"cmderr"));
        assert!(!plans[2].boots[0].contains(&"fault"));
    }

    #[test]
    fn ten_boots_are_ten_times_the_same() {
        let plans = plans(&["--boots", "10", "--modes", "strict"]);
        assert_eq!((plans.len(), plans[0].boots.len()), (1, 10));
        let without = |boot: &Vec<&'static str>| Plan::expected(boot);
        let first = without(&plans[0].boots[0]);
        assert!(plans[0].boots.iter().all(|boot| without(boot) == first));
    }

    #[test]
    fn what_the_stages_are_for_is_checked() {
        let two = plans(&["--stages", "two", "--modes", "lazy,passthrough"]);
        assert!(two[0].boots[0].contains(&"stage2"));
        assert!(!two[1].boots[0].contains(&"stage2"));
        let nesting = plans(&["--nesting", "--modes", "strict"]);
        let place = |check| nesting[0].boots[0].iter().position(|&name| name == check);
        assert!(place("nesting").is_some() && place("nesting") < place("fault"));
        let broken = plans(&["--nesting", "--drop-invalidations=1", "--modes=strict"]);
        assert_eq!(broken[0].boots, [["probe", "nesting_broken"]]);
        let other = plans(&["--nesting", "--smmu=qemu", "--modes=strict"]);
        let expected = Plan::expected(&other[0].boots[0]);
        assert_eq!(expected.len(), NESTING.len() - 1 + 2, "{expected:?}");
        assert!(Plan::expected(&broken[0].boots[0]).contains(&"nested-remap2"));
    }

    #[test]
    fn without_an_smmu_nothing_is_asked_of_it() {
        let plans = plans(&["--no-smmu", "--modes", "strict"]);
        assert!(
            !plans[0].boots[0]
                .iter()
                .any(|check| TRANSLATING.contains(check))
        );
    }
}
