//! Hash fill: the headers between two anchors, from the upper one down, in runs that come from several providers at once.

use super::desk::Job;
use super::disputes::Fork;
use super::providers::Choice;
use super::request::{Answer, Failure, Fault, ProviderId, What};
use super::{Event, Mode, Planner};
use crate::block::TrustedBlock;
use crate::chain::{Edge, LinkedRun, RunRequest, TrustedRun};
use crate::evidence::Attack;
use crate::hash::Hash;
use crate::header::Height;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The most runs that are asked for, or wait for the run above them.
pub const RUNS_MAX: usize = 32;

/// What is missing below an anchor.
#[derive(Debug)]
pub(super) struct Segment {
    /// What the lowest header that is filled, at first the anchor, says about the one below.
    edge: Edge,
    /// The lowest height to fill.
    floor: Height,
    /// The anchor that must be met below `floor`; none below the root.
    lower: Option<Hash>,
    /// Runs under way by their highest height.
    runs: BTreeMap<Height, Run>,
    /// The highest height that no run is for.
    next: Height,
}

#[derive(Debug)]
struct Run {
    low: Height,
    linked: Option<(LinkedRun, ProviderId)>,
    tried: BTreeSet<ProviderId>,
    asked: Time,
    hedged: bool,
}

impl Run {
    fn new(low: Height, now: Time) -> Run {
        Run { low, linked: None, tried: BTreeSet::new(), asked: now, hedged: false }
    }
}

/// How long the latest runs took.
#[derive(Debug, Default)]
pub(super) struct RunTimes(VecDeque<Duration>);

/// How many are looked at.
const RUN_TIMES_MAX: usize = 64;
/// With fewer nothing is known.
const RUN_TIMES_MIN: usize = 16;
/// Nobody is asked for the same any sooner.
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(50);

impl RunTimes {
    fn add(&mut self, time: Duration) {
        self.0.truncate(RUN_TIMES_MAX - 1);
        self.0.push_front(time);
    }

    /// After how long a second provider is asked: the time that 95 of 100 runs took no longer than, at most `most`.
    fn hedge_after(&self, most: Duration) -> Duration {
        if self.0.len() < RUN_TIMES_MIN {
            return most;
        }
        let mut times: Vec<Duration> = self.0.iter().copied().collect();
        times.sort_unstable();
        let slow = times.get(times.len() * 95 / 100).copied().unwrap_or(most);
        slow.max(HEDGE_AFTER_MIN).min(most)
    }
}

impl Segment {
    fn new(edge: Edge, floor: Height, lower: Option<Hash>) -> Segment {
        let next = edge.height() - 1;
        Segment { edge, floor, lower, runs: BTreeMap::new(), next }
    }

    /// How many headers are missing.
    pub(super) fn missing(&self) -> u64 {
        self.edge.height().saturating_sub(self.floor)
    }

    /// Plans the next run; none where all are planned.
    fn plan(&mut self, headers: u64, now: Time) -> bool {
        if self.next < self.floor || self.next == 0 {
            return false;
        }
        let low = self.floor.max((self.next + 1).saturating_sub(headers.max(1)));
        self.runs.insert(self.next, Run::new(low, now));
        self.next = low - 1;
        true
    }
}

impl Planner {
    /// Opens what is missing between a new anchor and the one below it, or below the root.
    pub(super) fn open_segment(&mut self, anchor: &TrustedBlock, below: Option<&TrustedBlock>) {
        let edge = Edge::of(anchor.header());
        let segment = match below {
            Some(below) => Segment::new(edge, below.height() + 1, Some(below.hash())),
            None => match self.config.fill_from {
                Some(floor) if floor < anchor.height() => Segment::new(edge, floor.max(1), None),
                _ => return,
            },
        };
        self.segments.insert(anchor.height(), segment);
        self.finish_segment(anchor.height());
    }

    /// What is missing of a segment of which a part was filled before, down to the header that says `edge`.
    pub(super) fn resume_segment(&mut self, upper: Height, edge: Edge) {
        if let Some(segment) = self.segments.get_mut(&upper)
            && edge.height() < segment.edge.height()
            && edge.height() >= segment.floor
        {
            let (floor, lower) = (segment.floor, segment.lower);
            *segment = Segment::new(edge, floor, lower);
            self.finish_segment(upper);
        }
    }

