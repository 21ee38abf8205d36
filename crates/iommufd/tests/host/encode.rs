//! What leaves for the host is what its driver and its hardware accept, and asks for no less.

use crate::common::*;
use dispatch::{Backend, Batch, Invalidation, Scope, Stage};
use proptest::prelude::*;
use smmu_core::command::{AtcInv, Command, Tlbi};
use smmu_core::range::{Granule, TlbiRange};
use smmu_core::spec::command::{RawCommand, opcode};
use smmu_core::{Asid, StreamId, SubstreamId, Vmid};
use std::sync::{Arc, Mutex};
use vcmdq_iommufd::encode::{Entries, MAX_ENTRIES};
use vcmdq_iommufd::testing::{Counting, FakeStreams, Selftest};
use vcmdq_iommufd::uapi::{Invalidate, InvalidateError};
use vcmdq_iommufd::{ArmSmmuv3, Encoder, Iommufd, IommufdBackend, IommufdSettings, VtdFirstStage};

fn sent(encoder: ArmSmmuv3, requests: &[Invalidation]) -> Vec<RawCommand> {
    let host = Host::with(Counting::Converted, encoder, |_| {});
    host.backend.submit(&batch(requests)).expect("taken");
    host.kernel.take_executed()
}

fn addresses(asid: Option<u16>, range: TlbiRange) -> Invalidation {
    let asid = asid.map(Asid);
    request(Scope::Addresses { asid, range })
}

/// The VMID is the host's to put in, and without ranges their fields are reserved.
fn is_clean(raw: &RawCommand, ranges: bool) -> bool {
    let vmid = raw.dw0 >> 32 & 0xFFFF;
    let named = matches!(raw.dw0 as u8, 0x40 | 0x05 | 0x06);
    let range = raw.dw0 >> 12 & 0x1FFF | (raw.dw1 >> 8 & 0xF) << 16;
    let (tg, reserved) = (raw.dw1 >> 10 & 3, range == 0 && raw.dw1 >> 10 & 3 != 0);
    named || vmid == 0 && !reserved && (ranges || range == 0 && tg == 0)
}

#[test]
fn opcodes_are_those_that_the_kernel_takes() {
    let scopes = [
        (Scope::Vmid, opcode::TLBI_NH_ALL),
        (Scope::Context(Asid(9)), opcode::TLBI_NH_ASID),
        (Scope::ContextAndGlobals(Asid(9)), opcode::TLBI_NH_ALL),
        (pages(5, 1).scope, opcode::TLBI_NH_VA),
        (addresses(None, range(5, 3)).scope, opcode::TLBI_NH_VAA),
        (contexts(STREAM).scope, opcode::CFGI_CD),
    ];
    for (scope, op) in scopes {
        let raw = sent(ArmSmmuv3::new(true), &[request(scope)]);
        assert_eq!((raw.len(), raw[0].dw0 as u8), (1, op), "{scope:?}");
    }
    let all = sent(ArmSmmuv3::new(true), &[Invalidation::everything()]);
    assert_eq!(all[0].dw0 as u8, opcode::TLBI_NSNH_ALL);
    // A guest behind a vIOMMU has neither a stage 2 nor EL2; whatever the host has is the VMID's.
    for stage in [Stage::Two, Stage::Both, Stage::El2] {
        for scope in [Scope::Vmid, pages(5, 1).scope] {
            let vmid = Vmid(0);
            let raw = sent(ArmSmmuv3::new(true), &[Invalidation { vmid, stage, scope }]);
            assert_eq!(raw[0].dw0 as u8, opcode::TLBI_NH_ALL);
        }
    }
}

#[test]
fn law2_the_guests_vmid_does_not_leave() {
    let vmid = Vmid(0x77);
    let mut own = Batch::new();
    own.restart(vmid);
    let scopes = [Scope::Vmid, Scope::Context(Asid(1)), pages(5, 1).scope];
    for (origin, scope) in scopes.into_iter().enumerate() {
        own.push(
            Invalidation {
                vmid,
                ..request(scope)
            },
            origin as u32,
        );
    }
    let host = Host::new(Counting::Converted);
    host.backend.submit(&own).expect("taken");
    let executed = host.kernel.take_executed();
    assert_eq!(executed.len(), 3);
    assert!(executed.iter().all(|raw| raw.dw0 >> 32 & 0xFFFF == 0));
}

