//! The state of the whole network: where each correct replica is, and what it signed at the heights below. Every message that was
//! signed stays available for ever, to be delivered at any time or never; so nothing is kept of what is under way.

use super::bounds::{BLOCKS_MAX, CORRECT, HEIGHTS_MAX, LIAR, SEATS};
use super::local::{Kind, Local, Names, Offers, Signed, claim, claim_of};
use super::machine::Machine;
use super::moves::{certificate_bit, decided_bit, new_view_bit, others, prior_bit};
use super::table::{Edge, Id, Table};
use super::world::{Place, Trusting, World, number};
use crate::message::{Justification, Phase};
use std::collections::HashMap;
use std::rc::Rc;

/// What a replica signed at the heights that it has left and that somebody has not; empty for the others.
type Past = [Signed; HEIGHTS_MAX];

/// One correct replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) at: Id,
    pub(super) past: u32,
}

/// A state of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State {
    pub(super) parts: [Part; CORRECT],
    /// The lowest height at which somebody still is.
    pub(super) open: u8,
    /// The rounds of the commits of the height below `open`, a bit each.
    pub(super) rounds: u8,
}

/// The network's side of the search.
pub(super) struct Network {
    pub(super) table: Table,
    pasts: Vec<Past>,
    past_ids: HashMap<Past, u32>,
    /// The image of each past under each choice of renamings.
    past_images: HashMap<(u32, usize), u32>,
    /// Every choice of renamings, one for each height.
    choices: Vec<Vec<usize>>,
    /// Whether PREPAREs, or COMMITs, of these seats (a bit each) count as a quorum at a height, by the real verification.
    certifies: Vec<[bool; 1 << SEATS]>,
    commits: Vec<[bool; 1 << SEATS]>,
    new_views: HashMap<(u8, u8, [u32; CORRECT], u32), u128>,
    /// The pairs of seats that are interchangeable.
    alike: Vec<(usize, usize)>,
}

/// The seats of a set, the faulty one included.
fn with_liar(correct: usize) -> usize {
    correct | 1 << LIAR
}

/// Whether each set of seats is a quorum by `verify`.
fn quorums(world: &World, verify: impl Fn(u8, [bool; SEATS]) -> bool) -> Vec<[bool; 1 << SEATS]> {
    let heights = 0..u8::try_from(world.bounds.heights()).expect("few heights");
    let of = |height, set: usize| {
        let seats = std::array::from_fn(|s| set >> s & 1 == 1 && world.is_validator(height, s));
        verify(height, seats)
    };
    heights.map(|height| std::array::from_fn(|set| of(height, set))).collect()
}

impl Network {
    pub(super) fn new(world: World) -> Network {
        let certifies = quorums(&world, |height, seats| world.certifies(height, seats).is_ok());
        let commits = quorums(&world, |height, seats| world.commits(height, seats).is_ok());
        let alike = [(0, 1), (1, 2), (0, 2), (0, 1), (1, 2)];
        let alike = alike.into_iter().filter(|(a, b)| world.bounds.alike(*a, *b)).collect();
        let table = Table::new(world);
        let mut choices = vec![vec![]];
        for names in &table.names {
            let longer = |choice: &Vec<usize>| {
                let choice = choice.clone();
                (0..names.len()).map(move |next| [choice.clone(), vec![next]].concat())
            };
            choices = choices.iter().flat_map(longer).collect();
        }
        let empty = Past::default();
        let (pasts, past_ids) = (vec![empty], HashMap::from([(empty, 0)]));
        let (past_images, new_views) = Default::default();
        Network {
            table,
            pasts,
            past_ids,
            past_images,
            choices,
            certifies,
            commits,
            new_views,
            alike,
        }
    }

    /// The first seat of the same power: whose rows stand for this one's too.
    fn like(&self, seat: usize) -> usize {
        (0..seat).find(|other| self.table.world.bounds.alike(*other, seat)).unwrap_or(seat)
    }

