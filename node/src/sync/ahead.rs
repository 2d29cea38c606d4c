//! What has come and waits for its turn. While the replica ingests, other threads decode it and check its signatures, so that the real
//! verification, under the validators of its height, finds them known.

use crate::engine::heights::{HeightInfo, Heights};
use crate::engine::verifier::Verifier;
use crate::network::PeerId;
use crate::wire::{ItemLimits, SyncItem};
use std::collections::BTreeMap;
use std::sync::Arc;
use tercet_consensus::block::BLOCK_BYTES_MAX;
use tercet_consensus::message::{Decided, Verified};
use tercet_consensus::validators::VALIDATORS_MAX;
use tercet_consensus::verify::{Context, Reject};
use tokio::sync::mpsc;

/// Beyond so many bytes that wait, only what is next is fetched.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A block that came.
#[derive(Debug)]
struct Waiting {
    from: PeerId,
    bytes: usize,
    /// None while it is being decoded.
    decided: Option<Decided>,
}

/// A decoded block, or why there is none.
#[derive(Debug)]
pub(super) struct Prepared {
    height: u64,
    from: PeerId,
    decided: Result<Decided, Reject>,
}

/// Who served something that is wrong, and what.
pub(super) type Blame = (PeerId, Reject);

/// The blocks that wait.
#[derive(Debug)]
pub(super) struct Ahead {
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    prepared: mpsc::UnboundedSender<Prepared>,
    /// The height after the last verified block, where its validators follow from that block.
    next: Option<Arc<HeightInfo>>,
}

impl Ahead {
    /// Nothing yet, and where to hear of what is prepared: no more than what was asked for is under way.
    pub(super) fn new() -> (Ahead, mpsc::UnboundedReceiver<Prepared>) {
        let (prepared, queue) = mpsc::unbounded_channel();
        (Ahead { waiting: BTreeMap::new(), bytes: 0, prepared, next: None }, queue)
    }

    /// Whether the block of `height` is here.
    pub(super) fn has(&self, height: u64) -> bool {
        self.waiting.contains_key(&height)
    }

    /// How many bytes the block of `height` has with its commit, where it is here.
    pub(super) fn bytes_of(&self, height: u64) -> Option<usize> {
        self.waiting.get(&height).map(|waiting| waiting.bytes)
    }

    /// Whether there is room for more than what is next.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < WAITING_BYTES_MAX
    }

    /// Takes what a peer served for `height` and lets it be prepared.
    pub(super) fn add(&mut self, height: u64, from: PeerId, item: SyncItem, by: &Verifier) {
        if self.has(height) {
            return;
        }
        let bytes = item.block.len() + item.commit.len();
        self.bytes += bytes;
        self.waiting.insert(height, Waiting { from, bytes, decided: None });
        let (verifier, prepared) = (by.clone(), self.prepared.clone());
        by.spawn(move || {
            let decided = prepare(height, item, &verifier);
            // Fails only while the node is stopping.
            drop(prepared.send(Prepared { height, from, decided }));
        });
    }

    /// Takes a prepared block, unless what waited was dropped meanwhile.
    ///
    /// # Errors
    /// Whoever sent it, where it is malformed.
    pub(super) fn prepared(&mut self, prepared: Prepared) -> Result<(), Blame> {
        let Prepared { height, from, decided } = prepared;
        let decided = decided.map_err(|reject| (from, reject))?;
        if let Some(waiting) = self.waiting.get_mut(&height).filter(|waiting| waiting.from == from)
        {
            waiting.decided = Some(decided);
        }
        Ok(())
    }

    /// Drops what is below `height`.
    pub(super) fn drop_below(&mut self, height: u64) {
        self.retain(|at, _| *at >= height);
    }

    /// Drops what a peer sent.
    pub(super) fn drop_from(&mut self, peer: &PeerId) {
        self.retain(|_, waiting| waiting.from != *peer);
    }

    fn retain(&mut self, keep: impl Fn(&u64, &Waiting) -> bool) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|height, waiting| {
            let kept = keep(height, waiting);
            if !kept {
                *bytes = bytes.saturating_sub(waiting.bytes);
            }
            kept
        });
    }

    /// The block of `height`, verified, where it is prepared and its validators are known.
    ///
    /// # Errors
    /// Whoever sent it, where it does not verify.
    pub(super) fn take(
        &mut self,
        height: u64,
        heights: &Heights,
        verifier: &Verifier,
    ) -> Result<Option<Verified<Decided>>, Blame> {
        let Some(info) = self.info(height, heights) else { return Ok(None) };
        if self.waiting.get(&height).is_none_or(|waiting| waiting.decided.is_none()) {
            return Ok(None);
        }
        let Some(waiting) = self.waiting.remove(&height) else { return Ok(None) };
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        let Some(decided) = waiting.decided else { return Ok(None) };
        let verified = verify(decided, &info, heights, verifier);
        let verified = verified.map_err(|reject| (waiting.from, reject))?;
        self.next = following(&info, &verified);
        Ok(Some(verified))
    }

    fn info(&self, height: u64, heights: &Heights) -> Option<Arc<HeightInfo>> {
        let at = tendermint::block::Height::try_from(height).ok()?;
        let next = self.next.as_ref().filter(|info| info.height == at);
        heights.at(at).or(next).cloned()
    }
}

/// What the height after a decided block is verified against, where its header says that the validators stay the same: a quorum has
/// checked that.
fn following(info: &HeightInfo, decided: &Decided) -> Option<Arc<HeightInfo>> {
    let same = decided.block.header().next_validators_hash == info.validators.hash();
    same.then(|| Arc::new(info.following()))
}

/// Decodes, and checks signatures under the validators of now. The verdict does not count here: what is good is remembered.
fn prepare(height: u64, item: SyncItem, verifier: &Verifier) -> Result<Decided, Reject> {
    let limits = ItemLimits { block_bytes_max: BLOCK_BYTES_MAX, validators: VALIDATORS_MAX };
    let decided = item.decode(limits)?;
    if decided.block.header().height.value() != height || decided.commit.height.value() != height {
        return Err(Reject::Height);
    }
    let heights = verifier.heights();
    if let Some(info) = heights.at(heights.current) {
        let (height, extensions) = (decided.commit.height, None);
        let context = Context { height, extensions, ..heights.context(info) };
        drop(context.decided(decided.clone(), &*verifier.check()));
    }
    Ok(decided)
}

fn verify(
    decided: Decided,
    info: &HeightInfo,
    heights: &Heights,
    verifier: &Verifier,
) -> Result<Verified<Decided>, Reject> {
    if decided.commit.signatures.len() > info.validators.count() {
        return Err(Reject::TooLarge);
    }
    if info.extensions == Some(true) && !decided.commit.is_extended() {
        return Err(Reject::Malformed("a commit without its vote extensions"));
    }
    heights.context(info).decided(decided, &*verifier.check())
}