    pub(super) fn plan_segments(&mut self) {
        if !self.config.fill {
            return;
        }
        let (now, headers) = (self.now, self.run_headers());
        let mut under_way: usize = self.segments.values().map(|segment| segment.runs.len()).sum();
        let uppers: Vec<Height> = self.segments.keys().rev().copied().collect();
        for upper in uppers {
            while under_way < RUNS_MAX && self.may_plan() {
                let Some(segment) = self.segments.get_mut(&upper) else { break };
                if !segment.plan(headers, now) {
                    break;
                }
                under_way += 1;
            }
            self.ask_for_runs(upper);
        }
    }

    fn may_plan(&self) -> bool {
        self.desk.has_room_for_events() && self.commits.has_room()
    }

    fn run_headers(&self) -> u64 {
        let most = match self.config.mode {
            Mode::Hashes => crate::chain::RUN_HEADERS_MAX as u64,
            Mode::Full => super::commits::RUN_COMMITS_MAX,
        };
        self.config.run_headers.clamp(1, most)
    }

    fn ask_for_runs(&mut self, upper: Height) {
        let Some(segment) = self.segments.get(&upper) else { return };
        let head = segment.edge.height() - 1;
        let waiting = segment.runs.iter().filter(|(_, run)| run.linked.is_none());
        let highs: Vec<Height> = waiting.map(|(high, _)| *high).rev().collect();
        for high in highs {
            let job = Job::Run { upper, high };
            let asked = self.desk.is_waiting(job);
            if !asked || (high == head && self.is_to_hedge(upper, high)) {
                self.ask_for_run(upper, high, asked);
            }
        }
    }

    /// Everything below waits for the run, and its provider takes long.
    fn is_to_hedge(&self, upper: Height, high: Height) -> bool {
        let run = self.segments.get(&upper).and_then(|segment| segment.runs.get(&high));
        let after = self.run_times.hedge_after(self.config.hedge_after);
        run.is_some_and(|run| !run.hedged && run.asked.after(after) <= self.now)
    }

    fn ask_for_run(&mut self, upper: Height, high: Height, hedge: bool) {
        let chain_id = self.config.root.chain_id.clone();
        let (now, room) = (self.now, self.desk.has_room());
        let Some(run) = self.segments.get_mut(&upper).and_then(|s| s.runs.get_mut(&high)) else {
            return;
        };
        let choice = Choice { height: Some(run.low), not: Some(&run.tried) };
        match self.providers.pick(&choice, now) {
            Some(provider) if room => {
                run.tried.insert(provider);
                run.hedged = hedge;
                if !hedge {
                    run.asked = now;
                }
                let request = RunRequest { chain_id, low: run.low, high };
                self.ask(provider, What::Run(request), Job::Run { upper, high });
            }
            _ if !hedge => {
                // Who failed may be asked again when everybody has been.
                let left = self.providers.good().any(|(id, _)| !run.tried.contains(&id));
                if !left {
                    run.tried.clear();
                }
                self.split_run(upper, high);
            }
            _ => {}
        }
    }

    /// Where nobody says to have the lower part of a run, as below the beginning of the chain, the upper part goes first.
    fn split_run(&mut self, upper: Height, high: Height) {
        let claims = self.providers.good().filter_map(|(_, p)| p.claim.as_ref());
        let Some(first) = claims.map(|claim| claim.first).min() else { return };
        let Some(segment) = self.segments.get_mut(&upper) else { return };
        let Some(run) = segment.runs.get_mut(&high) else { return };
        if run.low < first && first <= high {
            let low = std::mem::replace(&mut run.low, first);
            segment.runs.insert(first - 1, Run::new(low, self.now));
        }
    }

