//! Who may import whom, as data.

/// What one of our crates under `crates/` may use. Whatever lies elsewhere (benches, models,
/// examples) may use all of them and is used by nobody, but by the tool what it starts: the harness,
/// the measurements.
#[derive(Debug)]
pub(super) struct Rule {
    /// Name of the package.
    pub(super) package: &'static str,
    /// Packages of this workspace that it may depend on, for whatever purpose.
    pub(super) may_use: &'static [&'static str],
    /// Packages from elsewhere that would give it what it must not know.
    pub(super) must_not_use: &'static [&'static [&'static str]],
    /// Packages from elsewhere that a VMM must be able to leave out.
    pub(super) only_optional: &'static [&'static [&'static str]],
}

/// Ways to the operating system that a backend for this host may need.
const HOST_CALLS: &[&str] = &[
    "errno",
    "iommufd-bindings",
    "iommufd-ioctls",
    "libc",
    "nix",
    "rustix",
    "vfio-bindings",
    "vfio-ioctls",
    "vfio_user",
    "vmm-sys-util",
];

/// The guest and its VMM.
const GUEST_SIDE: &[&str] = &["kvm-bindings", "kvm-ioctls", "vm-memory"];

/// Event loops: the VMM has one, and it is not ours to choose.
const EVENT_LOOPS: &[&str] = &["async-std", "mio", "smol", "tokio"];

/// What starts threads, blocks them or cannot be without `std`.
const THREADS: &[&str] = &[
    "arc-swap",
    "crossbeam",
    "crossbeam-channel",
    "crossbeam-epoch",
    "parking_lot",
    "rayon",
    "rtrb",
];

/// One row per crate under `crates/`.
pub(super) const RULES: &[Rule] = &[
    Rule {
        package: "vcmdq-sync",
        may_use: &[],
        must_not_use: &[HOST_CALLS, GUEST_SIDE, EVENT_LOOPS],
        only_optional: &[THREADS],
    },
    Rule {
        package: "smmu-core",
        may_use: &["vcmdq-sync"],
        must_not_use: &[HOST_CALLS, GUEST_SIDE, EVENT_LOOPS, THREADS],
        only_optional: &[&["serde"]],
    },
    Rule {
        package: "vcmdq-dispatch",
        may_use: &["vcmdq-sync", "smmu-core"],
        must_not_use: &[GUEST_SIDE, EVENT_LOOPS],
        only_optional: &[HOST_CALLS, &["serde"]],
    },
    Rule {
        package: "vcmdq",
        may_use: &["vcmdq-sync", "smmu-core", "vcmdq-dispatch"],
        must_not_use: &[EVENT_LOOPS],
        only_optional: &[HOST_CALLS, GUEST_SIDE, &["serde"]],
    },
    Rule {
        package: "vcmdq-trace",
        may_use: &["vcmdq-sync", "smmu-core", "vcmdq-dispatch", "vcmdq"],
        must_not_use: &[HOST_CALLS, GUEST_SIDE, EVENT_LOOPS],
        only_optional: &[],
    },
    Rule {
        package: "vcmdq-remote",
        may_use: &["vcmdq-sync", "smmu-core", "vcmdq-dispatch", "vcmdq"],
        must_not_use: &[EVENT_LOOPS],
        only_optional: &[&["vfio_user", "vhost", "vmm-sys-util"]],
    },
    Rule {
        package: "vcmdq-iommufd",
        may_use: &["vcmdq-sync", "smmu-core", "vcmdq-dispatch", "vcmdq"],
        must_not_use: &[EVENT_LOOPS],
        only_optional: &[],
    },
    Rule {
        package: "vcmdq-cli",
        may_use: &[
            "vcmdq-sync",
            "smmu-core",
            "vcmdq-dispatch",
            "vcmdq",
            "vcmdq-trace",
            "vcmdq-e2e",
            "kvm-roundtrip",
            "vcmdq-benches",
            "vcmdq-measure",
            "vcmdq-wording",
        ],
        must_not_use: &[EVENT_LOOPS],
        only_optional: &[],
    },
];

/// Packages outside of `crates/` that others there may use: what several measurements share, and the
/// harness that has QEMU.
pub(super) const LENT: &[&str] = &["vcmdq-benches", "vcmdq-e2e", "vcmdq-wording"];
