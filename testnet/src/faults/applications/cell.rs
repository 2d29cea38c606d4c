//! What a cell of the table is: a method, a fault, and who has it.

use std::fmt;

/// The methods that a running network calls, and whether a validator must have vote extensions for it.
pub(super) const METHODS: [(&str, bool); 10] = [
    ("Info", false),
    ("InitChain", false),
    ("Query", false),
    ("CheckTx", false),
    ("PrepareProposal", false),
    ("ProcessProposal", false),
    ("ExtendVote", true),
    ("VerifyVoteExtension", true),
    ("FinalizeBlock", false),
    ("Commit", false),
];

/// Those that no node calls: nodes do not fetch snapshots from each other.
#[cfg(test)]
const NOT_CALLED: [&str; 4] =
    ["ListSnapshots", "OfferSnapshot", "LoadSnapshotChunk", "ApplySnapshotChunk"];

/// Cells in which all four applications are faulty at once.
const BY_ALL: [(&str, &str); 16] = [
    ("CheckTx", "exit"),
    ("PrepareProposal", "exit"),
    ("PrepareProposal", "over-limit"),
    ("PrepareProposal", "wrong-tx"),
    ("ProcessProposal", "wrong-reject"),
    ("ProcessProposal", "wrong-status"),
    ("ProcessProposal", "wrong-flapping"),
    ("ExtendVote", "over-limit"),
    ("VerifyVoteExtension", "wrong-reject"),
    ("FinalizeBlock", "exit"),
    ("FinalizeBlock", "never"),
    ("FinalizeBlock", "panic"),
    ("FinalizeBlock", "wrong-missing"),
    ("FinalizeBlock", "wrong-twice"),
    ("Commit", "exit"),
    ("Commit", "exit-after"),
];

/// Who has the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The application of the last of four validators.
    One,
    /// Those of all four.
    All,
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Of::One => "one",
            Of::All => "all four",
        })
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) method: String,
    pub(super) fault: String,
    pub(super) of: Of,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.method, self.fault, self.of)
    }
}

/// The cells of a method: one application first, then all.
pub(super) fn cells(method: &str, faults: &[String]) -> Vec<Cell> {
    let cell = |fault: &str, of| Cell { method: method.to_owned(), fault: fault.to_owned(), of };
    let one = faults.iter().map(|fault| cell(fault, Of::One));
    let of_all = BY_ALL
        .iter()
        .filter(|(of, fault)| *of == method && faults.iter().any(|known| known == fault));
    one.chain(of_all.map(|(_, fault)| cell(fault, Of::All))).collect()
}

impl Cell {
    /// Whether `--only` asks for it: a method, or a method and a fault, such as `Commit` or `Commit,late`.
    pub(super) fn is_wanted(&self, only: &[String]) -> bool {
        match only {
            [] => true,
            [method] => *method == self.method,
            [method, faults @ ..] => *method == self.method && faults.contains(&self.fault),
        }
    }

    /// What the node must say, in one of these words; none where there is nothing to be said: the answer is the client's, and as
    /// the protocol has it.
    pub(super) fn said(&self) -> Option<Vec<&str>> {
        let words = match (self.method.as_str(), self.fault.as_str()) {
            ("Query", "wrong-code") | ("CheckTx", "wrong-code" | "wrong-gas") => return None,
            ("Info", "wrong-hash" | "wrong-ahead" | "wrong-negative") => vec!["the application"],
            ("InitChain", "wrong-hash") | ("FinalizeBlock", "wrong-hash") => {
                vec!["app_hash", "application's hash"]
            }
            ("FinalizeBlock", "wrong-code") => vec!["last_results_hash"],
            // What breaks is the next call, whichever it is.
            (_, "exit-after") => vec!["the connection to the application"],
            ("PrepareProposal", "wrong-tx") => vec!["refuse", "reject"],
            ("ProcessProposal", "wrong-reject" | "wrong-status" | "wrong-flapping") => {
                vec!["ProcessProposal", "the application rejects it"]
            }
            ("VerifyVoteExtension", "wrong-reject" | "wrong-status") => {
                vec!["VerifyVoteExtension", "rejects the vote extension", "rejects its own"]
            }
            (method, _) => vec![method],
        };
        Some(words)
    }

    /// Whether the line must say the height: where the call is about one, and the line is about the call.
    pub(super) fn has_height(&self) -> bool {
        let no_block = matches!(self.method.as_str(), "Info" | "InitChain" | "Query" | "CheckTx");
        !no_block && self.fault != "exit-after"
    }

    /// Whether the application stands after the fault, and must be killed to be well.
    pub(super) fn hangs(&self) -> bool {
        matches!(self.fault.as_str(), "never" | "withheld")
    }

    /// Whether the node runs on with what it was told, and must be started again to ask anew.
    pub(super) fn needs_a_start(&self) -> bool {
        self.fault == "wrong-validators"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_those_of_one_application_and_then_those_of_all() {
        let faults = ["late", "exit", "never"].map(str::to_owned);
        let cells: Vec<String> =
            cells("FinalizeBlock", &faults).iter().map(ToString::to_string).collect();
        assert_eq!(
            cells,
            [
                "FinalizeBlock late (one)",
                "FinalizeBlock exit (one)",
                "FinalizeBlock never (one)",
                "FinalizeBlock exit (all four)",
                "FinalizeBlock never (all four)",
            ]
        );
    }

    /// The page names those that are not in its table.
    #[test]
    fn every_method_of_the_faulty_application_is_in_the_table_or_is_not_called() {
        let source = include_str!("../../../go/faulty/fault.go");
        let (_, rest) = source.split_once("var methods = []string{").expect("the methods");
        let named = rest.split_once('}').expect("their end").0.split('"').skip(1).step_by(2);
        let mut known: Vec<&str> = METHODS.iter().map(|(method, _)| *method).collect();
        known.extend(NOT_CALLED);
        assert_eq!(named.collect::<Vec<_>>(), known);
        let head = super::super::page::HEAD;
        assert!(NOT_CALLED.iter().all(|method| head.contains(method)));
    }

    #[test]
    fn only_takes_a_method_or_some_of_its_faults() {
        let [late, exit] = ["late", "exit"].map(|fault| Cell {
            method: "Commit".to_owned(),
            fault: fault.to_owned(),
            of: Of::One,
        });
        let only = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert!(late.is_wanted(&[]) && late.is_wanted(&only(&["Commit"])));
        assert!(late.is_wanted(&only(&["Commit", "late"])));
        assert!(!exit.is_wanted(&only(&["Commit", "late"])) && !exit.is_wanted(&only(&["Info"])));
    }
}
