//! From frames to verified inputs, off the engine's thread: a small pool checks signatures, every one by ZIP-215 rules and none twice.

use super::fresh::Fresh;
use super::heights::{HeightInfo, Heights, Published};
use super::turns::Turns;
use super::{Event, Origin, Room};
use crate::audit::{Audit, Discarded, FAULT_COST};
use crate::network::{Class, Inbound, PeerId, SHARE_BYTES_MAX};
use crate::wire::{Body, Consensus, FetchBlock};
use crossbeam_channel::Sender;
use lru::LruCache;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tendermint::block::Height;
use tercet_consensus::block::SealedBlock;
use tercet_consensus::key::{Address, PublicKey, Signature};
use tercet_consensus::message::{Message, PrePrepare};
use tercet_consensus::replica::{Input, Unused};
use tercet_consensus::verify::{Reject, SignatureCheck};
use tokio::sync::{Semaphore, mpsc};

/// How many verified signatures are remembered: those of votes come back in commits and certificates.
const CACHE_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// What may wait for a thread and then for the engine before the readers wait: so many units of [`UNIT_BYTES`] of one class.
const WAITING_UNITS_MAX: u32 = 16_384;
/// A frame takes at least one unit, a larger one as many as it has begun, and the largest all.
const UNIT_BYTES: usize = 4 * 1024;
const _: () = assert!(
    8 * SHARE_BYTES_MAX as usize <= WAITING_UNITS_MAX as usize * UNIT_BYTES,
    "no peer fills the room alone"
);
/// To look at so many bytes costs as much as to look at the least of frames.
const COST_BYTES: usize = 1024;

/// Checks signatures and remembers the good ones. The key of the memory covers key, message and signature, all that the verdict
/// depends on.
#[derive(Debug)]
pub struct CachedCheck(Mutex<LruCache<[u8; 32], ()>>);

impl Default for CachedCheck {
    fn default() -> CachedCheck {
        CachedCheck(Mutex::new(LruCache::new(CACHE_MAX)))
    }
}

impl CachedCheck {
    /// Whether the signature is good, and whether that was not known before.
    fn look(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> (bool, bool) {
        let mut hasher = Sha256::new();
        hasher.update(key.to_bytes());
        hasher.update(signature.0);
        hasher.update(message);
        let id: [u8; 32] = hasher.finalize().into();
        if lock(&self.0).get(&id).is_some() {
            return (true, false);
        }
        let good = key.verify(message, signature);
        if good {
            lock(&self.0).put(id, ());
        }
        (good, true)
    }
}

impl SignatureCheck for CachedCheck {
    fn check(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        self.look(key, message, signature).0
    }
}

/// Checks the signatures of one message and notes what it cost.
struct Spent<'a> {
    check: &'a CachedCheck,
    author: Option<Address>,
    /// Whether a signature had to be checked that was not known.
    checked: Cell<bool>,
    /// Whether one of them was a good one of the author.
    fresh: Cell<bool>,
}

impl Spent<'_> {
    fn new(check: &CachedCheck, author: Option<Address>) -> Spent<'_> {
        Spent { check, author, checked: Cell::new(false), fresh: Cell::new(false) }
    }
}

