//! Breadth first through all states of the network.

use super::bounds::{Bounds, CORRECT};
use super::check;
use super::heal::{Order, heal};
use super::local::Signed;
use super::moves::Move;
use super::network::{Network, State};
use super::seen::{Seen, fingerprint};
use super::table::{Congruence, Edge};
use super::world::World;
use crate::message::Phase;
use std::collections::{HashMap, HashSet};
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
    /// What may have been signed at the first height, where it is counted.
    pub signed: usize,
    /// What the comparison of ways found.
    pub congruence: Congruence,
    /// What whole replicas made of some of the states.
    pub lived: Lived,
    /// All states within the bounds were searched.
    pub exhausted: bool,
    /// The invariant that broke, and the way there, a line each.
    pub violation: Option<(String, Vec<String>)>,
}

/// What whole replicas made of some of the states: each with its own keys, as the way to the state has it, and then in a good network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lived {
    /// States that were reached and healed from.
    pub states: u64,
    /// States that were not reached: the search holds more possible than is.
    pub unreal: u64,
    /// Steps that would break an invariant, were they possible.
    pub unreal_steps: u64,
    /// The most views that it took to decide two more heights.
    pub views: u8,
}

struct Search {
    network: Network,
    seen: Seen,
    /// The state before each, where a way is to be told.
    before: Option<HashMap<u64, u64>>,
    /// The states that are to be lived through.
    samples: Vec<u64>,
    signed: HashSet<[Signed; CORRECT]>,
    report: Report,
}

/// Searches all states within `bounds`; `progress` is told after every depth.
///
/// # Errors
/// What cannot be searched.
pub fn search(bounds: &Bounds, progress: &mut dyn FnMut(&Report)) -> Result<Report, &'static str> {
    bounds.check()?;
    let report = Search::new(bounds, false).run(progress);
    if report.violation.is_none() {
        return Ok(report);
    }
    // Once more, remembering the way: whole replicas tell whether it is a real one.
    Ok(Search::new(bounds, true).run(progress))
}

fn key(state: &State) -> u64 {
    let parts = state.parts.iter().map(|part| u64::from(part.at) << 32 | u64::from(part.past));
    fingerprint(parts.chain([u64::from(state.open) << 8 | u64::from(state.rounds)]))
}

impl Search {
    fn new(bounds: &Bounds, remember: bool) -> Search {
        let network = Network::new(World::new(bounds.clone()));
        let before = (remember || bounds.live_one_in > 0).then(HashMap::new);
        let (samples, signed, report) = Default::default();
        Search { network, seen: Seen::new(), before, samples, signed, report }
    }

    fn run(mut self, progress: &mut dyn FnMut(&Report)) -> Report {
        let started = Instant::now();
        let limit = self.network.table.world.bounds.states_max;
        let initial = self.network.initial();
        let initial = self.network.canonical(&initial);
        self.seen.insert(key(&initial));
        self.note_signed(&initial);
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
        for sample in std::mem::take(&mut self.samples) {
            if let Err(broken) = self.live(&initial, sample) {
                self.report.violation = Some(broken);
                break;
            }
        }
        self.report
    }

    fn measure(&mut self, started: Instant, frontier: &[State]) {
        self.report.states = self.seen.len();
        self.report.frontier = frontier.len();
        self.report.locals = self.network.table.len();
        self.report.steps = self.network.table.steps;
        self.report.congruence = self.network.table.congruence.clone();
        self.report.signed = self.signed.len();
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
                if edge.broken.is_some() && self.is_unreal(state) {
                    self.report.lived.unreal_steps += 1;
                    continue;
                }
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
            self.note_signed(&successor);
            let one_in = self.network.table.world.bounds.live_one_in;
            if fingerprint.checked_rem(one_in) == Some(0) {
                self.samples.push(fingerprint);
            }
            next.push(successor);
        }
        None
    }

    /// Whether the way to a state is known, and whole replicas that go it break nothing by the next step.
    fn is_unreal(&mut self, state: &State) -> bool {
        if self.before.is_none() {
            return false;
        }
        let initial = self.network.initial();
        let initial = self.network.canonical(&initial);
        let (path, end) = self.path(&initial, key(state));
        let Some(machines) = self.network.live_through(&initial, &path) else { return true };
        let mut out = Vec::new();
        self.network.successors(&end, &mut out);
        let world = &self.network.table.world;
        let breaks = |seat: usize, edge: &Edge| {
            edge.broken.is_some() && edge.by.make(world, &machines[seat]).broken.is_some()
        };
        !out.iter().any(|(_, seat, edge)| breaks(*seat, edge))
    }

    fn note_signed(&mut self, state: &State) {
        if self.network.table.world.bounds.count_signed {
            self.signed.extend(self.network.signed_at_first(state));
        }
    }

    /// Checks a step: what the replica itself saw break, and S1–S3 over all.
    fn broken(&self, state: &State, seat: usize, edge: &Edge) -> Option<String> {
        if let Some(what) = &edge.broken {
            return Some(what.to_string());
        }
        let world = &self.network.table.world;
        let height = self.network.table.local(state.parts[seat].at).place.height;
        let powers = world.bounds.powers(height);
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
        let (path, _) = self.path(initial, end);
        let step = |(seat, edge): &(usize, Edge)| format!("replica {seat}: {:?}", edge.by);
        let last = format!("then a replica like {}: {:?}", last.0, last.1);
        path.iter().map(step).chain([last]).collect()
    }

    /// The steps to the state with this fingerprint, and the state with the names that it has on this way; none where they were not
    /// remembered.
    fn path(&mut self, initial: &State, end: u64) -> (Vec<(usize, Edge)>, State) {
        let Some(before) = &self.before else { return (Vec::new(), *initial) };
        let mut keys = vec![end];
        while let Some(earlier) = keys.last().and_then(|at| before.get(at)) {
            keys.push(*earlier);
        }
        let (mut state, mut path, mut out) = (*initial, Vec::new(), Vec::new());
        for wanted in keys.iter().rev().skip(1) {
            self.network.successors(&state, &mut out);
            let step = out.iter().find(|(to, ..)| key(&self.network.canonical(to)) == *wanted);
            let (to, seat, edge) = step.expect("a step that was taken can be taken again");
            path.push((*seat, edge.clone()));
            state = *to;
        }
        (path, state)
    }

    /// Lives through the way to a state with whole replicas and heals from there, with timers in every order.
    fn live(&mut self, initial: &State, end: u64) -> Result<(), (String, Vec<String>)> {
        let (path, _) = self.path(initial, end);
        let told = || path.iter().map(|(seat, edge)| format!("replica {seat}: {:?}", edge.by));
        let Some(machines) = self.network.live_through(initial, &path) else {
            self.report.lived.unreal += 1;
            return Ok(());
        };
        let orders = [Order::Together, Order::From(0), Order::From(1), Order::From(2)];
        for order in orders {
            let healed = heal(&self.network.table.world, &machines, order);
            let views = healed.map_err(|what| (format!("{what} ({order:?})"), told().collect()))?;
            self.report.lived.views = self.report.lived.views.max(views);
        }
        self.report.lived.states += 1;
        Ok(())
    }
}
