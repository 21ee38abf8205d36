//! `replay` and `decode` with recordings.

use serde_json::Value;
use smmu_core::spec::command::RawCommand;
use smmu_core::{Asid, Capabilities};
use std::path::Path;
use std::process::{Command, Output};
use vcmdq::testing::commands::{self, sync};
use vcmdq_trace::record::Encoder;
use vcmdq_trace::{Checksum, Commands, Event, Header, RingKind, Totals};

fn tool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vcmdq"))
        .args(args)
        .output()
        .expect("the tool starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn json(output: &Output) -> Value {
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

fn file(name: &str, bytes: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    path.display().to_string()
}

fn tlbi(asid: u16, page: u64) -> RawCommand {
    commands::tlbi(Asid(asid), page)
}

/// Writes a recording of two rings: the main one has a submission of 2 µs every 4 µs, each
/// publication two of them; the other one has one all the time.
struct Maker {
    bytes: Vec<u8>,
    encoder: Encoder,
    next: [u32; 2],
}

impl Maker {
    fn new() -> Self {
        let header = Header {
            machine: "8 CPUs".into(),
            kernel: "7.2.13".into(),
            rings: vec![RingKind::Cmdq, RingKind::Vcmdq(2)],
            ..Header::of(&Capabilities::default())
        };
        let mut maker = Self {
            bytes: header.to_bytes(),
            encoder: Encoder::default(),
            next: [0; 2],
        };
        for ring in [0, 1] {
            let (base, log2size) = (0x1000 * u64::from(ring), 8);
            maker.event(ring, 0, &Event::Layout { base, log2size });
        }
        maker
    }

    fn event(&mut self, ring: u16, us: u64, event: &Event<'_>) {
        self.encoder.event(&mut self.bytes, ring, us * 1000, event);
    }

    fn window(&mut self, ring: u16, us: [u64; 2], commands: &[RawCommand]) {
        let first = self.next[usize::from(ring)];
        let prod = first + commands.len() as u32;
        self.next[usize::from(ring)] = prod;
        self.event(ring, us[0], &Event::Published { prod });
        let bytes: Vec<_> = commands.iter().flat_map(|raw| raw.to_le_bytes()).collect();
        let fetched = Commands::new(&bytes).expect("whole");
        let commands_of = Event::Fetched {
            first,
            commands: fetched,
        };
        self.event(ring, us[0], &commands_of);
        for (raw, index) in commands.iter().zip(first..) {
            if *raw == sync() {
                self.event(ring, us[1], &Event::Completed { index });
            }
        }
        self.event(ring, us[1], &Event::Consumed { cons: prod });
    }
}

fn recording() -> Vec<u8> {
    let mut maker = Maker::new();
    for n in 0..20 {
        let pair = [tlbi(1, n), sync(), tlbi(2, n), sync()];
        maker.window(0, [4 * n, 4 * n + 2], &pair);
        maker.window(1, [4 * n, 4 * n + 4], &[tlbi(3, n), tlbi(3, n + 1), sync()]);
    }
    let mut bytes = maker.bytes;
    let before = Checksum::of(&bytes);
    maker.encoder.end(&mut bytes, &Totals::default(), before);
    bytes
}

#[test]
fn a_recording_is_replayed_as_it_was_published() {
    let name = file("two-rings.vcq", &recording());
    let args = ["replay", &name, "--as-published", "--repeat", "3", "--json"];
    let output = tool(&[&args[..], &["--check-every", "1", "--drain-rounds", "1"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = json(&output);
    let engine = &report["workloads"][0]["engine"];
    assert_eq!(engine["vcpus"].as_array().map(Vec::len), Some(2), "rings");
    assert_eq!(report["workloads"][0]["submissions"], 3 * 40);
    assert_eq!(engine["commands"], 3 * 20 * (4 + 3));
    assert_eq!(engine["figures"]["syncs"], 3 * 20 * 3);
    assert_eq!(engine["checks"]["stale"], 0);
    assert!(engine["checks"]["victims"].as_u64() > Some(0));
}

#[test]
fn the_summary_says_what_the_stream_looks_like() {
    let name = file("shape.vcq", &recording());
    let args = ["replay", &name, "--repeat", "1", "--vcpus", "2"];
    let output = tool(&[&args[..], &["--drain-rounds", "0", "--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shape = &json(&output)["streams"][0];
    let near = |key: &str, value: f64| {
        let found = shape[key].as_f64().expect("a number");
        assert!((found - value).abs() < 0.01 * value, "{key}: {found}");
    };
    near("commands_per_sync", 140.0 / 60.0);
    near("commands_per_publication", 3.5);
    near("seconds", 80e-6);
    near("tlbis_per_second", 80.0 / 80e-6);
    // Half of the time two of one ring and one of the other, else that one.
    near("mean_outstanding", 2.0);
    assert_eq!(shape["rings_waiting"], serde_json::json!([0.0, 0.5, 0.5]));
    assert_eq!(shape["sync_us"]["max"], 4.0);
    assert_eq!(shape["rings"][1]["ring"], "vcmdq2");
    assert_eq!(shape["rings"][1]["tlbis"], 40);
    assert_eq!(shape["missing"], serde_json::json!([]));
}

#[test]
fn a_recording_is_listed_by_time() {
    let name = file("list.vcq", &recording());
    let output = tool(&["decode", &name]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let listing = text(&output.stdout);
    for line in [
        "         4.000  cmdq           0x8  PROD",
        "         4.000  cmdq           0x4    TLBI_NH_VA        vmid=0x0 asid=0x1 [0x1000..0x1fff] granule=4K ttl=3 leaf",
        "         6.000  cmdq           0x7  SYNC done",
        "         8.000  vcmdq2         0x6  CONS",
        "  machine: 8 CPUs",
        "  checksum: fits",
        "      80  TLBI_NH_VA",
    ] {
        assert!(
            listing.lines().any(|other| other == line),
            "no '{line}' in\n{listing}"
        );
    }
    let events = json(&tool(&["decode", &name, "--json"]));
    let times = events["events"].as_array().expect("a list").iter();
    let times: Vec<_> = times.map(|event| event["time"].as_u64()).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    assert_eq!(times.len(), 2 + 20 * (2 + 4 + 3 + 3 + 2));
}

#[test]
fn a_cut_or_damaged_recording_is_read_as_far_as_it_goes_and_says_so() {
    let whole = recording();
    let cut = file("cut.vcq", &whole[..whole.len() / 2]);
    let output = tool(&["decode", &cut]);
    assert_eq!(output.status.code(), Some(1));
    let listing = text(&output.stdout);
    assert!(
        listing.contains("MISSING: the file ends within the record at offset 0x"),
        "{listing}"
    );
    assert!(listing.contains("MISSING: the end of the recording: it was cut off"));
    let output = tool(&["replay", &cut, "--repeat", "1", "--drain-rounds", "0"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("MISSING: "));
    let header = file("header.vcq", &whole[..20]);
    let output = tool(&["decode", &header]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("the header is damaged at offset 0xa"));
}

#[test]
fn a_flipped_bit_is_noticed_and_an_older_recording_says_that_it_would_not_be() {
    let mut bytes = recording();
    let command = tlbi(2, 7).to_le_bytes();
    let at = bytes.windows(16).position(|bytes| bytes == command);
    // Still a legal command: another ASID.
    bytes[at.expect("a command") + 6] ^= 1;
    let name = file("flipped.vcq", &bytes);
    let output = tool(&["decode", &name]);
    assert_eq!(output.status.code(), Some(1));
    let listing = text(&output.stdout);
    assert!(
        listing.contains("MISSING: the checksum at offset 0x"),
        "{listing}"
    );
    assert!(listing.contains("  checksum: does not fit\n"), "{listing}");
    let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../../traces");
    let older = format!("{traces}/linux-7.2-nvme-strict-4cpu-cmdq.vcq");
    let output = tool(&["decode", &older]);
    assert_eq!(output.status.code(), Some(0));
    let listing = text(&output.stdout);
    assert!(listing.contains("  checksum: none, so a flipped bit may go unnoticed\n"));
}

#[test]
fn a_raw_dump_has_no_publications() {
    let raw: Vec<_> = [tlbi(1, 1), sync()]
        .iter()
        .flat_map(|raw| raw.to_le_bytes())
        .collect();
    let output = tool(&["replay", &file("raw.cmdq", &raw), "--as-published"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is a raw dump"));
}
