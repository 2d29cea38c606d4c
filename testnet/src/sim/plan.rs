//! From a seed to everything random about a run: who is there, what the network, the disks, the clocks and the applications are like,
//! and what goes wrong when. A plan is data, so a run can be repeated with less of it (see `shrink`), or written by hand (`scenario`).

use super::adversary::Scheme;
use super::byzantine::Strategy;
use super::{MS, Nanos};
use std::collections::BTreeMap;

/// A place in the network: a node.
pub(crate) type Seat = usize;

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At a time.
    At(Nanos),
    /// When the first correct replica has decided this height.
    Height(u64),
    /// When the node has made so many records durable.
    Records(Seat, u64),
}

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// PRE-PREPARE of a start view.
    PrePrepare,
    /// NEW-VIEW.
    NewView,
    /// PREPARE.
    Prepare,
    /// COMMIT.
    Commit,
    /// VIEW-CHANGE.
    ViewChange,
    /// The body of a block.
    Block,
    /// STATUS.
    Status,
    /// Blocks for those that are behind.
    Sync,
}

impl Kind {
    /// All, with their names in scenarios.
    pub(crate) const ALL: &[(Kind, &str)] = &[
        (Kind::PrePrepare, "pre-prepare"),
        (Kind::NewView, "new-view"),
        (Kind::Prepare, "prepare"),
        (Kind::Commit, "commit"),
        (Kind::ViewChange, "view-change"),
        (Kind::Block, "block"),
        (Kind::Status, "status"),
        (Kind::Sync, "sync"),
    ];

    fn lost_name(self) -> &'static str {
        match self {
            Kind::PrePrepare => "lost: pre-prepare",
            Kind::NewView => "lost: new view",
            Kind::Prepare => "lost: prepare",
            Kind::Commit => "lost: commit",
            Kind::ViewChange => "lost: view change",
            Kind::Block => "lost: block",
            Kind::Status => "lost: status",
            Kind::Sync => "lost: sync",
        }
    }
}

/// What goes wrong, apart from what is wrong all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process dies and comes back. `seen`: peers see its connections refused at once; otherwise they notice late.
    Crash { seat: Seat, down: Nanos, seen: bool },
    /// A process dies and does not come back.
    Dead { seat: Seat, seen: bool },
    /// All die at the same moment and come back.
    PowerLoss { down: Nanos },
    /// The next sync of the disk fails; the process ends and comes back.
    DiskFails { seat: Seat, down: Nanos },
    /// No message gets from any of `from` to any of `to`. `noticed`: after a while the connections count as closed.
    Cut { from: Vec<Seat>, to: Vec<Seat>, lasts: Nanos, both: bool, noticed: bool },
    /// Random links fail and come back, one after the other.
    Swizzle { lasts: Nanos },
    /// So many percent of the messages are lost.
    Loss { percent: u64, lasts: Nanos },
    /// So many percent of the messages of one kind are lost.
    Mute { kind: Kind, percent: u64, lasts: Nanos },
    /// A process does nothing for a while; its connections stay open.
    Freeze { seat: Seat, lasts: Nanos },
    /// A clock jumps by so many milliseconds.
    ClockJump { seat: Seat, by_ms: i64 },
    /// An application takes so long for each job, for a while.
    SlowApp { seat: Seat, each: Nanos, lasts: Nanos },
    /// Signers lose, delay and repeat so many in a thousand of their answers, for a while.
    Signers { permille: u64, lasts: Nanos },
}

impl Fault {
    /// Its name in coverage and traces.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Fault::Crash { .. } => "crash",
            Fault::Dead { .. } => "death",
            Fault::PowerLoss { .. } => "power loss of all",
            Fault::DiskFails { .. } => "failing sync",
            Fault::Cut { both: true, .. } => "partition",
            Fault::Cut { both: false, .. } => "one-way partition",
            Fault::Swizzle { .. } => "swizzle",
            Fault::Loss { .. } => "loss",
            Fault::Mute { kind, .. } => kind.lost_name(),
            Fault::Freeze { .. } => "freeze",
            Fault::ClockJump { .. } => "clock jump",
            Fault::SlowApp { .. } => "slow application",
            Fault::Signers { .. } => "faulty signers",
        }
    }
}

/// A fault and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    /// When.
    pub(crate) when: When,
    /// What.
    pub(crate) fault: Fault,
}

/// What a network does all the time until it heals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    /// The least and the usual longest delay.
    pub(crate) delay: (Nanos, Nanos),
    /// How many in a thousand are delayed up to ten times as long, so that others overtake them.
    pub(crate) stragglers: u64,
    /// How many in a thousand are lost.
    pub(crate) lost: u64,
    /// How many in a thousand arrive twice.
    pub(crate) doubled: u64,
    /// Pairs that have no connection.
    pub(crate) unlinked: Vec<(Seat, Seat)>,
    /// What it is up to, where it means ill.
    pub(crate) adversary: Option<Scheme>,
}

/// What one node is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlan {
    /// The number of its key; twins share one.
    pub(crate) key: usize,
    /// From the first event to the turn that takes it.
    pub(crate) lag: (Nanos, Nanos),
    /// How long a sync takes.
    pub(crate) sync: (Nanos, Nanos),
    /// How long a job of the application takes.
    pub(crate) app: (Nanos, Nanos),
    /// How wrong its clock is, in milliseconds.
    pub(crate) clock_ms: i64,
    /// How fast it drifts, in parts per million.
    pub(crate) drift_ppm: i64,
    /// What it does where it is Byzantine.
    pub(crate) byzantine: Vec<Strategy>,
}