/// A promise that the address does not keep would make the host's removal unpredictable.
#[test]
fn law7_a_level_hint_leaves_only_with_an_address_that_keeps_it() {
    let ttl = |page, ttl| {
        let range = TlbiRange {
            ttl,
            ..range(page, 512)
        };
        let raw = sent(ArmSmmuv3::new(true), &[addresses(Some(1), range)]);
        raw[0].dw1 >> 8 & 3
    };
    assert_eq!(
        (ttl(512, 2), ttl(512, 3), ttl(513, 2), ttl(512, 1)),
        (2, 3, 0, 0)
    );
    // The reserved combination becomes the page, of whatever granule.
    let one = sent(ArmSmmuv3::new(true), &[pages(7, 1)]);
    assert_eq!(one[0].dw1 >> 8 & 0xF, 0);
}

/// Row 31: a range of no bytes is not all, and not an error either.
#[test]
fn row31_an_empty_range_is_a_page() {
    let empty = TlbiRange {
        bytes: 0,
        ..range(9, 1)
    };
    for ranges in [true, false] {
        let raw = sent(ArmSmmuv3::new(ranges), &[addresses(Some(1), empty)]);
        assert_eq!((raw.len(), raw[0].dw0 as u8), (1, opcode::TLBI_NH_VA));
        assert_eq!(raw[0].dw1 >> 12, 9);
    }
    let (addr, npages, _) = vtd_entry(&addresses(Some(1), empty));
    assert_eq!((addr, npages), (9 << 12, 1));
}

/// Row 35: all addresses, and those at the top, do not wrap.
#[test]
fn row35_the_whole_address_space_does_not_overflow() {
    let whole = TlbiRange {
        addr: 0,
        bytes: u64::MAX,
        ..range(0, 1)
    };
    let top = TlbiRange {
        addr: !0xFFFF,
        bytes: 1 << 40,
        ..range(0, 1)
    };
    let raw = sent(ArmSmmuv3::new(true), &[addresses(Some(1), whole)]);
    assert_eq!(raw[0].dw0 as u8, opcode::TLBI_NH_ALL);
    let raw = sent(
        ArmSmmuv3::new(false),
        &[addresses(Some(1), whole), addresses(Some(1), top)],
    );
    assert_eq!(
        (raw[0].dw0 as u8, raw[1].dw1 >> 12),
        (opcode::TLBI_NH_ALL, u64::MAX >> 12 & !0xF)
    );
    assert_eq!(raw.len(), 1 + 16);
    assert_eq!(vtd_entry(&addresses(None, whole)), (0, 1 << 52, 1));
    assert_eq!(vtd_entry(&addresses(None, top)), (!0xFFFF, 16, 1));
    // "Everything" of a device, whatever it says of the address.
    let atc = request(Scope::DeviceTlb {
        stream: STREAM,
        pasid: None,
        global: true,
        addr: !0,
        size: 63,
    });
    let raw = sent(ArmSmmuv3::new(true), &[atc]);
    let inv = AtcInv {
        stream: STREAM,
        substream: None,
        global: false,
        addr: 0,
        size: 52,
    };
    assert_eq!(decoded(&raw), [Command::AtcInv(inv)]);
}

#[test]
fn law7_without_ranges_every_page_is_a_command_up_to_a_block() {
    let of = |count| sent(ArmSmmuv3::new(false), &[pages(100, count)]);
    let (block, more) = (of(63), of(64));
    assert_eq!((block.len(), more.len()), (63, 1));
    assert_eq!(more[0].dw0 as u8, opcode::TLBI_NH_ALL);
    for (at, command) in decoded(&block).into_iter().enumerate() {
        let Command::Tlbi(Tlbi::NhVa { range, .. }) = command else {
            panic!("{command:?}");
        };
        assert_eq!((range.addr >> 12, range.granule), (100 + at as u64, None));
    }
    let wide = TlbiRange {
        addr: 0x10_0000,
        bytes: 0x2_0000,
        granule: Some(Granule::K64),
        ttl: 0,
        leaf: true,
    };
    let raw = sent(ArmSmmuv3::new(false), &[addresses(None, wide)]);
    assert_eq!(raw.len(), 2, "a page of 64 KiB is one");
}