    /// Everyone at the start.
    pub(super) fn initial(&mut self) -> State {
        let place = Place { height: 0, on: 0 };
        let start = self.table.world.bounds.prior.first().copied().unwrap_or(0);
        let parts = std::array::from_fn(|seat| {
            let machine = Machine::new(&self.table.world, self.like(seat), place, start);
            Part { at: self.table.intern(machine, None), past: 0 }
        });
        let rounds = self.table.world.bounds.prior.iter().fold(0, |all, round| all | 1 << round);
        State { parts, open: 0, rounds }
    }

    /// What a replica signed at `height`.
    pub(super) fn signed(&self, part: Part, height: u8) -> &Signed {
        let local = self.table.local(part.at);
        if local.place.height == height {
            &local.signed
        } else {
            &self.pasts[part.past as usize][usize::from(height)]
        }
    }

    pub(super) fn all_signed(&self, state: &State, height: u8) -> [Signed; CORRECT] {
        state.parts.map(|part| *self.signed(part, height))
    }

    /// Every step of every correct replica that can happen, with the state that follows.
    pub(super) fn successors(&mut self, state: &State, out: &mut Vec<(State, usize, Edge)>) {
        out.clear();
        let heights = state.parts.map(|part| self.table.local(part.at).place.height);
        let mut shared = [None; HEIGHTS_MAX];
        for (seat, height) in heights.into_iter().enumerate() {
            let at = usize::from(height);
            if at >= self.table.world.bounds.heights() {
                continue;
            }
            let shared = *shared[at].get_or_insert_with(|| self.shared(state, height));
            let part = state.parts[seat];
            let offers = others(seat).map(|other| {
                state
                    .parts
                    .get(other)
                    .map_or(Offers::default(), |other| self.signed(*other, height).offers())
            });
            let edges: Rc<[Edge]> = self.table.edges(part.at);
            for edge in edges.iter() {
                let from = edge.guard.from.iter().zip(&offers);
                if edge.guard.shared & !shared != 0
                    || !from.into_iter().all(|(need, has)| has.covers(need))
                {
                    continue;
                }
                out.push((self.follow(state, seat, edge, height), seat, edge.clone()));
            }
        }
    }

    fn follow(&mut self, state: &State, seat: usize, edge: &Edge, height: u8) -> State {
        let mut next = *state;
        let part = &mut next.parts[seat];
        part.at = edge.to;
        if let Some((_, _, signed)) = edge.decided
            && edge.broken.is_none()
        {
            let mut past = self.pasts[part.past as usize];
            past[usize::from(height)] = signed;
            part.past = self.intern_past(past);
        }
        next
    }

    fn intern_past(&mut self, past: Past) -> u32 {
        let next = u32::try_from(self.pasts.len()).expect("fewer than 2^32 pasts");
        let id = *self.past_ids.entry(past).or_insert(next);
        if id == next {
            self.pasts.push(past);
        }
        id
    }

    /// Takes the steps with whole replicas, each with its own keys. None where one of them comes to another state than the table has.
    pub(super) fn live_through(
        &self,
        initial: &State,
        path: &[(usize, Edge)],
    ) -> Option<[Machine; CORRECT]> {
        let world = &self.table.world;
        let mut machines: [Machine; CORRECT] = std::array::from_fn(|seat| {
            let local = self.table.local(initial.parts[seat].at);
            Machine::new(world, seat, local.place, local.start)
        });
        for (seat, edge) in path {
            let outcome = edge.by.make(world, &machines[*seat]);
            let wanted = self.table.local(edge.to);
            let reached = &outcome.machine.local;
            let height = reached.place.height;
            let on = height.checked_sub(1).filter(|_| usize::from(height) < self.table.names.len());
            let on = on.map_or(0, |below| world.like(below, reached.place.on));
            let same = Local { seat: wanted.seat, place: Place { height, on }, ..*reached };
            if outcome.broken.is_some() || same != *wanted {
                return None;
            }
            machines[*seat] = outcome.machine;
        }
        Some(machines)
    }

    // ---- What can be made of what all have signed ----

    /// The seats whose vote is among `signed`, the faulty one included where a correct one is.
    pub(super) fn voters(signed: &[Signed; CORRECT], phase: Phase, view: u8, block: u8) -> usize {
        let voted = |s: &Signed| s.votes(phase)[usize::from(view)] >> block & 1 == 1;
        (0..CORRECT).filter(|seat| voted(&signed[*seat])).fold(0, |all, seat| all | 1 << seat)
    }

