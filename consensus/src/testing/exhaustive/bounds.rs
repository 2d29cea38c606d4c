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
pub(super) const BLOCKS_MAX: usize = 4;
/// The most heights.
pub(super) const HEIGHTS_MAX: usize = 3;

/// A number of views, blocks, seats or heights.
pub(super) fn small(count: usize) -> u8 {
    u8::try_from(count).expect("all of them are few")
}

/// What a run is bounded by.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The powers of the four validators at each height, the last entry at all later ones; 0 is none. The last is the faulty one's.
    pub powers: Vec<[u64; SEATS]>,
    /// Views 0..`views` are searched at every height.
    pub views: u8,
    /// The rounds of Commit(h−1) that can be learned at any time at the first height, ascending; the first of them is known from
    /// the start. None: the first height is the chain's initial height.
    pub prior: Vec<u8>,
    /// The primary of each view by seat, at every height.
    pub primaries: Vec<usize>,
    /// The blocks of each height.
    pub blocks: Vec<Vec<BlockKind>>,
    /// Whether VIEW-CHANGE may be sent for the first view that is out of bounds.
    pub ask_beyond: bool,
    /// Whether correct replicas may crash, any number of times, and restart from what was durable.
    pub crashes: bool,
    /// Whether a signature may come back late or never, rather than at once.
    pub late: bool,
    /// Whether blocks travel apart from the messages that name them, and may come late or never.
    pub bodies: bool,
    /// Whether every way to a state of a replica that the search meets is compared with the first that it met.
    pub congruence: bool,
    /// Whether to count what may have been signed at the first height, apart from all other state: for comparison with other models.
    pub count_signed: bool,
    /// Of how many states one is lived through with whole replicas, and healed from; 0 for none.
    pub live_one_in: u64,
    /// What a restart forgets though it was durable: a fault that is not allowed, to see that it is found.
    pub forgets: Forgets,
    /// The search gives up at this many states.
    pub states_max: usize,
}

/// What tells blocks of one height apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockKind {
    /// The round of the last commit in it, 0 at the initial height.
    pub round: u8,
    /// The seat that proposed it.
    pub proposer: usize,
}

impl BlockKind {
    /// A block of the faulty validator.
    #[must_use]
    pub const fn of(round: u8) -> BlockKind {
        BlockKind { round, proposer: LIAR }
    }
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
            powers: vec![[1; SEATS]],
            views: 2,
            prior: Vec::new(),
            primaries: vec![LIAR; VIEWS_MAX],
            blocks: vec![vec![BlockKind::of(0); 2]],
            ask_beyond: false,
            crashes: false,
            late: false,
            bodies: false,
            congruence: false,
            count_signed: false,
            live_one_in: 0,
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

    /// The powers at a height.
    pub(super) fn powers(&self, height: u8) -> &[u64; SEATS] {
        let powers = self.powers.get(usize::from(height)).or(self.powers.last());
        powers.expect("`check` has seen that there is an entry")
    }

    /// The primary of a view.
    pub(super) fn primary(&self, view: u8) -> usize {
        self.primaries.get(usize::from(view)).copied().unwrap_or(LIAR)
    }

    /// Whether a seat is primary of one of the views.
    pub(super) fn leads(&self, seat: usize) -> bool {
        (0..self.views).any(|view| self.primary(view) == seat)
    }

    /// Whether two seats are interchangeable.
    pub(super) fn alike(&self, a: usize, b: usize) -> bool {
        let equal = self.powers.iter().all(|powers| powers[a] == powers[b]);
        a == b || (equal && !self.leads(a) && !self.leads(b))
    }

    /// The highest view for which VIEW-CHANGE may be sent.
    pub(super) fn asks_max(&self) -> u8 {
        if self.ask_beyond { self.views } else { self.views.saturating_sub(1) }
    }

    /// What cannot be searched.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let views = usize::from(self.views);
        if !(1..=VIEWS_MAX).contains(&views) {
            return Err("between one and four views can be searched");
        }
        if !(1..=HEIGHTS_MAX).contains(&self.heights()) {
            return Err("between one and three heights can be searched");
        }
        if self.blocks.iter().any(|blocks| !(1..=BLOCKS_MAX).contains(&blocks.len())) {
            return Err("a height has between one and four blocks");
        }
        let rounds = self.blocks.iter().flatten().map(|block| &block.round);
        if rounds.chain(&self.prior).any(|round| *round >= self.views) {
            return Err("the round of a last commit must be one of the views");
        }
        let proposers = self.blocks.iter().flatten().map(|block| &block.proposer);
        if proposers.chain(&self.primaries).any(|seat| *seat >= SEATS) {
            return Err("there are four seats");
        }
        if self.powers.is_empty() || self.powers.iter().any(|powers| powers.iter().all(|p| *p == 0))
        {
            return Err("a height needs validators");
        }
        let first = self.blocks.first().map_or(&[][..], Vec::as_slice);
        if self.prior.is_empty() && first.iter().any(|block| block.round > 0) {
            return Err("blocks of the initial height have no last commit");
        }
        let correct_leads = (0..CORRECT).any(|seat| self.leads(seat));
        if correct_leads && (self.late || self.bodies) {
            return Err("late signatures and bodies go with a faulty primary only");
        }
        if self.heights() > 1 && !self.prior.is_empty() {
            return Err("several heights begin at the initial one");
        }
        Ok(())
    }
}