    pub(super) fn on_run(
        &mut self,
        upper: Height,
        high: Height,
        provider: ProviderId,
        response: Result<Answer, Failure>,
    ) {
        let chain_id = self.config.root.chain_id.as_bytes();
        let Some(segment) = self.segments.get_mut(&upper) else { return };
        let Some(run) = segment.runs.get_mut(&high).filter(|run| run.linked.is_none()) else {
            return;
        };
        match response {
            Ok(Answer::Run(linked)) if !linked.answers(chain_id, run.low, high) => {
                self.refuse(provider, Fault::NotAsked);
            }
            Ok(Answer::Run(linked)) => {
                self.run_times.add(self.now.since(run.asked));
                let (low, rest) = (linked.low(), run.low);
                run.linked = Some((linked, provider));
                run.low = low;
                if rest < low {
                    segment.runs.insert(low - 1, Run::new(rest, self.now));
                }
                self.attach_runs(upper);
            }
            _ => {}
        }
    }

    /// Attaches what fits below what is filled, and blames who sent what does not.
    fn attach_runs(&mut self, upper: Height) {
        while let Some(segment) = self.segments.get_mut(&upper) {
            let high = segment.edge.height() - 1;
            let Some(run) = segment.runs.get_mut(&high) else { break };
            let Some((linked, provider)) = run.linked.take() else { break };
            match linked.attach(&segment.edge) {
                Ok(trusted) => {
                    segment.runs.remove(&high);
                    let above = std::mem::replace(&mut segment.edge, trusted.edge());
                    self.fill(trusted, &above);
                }
                Err(_) => self.open_dispute(provider, upper, Fault::NotTheChain(high)),
            }
        }
        self.finish_segment(upper);
    }

    fn fill(&mut self, run: TrustedRun, above: &Edge) {
        match self.config.mode {
            Mode::Hashes => self.desk.tell(Event::Filled(run, None)),
            Mode::Full => self.commits.check(run, above),
        }
    }

    /// Ends a segment that is filled: it must have met the anchor below exactly.
    fn finish_segment(&mut self, upper: Height) {
        let Some(segment) = self.segments.get(&upper) else { return };
        let filled = segment.edge.height() <= segment.floor;
        let (first, edge) = (segment.edge.is_first(), segment.edge.clone());
        let broken = match segment.lower {
            Some(hash) => (filled && !edge.names_hash(hash)) || (first && !filled),
            None => false,
        };
        if broken {
            self.broken_history(upper);
        } else if filled || first {
            self.segments.remove(&upper);
            if first {
                self.desk.tell(Event::Beginning(edge.height()));
            }
        }
    }

    /// The hashes below an anchor lead past the anchor before it: the validators of one of the two signed what is not of the chain, and
    /// nobody can tell yet which. What both share is at most what was confirmed below the lower one, at least the first anchor.
    fn broken_history(&mut self, upper: Height) {
        let all = &self.anchors.all;
        let Some((lower, _)) = all.range(..upper).next_back() else { return };
        let confirmed = self.anchors.confirmed.unwrap_or(0);
        let below = all.range(..*lower).rev().find(|(height, _)| **height <= confirmed);
        let Some((_, common)) = below.or_else(|| all.first_key_value()) else { return };
        let common = common.block.clone();
        let ours = all.range(lower..=&upper).map(|(_, anchor)| anchor.block.clone()).collect();
        let source = all.get(&upper).and_then(|anchor| anchor.source);
        self.freeze(Fork {
            attack: Attack::BrokenHistory,
            common,
            ours,
            theirs: vec![],
            source,
            witness: None,
            evidence: vec![],
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_provider_is_asked_after_what_nineteen_of_twenty_runs_took() {
        let (most, ms) = (Duration::from_secs(2), Duration::from_millis);
        let mut times = RunTimes::default();
        (0..15).for_each(|_| times.add(ms(80)));
        assert_eq!(times.hedge_after(most), most, "too few to know");
        (0..45).for_each(|_| times.add(ms(80)));
        assert_eq!(times.hedge_after(most), ms(80));
        (0..4).for_each(|_| times.add(ms(900)));
        assert_eq!(times.hedge_after(most), ms(900));
        (0..RUN_TIMES_MAX).for_each(|_| times.add(ms(1)));
        assert_eq!(times.hedge_after(most), HEDGE_AFTER_MIN);
        (0..9_000).for_each(|_| times.add(Duration::MAX));
        assert_eq!((times.hedge_after(most), times.0.len()), (most, RUN_TIMES_MAX));
    }
}
