//! The tool as a person or a program calls it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn tool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vcmdq"))
        .args(args)
        .output()
        .expect("the tool starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

fn dumps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../smmu-core/tests/vectors")
}

fn lazy() -> String {
    dumps()
        .join("linux-7.2-boot-nvme-lazy.cmdq")
        .display()
        .to_string()
}

/// A file with these bytes, for this test alone.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    path.display().to_string()
}

#[test]
fn the_main_job_is_done_and_told() {
    let output = tool(&[
        "--vcpus",
        "2",
        "--repeat",
        "1",
        "--ops",
        "100",
        "--drain-rounds",
        "2",
        "--check-every",
        "8",
    ]);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let text = stdout(&output);
    for expected in [
        "linux-7.2-nvme-strict-4cpu-cmdq: 1548 submissions by 2 producers",
        "linux-7.2-nvme-strict-8cpu-vcmdq: 3096 submissions",
        "vSVA storm with RIL",
        "vSVA storm without RIL",
        "commands/s",
        "p99.9",
        "munmap 256K",
        "window sizes:",
        "wake-ups",
        "OpenVMM (published)",
        "every check held",
    ] {
        assert!(text.contains(expected), "no '{expected}' in\n{text}");
    }
    // No bar where nobody looks.
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_main_job_as_json() {
    let args = [
        "storm",
        "--ops",
        "50",
        "--vcpus",
        "3",
        "--check-every",
        "1",
        "--json",
    ];
    let output = tool(&args);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["ok"], true);
    assert_eq!(report["workloads"].as_array().map(Vec::len), Some(2));
    for comparison in report["workloads"].as_array().expect("a list") {
        for consumer in ["engine", "baseline"] {
            let outcome = &comparison[consumer];
            assert_eq!(outcome["vcpus"].as_array().map(Vec::len), Some(3));
            assert!(outcome["commands_per_second"].as_f64() > Some(0.0));
            assert!(outcome["checks"]["victims"].as_u64() > Some(0));
            assert_eq!(outcome["checks"]["stale"], 0);
            assert!(outcome["all"]["p99.9"].as_u64() > Some(0));
        }
        assert!(comparison["ratios"]["commands_per_second"].as_f64() > Some(0.0));
    }
}

