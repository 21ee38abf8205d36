//! What a frame advertises in front of a host, and who may be behind it.

use crate::host::{FakeHost, everything};
use rustix::io::Errno;
use smmu_core::Capabilities;
use smmu_core::caps::{CapabilitiesError, Field};
use vcmdq_iommufd::uapi::kind;
use vcmdq_iommufd::{
    FleetError, HostFeatures, HwInfoError, Lack, Offer, OfferError, Profile, StallModel, admits,
};

fn rich() -> HostFeatures {
    HostFeatures::from_registers(&everything())
}

#[test]
fn a_device_says_what_its_smmu_is_or_that_there_is_none() {
    let host = FakeHost::new();
    assert_eq!(HostFeatures::of_device(&*host, 101), Ok(rich()));
    let gone = HostFeatures::of_device(&*host, 999);
    assert_eq!(gone, Err(HwInfoError::Call(Errno::NOENT)));
    host.state().hw_info_type = 1;
    let other = HostFeatures::of_device(&*host, 101);
    assert_eq!(other, Err(HwInfoError::OtherIommu(1)));
    assert_ne!(kind::HW_INFO_ARM_SMMUV3, 1);
}

#[test]
fn what_the_host_has_for_itself_is_never_copied() {
    let caps = Offer::new(44).capabilities(&rich()).unwrap();
    let idr0 = caps.idr0;
    assert!(idr0.s1p() && idr0.cohacc() && idr0.asid16() && idr0.cd2l());
    assert!(!idr0.s2p() && !idr0.hyp() && !idr0.btm() && idr0.httu() == 0);
    assert!(
        !idr0.ats() && !idr0.pri(),
        "a device's property, not its SMMU's"
    );
    assert!(!caps.stalls() && caps.idr5.stall_max() == 0);
    assert!(!caps.idr3.mpam() && !caps.idr3.e0pd() && !caps.idr3.stt());
    assert_eq!((caps.oas_bits(), caps.idr5.vax()), (44, 1));
    assert_eq!((caps.idr3.bbml(), caps.idr3.ril()), (2, true));
    assert_eq!(admits(&rich(), &caps), Ok(()));
}

#[test]
fn stalls_are_offered_only_if_they_are_wanted_and_there() {
    let wants = Offer {
        stalls: 16,
        ..Offer::new(48)
    };
    assert!(wants.capabilities(&rich()).unwrap().stalls());
    let never = HostFeatures {
        stalls: StallModel::Never,
        ..rich()
    };
    assert!(matches!(
        wants.capabilities(&never),
        Err(OfferError::Host(Lack::Less {
            field: Field("IDR0.STALL_MODEL"),
            ..
        }))
    ));
    let always = HostFeatures {
        stalls: StallModel::Always,
        ..rich()
    };
    let forced = Offer::new(48).capabilities(&always);
    assert!(matches!(forced, Err(OfferError::Host(Lack::Unusable(_)))));
    let odd = Offer::new(47).capabilities(&rich());
    assert!(matches!(
        odd,
        Err(OfferError::Capabilities(CapabilitiesError::TooLarge { .. }))
    ));
}

