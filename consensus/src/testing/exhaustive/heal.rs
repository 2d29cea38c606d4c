//! L1 from a state of the search: the faulty replica falls silent, the network is good, and the correct replicas, whole ones with
//! STATUS and timers, must decide two more heights within a few views.

use super::bounds::CORRECT;
use super::machine::{Machine, answer};
use super::world::{Trusting, World, number};
use crate::message::{Decided, Message};
use crate::replica::{Action, Input, Replica, Timer, TimerKind};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The most views beyond the highest at the start.
const VIEWS_MORE_MAX: u8 = 10;
/// The most timers that may fire.
const TIMERS_MAX: usize = 300;

struct Node {
    seat: usize,
    replica: Replica,
    timers: Vec<(Duration, Timer)>,
    chain: Vec<Arc<Decided>>,
}

/// In which order timers fire that are due at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// All of them before any message arrives.
    Together,
    /// One at a time, beginning with this seat's.
    From(usize),
}

/// Runs the replicas in a good network. The number of views that it took, or how they stand.
pub(super) fn heal(
    world: &World,
    machines: &[Machine; CORRECT],
    order: Order,
) -> Result<u8, String> {
    let mut network = Healed { world, nodes: Vec::new(), now: Duration::ZERO };
    for (seat, machine) in machines.iter().enumerate() {
        let timers = machine.timers().map(|timer| (Duration::ZERO, timer)).collect();
        let (replica, chain) = (machine.replica.clone(), machine.chain.clone());
        network.nodes.push(Node { seat, replica, timers, chain });
    }
    for (seat, machine) in machines.iter().enumerate() {
        let unsigned = machine.unsigned().map(|request| Input::Signed(answer(request, seat)));
        let inputs: Vec<Input> = unsigned.chain([Input::Work(true)]).collect();
        inputs.into_iter().for_each(|input| network.feed(seat, input));
        network.advance(seat);
    }
    let first = network.highest_view();
    let target = network.nodes.iter().map(|node| node.replica.height()).max();
    let target = target.map(|height| height.increment().increment());
    for _ in 0..TIMERS_MAX {
        let done = |network: &Healed<'_>| {
            network.nodes.iter().all(|node| Some(node.replica.height()) >= target)
        };
        while !done(&network) && network.exchange() {}
        if done(&network) {
            return Ok(network.highest_view().saturating_sub(first));
        }
        if network.highest_view() > first + VIEWS_MORE_MAX {
            return Err(network.describe("too many views"));
        }
        if !network.fire(order) {
            return Err(network.describe("stuck"));
        }
    }
    Err(network.describe("no decision"))
}

struct Healed<'a> {
    world: &'a World,
    nodes: Vec<Node>,
    now: Duration,
}