#[test]
fn a_file_is_replayed() {
    let output = tool(&[
        "replay",
        &lazy(),
        "--repeat",
        "2",
        "--drain-rounds",
        "1",
        "--json",
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["workloads"][0]["submissions"], 320);
    assert_eq!(report["workloads"][0]["engine"]["commands"], 646);
    assert_eq!(report["drains"]["columns"][4], "recorded");
}

#[test]
fn a_dump_without_a_sync_has_no_empty_line_of_figures() {
    let name = file("no-sync.cmdq", &[0x30, 0].map(u64::to_le_bytes).concat());
    let output = tool(&["replay", &name, "--repeat", "1", "--drain-rounds", "1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let blank = |line: &&str| !line.is_empty() && line.trim().is_empty();
    assert_eq!(stdout(&output).lines().find(blank), None);
}

#[test]
fn a_stream_with_illegal_commands_is_replayed_to_its_end() {
    let mut bytes = std::fs::read(lazy()).expect("bundled");
    bytes[16 * 40] = 0x99;
    let output = tool(&[
        "replay",
        &file("illegal.cmdq", &bytes),
        "--repeat",
        "1",
        "--json",
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["workloads"][0]["engine"]["figures"]["errors"], 1);
    assert_eq!(report["workloads"][0]["baseline"]["figures"]["errors"], 1);
    // A full queue that stops is not measured.
    assert_eq!(
        report["drains"]["rows"][1]["ns_per_command"][4],
        Value::Null
    );
}

#[test]
fn law3_a_backend_that_does_nothing_makes_the_run_fail() {
    let output = tool(&[
        "storm",
        "--ops",
        "50",
        "--check-every",
        "1",
        "--backend",
        "nothing",
    ]);
    assert_eq!(code(&output), 1);
    let text = stdout(&output);
    assert!(text.contains("is still there after the SYNC") && text.contains("CHECKS FAILED"));
}

#[test]
fn a_backend_that_forgets_everything_makes_the_run_fail() {
    let output = tool(&[
        "storm",
        "--ops",
        "50",
        "--check-every",
        "4",
        "--backend",
        "everything",
    ]);
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("is always removed, though nothing names it"));
}

#[test]
fn the_bundled_stream_is_listed() {
    let output = tool(&["decode", &lazy()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    for line in [
        "       0  0x000000  CFGI_ALL",
        "       1  0x000010  SYNC              cs=SEV",
        "       2  0x000020  TLBI_NSNH_ALL",
        "     160  SYNC",
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "no '{line}' in\n{text}"
        );
    }
    assert_eq!(
        text.lines()
            .filter(|line| line.contains("  TLBI_NH_ASID  "))
            .count(),
        139
    );
}

#[test]
fn damage_is_named_and_the_listing_goes_on() {
    let mut bytes = std::fs::read(lazy()).expect("bundled");
    bytes.truncate(16 * 20 + 7);
    bytes[16 * 3] = 0x8F;
    let name = file("damaged.cmdq", &bytes);
    let output = tool(&["decode", &name]);
    assert_eq!(code(&output), 1);
    let text = stdout(&output);
    let why = "opcode 0x8f is IMPLEMENTATION DEFINED, and nothing here";
    let line = format!("       3  0x000030  IMPDEF            ILLEGAL: {why} (0x");
    assert!(text.contains(&line), "{text}");
    assert!(text.contains("\n       4  0x000040  "));
    assert!(text.contains("      20  0x000140  damaged: 7 bytes where 16 are needed"));
    let output = tool(&["decode", &name, "--json"]);
    assert_eq!(code(&output), 1);
    let listing = json(&output);
    assert_eq!(listing["records"][3]["illegal"], why);
    assert_eq!(listing["records"][0]["name"], "CFGI_ALL");
    assert_eq!(listing["cut_off"]["offset"], "0x000140");
}

#[test]
fn capabilities_decide_what_is_legal() {
    let atc_inv = [0x40u64, 52].map(u64::to_le_bytes).concat();
    let name = file("atc.cmdq", &atc_inv);
    assert_eq!(code(&tool(&["decode", &name])), 0);
    let recorded = "0x0d44101b,0x02730010,0,0x1414,0,0x74";
    let output = tool(&["decode", &name, "--caps", recorded]);
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("needs IDR0.ATS, which is not advertised"));
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    let cut = file("cut.cmdq", &[0x11; 21]);
    let empty = file("empty.cmdq", &[]);
    for (args, reason) in [
        (
            vec!["replay", cut.as_str()],
            "is no recording, and as a raw dump it is damaged: at offset 0x10 a record of 5 bytes where 16 are needed",
        ),
        (vec!["replay", empty.as_str()], "holds no commands"),
        (vec!["decode", empty.as_str()], "holds no commands"),
        (vec!["decode", "/does/not/exist"], "cannot be read"),
        (
            vec!["decode", cut.as_str(), "--caps", "1,2"],
            "give IDR0 to IDR5",
        ),
        (vec!["--vcpus", "0"], "0 is not in 1..=64"),
        (vec!["--log2size", "20"], "20 is not in 0..=19"),
        (vec!["frobnicate"], "unrecognized subcommand"),
    ] {
        let output = tool(&args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(
            stderr(&output).contains(reason),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_shared_page_does_the_same_job() {
    let args = [
        "storm",
        "--ops",
        "100",
        "--doorbell",
        "page",
        "--check-every",
        "1",
        "--json",
    ];
    let output = tool(&args);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let engine = &json(&output)["workloads"][0]["engine"];
    assert_eq!(
        engine["figures"]["wake_ups"], 0,
        "nobody rings: the worker looks"
    );
    assert!(engine["checks"]["victims"].as_u64() > Some(0));
}

/// The smallest queues: one slot, where each command waits for the one before it.
#[test]
fn tiny_queues_do_the_job() {
    for log2size in ["0", "1", "3"] {
        let output = tool(&[
            "storm",
            "--ops",
            "20",
            "--log2size",
            log2size,
            "--check-every",
            "1",
        ]);
        assert_eq!(
            code(&output),
            0,
            "{log2size}: {}{}",
            stdout(&output),
            stderr(&output)
        );
    }
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    let strict = dumps().join("linux-7.2-boot-nvme-strict.cmdq");
    let mut child = Command::new(env!("CARGO_BIN_EXE_vcmdq"))
        .arg("decode")
        .arg(strict)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((code(&output), stderr(&output)), (0, ""));
}