    /// The certificates (by view and block, as claims) that can be formed at a height.
    fn certificates(&self, signed: &[Signed; CORRECT], height: u8) -> u32 {
        let blocks = u8::try_from(self.table.world.count(height)).expect("few blocks");
        let mut all = 0;
        for view in 0..self.table.world.bounds.views {
            for block in 0..blocks {
                let voters = Self::voters(signed, Phase::Prepare, view, block);
                if self.certifies[usize::from(height)][with_liar(voters)] {
                    all |= 1 << claim(Some((view, block)));
                }
            }
        }
        all
    }

    fn commit_rounds(&self, signed: &[Signed; CORRECT], height: u8) -> u8 {
        let blocks = u8::try_from(self.table.world.count(height)).expect("few blocks");
        let exists = |view: &u8| {
            (0..blocks).any(|block| {
                let voters = Self::voters(signed, Phase::Commit, *view, block);
                self.commits[usize::from(height)][with_liar(voters)]
            })
        };
        (0..self.table.world.bounds.views).filter(exists).fold(0, |all, view| all | 1 << view)
    }

    /// Bits of `Guard::shared` at a height.
    fn shared(&mut self, state: &State, height: u8) -> u128 {
        let signed = self.all_signed(state, height);
        let rounds = if height == state.open {
            state.rounds
        } else {
            self.commit_rounds(&self.all_signed(state, height - 1), height - 1)
        };
        let mut shared: u128 =
            (0..8).filter(|round| rounds >> round & 1 == 1).fold(0, |all, r| all | prior_bit(r));
        let blocks = u8::try_from(self.table.world.count(height)).expect("few blocks");
        let certificates = self.certificates(&signed, height);
        for view in 0..self.table.world.bounds.views {
            for block in 0..blocks {
                let voters = Self::voters(&signed, Phase::Commit, view, block);
                if self.commits[usize::from(height)][with_liar(voters)] {
                    shared |= decided_bit(view, block);
                }
                if certificates >> claim(Some((view, block))) & 1 == 1 {
                    shared |= certificate_bit(view, block);
                }
            }
            let asks = signed.map(|signed| signed.view_changes[usize::from(view)]);
            let lies = self.table.world.bounds.primary(view) == LIAR;
            if lies && view > 0 && asks.iter().any(|asks| *asks != 0) {
                shared |= self.new_views(height, view, asks, certificates);
            }
        }
        shared
    }

    /// Which NEW-VIEWs can be made, by the real verification of every J that the faulty primary could put together.
    fn new_views(&mut self, height: u8, v: u8, asks: [u32; CORRECT], certificates: u32) -> u128 {
        let below = certificates & ((1 << (1 + usize::from(v) * BLOCKS_MAX)) - 1);
        let key = (height, v, asks, below);
        if let Some(known) = self.new_views.get(&key) {
            return *known;
        }
        let world = &self.table.world;
        let place = Place { height, on: 0 };
        let claims = |set: u32| (0..32).filter(move |bit| set >> bit & 1 == 1);
        let liar = if world.is_validator(height, LIAR) { below | 1 } else { 0 };
        let options = |set: u32| [None].into_iter().chain(claims(set).map(Some));
        let mut found = 0;
        for a in options(asks[0]) {
            for b in options(asks[1]) {
                for c in options(asks[2]) {
                    for liar in options(liar) {
                        let chosen = [a, b, c, liar];
                        for certificate in options(below) {
                            found |= justified(world, place, v, chosen, certificate);
                        }
                    }
                }
            }
        }
        self.new_views.insert(key, found);
        found
    }

    // ---- Canonical form ----

