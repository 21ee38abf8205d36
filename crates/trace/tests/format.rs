//! Whatever is written comes back; whatever is damaged is told, and nothing more happens.

use proptest::collection::vec;
use proptest::prelude::*;
use vcmdq_trace::record::{Encoder, MOST_PAYLOAD};
use vcmdq_trace::{
    Body, Checksum, Commands, Event, Header, Integrity, Reader, Recording, RingKind, Totals,
    TraceError,
};

/// An event that owns its commands.
#[derive(Clone, Debug)]
enum Owned {
    Published(u32),
    Fetched(u32, Vec<[u8; 16]>),
    Completed(u32),
    Consumed(u32),
    Gap(u64, u64),
    Layout(u64, u8),
}

fn owned() -> impl Strategy<Value = Owned> {
    prop_oneof![
        any::<u32>().prop_map(Owned::Published),
        (any::<u32>(), vec(any::<[u8; 16]>(), 0..20)).prop_map(|(a, b)| Owned::Fetched(a, b)),
        any::<u32>().prop_map(Owned::Completed),
        any::<u32>().prop_map(Owned::Consumed),
        any::<(u64, u64)>().prop_map(|(a, b)| Owned::Gap(a, b)),
        (any::<u64>(), 0..=19u8).prop_map(|(a, b)| Owned::Layout(a, b)),
    ]
}

const RINGS: u16 = 3;

type Step = (u16, u64, Owned);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec((0..RINGS, 0..u64::MAX / 2, owned()), 0..30)
}

fn header() -> Header {
    Header {
        machine: "a machine".into(),
        rings: vec![RingKind::Cmdq, RingKind::Vcmdq(0), RingKind::Vcmdq(1)],
        ..Header::default()
    }
}

const TOTALS: Totals = Totals {
    records: 1,
    commands: 2,
    dropped_events: 3,
    dropped_commands: 4,
    left_out: 5,
};

/// The file, and where each record of it begins.
fn file(steps: &[Step]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header().to_bytes();
    let (mut encoder, mut begins) = (Encoder::default(), Vec::new());
    for (ring, time, owned) in steps {
        begins.push(bytes.len());
        with(owned, |event| {
            encoder.event(&mut bytes, *ring, *time, &event);
        });
    }
    begins.push(bytes.len());
    let before = Checksum::of(&bytes);
    encoder.end(&mut bytes, &TOTALS, before);
    (bytes, begins)
}