impl SignatureCheck for Spent<'_> {
    fn check(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let (good, anew) = self.check.look(key, message, signature);
        if anew {
            self.checked.set(true);
            if good && self.author.is_some_and(|author| author == key.address()) {
                self.fresh.set(true);
            }
        }
        good
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame and what it takes of the room.
type Waiting = (Inbound, Room);

/// Why a frame leads to nothing.
enum Dropped {
    /// It is not what it should be, and so much did it cost to find out.
    Rejected(Reject, u32),
    /// Its author has signed more than a correct validator does.
    TooMany,
}

impl Dropped {
    /// A frame of so many bytes, in which no signature had to be checked; it never costs more than one in which one had to be.
    fn unchecked(reject: Reject, bytes: usize) -> Dropped {
        let size = u32::try_from(bytes / COST_BYTES).unwrap_or(u32::MAX);
        Dropped::Rejected(reject, size.saturating_add(1).min(FAULT_COST))
    }
}

/// Verifies what peers send and hands it to the engine.
#[derive(Clone)]
pub struct Verifier {
    heights: Published,
    check: Arc<CachedCheck>,
    fresh: Arc<Mutex<Fresh>>,
    events: Sender<Event>,
    audit: Audit,
    pool: Arc<rayon::ThreadPool>,
}

impl Verifier {
    /// A verifier with `threads` threads.
    ///
    /// # Errors
    /// Where the threads cannot be started.
    pub fn new(
        heights: Published,
        events: Sender<Event>,
        audit: Audit,
        threads: usize,
    ) -> Result<Verifier, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("verify-{n}"))
            .build()?;
        let (check, fresh) = (Arc::default(), Arc::default());
        Ok(Verifier { heights, check, fresh, events, audit, pool: Arc::new(pool) })
    }

    /// The memory of good signatures, for others who verify.
    #[must_use]
    pub fn check(&self) -> Arc<CachedCheck> {
        self.check.clone()
    }

    /// The heights that messages can be verified for.
    #[must_use]
    pub fn heights(&self) -> arc_swap::Guard<Arc<Heights>> {
        self.heights.load()
    }

    /// Runs `job` on one of the threads.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        self.pool.spawn_fifo(job);
    }

    /// Takes frames of one class until the network ends; the answers go to the engine as events. What a frame takes of the room is held
    /// until the engine has taken it, so that blocks, which anyone can send, fill no memory. Peers take turns.
    pub async fn run(self, mut inbox: mpsc::Receiver<Inbound>) {
        let room = Arc::new(Semaphore::new(WAITING_UNITS_MAX as usize));
        let turns: Arc<Mutex<Turns<PeerId, Waiting>>> = Arc::default();
        while let Some(mut inbound) = inbox.recv().await {
            if self.audit.skips(inbound.peer, inbound.class) {
                continue;
            }
            let units = units(inbound.bytes.len());
            let Ok(bytes) = room.clone().acquire_many_owned(units).await else { return };
            let room = Room { _bytes: bytes, _share: inbound.share.take() };
            lock(&turns).add(inbound.peer, (inbound, room));
            let (this, turns) = (self.clone(), turns.clone());
            self.pool.spawn_fifo(move || {
                // As many jobs as frames: each takes the frame whose turn it is.
                let next = lock(&turns).next();
                if let Some((inbound, room)) = next {
                    this.verify(&inbound, room);
                }
            });
        }
    }

    fn verify(&self, inbound: &Inbound, room: Room) {
        if self.audit.skips(inbound.peer, inbound.class) {
            return;
        }
        let result = match inbound.class {
            Class::Consensus => self.consensus(inbound),
            Class::Bodies => self.body(inbound),
            Class::Transactions | Class::Sync => Ok(None),
        };
        match result {
            Ok(Some(mut event)) => {
                if let Event::Input { origin: Some(Origin { room: held, .. }), .. }
                | Event::Status { room: held, .. }
                | Event::FetchBlock { room: held, .. } = &mut event
                {
                    *held = Some(room);
                }
                // A closed channel means that the node is stopping.
                drop(self.events.send(event));
            }
            Ok(None) => self.audit.count(Unused::Future, inbound.peer, inbound.class),
            Err(dropped) => self.dropped(dropped, inbound),
        }
    }

    fn dropped(&self, dropped: Dropped, Inbound { peer, class, .. }: &Inbound) {
        match dropped {
            Dropped::Rejected(Reject::Past, _) => self.audit.count(Unused::Stale, *peer, *class),
            Dropped::Rejected(reject, cost) => {
                self.audit.discard(Discarded::reject(reject, *peer, *class).at_cost(cost));
            }
            Dropped::TooMany => self.audit.too_many(*peer, *class),
        }
    }

    fn consensus(&self, inbound: &Inbound) -> Result<Option<Event>, Dropped> {
        let (peer, bytes) = (inbound.peer, inbound.bytes.len());
        let decoded = Consensus::decode(inbound.bytes.clone());
        match decoded.map_err(|reject| Dropped::unchecked(reject, bytes))? {
            Consensus::Status(status) => {
                Ok(Some(Event::Status { peer, status: Arc::new(status), room: None }))
            }
            Consensus::FetchBlock(FetchBlock { height, block_id }) => {
                Ok(Some(Event::FetchBlock { peer, height, block_id, room: None }))
            }
            Consensus::Message(message) => {
                let heights = self.heights.load();
                let signer = signer(&message, &heights);
                if let Some((height, author)) = signer {
                    let validators = heights.at(height).map_or(0, |info| info.validators.count());
                    if !lock(&self.fresh).allows((height, author), validators, Instant::now()) {
                        return Err(Dropped::TooMany);
                    }
                }
                let spent = Spent::new(&self.check, signer.map(|(_, author)| author));
                let verified = verify_message(message, &heights, &spent);
                if let Some((height, author)) = signer.filter(|_| spent.fresh.get()) {
                    lock(&self.fresh).add(height, author);
                }
                let verified = verified.map_err(|reject| match spent.checked.get() {
                    true => Dropped::Rejected(reject, FAULT_COST),
                    false => Dropped::unchecked(reject, bytes),
                })?;
                Ok(verified.map(|(input, author)| event(input, inbound, author)))
            }
        }
    }

    fn body(&self, inbound: &Inbound) -> Result<Option<Event>, Dropped> {
        let block = || {
            let heights = self.heights.load();
            let body = Body::decode(inbound.bytes.clone())?;
            let Some(info) = known(&heights, body.height)? else { return Ok(None) };
            let block = body.block(info.block_bytes_max)?;
            verify_last_commit(&block, &heights, &*self.check)?;
            let author = block_author(&block, info);
            Ok(Some(event(Input::Block(Arc::new(block)), inbound, author)))
        };
        block().map_err(|reject| Dropped::Rejected(reject, FAULT_COST))
    }
}

