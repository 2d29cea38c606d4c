//! A failing plan with less in it: whatever can be left out without the same invariant holding is left out, one thing after the other,
//! until nothing more can be.

use super::plan::{Net, Plan};
use super::run::run;
use super::trace::Trace;
use super::{MS, SECOND};

/// The most runs that a search takes.
const RUNS_MAX: usize = 600;

/// What a failure is told by: the invariant's name, or the first words.
pub(crate) fn kind(failure: &str) -> &str {
    failure.split([':', '(']).next().unwrap_or(failure)
}

/// The smallest plan found that fails in the same way, and how many runs that took. None where the plan does not fail.
pub(crate) fn shrink(plan: Plan) -> Option<(Plan, String, usize)> {
    let mut failure = run(plan.clone(), Trace::default()).failure?;
    let wanted = kind(&failure).to_owned();
    let (mut best, mut runs) = (plan, 1);
    loop {
        let before = best.clone();
        for candidate in candidates(&before) {
            if runs >= RUNS_MAX {
                return Some((best, failure, runs));
            }
            // What is left out is left out of the best so far.
            let Some(candidate) = candidate(&best).filter(|plan| *plan != best && plan.is_sound())
            else {
                continue;
            };
            runs += 1;
            if let Some(found) = run(candidate.clone(), Trace::default()).failure
                && kind(&found) == wanted
            {
                (best, failure) = (candidate, found);
            }
        }
        if best == before {
            return Some((best, failure, runs));
        }
    }
}

type Change = Box<dyn Fn(&Plan) -> Option<Plan>>;

/// What could be left out of a plan, the largest first.
fn candidates(plan: &Plan) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    let mut change = |change: fn(&mut Plan)| {
        all.push(Box::new(move |plan: &Plan| {
            let mut plan = plan.clone();
            change(&mut plan);
            Some(plan)
        }));
    };
    change(|plan| plan.faults.clear());
    change(|plan| plan.changes.clear());
    change(|plan| plan.nodes.iter_mut().for_each(|node| node.byzantine.clear()));
    change(|plan| {
        plan.net =
            Net { unlinked: plan.net.unlinked.clone(), adversary: plan.net.adversary, ..good(plan) }
    });
    change(|plan| plan.net.adversary = None);
    change(|plan| plan.net.unlinked.clear());
    change(|plan| plan.txs_every = None);
    change(|plan| plan.real_signatures = false);
    change(|plan| plan.heights = ((plan.heights.0 / 2).max(2), plan.heights.1.min(2)));
    change(|plan| plan.heights.0 = plan.heights.0.saturating_sub(1).max(2));
    change(|plan| plan.heal.0 = plan.heal.0.saturating_sub(1).max(1));
    change(|plan| plan.heal.1 = (plan.heal.1 / 2).max(100 * MS));
    change(|plan| {
        for node in &mut plan.nodes {
            (node.clock_ms, node.drift_ppm) = (0, 0);
            node.lag = (20_000, 300_000);
            node.sync = (100_000, 4 * MS);
            node.app = (100_000, 2 * MS);
        }
    });
    for (seat, node) in plan.nodes.iter().enumerate() {
        for strategy in node.byzantine.clone() {
            all.push(Box::new(move |plan| {
                let mut plan = plan.clone();
                plan.nodes.get_mut(seat)?.byzantine.retain(|other| *other != strategy);
                Some(plan)
            }));
        }
    }
    for fault in plan.faults.clone() {
        all.push(Box::new(move |plan| {
            let mut plan = plan.clone();
            let at = plan.faults.iter().position(|other| *other == fault)?;
            plan.faults.remove(at);
            Some(plan)
        }));
    }
    for change in plan.changes.clone() {
        all.push(Box::new(move |plan| {
            let mut plan = plan.clone();
            plan.changes.retain(|other| *other != change);
            Some(plan)
        }));
    }
    all
}

/// A network that loses nothing, as fast as that of the plan.
fn good(plan: &Plan) -> Net {
    let delay = (plan.net.delay.0, plan.net.delay.1.min(SECOND));
    Net { delay, stragglers: 0, lost: 0, doubled: 0, unlinked: Vec::new(), adversary: None }
}
