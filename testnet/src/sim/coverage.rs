//! What a batch of runs has met: rules, view depths, certificate cases, crash points, faults. A rule that a large batch never meets is
//! a hole in the simulator, and fails it.

use std::collections::BTreeMap;

/// How often what was met, by group and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<(&'static str, &'static str), u64>);

/// What a large batch must meet.
const WANTED: &[(&str, &str)] = &[
    ("rule", "fresh pre-prepare"),
    ("rule", "new view, free"),
    ("rule", "new view, bound"),
    ("rule", "prepare"),
    ("rule", "commit"),
    ("rule", "decide"),
    ("rule", "decided by catch-up"),
    ("rule", "view change by timer"),
    ("rule", "view change by joining"),
    ("rule", "view change carried over"),
    ("rule", "view change for a faulty primary"),
    ("rule", "restored from the journal"),
    ("rule", "held after a restart"),
    ("rule", "prior sent"),
    ("rule", "block fetched"),
    ("rule", "relayed"),
    ("rule", "block refused"),
    ("rule", "validator set changed"),
    ("view", "0"),
    ("view", "1"),
    ("view", "2"),
    ("view", "3 and more"),
    ("certificate", "in a VIEW-CHANGE"),
    ("certificate", "in a NEW-VIEW, of the view before"),
    ("certificate", "in a NEW-VIEW, of an earlier view"),
    ("certificate", "none in a VIEW-CHANGE"),
    ("lost in a crash first", "nothing"),
    ("lost in a crash first", "pre-prepare"),
    ("lost in a crash first", "prepare"),
    ("lost in a crash first", "commit"),
    ("lost in a crash first", "view change"),
    ("lost in a crash first", "decision"),
    ("fault", "crash"),
    ("fault", "death"),
    ("fault", "power loss of all"),
    ("fault", "failing sync"),
    ("fault", "partition"),
    ("fault", "one-way partition"),
    ("fault", "swizzle"),
    ("fault", "loss"),
    ("fault", "freeze"),
    ("fault", "clock jump"),
    ("fault", "slow application"),
    ("fault", "faulty signers"),
    ("fault", "lost: pre-prepare"),
    ("fault", "lost: new view"),
    ("fault", "lost: prepare"),
    ("fault", "lost: commit"),
    ("fault", "lost: view change"),
    ("fault", "lost: block"),
    ("fault", "lost: status"),
    ("fault", "lost: sync"),
    ("hold", "catching up"),
    ("hold", "replaying the journal"),
    ("hold", "restarted: waiting to hear from peers"),
    ("refused", "app_hash"),
    ("refused", "application"),
    ("refused", "chain_id"),
    ("refused", "consensus_hash"),
    ("refused", "last_results_hash"),
    ("refused", "next_validators_hash"),
    ("refused", "size"),
    ("refused", "time"),
    ("refused", "validators_hash"),
    ("refused", "version.app"),
    ("refused", "version.block"),
];

impl Coverage {
    /// It was met.
    pub(crate) fn met(&mut self, group: &'static str, name: &'static str) {
        *self.0.entry((group, name)).or_default() += 1;
    }

    /// Whether it was met.
    pub(crate) fn has(&self, group: &str, name: &str) -> bool {
        self.0.keys().any(|key| *key == (group, name))
    }

    /// Adds what another run has met.
    pub(crate) fn add(&mut self, other: &Coverage) {
        for (key, count) in &other.0 {
            *self.0.entry(*key).or_default() += count;
        }
    }

    /// What should have been met and was not.
    pub(crate) fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let byzantine = super::byzantine::Strategy::ALL.iter().map(|s| ("byzantine", s.name()));
        let wanted = WANTED.iter().copied().chain(byzantine);
        wanted.filter(|key| !self.0.contains_key(key)).collect()
    }

    /// The table, one line each.
    pub(crate) fn table(&self) -> Vec<String> {
        let line = |((group, name), count): (&(&str, &str), &u64)| {
            format!("{group:<22} {name:<40} {count:>12}")
        };
        self.0.iter().map(line).collect()
    }
}
