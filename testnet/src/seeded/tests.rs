//! The patches apply to this source; and what the checks print is read rightly.

use super::checks::{Check, Outcome, read};
use super::watch::{End, watch};
use super::{FOLDER, Row, patch, table};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A folder that was moved would hold nothing that fails.
const PATCHES_MIN: usize = 60;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn every_seeded_bug_has_its_header_and_applies() {
    let patches = patch::load(&root().join(FOLDER)).unwrap();
    assert!(patches.len() >= PATCHES_MIN, "only {} patches", patches.len());
    let failed: Vec<String> =
        patches.iter().filter_map(|patch| Some(patch.check(root()).err()?.to_string())).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let flaws: BTreeSet<&String> = patches.iter().map(|patch| &patch.flaw).collect();
    assert_eq!(flaws.len(), patches.len(), "two patches are said to do the same");
}

#[test]
fn a_patch_that_does_not_apply_or_lacks_a_header_fails() {
    let parse = |text: &str| patch::parse("x".into(), PathBuf::from("x.patch"), text);
    let diff = "diff --git a/consensus/src/power.rs b/consensus/src/power.rs\n\
                --- a/consensus/src/power.rs\n+++ b/consensus/src/power.rs\n";
    assert!(parse(&format!("Rule: §1\nFlaw: none\n\n{diff}")).is_ok());
    assert!(parse(&format!("Rule: §1\n\n{diff}")).is_err(), "no flaw");
    assert!(parse(&format!("Flaw: none\n\n{diff}")).is_err(), "no rule");
    assert!(parse("Rule: §1\nFlaw: none\n").is_err(), "no change");
    let node = diff.replace("consensus/", "node/");
    assert!(parse(&format!("Rule: §1\nFlaw: none\n\n{node}")).is_err(), "no tests");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stale.patch");
    let stale = format!("Rule: §1\nFlaw: none\n\n{diff}@@ -1,1 +1,1 @@\n-not there\n+flaw\n");
    std::fs::write(&path, stale).unwrap();
    let loaded = patch::load(folder.path()).unwrap();
    assert_eq!(loaded.len(), 1);
    assert!(loaded.iter().all(|patch| patch.check(root()).is_err()));
}

#[test]
fn the_first_failure_is_what_found_a_flaw() {
    let found = |how: &str| Outcome::Found(how.to_owned());
    let failed = "test a::b ... ok\ntest a::c_d ... FAILED\ntest a::e ... FAILED\n";
    assert_eq!(read(Check::Tests, &End::Code(Some(101)), failed), found("c_d"));
    let broken = "depth 4: 3130 states (9/s), 5 steps\nBROKEN S1: two blocks\n";
    let after = found("S1: two blocks after 3130 states");
    assert_eq!(read(Check::Exhaustive, &End::Code(Some(1)), broken), after);
    let seed = "--seed 7 FAILS after 1.250 s: S3 two blocks\n  replay it\n";
    assert_eq!(read(Check::Simulator, &End::Code(Some(1)), seed), found("seed 7: S3 two blocks"));
    assert!(matches!(read(Check::Tests, &End::Code(None), ""), Outcome::Found(_)), "it crashed");
    assert!(matches!(read(Check::Tests, &End::Late, ""), Outcome::Found(_)), "it hangs");
    assert!(matches!(read(Check::Simulator, &End::Late, ""), Outcome::Passed(_)));
    assert!(matches!(read(Check::Tests, &End::Code(Some(0)), ""), Outcome::Passed(_)));
}

#[test]
fn a_process_is_stopped_by_its_line_or_its_budget_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    };
    let long = Duration::from_secs(3_600);
    let ended = watch(shell("echo one; exit 3"), &log, long, |_| false).unwrap();
    assert_eq!((ended.end, ended.output.as_str()), (End::Code(Some(3)), "one\n"));
    let stopped = watch(shell("echo enough; sleep 3600"), &log, long, |line| line == "enough");
    assert_eq!(stopped.unwrap().end, End::Code(None));
    let late = watch(shell("sleep 3600 & wait"), &log, Duration::ZERO, |_| false).unwrap();
    assert_eq!(late.end, End::Late);
}

#[test]
fn the_page_keeps_what_was_not_run() {
    let diff = "diff --git a/consensus/src/power.rs b/consensus/src/power.rs\n\
                --- a/consensus/src/power.rs\n+++ b/consensus/src/power.rs\n";
    let patch = |name: &str| {
        let text = format!("Rule: §1 a|b\nFlaw: none\nNote: because\n\n{diff}");
        patch::parse(name.to_owned(), PathBuf::from("x.patch"), &text).unwrap()
    };
    let both = [patch("one"), patch("two")];
    let row = |patch: &patch::Patch, outcomes: &[(Check, Outcome)]| Row {
        patch: patch.clone(),
        outcomes: outcomes.to_vec(),
        took: Duration::ZERO,
    };
    let nothing = Outcome::Passed(String::new());
    let directed = Outcome::Found("a_test".to_owned());
    let first = table::write("", &both, &[row(&both[0], &[(Check::Tests, directed)])]);
    assert!(first.contains("1 of 2 are found"), "{first}");
    assert!(table::has(&first, &both[0], &[Check::Tests]));
    assert!(!table::has(&first, &both[0], &Check::ALL));
    assert!(!table::has(&first, &both[1], &[Check::Tests]));
    let others = [Check::Networks, Check::Exhaustive, Check::Simulator];
    let others: Vec<_> = others.map(|check| (check, nothing.clone())).to_vec();
    let second = table::write(&first, &both, &[row(&both[0], &others)]);
    let line = "| `one` | §1 a\\|b | none | `a_test` | no | no | no |";
    assert!(second.lines().any(|other| other == line), "{second}");
    assert!(second.ends_with("- `one`: because\n"), "{second}");
    let seed = Outcome::Found("seed 3: S1".to_owned());
    let third = table::write(&second, &both, &[row(&both[1], &[(Check::Simulator, seed)])]);
    assert!(third.contains("2 of 2 are found") && third.contains(line), "{third}");
}
