//! A network that means ill: until it heals it sees everything and chooses what arrives, so that replicas are often in the situations that
//! locks, promises and the choice among certificates are there for. It forges nothing, and it loses nothing after the healing.

use super::happening::What;
use super::network::{Sent, Wire};
use super::plan::Seat;
use super::world::World;
use super::{MS, Nanos, SECOND};
use std::collections::{BTreeMap, BTreeSet};
use tendermint::block::Height;
use tercet_consensus::block::BlockId;
use tercet_consensus::message::{Message, Phase, Vote};
use tercet_consensus::validators::ValidatorIndex;
use tercet_consensus::view::View;
use tercet_node::wire::Consensus;

/// A network that heals so late goes for views far above the start.
pub(crate) const DEEP: Nanos = 20 * SECOND;

/// How long it waits for a step of a second commit.
const PATIENCE: Nanos = 3 * SECOND;

/// What such a network is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// In some heights, each view fails in its own way: who gets the proposal, the PREPAREs and the COMMITs is drawn, and whose
    /// VIEW-CHANGE is left out. So some prepare or commit alone, and others move on without them.
    Views,
    /// One validator decides a height in a later view than the others; it is the primary of that view at the next height, and its fresh
    /// proposal arrives when the others have committed another block there.
    SecondCommit,
}

impl Scheme {
    /// All, with their names in scenarios.
    pub(crate) const ALL: &[(Scheme, &str)] =
        &[(Scheme::Views, "views"), (Scheme::SecondCommit, "second-commit")];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        Scheme::ALL.iter().find(|(scheme, _)| *scheme == self).map_or("", |(_, name)| name)
    }
}

/// What becomes of the messages of one view: one bit a seat, for who gets them.
#[derive(Clone, Copy, Debug)]
struct Draw {
    proposals: u64,
    prepares: u64,
    commits: u64,
    /// Whose VIEW-CHANGE for this view nobody gets.
    absent: u64,
}

/// How far a second commit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// COMMITs of the height reach nobody, but for those of the later view, which reach one.
    Gather,
    /// The others decide in the lower view, and commit at the next height, unseen.
    Release(Nanos),
    /// The one proposes.
    Strike(Nanos),
    /// It is over.
    Done,
}

/// A second commit.
#[derive(Clone, Debug)]
struct Second {
    height: u64,
    low: View,
    high: View,
    one: Seat,
    step: Step,
    /// COMMITs of the next height.
    commits: BTreeMap<(View, BlockId), BTreeSet<ValidatorIndex>>,
}

/// What the network has in mind.
#[derive(Debug, Default)]
pub(crate) struct Adversary {
    draws: BTreeMap<(u64, u32), Draw>,
    /// In how many views it disturbs a height.
    depths: BTreeMap<u64, u32>,
    second: Option<Second>,
}

impl World {
    /// Whether the network lets a message disappear.
    pub(crate) fn is_stopped(&mut self, from: Seat, to: Seat, sent: &Sent) -> bool {
        match self.plan.net.adversary.filter(|_| !self.healed) {
            None => false,
            Some(Scheme::Views) => self.is_stopped_in_view(from, to, sent),
            Some(Scheme::SecondCommit) => self.is_stopped_for_second(from, to, sent),
        }
    }

    fn is_stopped_in_view(&mut self, from: Seat, to: Seat, sent: &Sent) -> bool {
        let message = match &sent.wire {
            Wire::Consensus(Consensus::Message(message)) => message,
            Wire::Ask(_) | Wire::Blocks { .. } | Wire::Tip { .. } => {
                // Whoever is left behind in a height that is disturbed stays there.
                let place = |seat: Seat| {
                    let replica = self.node(seat).engine.as_ref()?.replica();
                    Some((replica.height().value(), replica.view().number()))
                };
                let behind = place(from).into_iter().chain(place(to)).min();
                return behind.is_some_and(|(height, view)| self.disturbs(height, view));
            }
            _ => return false,
        };
        let gets = |mask: u64, seat: Seat| mask >> seat & 1 == 1;
        match message {
            Message::PrePrepare(message) => {
                let draw = self.draw(message.height().value(), message.view().number());
                draw.is_some_and(|draw| !gets(draw.proposals, to))
            }
            Message::Vote(vote) => {
                let vote = &vote.message;
                let draw = self.draw(vote.height.value(), vote.view.number());
                draw.is_some_and(|draw| match vote.phase {
                    Phase::Prepare => !gets(draw.prepares, to),
                    Phase::Commit => !gets(draw.commits, to),
                })
            }
            Message::ViewChange(message) => {
                let change = &message.signed.message;
                let (height, view) = (change.height.value(), change.view.number());
                // Those for the first view that is not disturbed as well.
                let disturbed = self.disturbs(height, view.saturating_sub(1));
                let author = self.seat_of_validator(&change.validator);
                disturbed
                    && author.is_some_and(|author| gets(self.drawn(height, view).absent, author))
            }
            Message::Block(_) | Message::Prior(_) => false,
        }
    }