fn with<R>(owned: &Owned, work: impl FnOnce(Event<'_>) -> R) -> R {
    let bytes;
    work(match *owned {
        Owned::Published(prod) => Event::Published { prod },
        Owned::Fetched(first, ref commands) => {
            bytes = commands.concat();
            let commands = Commands::new(&bytes).expect("whole");
            Event::Fetched { first, commands }
        }
        Owned::Completed(index) => Event::Completed { index },
        Owned::Consumed(cons) => Event::Consumed { cons },
        Owned::Gap(events, commands) => Event::Gap { events, commands },
        Owned::Layout(base, log2size) => Event::Layout { base, log2size },
    })
}

/// What is read before the first error, and the errors.
fn read(bytes: &[u8]) -> (usize, Vec<TraceError>) {
    let reader = Reader::new(bytes).expect("the header is good");
    let (mut good, mut errors) = (0, Vec::new());
    for record in reader {
        match record {
            Ok(_) if errors.is_empty() => good += 1,
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    (good, errors)
}

proptest! {
    #[test]
    fn what_is_written_comes_back(steps in steps()) {
        let (bytes, begins) = file(&steps);
        let mut reader = Reader::new(&bytes).expect("a recording");
        prop_assert_eq!(reader.header(), &header());
        for ((ring, time, owned), begin) in steps.iter().zip(&begins) {
            let record = reader.next().expect("one more").expect("whole");
            prop_assert_eq!(record.offset, *begin);
            with(owned, |event| {
                let (ring, time) = (*ring, *time);
                assert_eq!(record.body, Body::Ring { ring, time, event });
            });
        }
        let last = reader.next().expect("the end").expect("whole");
        let (totals, has_checksum) = (TOTALS, true);
        prop_assert_eq!(last.body, Body::End { totals, has_checksum });
        prop_assert!(reader.next().is_none());
    }

    #[test]
    fn a_cut_leaves_everything_before_it(steps in steps(), cut: prop::sample::Index) {
        let (bytes, begins) = file(&steps);
        let head = begins[0];
        let end = head + cut.index(bytes.len() - head);
        let whole = begins.iter().skip(1).filter(|begin| **begin <= end).count();
        let (good, errors) = read(&bytes[..end]);
        prop_assert_eq!(good, whole);
        if begins.contains(&end) {
            prop_assert!(errors.is_empty());
        } else {
            let named = matches!(errors[..], [TraceError::CutOff { offset, .. }] if offset == begins[whole]);
            prop_assert!(named, "{:?}", errors);
        }
    }

    #[test]
    fn flipped_bits_are_errors_or_other_values(
        steps in steps(),
        flips in vec((any::<prop::sample::Index>(), 0..8u8), 1..8),
    ) {
        let (mut bytes, _) = file(&steps);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let length = bytes.len();
        if let Ok(reader) = Reader::new(&bytes) {
            let mut last = 0;
            for record in reader {
                let offset = match record {
                    Ok(record) => record.offset,
                    Err(TraceError::Record { offset, .. }) => offset,
                    Err(error) => {
                        prop_assert!(error.is_final());
                        continue;
                    }
                };
                prop_assert!(offset >= last && offset < length);
                last = offset + 1;
            }
        }
    }

    #[test]
    fn random_bytes_end(behind in vec(any::<u8>(), 0..4096), bare: bool) {
        let mut bytes = if bare { Vec::new() } else { header().to_bytes() };
        bytes.extend(&behind);
        if let Ok(reader) = Reader::new(&bytes) {
            // Each record takes two bytes at least.
            prop_assert!(reader.count() <= behind.len());
        }
    }
}

#[test]
fn an_unknown_kind_is_skipped_by_its_length() {
    let mut bytes = header().to_bytes();
    let mut encoder = Encoder::default();
    encoder.event(&mut bytes, 0, 100, &Event::Published { prod: 1 });
    bytes.extend([200, 3, 0xFF, 0xFF, 0xFF]);
    encoder.event(&mut bytes, 0, 150, &Event::Published { prod: 2 });
    let bodies: Vec<_> = Reader::new(&bytes)
        .expect("a recording")
        .map(|record| record.expect("whole").body)
        .collect();
    assert_eq!(
        bodies[1],
        Body::Unknown {
            kind: 200,
            bytes: 3
        }
    );
    assert!(matches!(bodies[2], Body::Ring { time: 150, .. }));
}

#[test]
fn a_damaged_record_is_named_and_the_next_one_is_read() {
    let mut bytes = header().to_bytes();
    let at = bytes.len();
    // A ring that the header does not have.
    bytes.extend([1, 3, 7, 0, 0]);
    Encoder::default().event(&mut bytes, 1, 5, &Event::Consumed { cons: 3 });
    let records: Vec<_> = Reader::new(&bytes).expect("a recording").collect();
    let error = records[0].clone().expect_err("damaged");
    assert!(
        matches!(error, TraceError::Record { offset, kind: 1, .. } if offset == at),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("{at:#x}")), "{error}");
    assert!(records[1].is_ok());
}

#[test]
fn an_impossible_length_ends_the_reading() {
    let mut bytes = header().to_bytes();
    let at = bytes.len();
    bytes.push(2);
    let mut length = MOST_PAYLOAD as u64 + 1;
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend([0; 64]);
    let (good, errors) = read(&bytes);
    assert_eq!((good, errors), (0, vec![TraceError::Length { offset: at }]));
}

/// A file with one record of each kind.
fn sample() -> Vec<u8> {
    let steps = [
        (0, 10, Owned::Layout(0x1000, 8)),
        (0, 20, Owned::Published(2)),
        (1, 30, Owned::Gap(1, 3)),
        (0, 40, Owned::Fetched(0, vec![[0x12; 16], [0x46; 16]])),
        (0, 50, Owned::Completed(1)),
        (0, 60, Owned::Consumed(2)),
    ];
    file(&steps).0
}

/// Without its checksum, as older recorders wrote it.
fn older(mut bytes: Vec<u8>) -> Vec<u8> {
    let ends = bytes.len() - 4;
    bytes.truncate(ends);
    // END, its length, five numbers of one byte each.
    assert_eq!(bytes[ends - 7..ends - 5], [7, 9]);
    bytes[ends - 6] = 5;
    bytes
}

#[test]
fn every_flipped_bit_of_a_recording_is_noticed() {
    let bytes = sample();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let noticed = match Recording::read(&damaged) {
                Err(_) => true,
                Ok(read) => read.damaged > 0 || read.totals.is_none(),
            };
            assert!(noticed, "bit {bit} of byte {at:#x}");
        }
    }
}

