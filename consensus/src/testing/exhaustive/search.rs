//! Breadth first through all states of the network.

use super::bounds::{Bounds, CORRECT};
use super::check;
use super::local::Signed;
use super::moves::Move;
use super::network::{Network, State};
use super::seen::{Seen, fingerprint};
use super::table::Edge;
use super::world::World;
use crate::message::Phase;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How a search stands, or ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// States of the network.
    pub states: usize,
    /// Steps between them.
    pub edges: u64,
    /// Steps from the start to the last states.
    pub depth: usize,
    /// States whose steps are still to be taken.
    pub frontier: usize,
    /// States of one replica.
    pub locals: usize,
    /// Steps of the real code.
    pub steps: u64,
    /// How long it took.
    pub took: Duration,
    /// Bytes of the set of states and of the frontier.
    pub bytes: usize,
    /// The states that are searched were all searched.
    pub exhausted: bool,
    /// The invariant that broke, and the way there, a line each.
    pub violation: Option<(String, Vec<String>)>,
}

struct Search {
    network: Network,
    seen: Seen,
    /// The state before each, where a way is to be told.
    before: Option<HashMap<u64, u64>>,
    report: Report,
}

/// Searches all states within `bounds`; `progress` is told after every depth.
///
/// # Errors
/// What cannot be searched.
pub fn search(bounds: &Bounds, progress: &mut dyn FnMut(&Report)) -> Result<Report, &'static str> {
    bounds.check()?;
    let mut report = Search::new(bounds, false).run(progress);
    if report.violation.is_some() {
        // Once more, remembering the way.
        report.violation = Search::new(bounds, true).run(&mut |_| {}).violation;
    }
    Ok(report)
}

fn key(state: &State) -> u64 {
    let parts = state.parts.iter().map(|part| u64::from(part.at) << 32 | u64::from(part.past));
    fingerprint(parts.chain([u64::from(state.open) << 8 | u64::from(state.rounds)]))
}

impl Search {
    fn new(bounds: &Bounds, remember: bool) -> Search {
        let network = Network::new(World::new(bounds.clone()));
        let before = remember.then(HashMap::new);
        Search { network, seen: Seen::new(), before, report: Report::default() }
    }

    fn run(mut self, progress: &mut dyn FnMut(&Report)) -> Report {
        let started = Instant::now();
        let limit = self.network.table.world.bounds.states_max;
        let initial = self.network.initial();
        let initial = self.network.canonical(&initial);
        self.seen.insert(key(&initial));
        let mut frontier = vec![initial];
        let mut out = Vec::new();
        while !frontier.is_empty() && self.seen.len() < limit {
            let mut next = Vec::new();
            for state in &frontier {
                if let Some((what, last)) = self.visit(state, &mut out, &mut next) {
                    let way = self.way(&initial, key(state), last);
                    self.report.violation = Some((what, way));
                    self.measure(started, &next);
                    return self.report;
                }
            }
            frontier = next;
            self.report.depth += 1;
            self.measure(started, &frontier);
            progress(&self.report);
        }
        self.report.exhausted = frontier.is_empty();
        self.report
    }

    fn measure(&mut self, started: Instant, frontier: &[State]) {
        self.report.states = self.seen.len();
        self.report.frontier = frontier.len();
        self.report.locals = self.network.table.len();
        self.report.steps = self.network.table.steps;
        self.report.took = started.elapsed();
        self.report.bytes = self.seen.bytes() + size_of_val(frontier);
    }

    /// Takes every step from a state. The invariant that breaks, with the step.
    fn visit(
        &mut self,
        state: &State,
        out: &mut Vec<(State, usize, Edge)>,
        next: &mut Vec<State>,
    ) -> Option<(String, (usize, Move))> {
        self.network.successors(state, out);
        self.report.edges += out.len() as u64;
        for (successor, seat, edge) in out.drain(..) {
            if let Some(what) = self.broken(state, seat, &edge) {
                return Some((what, (seat, edge.by)));
            }
            let successor = self.network.canonical(&successor);
            let fingerprint = key(&successor);
            if !self.seen.insert(fingerprint) {
                continue;
            }
            if let Some(before) = &mut self.before {
                before.insert(fingerprint, key(state));
            }
            next.push(successor);
        }
        None
    }

    /// Checks a step: what the replica itself saw break, and S1–S3 over all.
    fn broken(&self, state: &State, seat: usize, edge: &Edge) -> Option<String> {
        if let Some(what) = &edge.broken {
            return Some(what.to_string());
        }
        let world = &self.network.table.world;
        let powers = &world.bounds.powers;
        let height = self.network.table.local(state.parts[seat].at).place.height;
        let mut signed: [Signed; CORRECT] = self.network.all_signed(state, height);
        signed[seat] = match edge.decided {
            Some((.., signed)) => signed,
            None => self.network.table.local(edge.to).signed,
        };
        let blocks = u8::try_from(world.count(height)).unwrap_or(0);
        if let Some(what) = check::broken(powers, &signed, world.bounds.views, blocks) {
            return Some(what.to_owned());
        }
        let (view, block, _) = edge.decided?;
        let voters = Network::voters(&signed, Phase::Commit, view, block);
        let decided = check::is_quorum(powers, voters);
        (!decided).then(|| "S1: a decision that no quorum made".to_owned())
    }

    /// The way to the state with this fingerprint, and one more step, in words.
    fn way(&mut self, initial: &State, end: u64, last: (usize, Move)) -> Vec<String> {
        let Some(before) = &self.before else { return Vec::new() };
        let mut path = vec![end];
        while let Some(earlier) = path.last().and_then(|at| before.get(at)) {
            path.push(*earlier);
        }
        let (mut state, mut way, mut out) = (*initial, Vec::new(), Vec::new());
        for wanted in path.iter().rev().skip(1) {
            self.network.successors(&state, &mut out);
            let step = out.iter().find(|(to, ..)| key(&self.network.canonical(to)) == *wanted);
            let Some((to, seat, edge)) = step else { break };
            way.push(format!("replica {seat}: {:?}", edge.by));
            state = *to;
        }
        way.push(format!("then a replica like {}: {:?}", last.0, last.1));
        way
    }
}
