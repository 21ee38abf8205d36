//! Golden vectors from outside: words written down by hand from the architecture's field
//! tables, and command streams recorded from an unmodified Linux driver. Nothing here is
//! produced by this crate's own encoder.

use smmu_core::caps::Capabilities;
use smmu_core::command::{AtcInv, Cfgi, Command, Msi, PriResponse, ResumeAction, Signal, Tlbi};
use smmu_core::decode::decode;
use smmu_core::encode::encode;
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::RawCommand;
use smmu_core::spec::register::{Idr0, Idr1, Idr3, Idr5};
use smmu_core::{Asid, Gpa, Stag, StreamId, SubstreamId, Vmid};
use std::path::Path;

/// The SMMU behind which the streams were recorded: IDR0, IDR1, IDR3, IDR5.
fn recorded() -> Capabilities {
    Capabilities {
        idr0: Idr0::from_bits(0x0d44_101b),
        idr1: Idr1::from_bits(0x0273_0010),
        idr3: Idr3::from_bits(0x1414),
        idr5: Idr5::from_bits(0x74),
        ..Capabilities::default()
    }
}

/// Everything that makes a command legal, and a stage 2, so that VMIDs count.
fn everything() -> Capabilities {
    let mut caps = Capabilities::default().with_ats();
    caps.idr0.set_pri(true);
    caps.idr0.set_hyp(true);
    caps.idr0.set_s2p(true);
    caps.idr0.set_vmid16(true);
    caps.idr0.set_stall_model(0);
    caps
}

fn one_page(addr: u64, leaf: bool) -> TlbiRange {
    TlbiRange {
        addr,
        bytes: 4096,
        granule: None,
        ttl: 0,
        leaf,
    }
}

fn check(dw0: u64, dw1: u64, meaning: Command) {
    let decoded = decode(RawCommand { dw0, dw1 }, &everything());
    assert_eq!(decoded, Ok(meaning), "{dw0:#018x} {dw1:#018x}");
}

#[test]
fn invalidations_by_address() {
    // VMID 0x55aa at [47:32], ASID 0x1234 at [63:48]; Leaf 0, no TG; VA at [63:12] in place.
    check(
        0x1234_55aa_0000_0012,
        0xffff_8000_1234_5001,
        Command::Tlbi(Tlbi::NhVa {
            vmid: Vmid(0x55aa),
            asid: Asid(0x1234),
            range: one_page(0xffff_8000_1234_5000, true),
        }),
    );
    // NUM=2 at [16:12], SCALE=3 at [24:20]: 3*8 granules. TG=1 at [11:10], TTL=3 at [9:8].
    check(
        0x0001_0000_0030_2013,
        0x0000_0000_4000_0700,
        Command::Tlbi(Tlbi::NhVaa {
            vmid: Vmid(0),
            range: TlbiRange {
                addr: 0x4000_0000,
                bytes: 24 * 4096,
                granule: Some(Granule::K4),
                ttl: 3,
                leaf: false,
            },
        }),
    );
    // NUM=31, SCALE=31, TG=3, TTL=1: 2^36 granules of 64 KiB.
    check(
        0x0009_0000_01f1_f022,
        0x0000_0000_0000_0d01,
        Command::Tlbi(Tlbi::El2Va {
            asid: Asid(9),
            range: TlbiRange {
                addr: 0,
                bytes: 1 << 52,
                granule: Some(Granule::K64),
                ttl: 1,
                leaf: true,
            },
        }),
    );
    // 16 KiB, TTL=2, NUM=0, SCALE=0; the bits below the granule are ignored.
    check(
        0x0000_0007_0000_002a,
        0x0000_0001_0200_3a00,
        Command::Tlbi(Tlbi::S2Ipa {
            vmid: Vmid(7),
            range: TlbiRange {
                addr: 0x1_0200_0000,
                bytes: 16384,
                granule: Some(Granule::K16),
                ttl: 2,
                leaf: false,
            },
        }),
    );
    check(
        0x0000_0000_0000_0023,
        0x0000_7fff_ffff_f000,
        Command::Tlbi(Tlbi::El2Vaa {
            range: one_page(0x7fff_ffff_f000, false),
        }),
    );
}