#[test]
fn a_checksum_that_does_not_fit_is_told_behind_all_records() {
    let mut bytes = sample();
    let whole = Recording::read(&bytes).expect("a recording");
    assert!(whole.integrity == Integrity::Whole && whole.errors.is_empty());
    let command = bytes.windows(16).position(|bytes| bytes == [0x12; 16]);
    bytes[command.expect("a command")] ^= 0x40;
    let (good, errors) = read(&bytes);
    assert_eq!(good, 7, "records and the end");
    let [error] = &errors[..] else {
        panic!("{errors:?}")
    };
    assert!(error.is_final());
    let offset = bytes.len() - 4;
    assert!(matches!(*error, TraceError::Checksum { offset: at, .. } if at == offset));
    let damaged = Recording::read(&bytes).expect("the header is good");
    assert_eq!(damaged.integrity, Integrity::Changed);
    assert!(damaged.damaged == 1 && damaged.totals == Some(TOTALS));
}

#[test]
fn an_older_recording_has_no_checksum_and_is_whole() {
    let older = older(sample());
    let read = Recording::read(&older).expect("a recording");
    assert_eq!(read.integrity, Integrity::Unknown);
    assert_eq!((read.totals, read.damaged), (Some(TOTALS), 0));
    let newer = Recording::read(&sample()).expect("a recording");
    assert_eq!(read.rings, newer.rings);
}

#[test]
fn what_follows_the_last_record_is_damage() {
    for mut bytes in [sample(), older(sample())] {
        // A kind that nobody knows: it would be skipped elsewhere.
        bytes.extend([200, 0]);
        let (good, errors) = read(&bytes);
        assert_eq!(good, 6);
        let named = matches!(errors[..], [TraceError::Record { kind: 7, .. }]);
        assert!(named, "{errors:?}");
    }
}

#[test]
fn half_a_checksum_is_none() {
    let mut bytes = older(sample());
    let ends = bytes.len();
    bytes[ends - 6] = 8;
    bytes.extend([0; 3]);
    let (_, errors) = read(&bytes);
    assert!(
        matches!(errors[..], [TraceError::Record { kind: 7, .. }]),
        "{errors:?}"
    );
}

#[test]
fn the_bundled_recordings_are_older_ones_and_whole() {
    let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../../traces");
    let mut seen = 0;
    for entry in std::fs::read_dir(traces).expect("bundled") {
        let bytes = std::fs::read(entry.expect("a file").path()).expect("bundled");
        let read = Recording::read(&bytes).expect("a recording");
        assert_eq!(read.integrity, Integrity::Unknown);
        assert!(read.totals.is_some() && read.damaged == 0);
        seen += 1;
    }
    assert_eq!(seen, 4);
}