    fn seat_of_validator(&self, address: &tercet_consensus::key::Address) -> Option<Seat> {
        self.nodes.iter().position(|node| super::keys::key(node.plan.key).address == *address)
    }

    fn disturbs(&mut self, height: u64, view: u32) -> bool {
        let decided = self.checks.decided.get(&height.saturating_sub(1));
        let start = decided.map_or(0, |(_, view)| *view);
        let (rng, deep) = (&mut self.rng, self.plan.heal.1 >= DEEP);
        let depth = self.adversary.depths.entry(height).or_insert_with(|| {
            let depth = if deep { rng.between(4, 6) } else { rng.between(1, 4) };
            let share = if deep { 20 } else { 40 };
            if rng.percent(share) { u32::try_from(depth).unwrap_or(1) } else { 0 }
        });
        view < start.saturating_add(*depth)
    }

    fn draw(&mut self, height: u64, view: u32) -> Option<Draw> {
        self.disturbs(height, view).then(|| self.drawn(height, view))
    }

    fn drawn(&mut self, height: u64, view: u32) -> Draw {
        let ally_is_next = self.is_primary_of_ally(height, view.saturating_add(1));
        let (rng, count) = (&mut self.rng, self.nodes.len());
        let before =
            view.checked_sub(1).and_then(|v| self.adversary.draws.get(&(height, v))).copied();
        *self.adversary.draws.entry((height, view)).or_insert_with(|| {
            let (one, other) = (1 << rng.index(count), 1 << rng.index(count));
            let prepares = [0, one, one, one, one, rng.next(), rng.next(), u64::MAX, u64::MAX];
            let commits = [0, 0, 0, 0, 0, one, other, rng.next(), u64::MAX];
            let proposals = [u64::MAX, u64::MAX, u64::MAX, rng.next()];
            let absent = [0, 0, one, one, other];
            match before {
                // Who has prepared alone is left out, and the others commit something, unseen: two certificates.
                Some(before) if before.prepares.count_ones() == 1 && rng.percent(70) => {
                    let (proposals, prepares, commits) = (u64::MAX, !before.prepares, 0);
                    return Draw { proposals, prepares, commits, absent: before.prepares };
                }
                // Then it is heard again, and one of the others is not.
                Some(before) if before.absent != 0 && before.commits == 0 && rng.percent(70) => {
                    let absent = if one == before.absent { 0 } else { one };
                    return Draw { proposals: u64::MAX, prepares: u64::MAX, commits: 0, absent };
                }
                // All prepare and commit, unseen, before a primary that is in league with the network.
                _ if ally_is_next && rng.percent(40) => {
                    let all = u64::MAX;
                    return Draw { proposals: all, prepares: all, commits: 0, absent: 0 };
                }
                _ => {}
            }
            Draw {
                proposals: *rng.pick(&proposals),
                prepares: *rng.pick(&prepares),
                commits: *rng.pick(&commits),
                absent: *rng.pick(&absent),
            }
        })
    }

    fn is_primary_of_ally(&self, height: u64, view: u32) -> bool {
        let Some(set) = self.checks.set(height) else { return false };
        let (Ok(height), Some(view)) = (Height::try_from(height), View::new(view)) else {
            return false;
        };
        let primary = set.validators.at(set.schedule.primary(height, view));
        let seat = primary.and_then(|primary| self.seat_of_validator(&primary.address));
        seat.is_some_and(|seat| !self.is_correct(seat))
    }

    /// A correct replica has committed: where it is alone with that, its process may well die now.
    pub(crate) fn saw_commit(&mut self, seat: Seat, vote: &Vote) {
        if self.healed || self.plan.net.adversary != Some(Scheme::Views) {
            return;
        }
        let draw = self.draw(vote.height.value(), vote.view.number());
        if draw.is_some_and(|draw| draw.prepares == 1 << seat) {
            self.coverage.met("adversary", "one has prepared alone");
            if self.rng.percent(30) {
                let after = self.rng.time((0, 100 * MS));
                self.after(after, What::Crash(seat));
            }
        }
    }

    fn is_stopped_for_second(&mut self, from: Seat, to: Seat, sent: &Sent) -> bool {
        let message = match &sent.wire {
            Wire::Consensus(Consensus::Message(message)) => Some(message),
            Wire::Ask(_) | Wire::Blocks { .. } | Wire::Tip { .. } => None,
            // Nobody may wait for blocks from the one.
            Wire::Consensus(Consensus::Status(_)) => None,
            _ => return false,
        };
        if let Some(Message::PrePrepare(message)) = message {
            self.plan_second(message.height(), message.view());
        }
        let Some(mut second) = self.adversary.second.take() else { return false };
        let stopped = self.second_stops(&mut second, (from, to), (message, sent));
        self.adversary.second = Some(second);
        stopped
    }

