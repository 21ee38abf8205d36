//! One S2, one host VMID (law 1); the guest names neither VMIDs nor devices of the host (law 2).

mod common;

use common::{Rig, STREAM, Told, backend};
use dispatch::{Backend as _, Scope};
use smmu_core::command::{Cfgi, Command, Tlbi};
use smmu_core::encode::encode;
use smmu_core::{Asid, StreamId, SubstreamId, Vmid};
use vcmdq::testing::commands::{atc_inv, sync};
use vcmdq::{BindError, Binding, Placement};

const OTHER: StreamId = StreamId(0x20);

/// Why a stream that lies there is not bound to an instance of the first SMMU and stage 2.
fn refused(placement: Placement) -> BindError {
    let rig = Rig::new();
    let instance = rig.instance;
    let binding = Binding {
        instance,
        placement,
    };
    rig.frame.bind(OTHER, binding).unwrap_err()
}

#[test]
fn law1_a_stream_of_another_smmu_is_refused() {
    let why = refused(Placement { smmu: 1, stage2: 0 });
    assert!(matches!(why, BindError::OtherSmmu { stream: OTHER, .. }));
    assert!(why.to_string().contains("instance of its own SMMU"));
}

#[test]
fn law1_a_stream_with_another_stage2_is_refused() {
    let why = refused(Placement { smmu: 0, stage2: 7 });
    assert!(matches!(why, BindError::OtherStage2 { stream: OTHER, .. }));
}

#[test]
fn law1_a_stream_belongs_to_one_instance() {
    let rig = Rig::new();
    let second = rig.frame.add_instance(backend(), Placement::default());
    let binding = Binding {
        instance: second,
        placement: Placement::default(),
    };
    assert!(matches!(
        rig.frame.bind(STREAM, binding),
        Err(BindError::Bound { .. })
    ));
    rig.frame.unbind(STREAM).unwrap();
    assert_eq!(rig.frame.unbind(STREAM), Err(BindError::NotBound(STREAM)));
    rig.frame.bind(STREAM, binding).unwrap();
    let beyond = StreamId(1 << 16);
    assert_eq!(
        rig.frame.bind(beyond, binding),
        Err(BindError::BeyondSidSize(beyond))
    );
}

#[test]
fn law2_without_stage2_the_guests_vmid_is_ignored() {
    let mut rig = Rig::new();
    rig.send(&[
        encode(&Command::Tlbi(Tlbi::NhAsid {
            vmid: Vmid(77),
            asid: Asid(1),
        })),
        sync(),
    ]);
    let batches = rig.backend.take();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].vmid(), Vmid(0));
    assert_eq!(batches[0].request(0).vmid, Vmid(0));
}

#[test]
fn law2_a_stream_that_is_not_bound_reaches_no_backend() {
    let mut rig = Rig::new();
    rig.send(&[atc_inv(OTHER, 0), atc_inv(STREAM, 0), sync()]);
    let batches = rig.backend.take();
    let named: Vec<_> = batches
        .iter()
        .flat_map(|b| b.requests())
        .filter_map(|r| r.stream())
        .collect();
    assert_eq!(named, [STREAM]);
    assert_eq!(rig.ring.metrics().unbound, 1, "what is dropped is counted");
    assert_eq!(
        (rig.cons(), rig.stopped()),
        (3, false),
        "and no error of the guest"
    );
}

#[test]
fn law2_configuration_of_unbound_streams_is_nobodys_business() {
    let mut rig = Rig::new();
    let cd = |stream| {
        encode(&Command::Cfgi(Cfgi::Cd {
            stream,
            substream: SubstreamId(0),
            leaf: true,
        }))
    };
    rig.send(&[cd(OTHER), cd(STREAM), sync()]);
    let told = rig.outside.take();
    assert!(
        matches!(told[..], [Told::Configuration(STREAM, Cfgi::Cd { .. })]),
        "{told:?}"
    );
}

#[test]
fn what_names_an_asid_goes_to_every_instance_and_what_names_a_stream_to_its_own() {
    let mut rig = Rig::new();
    let second = backend();
    let id = rig
        .frame
        .add_instance(second.clone(), Placement { smmu: 3, stage2: 1 });
    let placement = Placement { smmu: 3, stage2: 1 };
    rig.frame
        .bind(
            OTHER,
            Binding {
                instance: id,
                placement,
            },
        )
        .unwrap();
    rig.send(&[
        encode(&Command::Tlbi(Tlbi::NhAsid {
            vmid: Vmid(0),
            asid: Asid(1),
        })),
        atc_inv(OTHER, 0),
        sync(),
    ]);
    let scopes = |backend: &common::Backend| -> Vec<Scope> {
        backend
            .take()
            .iter()
            .flat_map(|b| b.requests())
            .map(|r| r.scope)
            .collect()
    };
    assert_eq!(scopes(&rig.backend), [Scope::Context(Asid(1))]);
    let theirs = scopes(&second);
    assert!(
        matches!(
            theirs[..],
            [
                Scope::Context(Asid(1)),
                Scope::DeviceTlb { stream: OTHER, .. }
            ]
        ),
        "{theirs:?}"
    );
    assert!(second.capabilities().ranges);
}
