//! Which capabilities a frame can advertise.

use smmu_core::Capabilities;
use smmu_core::caps::{CapabilitiesBuilder, CapabilitiesError as Error, Field, Stages};
use smmu_core::range::Granule;
use smmu_core::spec::register::{Idr0, Idr3};

fn builder() -> CapabilitiesBuilder {
    Capabilities::builder()
}

fn without_3_2() -> CapabilitiesBuilder {
    builder()
        .range_invalidation(false)
        .break_before_make_level(0)
        .forced_write_back(false)
}

#[test]
fn the_defaults_are_what_linux_likes() {
    let caps = builder().build().unwrap();
    assert_eq!(caps, Capabilities::default());
    let (idr0, idr1, idr3) = (caps.idr0, caps.idr1, caps.idr3);
    assert!(idr0.msi() && idr0.cohacc() && idr3.ril() && idr0.st_level() == 1);
    assert_eq!(
        (idr1.cmdqs(), idr1.eventqs(), idr1.ssidsize()),
        (19, 19, 20)
    );
    assert!(!idr0.ats() && !idr0.pri() && !caps.stalls());
    assert_eq!(
        caps.aidr.arch_minor(),
        2,
        "range invalidation is of SMMUv3.2"
    );
    // On CPUs with the like, Linux shares no page tables with an SMMU below level 2.
    assert_eq!(idr3.bbml(), 2);
}

#[test]
fn what_goes_together_builds() {
    for (name, builder) in [
        ("ATS and PRI", builder().ats(true).pri(Some(10))),
        ("stalls", builder().stalls(64).always_aborts(false)),
        ("both stages", builder().stages(Stages::Both)),
        ("stage 2", builder().stages(Stages::Two)),
        ("few streams", builder().stream_id_bits(6)),
        ("no substreams", builder().substream_id_bits(0)),
        ("SMMUv3.0", without_3_2().version(0)),
        ("SMMUv3.1", without_3_2().version(1)),
        ("SMMUv3.1 with what 3.2 brings", builder().version(1)),
        ("SMMUv3.2 with what 3.3 brings", builder().e0pd(true)),
        ("SMMUv3.3", builder().version(3).e0pd(true)),
        (
            "SMMUv3.3, stage 2",
            builder()
                .stages(Stages::Two)
                .version(3)
                .e0pd(true)
                .device_walks_as_normal(true),
        ),
        (
            "52 bits",
            builder().output_bits(52).granule(Granule::K64, true),
        ),
        ("small", builder().command_queue_log2(8).event_queue_log2(0)),
        (
            "by wire, incoherent",
            builder().messages(false).coherent(false),
        ),
        (
            "all of SMMUv3.2",
            builder().small_tables(true).break_before_make_level(2),
        ),
    ] {
        assert_eq!(builder.build().err(), None, "{name}");
    }
}

fn needs(field: &'static str, needs: &'static str) -> Error {
    let (field, needs) = (Field(field), Field(needs));
    Error::Needs { field, needs }
}

fn too_large(field: &'static str, value: u32, most: u32) -> Error {
    let field = Field(field);
    Error::TooLarge { field, value, most }
}

fn mandatory(field: &'static str, since: u8, version: u8) -> Error {
    Error::Mandatory {
        field: Field(field),
        since,
        version,
    }
}

fn newer(field: &'static str, since: u8, version: u8) -> Error {
    Error::Newer {
        field: Field(field),
        since,
        version,
    }
}

#[test]
fn what_the_architecture_forbids_is_refused() {
    for (builder, error) in [
        (builder().pri(Some(8)), needs("IDR0.PRI", "IDR0.ATS")),
        (builder().vmid16(true), needs("IDR0.VMID16", "IDR0.S2P")),
        (
            builder().stages(Stages::Two).substream_id_bits(4),
            needs("IDR0.CD2L", "IDR0.S1P"),
        ),
        (
            builder().output_bits(52),
            needs("IDR5.OAS=6 (52 bits)", "IDR5.GRAN64K or DS"),
        ),
        (builder().granule(Granule::K4, false), Error::NoGranule),
        (builder().two_level_streams(false), Error::StreamTables(16)),
        (
            builder().stream_id_bits(33),
            too_large("IDR1.SIDSIZE", 33, 32),
        ),
        (
            builder().substream_id_bits(21),
            too_large("IDR1.SSIDSIZE", 21, 20),
        ),
        (
            builder().command_queue_log2(20),
            too_large("IDR1.CMDQS", 20, 19),
        ),
        (
            builder().event_queue_log2(31),
            too_large("IDR1.EVENTQS", 31, 19),
        ),
        (
            builder().ats(true).pri(Some(20)),
            too_large("IDR1.PRIQS", 20, 19),
        ),
        (builder().output_bits(47), too_large("IDR5.OAS", 7, 6)),
        (
            builder().break_before_make_level(3),
            too_large("IDR3.BBML", 3, 2),
        ),
        (builder().version(4), too_large("AIDR.ArchMinor", 4, 3)),
    ] {
        assert_eq!(builder.build(), Err(error));
    }
}