#[test]
fn invalidations_without_address() {
    let (vmid, asid) = (Vmid(0x0102), Asid(0x0304));
    let words = [
        (0x0000_0102_0000_0010, Tlbi::NhAll { vmid }),
        (0x0304_0102_0000_0011, Tlbi::NhAsid { vmid, asid }),
        (0x0000_0000_0000_0020, Tlbi::El2All),
        (0x0304_0000_0000_0021, Tlbi::El2Asid { asid }),
        (0x0000_0102_0000_0028, Tlbi::S12VmAll { vmid }),
        (0x0000_0000_0000_0030, Tlbi::NsnhAll),
    ];
    for (dw0, tlbi) in words {
        check(dw0, 0, Command::Tlbi(tlbi));
    }
}

#[test]
fn configuration_commands() {
    let stream = StreamId(0xdead_beef);
    // StreamID at [63:32], SSV at 11, SubstreamID 0xabcde at [31:12].
    check(
        0xdead_beef_abcd_e801,
        0,
        Command::PrefetchConfig {
            stream,
            substream: Some(SubstreamId(0xabcde)),
        },
    );
    check(
        0xdead_beef_0000_0003,
        1,
        Command::Cfgi(Cfgi::Ste { stream, leaf: true }),
    );
    check(
        0xdead_beef_0000_0003,
        0,
        Command::Cfgi(Cfgi::Ste {
            stream,
            leaf: false,
        }),
    );
    check(
        0xdead_beef_0000_0004,
        5,
        Command::Cfgi(Cfgi::SteRange { stream, range: 5 }),
    );
    check(0x0000_0000_0000_0004, 31, Command::Cfgi(Cfgi::All));
    check(
        0xdead_beef_0004_2005,
        1,
        Command::Cfgi(Cfgi::Cd {
            stream,
            substream: SubstreamId(0x42),
            leaf: true,
        }),
    );
    check(
        0xdead_beef_0000_0006,
        0,
        Command::Cfgi(Cfgi::CdAll { stream }),
    );
}

#[test]
fn commands_of_ats_pri_and_stalls() {
    let stream = StreamId(0x0000_0108);
    // Global at 9, SSV at 11; Size=9 at [5:0]: 2^9 pages.
    check(
        0x0000_0108_0000_5a40,
        0x0000_0000_8020_0009,
        Command::AtcInv(AtcInv {
            stream,
            substream: Some(SubstreamId(5)),
            global: true,
            addr: 0x8020_0000,
            size: 9,
        }),
    );
    // Size=52 at address zero: the whole address space.
    check(
        0x0000_0108_0000_0040,
        52,
        Command::AtcInv(AtcInv {
            stream,
            substream: None,
            global: false,
            addr: 0,
            size: 52,
        }),
    );
    // PRGIndex [8:0], Resp [13:12]: 2 is Success.
    for (resp, response) in [
        (0x0000, PriResponse::Failure),
        (0x1000, PriResponse::Invalid),
        (0x2000, PriResponse::Success),
    ] {
        check(
            0x0000_0108_0000_7841,
            resp | 0x1ff,
            Command::PriResp {
                stream,
                substream: Some(SubstreamId(7)),
                group: 0x1ff,
                response,
            },
        );
    }
    // Ac at 12, Ab at 13; with Ac, Ab is ignored.
    for (bits, action) in [
        (0x0000, ResumeAction::Terminate),
        (0x1000, ResumeAction::Retry),
        (0x2000, ResumeAction::Abort),
        (0x3000, ResumeAction::Retry),
    ] {
        check(
            0x0000_0108_0000_0044 | bits,
            0xbeef,
            Command::Resume {
                stream,
                stag: Stag(0xbeef),
                action,
            },
        );
    }
    check(0x0000_0108_0000_0045, 0, Command::StallTerm { stream });
}