    /// The representative of all states that differ only in the names of blocks and of replicas, and in what can no longer matter.
    pub(super) fn canonical(&mut self, state: &State) -> State {
        let mut state = *state;
        self.close(&mut state);
        let mut best: Option<State> = None;
        for choice in 0..self.choices.len() {
            // Closed heights name no blocks.
            if self.choices[choice].iter().take(usize::from(state.open)).any(|names| *names > 0) {
                continue;
            }
            let mut renamed = state;
            for part in &mut renamed.parts {
                *part = self.renamed(*part, choice);
            }
            for (a, b) in &self.alike {
                if renamed.parts[*a] > renamed.parts[*b] {
                    renamed.parts.swap(*a, *b);
                }
            }
            if best.is_none_or(|best| renamed < best) {
                best = Some(renamed);
            }
        }
        best.unwrap_or(state)
    }

    /// What was signed at the first height, alike for all names of blocks and replicas; none once all have left it.
    pub(super) fn signed_at_first(&self, state: &State) -> Option<[Signed; CORRECT]> {
        let signed = (state.open == 0).then(|| self.all_signed(state, 0))?;
        let all = self.table.names[0].iter().map(|names| {
            let mut renamed = signed.map(|signed| signed.renamed(names));
            for (a, b) in &self.alike {
                if renamed[*a] > renamed[*b] {
                    renamed.swap(*a, *b);
                }
            }
            renamed
        });
        all.min()
    }

    fn renamed(&mut self, part: Part, choice: usize) -> Part {
        if choice == 0 {
            return part;
        }
        let height = usize::from(self.table.local(part.at).place.height);
        let renaming = self.choices[choice].get(height).copied().unwrap_or(0);
        let at = self.table.image(part.at, renaming);
        let past = match self.past_images.get(&(part.past, choice)) {
            Some(past) => *past,
            None => {
                let mut past = self.pasts[part.past as usize];
                for (height, signed) in past.iter_mut().enumerate() {
                    if let Some(names) = self.choices[choice].get(height) {
                        let names: Names = self.table.names[height][*names];
                        *signed = signed.renamed(&names);
                    }
                }
                let image = self.intern_past(past);
                self.past_images.insert((part.past, choice), image);
                image
            }
        };
        Part { at, past }
    }

    /// Of a height that all have left only the rounds of its commits matter.
    fn close(&mut self, state: &mut State) {
        let lowest = state.parts.map(|part| self.table.local(part.at).place.height);
        let lowest = lowest.into_iter().min().unwrap_or(0);
        if lowest == state.open {
            return;
        }
        let before = lowest - 1;
        state.rounds = self.commit_rounds(&self.all_signed(state, before), before);
        state.open = lowest;
        for part in &mut state.parts {
            let mut past = self.pasts[part.past as usize];
            past[..usize::from(lowest)].fill(Signed::default());
            part.past = self.intern_past(past);
        }
    }
}

/// The NEW-VIEWs (bits of `Guard::shared`) that this J justifies. `chosen`: the claim of each seat's VIEW-CHANGE in it, or none.
fn justified(
    world: &World,
    place: Place,
    v: u8,
    chosen: [Option<usize>; SEATS],
    certificate: Option<usize>,
) -> u128 {
    let id = |block: u8| world.block(place, block).id();
    let named = |(at, block): (u8, u8)| (at, id(block));
    let asks = chosen.iter().enumerate().filter_map(|(seat, claim)| Some((seat, (*claim)?)));
    let view_changes =
        asks.map(|(seat, claim)| world.view_change(place, seat, v, claim_of(claim).map(named)));
    let certificate = certificate.and_then(claim_of).map(named);
    let all = std::array::from_fn(|seat| world.is_validator(place.height, seat));
    let certificate = certificate.map(|(at, id)| world.certificate(place, at, id, all));
    let justification = Justification { view_changes: view_changes.collect(), certificate };
    let at = justification.certificate.as_ref().map(|certificate| number(certificate.view));
    let kind = at.map_or(Kind::Free, |at| Kind::Bound { at });
    let mut found = 0;
    for block in 0..u8::try_from(world.count(place.height)).expect("few blocks") {
        let message = world.pre_prepare(place, v, id(block), Some(justification.clone()));
        let context = world.context(message.height());
        if context.pre_prepare(message, &Trusting).is_ok() {
            found |= new_view_bit(v, block, kind);
        }
    }
    found
}
