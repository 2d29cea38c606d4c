//! What nodes say in their logs about the order of their calls to the application.

use super::Findings;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use tercet_abci::grammar::DISORDER;

/// Finds the lines of nodes that called their application out of order.
pub(super) fn check(logs: &[(String, PathBuf)], findings: &mut Findings) {
    for (name, path) in logs {
        let log = match File::open(path) {
            Ok(log) => BufReader::new(log),
            Err(error) => {
                findings.add(format!("the log of {name} cannot be read: {error}"));
                continue;
            }
        };
        // A line that was cut by a crash may be no text.
        let lines = log.split(b'\n').map_while(Result::ok);
        let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
        for line in lines.filter(|line| line.contains(DISORDER)) {
            findings.add(format!("{name}: {}", line.trim()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_abci::AppError;
    use tercet_abci::grammar::{Call, Checker};

    #[test]
    fn a_node_that_called_out_of_order_is_found_in_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
        let disorder = Checker::default().call(Call::Commit).expect_err("nothing was decided");
        let line = AppError::from(disorder).to_string();
        std::fs::write(&good, "committed block 1\n").expect("written");
        std::fs::write(&bad, format!("one\nERROR {line}\ntwo\n")).expect("written");
        let mut findings = Findings::default();
        check(&[("node0".to_owned(), good), ("node1".to_owned(), bad)], &mut findings);
        assert_eq!(findings.lines, [format!("node1: ERROR {line}")]);
        check(&[("node2".to_owned(), folder.path().join("none"))], &mut findings);
        assert!(findings.lines[1].contains("log of node2 cannot be read"), "{findings}");
    }
}
