//! The crate is pure: neither it nor anything below it can reach a clock, a thread, a socket, a file or the system's randomness.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

/// Crates by which others reach the operating system. `libc` is below nearly all of them.
const IMPURE: [&str; 24] = [
    "async-std",
    "chrono",
    "crossbeam",
    "crossbeam-channel",
    "crossbeam-utils",
    "getrandom",
    "h2",
    "hyper",
    "libc",
    "mio",
    "nix",
    "num_cpus",
    "parking_lot",
    "quinn",
    "rayon",
    "rayon-core",
    "reqwest",
    "rocksdb",
    "rustix",
    "socket2",
    "tempfile",
    "tokio",
    "tonic",
    "windows-sys",
];

/// What is below the crate, a line each: name, version, features.
fn tree() -> Vec<String> {
    let out = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--package", "tercet-light-core", "--edges"])
        .args(["normal,no-proc-macro", "--prefix", "none", "--format", "{p} {f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn nothing_below_the_crate_reaches_the_operating_system() {
    let tree = tree();
    let names: Vec<&str> = tree.iter().filter_map(|line| line.split(' ').next()).collect();
    for known in ["tendermint", "ed25519-zebra", "sha2", "k256"] {
        assert!(names.contains(&known), "the tree is not that of the crate: {known} is not in it");
    }
    for impure in IMPURE {
        assert!(!names.contains(&impure), "{impure} is below the crate");
    }
    // Features by which crates that are pure would reach a clock.
    for (name, feature) in [("tendermint", "clock"), ("time", "std"), ("tendermint", "std")] {
        let of = |line: &&String| line.split(' ').next() == Some(name);
        let has = |line: &String| {
            line.rsplit(' ').next().is_some_and(|list| list.split(',').any(|f| f == feature))
        };
        assert!(!tree.iter().filter(of).any(has), "{name} has its feature {feature}");
    }
}