/// A frame for all that the rich SMMU has, and SMMUs that lack one thing each.
#[test]
fn an_smmu_that_has_less_is_refused_by_the_name_of_what_it_lacks() {
    let frame = Offer {
        stalls: 16,
        ats: true,
        ..Offer::new(48)
    };
    let frame = frame.capabilities(&rich()).unwrap();
    type Change = fn(&mut HostFeatures);
    let lacking: [(&str, Change); 13] = [
        ("IDR0.TTF", |host| host.aarch64_tables = false),
        ("IDR0.CD2L", |host| host.two_level_contexts = false),
        ("IDR0.ASID16", |host| host.asid16 = false),
        // A guest's ATC_INV would stop the host's own queue.
        ("IDR0.ATS", |host| host.ats = false),
        ("IDR0.STALL_MODEL", |host| host.stalls = StallModel::Never),
        ("IDR0.TERM_MODEL", |host| host.terminates_silently = false),
        ("IDR0.TTENDIAN", |host| host.big_endian = false),
        ("IDR1.SSIDSIZE", |host| host.substream_bits = 19),
        ("IDR3.RIL", |host| host.ranges = false),
        ("IDR3.BBML", |host| host.break_before_make = 1),
        ("IDR5.VAX", |host| host.wide_input = false),
        ("IDR5.GRAN16K", |host| host.granule_16k = false),
        ("IDR5.GRAN64K", |host| host.granule_64k = false),
    ];
    assert_eq!(admits(&rich(), &frame), Ok(()));
    for (name, change) in lacking {
        let mut host = rich();
        change(&mut host);
        let lack = admits(&host, &frame).unwrap_err();
        assert!(
            matches!(lack, Lack::Less { field: Field(found), .. } if found == name),
            "{lack}"
        );
        assert!(lack.to_string().contains(name), "{lack}");
        assert!(Offer::new(48).capabilities(&host).is_ok() || name == "IDR0.TTF");
    }
}

#[test]
fn a_frame_that_offers_what_no_host_passes_on_is_refused() {
    type Change = fn(&mut Capabilities);
    let beyond: [(&str, Change); 5] = [
        ("IDR0.S2P", |caps| caps.idr0.set_s2p(true)),
        ("IDR0.HTTU", |caps| caps.idr0.set_httu(2)),
        ("IDR0.HYP", |caps| caps.idr0.set_hyp(true)),
        ("IDR1.ATTR_PERMS_OVR", |caps| {
            caps.idr1.set_attr_perms_ovr(true);
        }),
        ("IDR3.E0PD", |caps| caps.idr3.set_e0pd(true)),
    ];
    for (name, change) in beyond {
        let mut caps = Offer::new(48).capabilities(&rich()).unwrap();
        change(&mut caps);
        assert_eq!(admits(&rich(), &caps), Err(Lack::NotPassedOn(Field(name))));
    }
}

#[test]
fn the_lowest_of_a_fleet_suits_each_of_it() {
    let profiles = [
        Profile::Basic.features(),
        Profile::Ranges.features(),
        rich(),
    ];
    let lowest = HostFeatures::lowest(&profiles).unwrap();
    assert_eq!(lowest, Profile::Basic.features());
    let caps = Offer::new(40).capabilities(&lowest).unwrap();
    assert_eq!(caps.aidr.arch_minor(), 0, "nothing of SMMUv3.1");
    assert!(profiles.iter().all(|host| admits(host, &caps).is_ok()));
    let ranges = Offer::new(40)
        .capabilities(&Profile::Ranges.features())
        .unwrap();
    assert!(admits(&Profile::Basic.features(), &ranges).is_err());
    assert!(admits(&rich(), &ranges).is_ok());
}

#[test]
fn a_fleet_without_anything_in_common_is_refused() {
    assert_eq!(HostFeatures::lowest(&[]), Err(FleetError::Empty));
    let small = HostFeatures {
        granule_16k: false,
        granule_64k: false,
        ..rich()
    };
    let large = HostFeatures {
        granule_4k: false,
        granule_16k: false,
        ..rich()
    };
    assert!(matches!(
        HostFeatures::lowest(&[small, large]),
        Err(FleetError::NothingCommon(Field(field))) if field.contains("GRAN4K")
    ));
    let never = HostFeatures {
        stalls: StallModel::Never,
        ..rich()
    };
    let always = HostFeatures {
        stalls: StallModel::Always,
        ..rich()
    };
    assert!(HostFeatures::lowest(&[never, always]).is_err());
    assert_eq!(
        HostFeatures::lowest(&[rich(), never]).unwrap().stalls,
        StallModel::Never
    );
}

#[test]
fn profiles_are_found_by_their_names() {
    assert_eq!("basic".parse(), Ok(Profile::Basic));
    assert_eq!("ranges".parse(), Ok(Profile::Ranges));
    assert!(
        "Ranges"
            .parse::<Profile>()
            .unwrap_err()
            .to_string()
            .contains("`ranges`")
    );
}