    /// Chooses the next height for a second commit.
    fn plan_second(&mut self, height: Height, low: View) {
        let before = self.adversary.second.as_ref();
        let taken = before.is_some_and(|s| s.step != Step::Done || s.height >= height.value());
        let next = height.increment();
        if taken || self.adversary.depths.contains_key(&height.value()) {
            return;
        }
        self.adversary.depths.insert(height.value(), 0);
        let Some(set) = self.checks.set(next.value()).cloned() else { return };
        let primary = |high| {
            let one = set.validators.at(set.schedule.primary(next, high))?.address;
            Some((high, self.seat_of_validator(&one)?))
        };
        // Who decides below a view that was asked for asks for the next one at the next height (carry-over), and commits there. So it takes
        // one more. Best is a primary that is in league with the network.
        let views = [low.next().next(), low.next().next().next()];
        let all: Vec<(View, Seat)> = views.into_iter().filter_map(primary).collect();
        let ally = all.iter().find(|(_, seat)| !self.is_correct(*seat));
        let lonely = self.seats().all(|seat| self.is_correct(seat));
        let Some((high, one)) = ally.or(all.first().filter(|_| lonely)).copied() else { return };
        if self.rng.percent(70) {
            let (step, commits) = (Step::Gather, BTreeMap::new());
            let height = height.value();
            self.adversary.second = Some(Second { height, low, high, one, step, commits });
        }
    }

    fn second_stops(
        &mut self,
        second: &mut Second,
        (from, to): (Seat, Seat),
        (message, sent): (Option<&Message>, &Sent),
    ) -> bool {
        match second.step {
            Step::Done => return false,
            Step::Gather if self.is_beyond(second.one, second.height) => {
                self.coverage.met("adversary", "one decides in a later view");
                second.step = Step::Release(self.now);
            }
            Step::Release(since) | Step::Strike(since) if self.now > since + PATIENCE => {
                second.step = Step::Done;
                return false;
            }
            _ => {}
        }
        let (height, next) = (second.height, second.height + 1);
        let beyond = self.is_beyond(second.one, height);
        let Some(message) = message else {
            let between = from == second.one || to == second.one;
            let status = matches!(sent.wire, Wire::Consensus(_));
            return between && beyond && !(status && second.strikes());
        };
        match message {
            Message::Vote(vote) if vote.message.phase == Phase::Commit => {
                let vote = &vote.message;
                if vote.height.value() == height {
                    let released = second.step != Step::Gather && vote.view == second.low;
                    let wanted = to == second.one && vote.view == second.high;
                    return !(released || wanted);
                }
                if vote.height.value() == next {
                    self.gathered(second, vote);
                }
                // It must not decide before the others have its proposal; a liar hears that there are COMMITs.
                let hint = to == second.one && second.strikes() && vote.index < 2;
                vote.height.value() == next && (self.is_correct(to) || !hint)
            }
            Message::ViewChange(message) => {
                let change = &message.signed.message;
                if change.height.value() == height && change.view > second.high {
                    // It did not work out.
                    second.step = Step::Done;
                }
                from == second.one && is_at(change.height, next) && !second.strikes()
            }
            Message::Vote(vote) => {
                from == second.one && is_at(vote.message.height, next) && !second.strikes()
            }
            Message::PrePrepare(message) => {
                from == second.one && is_at(message.height(), next) && !second.strikes()
            }
            Message::Prior(_) | Message::Block(_) => {
                from == second.one && beyond && !second.strikes()
            }
        }
    }

    /// Counts COMMITs of the next height; once they are enough for a decision, the proposal of the later view arrives.
    fn gathered(&mut self, second: &mut Second, vote: &Vote) {
        let known = second.commits.entry((vote.view, vote.block_id)).or_default();
        known.insert(vote.index);
        let Some(set) = self.checks.set(second.height + 1) else { return };
        let power = known.iter().map(|index| set.validators.power_at(*index)).sum();
        let early = matches!(second.step, Step::Release(_)) && vote.view < second.high;
        if early && set.validators.is_quorum(power) {
            second.step = Step::Strike(self.now);
            self.coverage.met("adversary", "a second commit after a decision");
        }
    }

    fn is_beyond(&self, seat: Seat, height: u64) -> bool {
        let engine = self.node(seat).engine.as_ref();
        engine.is_some_and(|engine| engine.replica().height().value() > height)
    }
}

impl Second {
    fn strikes(&self) -> bool {
        matches!(self.step, Step::Strike(_))
    }
}

fn is_at(height: Height, at: u64) -> bool {
    height.value() == at
}
