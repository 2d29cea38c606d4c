//! Progress after the healing (L1–L6), with its bounds: docs/simulator.md.
//!
//! With C the ceiling of T, d the deepest view of any correct replica above its start view when the network heals, and b the number of
//! validators that are Byzantine or dead: the first height is decided everywhere within R + Σ min(30 s, C·2^(d+i)) for i from 0 to b+2, and
//! each further one within Σ min(30 s, C·2^i) for i from 0 to b+1. R, three seconds, is for those that are just down.

use super::node::PACE;
use super::plan::Seat;
use super::world::World;
use super::{Nanos, SECOND};
use bytes::Bytes;
use std::collections::BTreeSet;
use tercet_consensus::replica::BACKOFF_MAX;

/// For those that are down when the network heals, and for connections.
const RESTART: Nanos = 3 * SECOND;
/// L2 and L4: how much longer than the heights themselves may the last transaction and the last replica take.
const STRAGGLE: Nanos = 30 * SECOND;

/// What is expected after the healing.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// When the network healed, and the highest decided height then.
    healed: Option<(Nanos, u64)>,
    first: Nanos,
    each: Nanos,
    /// The height that comes next everywhere.
    goal: u64,
    deadline: Nanos,
    /// L2: transactions taken before the healing and not decided.
    txs: BTreeSet<Bytes>,
    /// L4: correct validators that have not signed a COMMIT since.
    absent: BTreeSet<Seat>,
    /// VIEW-CHANGEs of correct replicas.
    pub(crate) view_changes: u64,
    over: bool,
    /// How long the first height took after the healing, for the report.
    pub(crate) first_took: Option<Nanos>,
}

impl World {
    /// Whether the run has reached its end.
    ///
    /// # Panics
    /// Where it should have.
    pub(crate) fn is_over(&self) -> bool {
        let liveness = &self.liveness;
        if liveness.healed.is_some() && self.now > liveness.deadline && !liveness.over {
            let nodes = self.nodes.iter().enumerate().map(|(seat, node)| {
                let engine = node.engine.as_ref();
                let state = engine.map_or("down".into(), |engine| engine.replica().summary());
                format!("n{seat} {state} {:?}", node.snapshot.load().hold)
            });
            let nodes: Vec<String> = nodes.collect();
            let (goal, txs, absent) = (liveness.goal, liveness.txs.len(), &liveness.absent);
            panic!(
                "L1/L2/L4: height {goal} is not decided everywhere in time ({txs} transactions, {absent:?} absent)\n  {}",
                nodes.join("\n  ")
            );
        }
        liveness.over
    }

    fn expected(&self) -> impl Iterator<Item = Seat> + '_ {
        self.seats().filter(|seat| self.is_correct(*seat) && !self.node(*seat).dead)
    }

    fn lowest(&self) -> u64 {
        self.expected().map(|seat| self.node(seat).app.height()).min().unwrap_or(0)
    }

    /// The network has healed: from now on there is progress.
    pub(crate) fn begin_liveness(&mut self) {
        let depth = |seat: Seat| {
            let replica = self.node(seat).engine.as_ref()?.replica();
            let top = replica.promise().max(Some(replica.view()))?;
            Some(top.number().saturating_sub(replica.start_view().number()))
        };
        let depth = self.expected().filter_map(depth).max().unwrap_or(0);
        let faulty = self.seats().filter(|s| !self.is_correct(*s) || self.node(*s).dead).count();
        let faulty = u32::try_from(faulty).unwrap_or(u32::MAX);
        let timeout = |power: u32| {
            let timeout = PACE.ceiling.saturating_mul(2u32.saturating_pow(power));
            Nanos::try_from(timeout.min(BACKOFF_MAX).as_nanos()).unwrap_or(Nanos::MAX)
        };
        let first = RESTART + (0..=faulty + 2).map(|i| timeout(depth + i)).sum::<Nanos>();
        let each = (0..=faulty + 1).map(timeout).sum();
        let (now, tip) = (self.now, self.checks.tip());
        let before = self.txs.keys().filter(|tx| !self.checks.is_decided_tx(tx)).cloned();
        let txs = before.collect();
        let quick: BTreeSet<Seat> = self.expected().filter(|s| self.is_quick(*s)).collect();
        let view_changes = self.liveness.view_changes;
        let (goal, deadline) = (tip + 1, now + first);
        let absent = quick;
        self.liveness = Liveness {
            healed: Some((now, tip)),
            first,
            each,
            goal,
            deadline,
            txs,
            absent,
            view_changes,
            over: false,
            first_took: None,
        };
    }

    /// Whether a node keeps up with the others, once it is a validator.
    fn is_quick(&self, seat: Seat) -> bool {
        let node = &self.node(seat).plan;
        let last = self.plan.powers_by_height();
        let always = last.iter().all(|(_, powers)| powers.get(node.key).is_some_and(|p| *p > 0));
        always && node.app.1 < 10 * super::MS
    }

    /// A correct replica has made a COMMIT durable.
    pub(crate) fn committed(&mut self, seat: Seat) {
        self.liveness.absent.remove(&seat);
    }

    /// A correct node has executed a block.
    pub(crate) fn progress(&mut self) {
        let Some((healed, tip)) = self.liveness.healed else { return };
        let lowest = self.lowest();
        let (heights, after) = self.plan.heights;
        let target = heights.max(tip + after);
        let liveness = &mut self.liveness;
        if lowest > tip && liveness.first_took.is_none() {
            liveness.first_took = Some(self.now - healed);
        }
        if lowest >= liveness.goal {
            liveness.goal = lowest + 1;
            let steps = liveness.goal.min(target) - tip;
            liveness.deadline = healed + liveness.first + steps * liveness.each;
        }
        if lowest >= target {
            let checks = &self.checks;
            liveness.txs.retain(|tx| !checks.is_decided_tx(tx));
            let steps = target - tip;
            liveness.deadline = healed + liveness.first + steps * liveness.each + STRAGGLE;
            liveness.over = liveness.txs.is_empty() && liveness.absent.is_empty();
        }
    }

    /// What is judged at the end.
    ///
    /// # Panics
    /// Where an invariant breaks.
    pub(crate) fn judge_end(&mut self) {
        if self.plan.is_good() {
            assert_eq!(self.liveness.view_changes, 0, "L5: a view change in a good network");
        }
        let longest = self.expected().max_by_key(|seat| self.node(*seat).app.height());
        if let Some(seat) = longest {
            let chain = self.node(seat).app.chain.clone();
            super::light::verify(&chain, self.plan.real_signatures, &mut self.rng);
        }
    }
}
