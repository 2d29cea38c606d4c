//! Searches all states of a small network of real replicas: `docs/exhaustive-check.md`.
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tercet_consensus::testing::exhaustive::main(&arguments)
}
