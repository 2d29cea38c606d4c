//! What a run is bounded by.

/// How many validators there are.
pub(super) const SEATS: usize = 4;
/// How many of them are correct: the first ones.
pub(super) const CORRECT: usize = 3;
/// The seat of the faulty one.
pub(super) const LIAR: usize = 3;
/// The most views that a run may have.
pub(super) const VIEWS_MAX: usize = 4;
/// The most blocks of one height.
pub(super) const BLOCKS_MAX: usize = 6;
/// The most heights.
pub(super) const HEIGHTS_MAX: usize = 3;

/// What a run is bounded by.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The powers of the four validators; the last is the faulty one's.
    pub powers: [u64; SEATS],
    /// Views 0..`views` are searched at every height.
    pub views: u8,
    /// The rounds of Commit(h−1) that can be learned at any time at the first height, ascending; the first of them is known from
    /// the start. None: the first height is the chain's initial height.
    pub prior: Vec<u8>,
    /// The blocks of each height, each by the round of its last commit (0 at the initial height).
    pub blocks: Vec<Vec<u8>>,
    /// Whether VIEW-CHANGE may be sent for the first view that is out of bounds.
    pub ask_beyond: bool,
    /// Whether correct replicas may crash, any number of times, and restart from what was durable.
    pub crashes: bool,
    /// Whether a signature may come back late or never, rather than at once.
    pub late: bool,
    /// What a restart forgets though it was durable: a fault that is not allowed, to see that it is found.
    pub forgets: Forgets,
    /// The search gives up at this many states.
    pub states_max: usize,
}

/// What a restart forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgets {
    /// Nothing, as it should be.
    Nothing,
    /// Its promise: the VIEW-CHANGEs that it sent.
    Promise,
    /// The PREPAREs that it sent.
    Prepares,
    /// The COMMITs that it sent.
    Commits,
}

impl Default for Bounds {
    /// One height, four equal validators, views 0 and 1, two blocks.
    fn default() -> Bounds {
        Bounds {
            powers: [1; SEATS],
            views: 2,
            prior: Vec::new(),
            blocks: vec![vec![0, 0]],
            ask_beyond: false,
            crashes: false,
            late: false,
            forgets: Forgets::Nothing,
            states_max: usize::MAX,
        }
    }
}

impl Bounds {
    /// How many heights.
    pub(super) fn heights(&self) -> usize {
        self.blocks.len()
    }

    /// The highest view for which VIEW-CHANGE may be sent.
    pub(super) fn asks_max(&self) -> u8 {
        if self.ask_beyond { self.views } else { self.views.saturating_sub(1) }
    }

    /// What cannot be searched.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let views = usize::from(self.views);
        let rounds = |rounds: &[u8]| rounds.iter().all(|round| *round < self.views);
        if !(1..=VIEWS_MAX).contains(&views) {
            return Err("between one and four views can be searched");
        }
        if !(1..=HEIGHTS_MAX).contains(&self.heights()) {
            return Err("between one and three heights can be searched");
        }
        if self.blocks.iter().any(|blocks| !(1..=BLOCKS_MAX).contains(&blocks.len())) {
            return Err("a height has between one and six blocks");
        }
        if !self.blocks.iter().all(|blocks| rounds(blocks)) || !rounds(&self.prior) {
            return Err("the round of a last commit must be one of the views");
        }
        let first = self.blocks.first().map_or(&[][..], Vec::as_slice);
        if self.prior.is_empty() && first.iter().any(|round| *round > 0) {
            return Err("blocks of the initial height have no last commit");
        }
        if self.heights() > 1 && !self.prior.is_empty() {
            return Err("several heights begin at the initial one");
        }
        Ok(())
    }
}
