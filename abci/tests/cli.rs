//! `tercet-abci` as a process: CometBFT's own test of its `abci-cli` (`abci/tests/test_cli/test.sh`), byte for byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tercet-abci");

/// A kvstore that is served until the end of a test.
struct Served {
    process: Child,
    address: String,
    protocol: &'static str,
    /// Or it could not write its log.
    _log: BufReader<ChildStdout>,
    _folder: TempDir,
}

impl Served {
    fn start(protocol: &'static str, more: &[&str]) -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let address = format!("unix://{}", folder.path().join("app.sock").display());
        let mut command = Command::new(PROGRAM);
        command.args(["kvstore", "--address", &address, "--abci", protocol]).args(more);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("is ready") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("text"), 0, "it ended");
        }
        Served { process, address, protocol, _log: log, _folder: folder }
    }

    fn batch(&self, lines: &str, more: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(["batch", "--address", &self.address, "--abci", self.protocol]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut input = process.stdin.take().expect("piped");
        input.write_all(lines.as_bytes()).expect("it reads");
        drop(input);
        process.wait_with_output().expect("it ends")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Its blocks all have height 0, as those of `abci-cli`.
#[test]
fn the_answers_are_those_of_cometbfts_abci_cli_byte_for_byte() {
    let scripts = [
        (include_str!("abci-cli/ex1.abci"), include_str!("abci-cli/ex1.abci.out")),
        (include_str!("abci-cli/ex2.abci"), include_str!("abci-cli/ex2.abci.out")),
    ];
    for protocol in ["socket", "grpc"] {
        for (script, expected) in scripts {
            let served = Served::start(protocol, &[]);
            let output = served.batch(script, &["--block-height", "0"]);
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{protocol}");
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        }
    }
}

#[test]
fn a_batch_ends_with_the_first_command_that_fails() {
    let served = Served::start("socket", &[]);
    let output = served.batch("commit\nnonsense\ncommit\n", &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "> commit \n-> code: OK\n\n> nonsense \n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("unrecognized subcommand"));
    assert!(!output.status.success());
}

#[test]
fn what_is_spoken_differently_is_told_with_the_remedy() {
    let served = Served::start("socket", &[]);
    let output = Command::new(PROGRAM)
        .args(["info", "--address", &served.address, "--abci", "grpc"])
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("--abci") && told.contains("does not answer by gRPC"), "{told}");
    assert!(!output.status.success());
}