/// Whose message it is, and of which height.
fn signer(message: &Message, heights: &Heights) -> Option<(Height, Address)> {
    match message {
        Message::Vote(vote) => Some((vote.message.height, vote.message.validator)),
        Message::ViewChange(message) => {
            let message = &message.signed.message;
            Some((message.height, message.validator))
        }
        Message::PrePrepare(message) => {
            let (height, info) = (message.height(), heights.at(message.height())?);
            Some((height, primary(info, message)?))
        }
        Message::Prior(_) | Message::Block(_) => None,
    }
}

fn primary(info: &HeightInfo, message: &PrePrepare) -> Option<Address> {
    let primary = info.schedule.primary(info.height, message.view());
    info.validators.at(primary).map(|validator| validator.address)
}

/// Verifies a message of a peer; with its author. None where its height is not one that is verified now.
///
/// # Errors
/// Why it is discarded.
pub fn verify_message(
    message: Message,
    heights: &Heights,
    check: &impl SignatureCheck,
) -> Result<Option<(Input, Option<Address>)>, Reject> {
    Ok(match message {
        Message::Vote(vote) => {
            let Some(info) = known(heights, vote.message.height)? else { return Ok(None) };
            let author = vote.message.validator;
            let vote = heights.context(info).vote(vote, check)?;
            Some((Input::Vote(vote), Some(author)))
        }
        Message::ViewChange(message) => {
            let height = message.signed.message.height;
            let Some(info) = known(heights, height)? else { return Ok(None) };
            let author = message.signed.message.validator;
            let message = heights.context(info).view_change(message, check)?;
            Some((Input::ViewChange(message), Some(author)))
        }
        Message::PrePrepare(message) => {
            let Some(info) = known(heights, message.height())? else { return Ok(None) };
            let author = primary(info, &message);
            let message = heights.context(info).pre_prepare(message, check)?;
            Some((Input::PrePrepare(message), author))
        }
        Message::Prior(commit) => {
            let Some(info) = known(heights, commit.height)? else { return Ok(None) };
            let commit = heights.context(info).commit(commit, check)?;
            Some((Input::Prior(commit), None))
        }
        Message::Block(_) => return Err(Reject::Malformed("a block outside its class")),
    })
}

/// Verifies what a block must bring beside its bytes: its last commit, under the validators of the height before; part of
/// [`Input::Block`]'s contract.
///
/// # Errors
/// Where it does not verify, or is for another block than the header says.
pub fn verify_last_commit(
    block: &SealedBlock,
    heights: &Heights,
    check: &impl SignatureCheck,
) -> Result<(), Reject> {
    let Some(commit) = block.last_commit() else {
        return match block.header().last_block_id {
            None => Ok(()),
            Some(_) => Err(Reject::Malformed("a block without a last commit")),
        };
    };
    if block.header().last_block_id != Some(commit.block_id)
        || commit.height.increment() != block.header().height
    {
        return Err(Reject::Malformed("the last commit is for another block"));
    }
    let info = heights.at(commit.height).ok_or(Reject::Height)?;
    commit.verify(&heights.context(info), check)
}

/// The sender of a block, where it is a validator: its proposer.
#[must_use]
pub fn block_author(block: &SealedBlock, info: &HeightInfo) -> Option<Address> {
    let proposer = block.header().proposer_address;
    info.validators.index_of(&proposer).map(|_| proposer)
}

/// What `height` is verified against. None where it is one of the next few, whose validators are not known yet: whoever lags asks for
/// what it missed. Anything farther or older is of no use here.
///
/// # Errors
/// Where the height is past.
pub fn known(heights: &Heights, height: Height) -> Result<Option<&Arc<HeightInfo>>, Reject> {
    match heights.at(height) {
        Some(info) => Ok(Some(info)),
        None if height > heights.current => Ok(None),
        None => Err(Reject::Past),
    }
}

fn event(input: Input, inbound: &Inbound, author: Option<Address>) -> Event {
    let frame = inbound.bytes.clone();
    let origin = Origin { peer: inbound.peer, author, class: inbound.class, frame, room: None };
    Event::Input { input: Box::new(input), origin: Some(origin) }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, WAITING_UNITS_MAX)
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