impl Healed<'_> {
    fn highest_view(&self) -> u8 {
        let views = self
            .nodes
            .iter()
            .map(|node| number(node.replica.view()).max(node.replica.promise().map_or(0, number)));
        views.max().unwrap_or(0)
    }

    fn describe(&self, what: &str) -> String {
        let all: Vec<String> = self.nodes.iter().map(|node| node.replica.summary()).collect();
        format!("L1: {what}: {}", all.join("; "))
    }

    /// Everyone gets what it lacks from everyone. Whether that changed anything.
    fn exchange(&mut self) -> bool {
        let mut changed = false;
        for to in 0..self.nodes.len() {
            for from in (0..self.nodes.len()).filter(|from| *from != to) {
                let before = self.standing(to);
                for input in self.answers(from, to) {
                    self.feed(to, input);
                }
                changed |= self.standing(to) != before;
            }
        }
        changed
    }

    fn standing(&self, seat: usize) -> (crate::status::Status, String) {
        let replica = &self.nodes[seat].replica;
        (replica.status([]), replica.summary())
    }

    /// What `from` answers to the STATUS of `to`, verified.
    fn answers(&self, from: usize, to: usize) -> Vec<Input> {
        let (from, to) = (&self.nodes[from], &self.nodes[to].replica);
        let status = to.status([]);
        let mut inputs = Vec::new();
        let context = self.world.context(status.height);
        let decided = from.chain.iter().find(|decided| decided.commit.height == status.height);
        if let Some(decided) = decided {
            let verified = context.decided((**decided).clone(), &Trusting);
            inputs.push(Input::Decided(verified.expect("a DECIDED of a correct replica")));
        }
        let bodies = to.missing().into_iter().filter_map(|id| from.replica.block(&id));
        for message in from.replica.answer(&status).into_iter().chain(bodies) {
            inputs.push(self.verified(message));
        }
        inputs
    }

    fn verified(&self, message: Message) -> Input {
        let at = |height| self.world.context(height);
        let verified = match message {
            Message::Vote(vote) => at(vote.message.height).vote(vote, &Trusting).map(Input::Vote),
            Message::ViewChange(message) => at(message.signed.message.height)
                .view_change(message, &Trusting)
                .map(Input::ViewChange),
            Message::PrePrepare(message) => {
                at(message.height()).pre_prepare(message, &Trusting).map(Input::PrePrepare)
            }
            Message::Prior(commit) => at(commit.height).commit(commit, &Trusting).map(Input::Prior),
            Message::Block(block) => Ok(Input::Block(block)),
        };
        verified.expect("what a correct replica sends verifies")
    }

    /// Fires what is due next. Whether there was anything.
    fn fire(&mut self, order: Order) -> bool {
        let due = self.nodes.iter().flat_map(|node| node.timers.iter().map(|(at, _)| *at)).min();
        let Some(due) = due else { return false };
        self.now = self.now.max(due);
        let first = match order {
            Order::Together => 0,
            Order::From(seat) => seat,
        };
        let count = self.nodes.len();
        for seat in (0..count).map(|seat| (seat + first) % count) {
            let timers = &mut self.nodes[seat].timers;
            let (ready, later): (Vec<_>, Vec<_>) = timers.drain(..).partition(|(at, _)| *at <= due);
            *timers = later;
            let any = !ready.is_empty();
            for (_, timer) in ready {
                self.feed(seat, Input::Timer(timer));
            }
            if any && matches!(order, Order::From(_)) {
                break;
            }
        }
        true
    }

    fn feed(&mut self, seat: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.nodes[seat].replica.step(input) {
                inputs.extend(self.carry_out(seat, action));
            }
        }
        self.advance(seat);
    }

    fn carry_out(&mut self, seat: usize, action: Action) -> Option<Input> {
        let node = &mut self.nodes[seat];
        match action {
            Action::Sign(request) => Some(Input::Signed(answer(request, seat))),
            Action::Validate(block) => {
                Some(Input::Validated { block_id: block.id(), accepted: true })
            }
            Action::Propose { height, view, last_commit } => {
                let tx = [0xff, number(view), u8::try_from(node.seat).unwrap_or(0)];
                let block = Arc::new(self.world.seal(height, last_commit, seat, &tx));
                Some(Input::Built { view, block })
            }
            Action::Arm { timer, after } => {
                node.timers.retain(|(_, old)| old.kind != timer.kind);
                if timer.kind != TimerKind::Signer {
                    node.timers.push((self.now + after, timer));
                }
                None
            }
            Action::Decide(decided) => {
                node.chain.push(Arc::new(decided));
                None
            }
            _ => None,
        }
    }

    /// Goes on to the next height after a decision.
    fn advance(&mut self, seat: usize) {
        let replica = &self.nodes[seat].replica;
        if replica.is_decided() {
            let start = self.world.start_of(replica.height().increment());
            self.nodes[seat].timers.clear();
            self.feed(seat, Input::Advance(start));
            self.feed(seat, Input::Work(true));
        }
    }
}
