//! What a batch of runs has met: rules, view depths, certificate cases, crash points, faults. A rule that a large batch never meets is
//! a hole in the simulator, and fails it.

use std::collections::BTreeMap;

/// How often what was met, by group and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<(&'static str, &'static str), u64>);

/// What a large batch must meet.
const WANTED: &[(&str, &[&str])] = &[
    (
        "rule",
        &[
            "fresh pre-prepare",
            "new view, free",
            "new view, bound",
            "prepare",
            "commit",
            "decide",
            "decided during a view change",
            "decided in a later view than the own",
            "decided in an earlier view than the own",
            "decided by catch-up",
            "new view entered",
            "new view entered with a lock",
            "start view raised by a better commit",
            "lock replaced by a higher view",
            "lock replaced by another block",
            "a fresh block against a lock",
            "a new view against a lock",
            "view change by timer",
            "view change by joining",
            "view change carried over",
            "view change for a faulty primary",
            "primary suspected of censorship",
            "the primary's connection refused",
            "planned rotation",
            "an empty block",
            "a block of transactions",
            "signature late",
            "restored from the journal",
            "held after a restart",
            "prior sent",
            "block fetched",
            "block refused",
            "relayed",
            "validator added or changed",
            "validator removed",
            "vote extension verified",
            "late vote extension verified",
            "extended commit asked for",
            "two votes of one validator shown",
        ],
    ),
    ("view", &["0", "1", "2", "3", "4", "5 and more"]),
    (
        "certificate",
        &[
            "none in a VIEW-CHANGE",
            "in a VIEW-CHANGE, of the view before",
            "in a VIEW-CHANGE, of an earlier view",
            "in a NEW-VIEW, of the view before",
            "in a NEW-VIEW, of an earlier view",
            "in a NEW-VIEW, some have none",
            "in a NEW-VIEW, of two views",
            "in a NEW-VIEW, for two blocks",
        ],
    ),
    (
        "durable before a crash last",
        &[
            "nothing",
            "pre-prepare",
            "prepare",
            "commit",
            "view change",
            "decision",
            "reservation in the journal",
            "reservation in the file",
        ],
    ),
    (
        "lost in a crash first",
        &[
            "nothing",
            "pre-prepare",
            "prepare",
            "commit",
            "view change",
            "decision",
            "reservation in the journal",
            "reservation in the file",
        ],
    ),
    (
        "fault",
        &[
            "crash",
            "death",
            "power loss of all",
            "failing sync",
            "partition",
            "one-way partition",
            "swizzle",
            "loss",
            "freeze",
            "clock jump",
            "slow application",
            "faulty signers",
            "lost: pre-prepare",
            "lost: new view",
            "lost: prepare",
            "lost: commit",
            "lost: view change",
            "lost: block",
            "lost: status",
            "lost: sync",
        ],
    ),
    ("executed ahead", &["used", "thrown away", "lost in a crash"]),
    ("adversary", &["one has prepared alone", "a second commit after a decision"]),
    ("hold", &["catching up", "replaying the journal", "restarted: waiting to hear from peers"]),
    (
        "refused",
        &[
            "app_hash",
            "application",
            "chain_id",
            "consensus_hash",
            "last_results_hash",
            "next_validators_hash",
            "size",
            "time",
            "validators_hash",
            "version.app",
            "version.block",
        ],
    ),
    (
        "rejected",
        &[
            "a VIEW-CHANGE for another view",
            "a VIEW-CHANGE of another height",
            "a bound proposal needs a certificate",
            "a certificate's signers are distinct and ascend",
            "a validator's VIEW-CHANGE stands twice",
            "claim and certificate go together",
            "free, though someone has prepared",
            "no quorum in a J",
            "no quorum in a certificate",
            "not the block that the certificate binds",
            "not the primary of its view",
            "prepared in no earlier view",
            "the certificate is not for the claim",
            "the last commit is for another block",
            "unknown validator",
            "wrong height",
        ],
    ),
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
        let wanted = WANTED.iter().flat_map(|(group, names)| names.iter().map(|n| (*group, *n)));
        let wanted = wanted.chain(byzantine);
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
