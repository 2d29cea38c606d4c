//! The table of all states of one replica and of what every move makes of them, filled by the real code, each entry once. The search
//! over the whole network looks up only.

use super::bounds::small;
use super::local::{Local, Names, Signed};
use super::machine::{Machine, Outcome};
use super::moves::{Guard, Move};
use super::world::World;
use std::collections::HashMap;
use std::rc::Rc;

/// A row of the table.
pub(super) type Id = u32;

/// What a move makes of a state.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub(super) by: Move,
    pub(super) guard: Guard,
    pub(super) to: Id,
    pub(super) decided: Option<(u8, u8, Signed)>,
    pub(super) broken: Option<Rc<str>>,
}

struct Row {
    machine: Machine,
    edges: Option<Rc<[Edge]>>,
    /// How it was first reached from another state of its height.
    from: Option<(Id, Move)>,
    /// The rows that differ from it in the names of the blocks, by renaming.
    images: Vec<Option<Id>>,
}

/// The table.
pub(super) struct Table {
    pub(super) world: World,
    ids: HashMap<Local, Id>,
    rows: Vec<Row>,
    /// The moves of each seat at each height with their guards.
    moves: HashMap<(u8, u8), Moves>,
    /// The renamings of each height's blocks that make no difference; the first renames nothing.
    pub(super) names: Vec<Vec<Names>>,
    /// How often the real code took a step.
    pub(super) steps: u64,
    /// What the comparison of ways found.
    pub(super) congruence: Congruence,
}

/// How ways to one state compare with the first one that was met.
#[derive(Clone, Debug, Default)]
pub struct Congruence {
    /// Ways that were compared.
    pub ways: u64,
    /// What a move makes of another way and some moves of the first one.
    pub in_steps: u64,
    /// What a move makes of another way and no moves of the first one.
    pub lost: u64,
    /// One such.
    pub example: Option<String>,
}

/// Moves with their guards.
type Moves = Rc<[(Move, Guard)]>;

/// In how many moves of the first way one move of another must be made up for.
const STEPS_MAX: usize = 3;

/// A move's guard and what it makes of a state: the state and the decision.
type Effect = (Guard, Local, Option<(u8, u8, Signed)>);

impl Table {
    pub(super) fn new(world: World) -> Table {
        let heights = 0u8..u8::try_from(world.bounds.heights()).expect("few heights");
        let names = heights.map(|height| names(&world, height)).collect();
        let (ids, rows, moves, congruence) = Default::default();
        Table { world, ids, rows, moves, names, steps: 0, congruence }
    }