/// IHI 0070, 2.3 to 2.5, 2.9, and the fields' own texts in 6.3.1 and 6.3.4.
#[test]
fn what_a_version_must_and_must_not_have() {
    for (builder, error) in [
        (
            builder().range_invalidation(false),
            mandatory("IDR3.RIL", 2, 2),
        ),
        (
            builder().break_before_make_level(0),
            mandatory("IDR3.BBML", 2, 2),
        ),
        (
            builder().forced_write_back(false),
            mandatory("IDR3.FWB", 2, 2),
        ),
        (
            builder().stages(Stages::Both).version(2),
            mandatory("IDR0.HYP", 2, 2),
        ),
        (builder().version(0), newer("IDR3.RIL", 2, 0)),
        (builder().version(1).e0pd(true), newer("IDR3.E0PD", 3, 1)),
        (
            without_3_2().stages(Stages::Two).version(0),
            newer("IDR3.XNX", 1, 0),
        ),
        (builder().version(3), mandatory("IDR3.E0PD", 3, 3)),
        (
            builder().stages(Stages::Two).version(3).e0pd(true),
            mandatory("IDR3.PTWNNC", 3, 3),
        ),
        (
            builder().device_walks_as_normal(true),
            needs("IDR3.PTWNNC", "IDR0.S2P"),
        ),
    ] {
        assert_eq!(builder.build(), Err(error));
    }
}

#[test]
fn what_the_engine_has_not_is_refused() {
    let refused = |change: fn(&mut Capabilities)| {
        let mut caps = Capabilities::default();
        change(&mut caps);
        caps.check()
    };
    let absent = |field| Err(Error::NotOffered(Field(field)));
    assert_eq!(refused(|c| c.idr0.set_btm(true)), absent("IDR0.BTM"));
    let of_tables = absent("IDR0.HTTU=3 (table descriptors)");
    assert_eq!(refused(|c| c.idr0.set_httu(3)), of_tables);
    assert_eq!(refused(|c| c.idr0.set_sev(true)), absent("IDR0.SEV"));
    assert_eq!(refused(|c| c.idr0.set_atos(true)), absent("IDR0.ATOS"));
    assert_eq!(refused(|c| c.idr1.set_ecmdq(true)), absent("IDR1.ECMDQ"));
    assert_eq!(refused(|c| c.idr0.set_s1p(false)), Err(Error::NoStage));
    // What a VMM has copied from a newer SMMU whole.
    let copied = refused(|c| c.idr3 = Idr3::from_bits(c.idr3.into_bits() | 1 << 18));
    assert_eq!(copied, absent("a reserved bit of IDR3"));
    let copied = refused(|c| c.idr0 = Idr0::from_bits(c.idr0.into_bits() | 1 << 30));
    assert_eq!(copied, absent("a reserved bit of IDR0"));
    let needed = refused(|c| c.idr0.set_ttf(1)).unwrap_err();
    assert!(matches!(needed, Error::Needed(_)));
    let stalls = refused(|c| c.idr0.set_stall_model(0));
    assert_eq!(stalls, Err(needs("IDR0.STALL_MODEL=0", "IDR5.STALL_MAX")));
    assert_eq!(
        refused(|c| c.idr5.set_stall_max(3)),
        Err(needs("IDR5.STALL_MAX", "IDR0.STALL_MODEL=0"))
    );
}

/// EL2 contexts are an option of stage 1, and mandatory beside both stages from SMMUv3.2 on.
#[test]
fn el2_contexts_need_a_stage_1() {
    assert!(builder().el2_contexts(true).build().is_ok());
    let alone = builder().stages(Stages::Two).el2_contexts(true);
    assert_eq!(alone.build(), Err(needs("IDR0.HYP", "IDR0.S1P")));
    let both = || builder().stages(Stages::Both).version(2);
    assert!(matches!(both().build(), Err(Error::Mandatory { .. })));
    assert!(both().el2_contexts(true).build().is_ok());
}

#[test]
fn an_error_says_what_to_do() {
    let error = builder().version(0).build().unwrap_err().to_string();
    assert_eq!(
        error,
        "IDR3.RIL appeared with SMMUv3.2, AIDR says 3.0: raise AIDR or clear it"
    );
}

/// Fields that mean nothing without others, one by one.
#[test]
fn dependent_fields_need_what_they_depend_on() {
    let refused = |change: fn(&mut Capabilities)| {
        let mut caps = builder().ats(true).pri(Some(8)).build().unwrap();
        change(&mut caps);
        caps.check()
    };
    let ns1ats = needs("IDR0.NS1ATS", "IDR0.ATS and both stages");
    assert_eq!(refused(|c| c.idr0.set_ns1ats(true)), Err(ns1ats));
    let pps = |c: &mut Capabilities| {
        c.idr3.set_pps(true);
        c.idr1.set_ssidsize(0);
    };
    let needed = needs("IDR3.PPS", "IDR0.PRI and IDR1.SSIDSIZE");
    assert_eq!(refused(pps), Err(needed));
    assert_eq!(
        refused(|c| c.idr5.set_ds(true)),
        Err(needs("IDR5.DS", "IDR5.VAX=1"))
    );
}
