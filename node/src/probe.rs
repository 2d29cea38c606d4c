//! Where a block is on its way from its decision to its end, told to whoever asked: tests that kill a process at each of these points.
//!
//! Only a program that puts a node together by itself can ask. `tercet` does not, whatever its flags and environment say.

use std::fmt;
use std::sync::Arc;

/// A point on the way of a block, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// It is decided, and not in the journal.
    Decided,
    /// The decision is durable in the journal.
    Journaled,
    /// The block is in the chain, and not executed.
    Stored,
    /// `FinalizeBlock` was answered, and nothing of the answer is written.
    Executed,
    /// Answer and state are written, and not synced.
    Saved,
    /// They are synced, and `Commit` is not called.
    Synced,
    /// `Commit` was answered, and nobody in the node knows.
    Committed,
    /// A batch of old blocks was removed, and there may be more.
    Pruned,
}

impl Point {
    /// Every point.
    pub const ALL: [Point; 8] = [
        Point::Decided,
        Point::Journaled,
        Point::Stored,
        Point::Executed,
        Point::Saved,
        Point::Synced,
        Point::Committed,
        Point::Pruned,
    ];

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Point::Decided => "decided",
            Point::Journaled => "journaled",
            Point::Stored => "stored",
            Point::Executed => "executed",
            Point::Saved => "saved",
            Point::Synced => "synced",
            Point::Committed => "committed",
            Point::Pruned => "pruned",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Hears of each point; by default nobody does.
#[derive(Clone, Default)]
pub struct Probe(Option<Arc<dyn Fn(Point) + Send + Sync>>);

impl Probe {
    /// A probe that calls `heard` on the thread that reaches the point.
    #[must_use]
    pub fn new(heard: impl Fn(Point) + Send + Sync + 'static) -> Probe {
        Probe(Some(Arc::new(heard)))
    }

    /// A point is reached.
    pub(crate) fn reach(&self, point: Point) {
        if let Some(heard) = &self.0 {
            heard(point);
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.0.is_some()).finish()
    }
}