    /// The moves that a state may have, with their guards.
    fn moves(&mut self, local: &Local) -> Moves {
        let (seat, height) = (local.seat, local.place.height);
        if usize::from(height) >= self.world.bounds.heights() {
            return Rc::new([]);
        }
        let world = &self.world;
        let moves = self.moves.entry((seat, height)).or_insert_with(|| {
            let seat = usize::from(seat);
            let all = Move::all(world, seat, height).into_iter();
            all.filter_map(|by| Some((by, by.guard(world, seat, height)?))).collect()
        });
        Rc::clone(moves)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn local(&self, id: Id) -> &Local {
        &self.rows[id as usize].machine.local
    }

    /// The row of this state.
    pub(super) fn intern(&mut self, machine: Machine, from: Option<(Id, Move)>) -> Id {
        if let Some(id) = self.ids.get(&machine.local) {
            return *id;
        }
        let id = Id::try_from(self.rows.len()).expect("fewer than 2^32 rows");
        self.ids.insert(machine.local, id);
        let height = usize::from(machine.local.place.height);
        let images = vec![None; self.names.get(height).map_or(1, Vec::len)];
        let from =
            from.filter(|(old, _)| self.local(*old).place.height == machine.local.place.height);
        self.rows.push(Row { machine, edges: None, from, images });
        id
    }

    /// What the moves make of this state; moves that make no difference are left out, and so are those that need more than another
    /// that comes to the same.
    pub(super) fn edges(&mut self, id: Id) -> Rc<[Edge]> {
        if let Some(edges) = &self.rows[id as usize].edges {
            return Rc::clone(edges);
        }
        let mut edges: Vec<Edge> = Vec::new();
        let local = *self.local(id);
        for (by, guard) in self.moves(&local).iter().copied() {
            let Some(edge) = self.edge(id, by, guard) else { continue };
            let same = |old: &Edge| {
                (old.to, &old.decided, &old.broken) == (edge.to, &edge.decided, &edge.broken)
            };
            if edges.iter().any(|old| same(old) && edge.guard.implies(&old.guard)) {
                continue;
            }
            edges.retain(|old| !(same(old) && old.guard.implies(&edge.guard)));
            edges.push(edge);
        }
        let edges: Rc<[Edge]> = edges.into();
        self.rows[id as usize].edges = Some(Rc::clone(&edges));
        edges
    }

    fn make(&mut self, id: Id, by: Move) -> Outcome {
        self.steps += 1;
        by.make(&self.world, &self.rows[id as usize].machine)
    }

    fn edge(&mut self, id: Id, by: Move, guard: Guard) -> Option<Edge> {
        let mut outcome = self.make(id, by);
        let mut from = (id, by);
        if outcome.beyond || self.is_idle(&outcome) {
            return None;
        }
        if outcome.broken.is_none() && outcome.machine.local == *self.local(id) {
            return None;
        }
        let decided = outcome.decided;
        if let Some((_, block, _)) = decided
            && outcome.broken.is_none()
        {
            // Which of two blocks that differ in nothing was decided makes no difference above: go on as after the first of them.
            let height = self.local(id).place.height;
            let like = self.world.like(height, block);
            if like != block {
                let swap = self.swap(height, like, block);
                let image = self.image(id, swap);
                let by = by.renamed(&self.names[usize::from(height)][swap]);
                outcome = self.make(image, by);
                from = (image, by);
            }
        }
        let broken = outcome.broken.take().map(Rc::from);
        if self.world.bounds.congruence && broken.is_none() {
            self.compare(&outcome.machine, from);
        }
        let to = if broken.is_some() { id } else { self.intern(outcome.machine, Some(from)) };
        Some(Edge { by, guard, to, decided, broken })
    }

    /// Whether all that a move makes of `other` can also become of the first replica that was met in the same state.
    fn compare(&mut self, other: &Machine, from: (Id, Move)) {
        let Some(id) = self.ids.get(&other.local).copied() else { return };
        let first = self.rows[id as usize].machine.clone();
        // What was delivered on the way there stays there to be delivered.
        let there = self.needs(Some(from), other.local.place.height);
        let effects = self.effects(&first);
        self.congruence.ways += 1;
        for (guard, to, decided) in self.effects(other) {
            let wanted = (guard.and(&there), to, decided);
            let same = |effect: &Effect| (effect.1, effect.2) == (to, decided);
            if effects.iter().any(|effect| same(effect) && wanted.0.implies(&effect.0)) {
                continue;
            }
            if self.becomes(&first, &wanted, STEPS_MAX) {
                self.congruence.in_steps += 1;
                continue;
            }
            self.congruence.lost += 1;
            let example = || format!("from {:?}\n  to {to:?}\n  by {:?}", first.local, wanted.0);
            self.congruence.example.get_or_insert_with(example);
        }
    }

    /// Whether `wanted` can become of `machine` in a few moves that need no more than it.
    fn becomes(&mut self, machine: &Machine, wanted: &Effect, steps: usize) -> bool {
        let (may, to, decided) = wanted;
        let moves = self.moves(&machine.local);
        for (by, _) in moves.iter().filter(|(_, guard)| may.implies(guard)) {
            let outcome = by.make(&self.world, machine);
            if outcome.machine.local == *to && outcome.decided == *decided {
                return true;
            }
            let goes_on = outcome.machine.local != machine.local && outcome.decided.is_none();
            if steps > 1
                && goes_on
                && outcome.broken.is_none()
                && !outcome.beyond
                && self.becomes(&outcome.machine, wanted, steps - 1)
            {
                return true;
            }
        }
        false
    }

    /// All that was needed on the way at a height.
    fn needs(&self, mut from: Option<(Id, Move)>, height: u8) -> Guard {
        let mut all = Guard::default();
        while let Some((id, by)) = from {
            let row = &self.rows[id as usize];
            let local = &row.machine.local;
            if local.place.height == height {
                let guard = by.guard(&self.world, usize::from(local.seat), height);
                all = all.and(&guard.unwrap_or_default());
            }
            from = row.from;
        }
        all
    }

    fn effects(&mut self, machine: &Machine) -> Vec<Effect> {
        let moves = self.moves(&machine.local);
        let made = moves.iter().map(|(by, guard)| (guard, by.make(&self.world, machine)));
        let effect = |(guard, outcome): (&Guard, Outcome)| {
            // What breaks an invariant is reported by itself, where it can happen at all.
            let differs = outcome.machine.local != machine.local && outcome.broken.is_none();
            let counts = differs && !outcome.beyond && !self.is_idle(&outcome);
            counts.then_some((*guard, outcome.machine.local, outcome.decided))
        };
        made.filter_map(effect).collect()
    }

    /// Whether a move brought a block for nothing.
    fn is_idle(&self, outcome: &Outcome) -> bool {
        let apart = self.world.bounds.bodies || self.world.bounds.late;
        !apart && outcome.broken.is_none() && outcome.machine.has_idle_block(&self.world)
    }

    /// The renaming that swaps two blocks.
    fn swap(&self, height: u8, a: u8, b: u8) -> usize {
        let swapped = |names: &Names| {
            (0u8..).zip(names).all(|(block, name)| {
                *name
                    == if block == a {
                        b
                    } else if block == b {
                        a
                    } else {
                        block
                    }
            })
        };
        let names = &self.names[usize::from(height)];
        names.iter().position(swapped).expect("the two differ in nothing")
    }

    /// The row of the same state with its blocks renamed: the real code goes the way to it with the blocks renamed.
    pub(super) fn image(&mut self, id: Id, renaming: usize) -> Id {
        if renaming == 0 {
            return id;
        }
        let row = &self.rows[id as usize];
        if let Some(Some(image)) = row.images.get(renaming) {
            return *image;
        }
        let height = usize::from(row.machine.local.place.height);
        let Some(names) = self.names.get(height).and_then(|all| all.get(renaming)).copied() else {
            return id;
        };
        let renamed = row.machine.local.renamed(&names);
        let image = match (self.ids.get(&renamed), row.from) {
            (Some(image), _) => *image,
            (None, None) => panic!("the start of a height names no block: {renamed:?}"),
            (None, Some((from, by))) => {
                let (from, by) = (self.image(from, renaming), by.renamed(&names));
                let outcome = self.make(from, by);
                assert_eq!(outcome.machine.local, renamed, "the names of blocks matter");
                self.intern(outcome.machine, Some((from, by)))
            }
        };
        self.rows[id as usize].images[renaming] = Some(image);
        image
    }
}

/// The renamings of a height's blocks that leave their kinds as they are; the first renames nothing.
fn names(world: &World, height: u8) -> Vec<Names> {
    let count = small(world.count(height));
    let identity: Names = std::array::from_fn(small);
    let mut all = vec![identity];
    for a in 0..count {
        // Whatever is there, with block a and each later one of its kind swapped.
        let alike = (a + 1..count).filter(|b| world.kind(height, a) == world.kind(height, *b));
        let swaps: Vec<u8> = alike.collect();
        let swapped = |names: &Names| -> Vec<Names> {
            let with = |b: &u8| {
                let mut names = *names;
                names.swap(usize::from(a), usize::from(*b));
                names
            };
            swaps.iter().map(with).collect()
        };
        let more: Vec<Names> = all.iter().flat_map(swapped).collect();
        all.extend(more);
    }
    all
}