#[test]
fn sync_in_its_three_forms() {
    check(0x0000_0000_0000_0046, 0, Command::Sync(Signal::None));
    // CS=1 at [13:12], MSH=3 at [23:22], MSIAttr=0xf at [27:24], MSIData at [63:32].
    check(
        0xcafe_f00d_0fc0_1046,
        0x00ff_ffff_0000_1234,
        Command::Sync(Signal::Irq {
            msi: Some(Msi {
                addr: Gpa(0x00ff_ffff_0000_1234),
                data: 0xcafe_f00d,
            }),
        }),
    );
    check(
        0x0000_0000_0fc0_1046,
        0,
        Command::Sync(Signal::Irq { msi: None }),
    );
    // CS=2, exactly as the recorded streams hold it.
    check(0x0000_0000_0fc0_2046, 0, Command::Sync(Signal::Sev));
}

/// Counts of commands in a recorded stream, in order of opcode.
#[derive(Debug, Default, PartialEq, Eq)]
struct Census {
    prefetch: usize,
    cfgi: usize,
    nh_va: usize,
    nh_asid: usize,
    nsnh_all: usize,
    sync_sev: usize,
}

fn replay(name: &str) -> Census {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    let bytes = std::fs::read(&path).expect("the trace is part of the repository");
    assert_eq!(bytes.len() % 16, 0);
    let (caps, mut census) = (recorded(), Census::default());
    for (index, entry) in bytes.chunks_exact(16).enumerate() {
        let raw = RawCommand::from_le_bytes(entry.try_into().expect("16 bytes"));
        assert_eq!(raw.to_le_bytes(), entry);
        let command = decode(raw, &caps).unwrap_or_else(|why| panic!("command {index}: {why}"));
        assert_eq!(
            decode(encode(&command), &caps),
            Ok(command),
            "command {index}"
        );
        *match command {
            Command::PrefetchConfig { .. } => &mut census.prefetch,
            Command::Cfgi(_) => &mut census.cfgi,
            Command::Tlbi(Tlbi::NhVa { .. }) => &mut census.nh_va,
            Command::Tlbi(Tlbi::NhAsid { .. }) => &mut census.nh_asid,
            Command::Tlbi(Tlbi::NsnhAll) => &mut census.nsnh_all,
            Command::Sync(Signal::Sev) => &mut census.sync_sev,
            other => panic!("command {index}: the recording has no {other:?}"),
        } += 1;
    }
    census
}

#[test]
fn every_command_of_a_strict_linux_guest_is_understood() {
    assert_eq!(
        replay("linux-7.2-boot-nvme-strict.cmdq"),
        Census {
            prefetch: 3,
            cfgi: 13,
            nh_va: 13_478,
            nh_asid: 0,
            nsnh_all: 1,
            sync_sev: 13_490,
        }
    );
}

#[test]
fn every_command_of_a_lazy_linux_guest_is_understood() {
    assert_eq!(
        replay("linux-7.2-boot-nvme-lazy.cmdq"),
        Census {
            prefetch: 3,
            cfgi: 13,
            nh_va: 7,
            nh_asid: 139,
            nsnh_all: 1,
            sync_sev: 160,
        }
    );
}

/// Most of the recorded invalidations are one 4 KiB page with TG=1 and TTL=3.
#[test]
fn a_recorded_invalidation_names_its_page() {
    let raw = RawCommand {
        dw0: 0x0003_0000_0000_0012,
        dw1: 0x0000_0000_ffff_2701,
    };
    assert_eq!(
        decode(raw, &recorded()),
        Ok(Command::Tlbi(Tlbi::NhVa {
            vmid: Vmid(0),
            asid: Asid(3),
            range: TlbiRange {
                addr: 0xffff_2000,
                bytes: 4096,
                granule: Some(Granule::K4),
                ttl: 3,
                leaf: true,
            },
        }))
    );
}
