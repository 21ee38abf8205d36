//! `vcmdq bench` as a person or a program calls it.
#![cfg(feature = "bench")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vcmdq"))
        .arg("bench")
        .args(args)
        .output()
        .expect("the tool starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// A place for a file of this test alone.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("bench")
        .join(name)
}

#[test]
fn a_smoke_run_is_written_printed_and_shown_again() {
    let (json, page, again) = (file("run.json"), file("run.html"), file("again.html"));
    let path = |path: &PathBuf| path.display().to_string();
    let output = bench(&[
        "--quick",
        "--only",
        "rows",
        "--json",
        &path(&json),
        "--html",
        &path(&page),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout).to_owned();
    for expected in [
        "smoke run",
        "Shared page: one TLBI and SYNC",
        "not measured",
        "it was not asked for (--only)",
        "cargo run --release -- bench --quick --only rows",
    ] {
        assert!(printed.contains(expected), "no '{expected}' in\n{printed}");
    }
    let results: Value = serde_json::from_slice(&std::fs::read(&json).expect("it was written"))
        .expect("one JSON document");
    assert_eq!(results["quick"], true);
    assert!(results["rows"]["measured"]["drains"]["measured"]["streams"].is_array());
    assert!(results["kvm"]["skipped"].is_string());
    let written = std::fs::read_to_string(&page).expect("it was written");
    assert!(written.starts_with("<!DOCTYPE html>") && written.contains("<svg"));

    // What was measured shows the same when it is read back.
    let output = bench(&["--from", &path(&json), "--html", &path(&again)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), printed);
    assert_eq!(std::fs::read_to_string(&again).ok(), Some(written));

    let output = bench(&[
        "--from",
        &path(&json),
        "--html",
        &path(&again),
        "--markdown",
    ]);
    let table = text(&output.stdout);
    assert!(table.starts_with("| goal |"), "{table}");

    // Minutes of measuring are not lost to a file that cannot be written.
    let nowhere = path(&json.join("below-a-file"));
    for [option, other] in [["--html", "--json"], ["--json", "--html"]] {
        let (json, again) = (path(&json), path(&again));
        let output = bench(&["--from", &json, option, &nowhere, other, &again]);
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert_eq!(text(&output.stdout), printed, "{option}");
        assert!(text(&output.stderr).contains("below-a-file cannot be written"));
    }
}

#[test]
fn bad_usage_is_refused_with_the_reason() {
    let damaged = file("damaged.json");
    std::fs::create_dir_all(damaged.parent().expect("it lies in a directory"))
        .and_then(|()| std::fs::write(&damaged, "{}"))
        .expect("a temporary file");
    let cases: [(&[&str], &str); 5] = [
        (&["--only", "nothing"], "possible values: rows, kvm"),
        (&["--from", "no-such-file"], "no-such-file cannot be read"),
        (&["--from", "x", "--quick"], "cannot be used with"),
        (&["--from", &damaged.display().to_string()], "measure anew"),
        (&["--frmo"], "unexpected argument"),
    ];
    for (args, reason) in cases {
        let output = bench(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = text(&output.stderr);
        assert!(said.contains(reason), "{args:?}: no '{reason}' in {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