/// Row 7: a guest may send CFGI_CD before its STE is valid.
#[test]
fn law4_row7_cfgi_cd_of_a_stream_that_does_not_translate_reaches_no_host() {
    let early = StreamId(0x99);
    let host = Host::new(Counting::Converted);
    host.streams.idle(early);
    host.backend
        .submit(&batch(&[contexts(early)]))
        .expect("nothing to do");
    assert!(host.kernel.take_calls().is_empty());
    assert_eq!(host.backend.metrics().untranslated, 1);
    host.backend
        .submit(&batch(&[contexts(STREAM)]))
        .expect("taken");
    assert_eq!(host.kernel.take_executed().len(), 1);
}

/// Takes down what it is sent.
#[derive(Default)]
struct Scribe(Mutex<Vec<(u32, u32, Vec<u8>)>>);

impl Iommufd for Scribe {
    fn invalidate(&self, call: &Invalidate<'_>) -> Result<(), InvalidateError> {
        let call = (call.data_type, call.entry_len, call.entries.to_vec());
        self.0.lock().expect("test").push(call);
        Ok(())
    }
}

fn written(encoder: impl Encoder + 'static, requests: &[Invalidation]) -> (u32, u32, Vec<u8>) {
    let scribe = Arc::new(Scribe::default());
    let settings = IommufdSettings::new(Arc::new(FakeStreams::default()));
    let backend = IommufdBackend::new(scribe.clone(), 1, encoder, settings);
    backend.submit(&batch(requests)).expect("taken");
    let mut calls = scribe.0.lock().expect("test");
    assert_eq!(calls.len(), 1);
    calls.remove(0)
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Address, pages and flags.
fn vtd_entry(request: &Invalidation) -> (u64, u64, u64) {
    let (data_type, len, bytes) = written(VtdFirstStage, &[*request]);
    assert_eq!((data_type, len, bytes.len()), (0, 24, 24));
    assert_eq!(number(&bytes[20..]), 0, "reserved");
    (
        number(&bytes[..8]),
        number(&bytes[8..16]),
        number(&bytes[16..20]),
    )
}

#[test]
fn vtd_names_pages_and_everything_as_the_interface_does() {
    let everything = (0, u64::MAX, 0);
    assert_eq!(vtd_entry(&pages(3, 5)), (3 << 12, 5, 1));
    let table = TlbiRange {
        leaf: false,
        ..range(3, 1)
    };
    assert_eq!(vtd_entry(&addresses(None, table)), (3 << 12, 1, 0));
    let coarse = TlbiRange {
        addr: 0x1_0000,
        bytes: 0x1_0000,
        granule: Some(Granule::K64),
        ttl: 0,
        leaf: true,
    };
    assert_eq!(vtd_entry(&addresses(None, coarse)), (0x1_0000, 16, 1));
    for scope in [
        Scope::Vmid,
        Scope::Context(Asid(1)),
        Scope::ContextAndGlobals(Asid(1)),
        Scope::All,
    ] {
        assert_eq!(vtd_entry(&request(scope)), everything);
    }
    let atc = |addr, size| {
        request(Scope::DeviceTlb {
            stream: STREAM,
            pasid: Some(SubstreamId(1)),
            global: false,
            addr,
            size,
        })
    };
    assert_eq!(vtd_entry(&atc(0x5000, 2)), (0x4000, 4, 1));
    assert_eq!(vtd_entry(&atc(0, 52)), everything);
    assert_eq!(vtd_entry(&contexts(STREAM)), everything);
}

#[test]
fn the_mock_is_told_of_every_device_or_of_the_one_that_is_named() {
    let entries = |requests: &[Invalidation]| {
        let (data_type, len, bytes) = written(Selftest::new([8, 9]), requests);
        assert_eq!((data_type, len), (0xdead_beef, 12));
        let entry = |entry: &[u8]| [0, 4, 8].map(|at| number(&entry[at..at + 4]));
        bytes.chunks(12).map(entry).collect::<Vec<_>>()
    };
    assert_eq!(
        entries(&[pages(6, 2)]),
        [[0, 8, 2], [0, 8, 3], [0, 9, 2], [0, 9, 3]]
    );
    assert_eq!(entries(&[pages(6, 4)]), [[1, 8, 0], [1, 9, 0]]);
    assert_eq!(entries(&[contexts(StreamId(9))]), [[1, 9, 0]]);
    let atc = request(Scope::DeviceTlb {
        stream: StreamId(8),
        pasid: None,
        global: false,
        addr: 0x5000,
        size: 0,
    });
    assert_eq!(
        entries(&[atc, request(Scope::Vmid)]),
        [[0, 8, 1], [1, 8, 0], [1, 9, 0]]
    );
}

proptest! {
    /// Whatever is asked for: the kernel takes it, the hardware does not call it illegal, and it removes
    /// what it should.
    #[test]
    fn law7_row30_commands_are_legal_and_ask_for_no_less(requests in prop::collection::vec(any_request(), 1..60)) {
        let raw = sent(ArmSmmuv3::new(true), &requests);
        prop_assert!(raw.iter().all(|raw| is_clean(raw, true)));
        prop_assert!(all_done(&raw, &requests));
        let raw = sent(ArmSmmuv3::new(false), &requests);
        prop_assert!(raw.iter().all(|raw| is_clean(raw, false)));
    }
}

/// Entries of requests, as many together as the encoder can, or one by one; and how many went together.
fn entries(encoder: &dyn Encoder, requests: &[Invalidation], together: bool) -> (Entries, usize) {
    let (batch, mut entries) = (batch(requests), Entries::new(encoder.entry_len()));
    let (mut at, mut runs) = (0, 0);
    while at < requests.len() {
        let run = match together {
            true => encoder.encode_run(&batch, at..requests.len(), &mut entries),
            false => 0,
        };
        if run == 0 {
            encoder
                .encode(&requests[at], &mut entries)
                .expect("an entry");
        }
        runs += run;
        at += run.max(1);
    }
    (entries, runs)
}

proptest! {
    #[test]
    fn law7_requests_together_are_what_each_is_alone(
        requests in prop::collection::vec(any_request(), 1..=200),
    ) {
        let encoders: [&dyn Encoder; 4] = [
            &ArmSmmuv3::new(true),
            &ArmSmmuv3::new(false),
            &VtdFirstStage,
            &Selftest::new([STREAM.0]),
        ];
        for encoder in encoders {
            let [together, alone] = [true, false].map(|how| entries(encoder, &requests, how).0);
            prop_assert_eq!(together.bytes(), alone.bytes());
        }
    }
}

/// All of a call that a busy guest makes goes at once, and what has no room is left for the next.
#[test]
fn a_whole_call_is_one_run() {
    let requests = far(MAX_ENTRIES);
    let arm = ArmSmmuv3::new(true);
    assert_eq!(entries(&arm, &requests, true).1, MAX_ENTRIES);
    let mut full = Entries::new(16);
    let batch = batch(&requests);
    assert_eq!(arm.encode_run(&batch, 0..8, &mut full), 8);
    assert_eq!(arm.encode_run(&batch, 0..MAX_ENTRIES, &mut full), 1000);
    assert_eq!(arm.encode_run(&batch, 0..MAX_ENTRIES, &mut full), 0);
    assert_eq!(full.len(), MAX_ENTRIES);
    let mut other = Entries::new(24);
    assert_eq!(
        arm.encode_run(&batch, 0..8, &mut other),
        0,
        "of another length"
    );
    // Without ranges, a page is one command of its own kind.
    let plain = ArmSmmuv3::new(false);
    assert_eq!(entries(&plain, &requests, true).1, 0);
}