/// When vote extensions begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// The block in which the application says so; 0 at the start of the chain.
    pub(crate) said: u64,
    /// The first height.
    pub(crate) begin: u64,
}

/// Everything about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Where the randomness of delays and the like comes from.
    pub(crate) seed: u64,
    /// The nodes.
    pub(crate) nodes: Vec<NodePlan>,
    /// The power of each key at the first height; 0 where it is no validator.
    pub(crate) powers: Vec<u64>,
    /// The application's updates: height, key, power.
    pub(crate) changes: Vec<(u64, usize, u64)>,
    /// From which height on there are vote extensions, and the block in which the application says so (0: at the start of the chain).
    pub(crate) extensions: Option<Extensions>,
    /// Heights between two planned rotations.
    pub(crate) term: u64,
    /// The network.
    pub(crate) net: Net,
    /// What goes wrong.
    pub(crate) faults: Vec<Timed>,
    /// After how long an empty block is due; none: only with transactions.
    pub(crate) empty_blocks: Option<Nanos>,
    /// Between two transactions, on average; none: no transactions.
    pub(crate) txs_every: Option<Nanos>,
    /// Real signatures.
    pub(crate) real_signatures: bool,
    /// The network heals when this height is decided, or at this time.
    pub(crate) heal: (u64, Nanos),
    /// The run ends when every correct replica has decided this height, and so many after the heights decided at the healing.
    pub(crate) heights: (u64, u64),
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Plan {
        super::maker::make(seed)
    }

    /// Whether COMMITs of this height carry vote extensions.
    pub(crate) fn extends(&self, height: u64) -> bool {
        self.extensions.is_some_and(|extensions| height >= extensions.begin)
    }

    /// Whether a seat is correct.
    pub(crate) fn is_correct(&self, seat: Seat) -> bool {
        self.nodes.get(seat).is_some_and(|node| node.byzantine.is_empty())
    }

    /// Whether a key is used by a Byzantine node.
    pub(crate) fn is_byzantine_key(&self, key: usize) -> bool {
        self.nodes.iter().any(|node| node.key == key && !node.byzantine.is_empty())
    }

    /// Whether nothing at all goes wrong, so that no view may change (L5).
    pub(crate) fn is_good(&self) -> bool {
        self.faults.is_empty()
            && self.net.adversary.is_none()
            && self.net.lost == 0
            && self.net.stragglers == 0
            && self.net.delay.1 <= 20 * MS
            && self.nodes.iter().all(|node| {
                node.byzantine.is_empty()
                    && node.app.1 <= 5 * MS
                    && node.lag.1 <= 5 * MS
                    && node.sync.1 <= 5 * MS
            })
    }

    /// The powers at each height of a run, as far as updates change them: height from which on they hold, powers.
    pub(crate) fn powers_by_height(&self) -> Vec<(u64, Vec<u64>)> {
        let mut all = vec![(1, self.powers.clone())];
        let mut by_height: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
        for (height, key, power) in &self.changes {
            by_height.entry(*height + 2).or_default().push((*key, *power));
        }
        for (height, updates) in by_height {
            let mut powers = all.last().map(|(_, powers)| powers.clone()).unwrap_or_default();
            for (key, power) in updates {
                if let Some(entry) = powers.get_mut(key) {
                    *entry = power;
                }
            }
            all.push((height, powers));
        }
        all
    }

    /// Whether every correct node has a key of its own.
    pub(crate) fn is_sound(&self) -> bool {
        let sharing = |seat: Seat, key| {
            self.nodes.iter().enumerate().any(|(other, node)| other != seat && node.key == key)
        };
        let mut correct = self.nodes.iter().enumerate().filter(|(_, n)| n.byzantine.is_empty());
        correct.all(|(seat, node)| !sharing(seat, node.key))
    }

    /// Whether the correct that do not die reach each other over links between them.
    pub(crate) fn is_connected(&self) -> bool {
        let dead = |seat: Seat| {
            self.faults.iter().any(|t| matches!(t.fault, Fault::Dead { seat: s, .. } if s == seat))
        };
        let mut rest: Vec<Seat> =
            (0..self.nodes.len()).filter(|s| self.is_correct(*s) && !dead(*s)).collect();
        let mut reached: Vec<Seat> = rest.pop().into_iter().collect();
        while let Some(at) = reached.pop() {
            let linked =
                |other: &Seat| !self.net.unlinked.contains(&(at.min(*other), at.max(*other)));
            let (next, others): (Vec<Seat>, Vec<Seat>) = rest.into_iter().partition(linked);
            reached.extend(next);
            rest = others;
        }
        rest.is_empty()
    }

    /// Whether the Byzantine and the dead have less than a third of the power at every height, and four validators or more are there
    /// where there were.
    pub(crate) fn is_within_bounds(&self) -> bool {
        let dead: Vec<usize> = self
            .faults
            .iter()
            .filter_map(|timed| match timed.fault {
                Fault::Dead { seat, .. } => self.nodes.get(seat).map(|node| node.key),
                _ => None,
            })
            .collect();
        let faulty = |key: usize| self.is_byzantine_key(key) || dead.contains(&key);
        self.powers_by_height().iter().all(|(_, powers)| {
            let total: u64 = powers.iter().sum();
            let bad = powers.iter().enumerate().filter(|(key, _)| faulty(*key));
            let bad: u64 = bad.map(|(_, power)| *power).sum();
            total > 0 && bad * 3 < total
        })
    }
}
