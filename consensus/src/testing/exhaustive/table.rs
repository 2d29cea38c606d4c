//! The table of all states of one replica and of what every move makes of them, filled by the real code, each entry once. The search
//! over the whole network looks up only.

use super::bounds::BLOCKS_MAX;
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
    /// The moves of each height with their guards.
    moves: Vec<Vec<(Move, Guard)>>,
    /// The renamings of each height's blocks that make no difference; the first renames nothing.
    pub(super) names: Vec<Vec<Names>>,
    /// How often the real code took a step.
    pub(super) steps: u64,
}

impl Table {
    pub(super) fn new(world: World) -> Table {
        let heights = 0u8..u8::try_from(world.bounds.heights()).expect("few heights");
        let moves = heights.clone().map(|height| {
            let all = Move::all(&world, height).into_iter();
            all.map(|by| (by, by.guard(&world, height))).collect()
        });
        let names = heights.map(|height| names(&world, height));
        let (moves, names) = (moves.collect(), names.collect());
        Table { world, ids: HashMap::new(), rows: Vec::new(), moves, names, steps: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn local(&self, id: Id) -> &Local {
        &self.rows[id as usize].machine.local
    }

    pub(super) fn machine(&self, id: Id) -> &Machine {
        &self.rows[id as usize].machine
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
        let height = usize::from(self.local(id).place.height);
        let mut edges: Vec<Edge> = Vec::new();
        for index in 0..self.moves.get(height).map_or(0, Vec::len) {
            let (by, guard) = self.moves[height][index];
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
        if outcome.beyond {
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
        let to = if broken.is_some() { id } else { self.intern(outcome.machine, Some(from)) };
        Some(Edge { by, guard, to, decided, broken })
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

/// The renamings of a height's blocks that leave the round of the last commit as it is; the first renames nothing.
fn names(world: &World, height: u8) -> Vec<Names> {
    let count = world.count(height);
    let mut all: Vec<Names> = vec![];
    let mut names: Names = std::array::from_fn(|block| block as u8);
    permute(world, height, count, 0, &mut names, &mut all);
    let identity: Names = std::array::from_fn(|block| block as u8);
    all.sort_by_key(|names| *names != identity);
    all
}

fn permute(
    world: &World,
    height: u8,
    count: usize,
    at: usize,
    names: &mut [u8; BLOCKS_MAX],
    all: &mut Vec<Names>,
) {
    if at >= count {
        all.push(*names);
        return;
    }
    for other in at..count {
        names.swap(at, other);
        if world.round(height, names[at]) == world.round(height, u8::try_from(at).unwrap_or(0)) {
            permute(world, height, count, at + 1, names, all);
        }
        names.swap(at, other);
    }
}
