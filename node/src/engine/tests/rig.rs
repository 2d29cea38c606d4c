//! One validator's engine at height 5 of four equal ones, with everything outside of it replaced: the clocks, the network, the disk, the
//! pool, catch-up and the application stand still until a test moves them.

use crate::audit::Audit;
use crate::engine::heights::{Rules, Sets};
use crate::engine::journaled::{self, Journaled};
use crate::engine::outside::{Blocks, CatchUp, Now, Outbox, Records, Watermark};
use crate::engine::pace::{Pace, PaceSettings};
use crate::engine::run::{Engine, Parts, Pool, Primary, Snapshot};
use crate::engine::signer::LocalSigner;
use crate::engine::work::WorkSettings;
use crate::engine::{EngineError, Event};
use crate::events::{Bus, Tell};
use crate::execution::{Done, Job, Outcome};
use crate::mempool::RelayMap;
use crate::network::{Class, PeerId};
use crate::store::{Applied, State, StoreError};
use crate::wire::Consensus;
use arc_swap::ArcSwap;
use bytes::Bytes;
use crossbeam_channel::Receiver;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tendermint::Time;
use tendermint::block::Height;
use tercet_consensus::block::{Block, BlockId, SealedBlock};
use tercet_consensus::commit::{Commit, CommitSig, median_time};
use tercet_consensus::key::Address;
use tercet_consensus::message::{Decided, Extension, Message, Phase, SignedVote, Verified};
use tercet_consensus::record::Record;
use tercet_consensus::replica::{HeightStart, Input, Replica, Settings};
use tercet_consensus::sign_bytes;
use tercet_consensus::status::Status;
use tercet_consensus::testing::cluster::header;
use tercet_consensus::testing::messages::{CHAIN_ID, Signers, block_id, view};
use tercet_consensus::testing::{key, public};
use tercet_consensus::validators::ValidatorIndex;
use tercet_consensus::verify::{Context, Direct};

/// T.
pub(super) const T: Duration = Duration::from_secs(1);
/// How long a timer runs whose primary is dead.
pub(super) const DEAD: Duration = Duration::from_millis(20);
/// The height at which the engine starts.
pub(super) const HEIGHT: u32 = 5;

/// What the engine is surrounded by.
#[derive(Default)]
pub(super) struct Outside {
    /// What it sent: to whom, or to all.
    pub(super) sent: Vec<(Option<PeerId>, Consensus)>,
    /// How often it read a block from the disk.
    pub(super) blocks_read: usize,
    /// Until when catch-up says that blocks come in.
    pub(super) ingesting_until: Option<Instant>,
    /// Whether it says that peers have decided more.
    pub(super) behind: bool,
    /// Transactions that wait.
    pub(super) waiting: usize,
    /// What the pool answers when it is asked whether it suspects the primary; no more than this.
    pub(super) suspects: VecDeque<bool>,
    /// Where the pool was told that the primary is, in order.
    pub(super) primaries: Vec<Primary>,
    /// Two votes of one validator, as evidence is made of them.
    pub(super) evidence: Vec<(SignedVote, SignedVote)>,
    reserved: Option<Height>,
    /// The height in the file beside the key.
    pub(super) file: Option<u64>,
}

/// Shared between a test and the engine's parts.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Outside>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Outside> {
        self.0.lock().expect("no test panics while it holds this")
    }
}

impl Outbox for Shared {
    fn send(&self, peer: PeerId, message: Consensus) {
        self.lock().sent.push((Some(peer), message));
    }

    fn broadcast(&self, message: Consensus) {
        self.lock().sent.push((None, message));
    }

    fn forward(&self, _: PeerId, _: Class, _: &Bytes) {}
}

impl Blocks for Shared {
    fn block(&self, _: Height) -> Result<Option<Arc<SealedBlock>>, StoreError> {
        self.lock().blocks_read += 1;
        Ok(None)
    }
}

impl CatchUp for Shared {
    fn peer_is_at(&self, _: PeerId, _: Height) {}
    fn tell_tip(&self, _: PeerId) {}
    fn moved(&self) {}
    fn ingesting_until(&self) -> Option<Instant> {
        self.lock().ingesting_until
    }
    fn has_more(&self) -> bool {
        false
    }
    fn is_behind(&self) -> bool {
        self.lock().behind
    }
}

impl Records for Shared {
    fn append(&mut self, _: &[Record]) -> Result<(), StoreError> {
        Ok(())
    }
    fn records(&self, _: Height) -> Result<Vec<Record>, StoreError> {
        Ok(Vec::new())
    }
    fn last_height(&self) -> Result<Option<Height>, StoreError> {
        Ok(None)
    }
    fn prune_below(&mut self, _: Height) -> Result<(), StoreError> {
        Ok(())
    }
    fn reserved(&self) -> Option<Height> {
        self.lock().reserved
    }
    fn reserve(&mut self, upto: Height) -> Result<(), StoreError> {
        self.lock().reserved = Some(upto);
        Ok(())
    }
}

impl Watermark for Shared {
    fn load(&self) -> Result<Option<u64>, EngineError> {
        Ok(self.lock().file)
    }
    fn save(&mut self, height: u64) -> Result<(), EngineError> {
        self.lock().file = Some(height);
        Ok(())
    }
}

impl Pool for Shared {
    fn has_work(&self) -> bool {
        self.waiting() > 0
    }
    fn waiting(&self) -> usize {
        self.lock().waiting
    }
    fn primary(&self, primary: Primary) {
        self.lock().primaries.push(primary);
    }
    fn suspects(&self) -> bool {
        self.lock().suspects.pop_front().unwrap_or(false)
    }
}

/// The engine and what a test moves.
pub(super) struct Rig {
    pub(super) s: Signers,
    pub(super) me: ValidatorIndex,
    pub(super) engine: Engine,
    pub(super) outside: Shared,
    pub(super) jobs: Receiver<Job>,
    /// The peer of each validator; that of `me` is not used.
    pub(super) peers: Vec<PeerId>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where events of consensus go, and what is on its way there.
    pub(super) bus: Bus,
    pub(super) told: Receiver<crate::events::Event>,
    /// The clock.
    pub(super) now: Instant,
}

/// One that is primary neither in view 0 nor in view 1.
pub(super) fn backup() -> ValidatorIndex {
    let s = signers(HEIGHT);
    let primary = |v| s.schedule.primary(s.height, view(v));
    (0..4).find(|index| ![primary(0), primary(1)].contains(index)).expect("four")
}

/// The primary of view 0.
pub(super) fn primary() -> ValidatorIndex {
    let s = signers(HEIGHT);
    s.schedule.primary(s.height, view(0))
}

/// What the parameters say, where it is known.
const RULES: Rules = Rules { block_bytes_max: 1_000_000, extensions: Some(false) };

/// The four validators, with messages of `height`.
pub(super) fn signers(height: u32) -> Signers {
    Signers::new(&[10; 4], height)
}

impl Rig {
    /// Validator `me`, connected to all others and past the wait that follows a start.
    pub(super) fn new(me: ValidatorIndex) -> Rig {
        let mut rig = Rig::alone(me, None);
        let others: Vec<_> = (0..4).filter(|index| *index != me).collect();
        for index in &others {
            rig.turn(vec![rig.up(*index)]);
        }
        for index in others {
            let status = Arc::new(rig.engine.replica().status([]));
            let peer = rig.peers[index as usize];
            rig.turn(vec![Event::Status { peer, status, room: None }]);
        }
        assert_eq!(rig.snapshot.load().hold, None);
        rig.outside.lock().sent.clear();
        rig
    }

    /// Validator `me`, just started and connected to nobody, told to sign nothing up to `stale_until`.
    pub(super) fn alone(me: ValidatorIndex, stale_until: Option<Height>) -> Rig {
        let s = signers(HEIGHT);
        let outside = Shared::default();
        let mut sets = Sets::new(CHAIN_ID, 64, s.height);
        sets.add(s.height, &Arc::new(s.validators.clone()), RULES);
        let address = s.validators.at(me).expect("four").address;
        let (jobs, queue) = crossbeam_channel::unbounded();
        let snapshot = Arc::<ArcSwap<Snapshot>>::default();
        let bus = Bus::default();
        let (tell, told) = Tell::new(&bus);
        let parts = Parts {
            core: core(&s, address, &outside),
            sets,
            chain: Box::new(outside.clone()),
            network: Box::new(outside.clone()),
            jobs,
            pool: Arc::new(outside.clone()),
            sync: Box::new(outside.clone()),
            audit: Audit::default(),
            evidence: {
                let outside = outside.clone();
                Box::new(move |votes| outside.lock().evidence.push(votes))
            },
            pace: Pace::new(PaceSettings { initial: T, floor: T, ceiling: T, grace: DEAD }),
            work: WorkSettings {
                empty_block_interval: None,
                proof_block_delay: Duration::from_secs(3_600),
                min_block_interval: Duration::ZERO,
                initial_height: Height::from(1u32),
                term: 64,
            },
            stale_until,
            relay: RelayMap::default(),
            tell,
            snapshot: snapshot.clone(),
        };
        let now = Instant::now();
        let at = Now { instant: now, time: time() };
        let applied = Height::try_from(u64::from(HEIGHT) - 1).ok();
        let mut engine = Engine::new(parts, Some(address), applied, at);
        engine.start(at).expect("a sound disk");
        let peers = (0..4).map(|_| PeerId::random()).collect();
        let mut rig = Rig { s, me, engine, outside, jobs: queue, peers, snapshot, bus, told, now };
        rig.turn(Vec::new());
        rig
    }

    /// Parameters and validators of the next heights are known without an application.
    pub(super) fn knows_rules(&mut self) {
        let validators = Arc::new(self.s.validators.clone());
        for height in HEIGHT + 1..HEIGHT + 400 {
            self.engine.parts.sets.add(Height::from(height), &validators, RULES);
        }
    }

    /// The same where vote extensions begin at the next height.
    pub(super) fn knows_extensions(&mut self) {
        let validators = Arc::new(self.s.validators.clone());
        let rules = Rules { extensions: Some(true), ..RULES };
        for height in HEIGHT + 1..HEIGHT + 400 {
            self.engine.parts.sets.add(Height::from(height), &validators, rules);
        }
    }

    /// A turn at this moment, which takes no time.
    pub(super) fn turn(&mut self, events: Vec<Event>) {
        self.slow_turn(events, Duration::ZERO);
    }

    /// A turn whose sync takes so long.
    pub(super) fn slow_turn(&mut self, events: Vec<Event>, takes: Duration) {
        let now = Now { instant: self.now, time: time() };
        self.engine.turn(now, events).expect("nothing fails");
        self.now += takes;
        let _ = self.engine.deadline(self.now);
    }

    /// Lets time pass, then a turn.
    pub(super) fn after(&mut self, time: Duration) {
        self.now += time;
        self.turn(Vec::new());
    }

    /// The others' peer of a validator is connected.
    pub(super) fn up(&self, index: ValidatorIndex) -> Event {
        let validator = self.s.validators.at(index).map(|validator| validator.address);
        Event::PeerUp { peer: self.peers[index as usize], validator }
    }

    /// Those validators but `me` are connected and say that they are at `height`.
    pub(super) fn hear(&mut self, height: u32, validators: &[ValidatorIndex]) {
        let me = self.me;
        for index in validators.iter().filter(|index| **index != me) {
            self.turn(vec![self.up(*index)]);
            let height = Height::from(height);
            let status = Arc::new(Status { height, ..self.engine.replica().status([]) });
            let peer = self.peers[*index as usize];
            self.turn(vec![Event::Status { peer, status, room: None }]);
        }
    }

    /// Takes so many decided blocks, one by one, of which the commits of those that are `mine` are signed by all, and the others by all but
    /// [`backup`]; `late`: that is seen in the next block's last commit alone. The heights after which it is held as stale.
    pub(super) fn catch_up(
        &mut self,
        blocks: u32,
        late: bool,
        mine: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        self.knows_rules();
        self.outside.lock().ingesting_until = Some(self.now + T);
        let (mut last, mut held) = (prior(), Vec::new());
        for height in HEIGHT..HEIGHT + blocks {
            let block = Arc::new(SealedBlock::seal(self.block(&last, 1)));
            let others = commit(height, 0, block.id());
            last = if mine(height) { full_commit(height, 0, block.id()) } else { others.clone() };
            let seen = if late { others } else { last.clone() };
            self.turn(vec![Event::Decided(vec![decided_by(&block, seen)])]);
            self.turn(Vec::new());
            let hold = self.snapshot.load().hold;
            held.extend((hold == Some("the data is older than the key's use")).then_some(height));
        }
        held
    }

    /// The primary of view `v` at this height.
    pub(super) fn primary(&self, v: u32) -> ValidatorIndex {
        self.s.schedule.primary(self.s.height, view(v))
    }

    /// Transactions wait.
    pub(super) fn work(&mut self, waiting: usize) {
        self.outside.lock().waiting = waiting;
        self.turn(vec![Event::Pool]);
    }

    /// A block after `last`.
    pub(super) fn block(&self, last: &Commit, txs: usize) -> Block {
        let time = median_time(last, &self.s.validators).expect("a time");
        let proposer = self.s.validators.at(self.primary(0)).expect("four").address;
        let header =
            header(last.height.increment(), time, proposer, &self.s.validators, Some(last));
        let txs = (0..txs).map(|_| Bytes::from_static(b"a=b")).collect();
        Block { header, txs, evidence: Default::default(), last_commit: Some(last.clone()) }
    }

    /// The fresh proposal of `block`, and the application's consent.
    pub(super) fn propose(&mut self, block: &Arc<SealedBlock>) {
        let height = block.header().height;
        let s = signers(u32::try_from(height.value()).expect("small"));
        let pre_prepare = s.pre_prepare(0, block.id(), None);
        let pre_prepare = s.context().pre_prepare(pre_prepare, &Direct).expect("valid");
        self.turn(vec![input(Input::PrePrepare(pre_prepare))]);
        self.turn(vec![input(Input::Block(block.clone()))]);
        let done = Done::Validated { block_id: block.id(), result: Ok(()) };
        self.turn(vec![Event::Executed(Box::new(done))]);
    }

    /// The application has executed `block`; V(h+2) is `next`.
    pub(super) fn applied(&mut self, block: &SealedBlock, next: &Signers) {
        let height = block.header().height;
        let state = State {
            chain_id: CHAIN_ID.into(),
            initial_height: Height::from(1u32),
            last_height: Some(height),
            last_block_id: Some(block.id()),
            last_block_time: block.header().time,
            last_validators: Some(Arc::new(self.s.validators.clone())),
            validators: Arc::new(next.validators.clone()),
            next_validators: Arc::new(next.validators.clone()),
            params: params(),
            app_hash: Vec::new(),
            last_results_hash: None,
            app_version: 1,
            evidence_floor: 0,
        };
        let applied =
            Arc::new(Applied { height, results: Default::default(), state, offences: Vec::new() });
        let done = Done::Applied(Outcome { applied, app_hash_changed: false });
        self.turn(vec![Event::Executed(Box::new(done))]);
    }

    /// The views of the VIEW-CHANGEs that left.
    pub(super) fn view_changes(&self) -> Vec<u32> {
        let sent = &self.outside.lock().sent;
        let messages = sent.iter().filter_map(|(_, message)| match message {
            Consensus::Message(Message::ViewChange(m)) => Some(m.signed.message.view.number()),
            _ => None,
        });
        messages.collect()
    }

    /// The phases of the votes that left.
    pub(super) fn votes(&self) -> Vec<Phase> {
        let sent = &self.outside.lock().sent;
        let messages = sent.iter().filter_map(|(_, message)| match message {
            Consensus::Message(Message::Vote(vote)) => Some(vote.message.phase),
            _ => None,
        });
        messages.collect()
    }
}

/// An input that came from nobody in particular.
pub(super) fn input(input: Input) -> Event {
    Event::Input { input: Box::new(input), origin: None }
}

/// The commit of `id` at `height` in view `v`, signed by all but [`backup`].
pub(super) fn commit(height: u32, v: u32, id: BlockId) -> Commit {
    let mut commit = full_commit(height, v, id);
    commit.signatures[backup() as usize] = None;
    commit
}

/// The same signed by all.
pub(super) fn full_commit(height: u32, v: u32, id: BlockId) -> Commit {
    let s = signers(height);
    let entry = |index| {
        let vote = s.vote(Phase::Commit, index, v, id);
        let (address, time) = (vote.message.validator, vote.message.time);
        Some(CommitSig { address, time, signature: vote.signature, extension: None })
    };
    let signatures = (0..4).map(entry).collect();
    Commit { height: Height::from(height), view: view(v), block_id: id, signatures }
}

/// The same with a vote extension in every entry.
pub(super) fn extended_commit(height: u32, v: u32, id: BlockId) -> Commit {
    let (s, mut commit) = (signers(height), full_commit(height, v, id));
    for index in 0..4u8 {
        let data = Bytes::from_static(b"ext");
        let (vote, _) = commit.vote(index.into()).expect("an entry");
        let signature = s.sign(index.into(), &sign_bytes::extension(CHAIN_ID, &vote, &data));
        let entry = commit.signatures[usize::from(index)].as_mut().expect("an entry");
        entry.extension = Some(Extension { data, signature });
    }
    commit
}

/// The commit of the height before the start.
pub(super) fn prior() -> Commit {
    commit(HEIGHT - 1, 0, block_id(4))
}

/// A decided block, as catch-up hands it over.
pub(super) fn decided(block: &Arc<SealedBlock>) -> Verified<Decided> {
    decided_by(block, commit(height_of(block), 0, block.id()))
}

/// The same with a commit of the caller.
pub(super) fn decided_by(block: &Arc<SealedBlock>, commit: Commit) -> Verified<Decided> {
    let decided = Decided { block: block.clone(), commit };
    let s = signers(height_of(block));
    // That is open while blocks are fetched.
    let context = Context { extensions: None, ..s.context() };
    context.decided(decided, &Direct).expect("valid")
}

fn height_of(block: &SealedBlock) -> u32 {
    u32::try_from(block.header().height.value()).expect("small")
}

fn core(s: &Signers, me: Address, outside: &Shared) -> Journaled {
    let settings =
        Settings { me: Some(me), commit_grace: DEAD, disconnect_grace: DEAD, timeout: T };
    let start = HeightStart {
        height: s.height,
        validators: Arc::new(s.validators.clone()),
        schedule: Arc::new(s.schedule.clone()),
        prior: Some(prior()),
        extensions: false,
        prior_extensions: false,
    };
    let number = (0..4u8).find(|n| public(*n).address() == me).expect("a test key");
    Journaled::new(journaled::Parts {
        replica: Replica::new(settings, start),
        journal: Box::new(outside.clone()),
        signer: Some(Box::new(LocalSigner::new(key(number)))),
        chain_id: CHAIN_ID.into(),
        watermark: Box::new(outside.clone()),
    })
}

fn time() -> Time {
    Time::from_unix_timestamp(1_700_000_100, 0).expect("a time")
}

fn params() -> tendermint::consensus::Params {
    tendermint::consensus::Params {
        block: tendermint::block::Size { max_bytes: 10_000, max_gas: -1, time_iota_ms: 1_000 },
        evidence: tendermint::evidence::Params {
            max_age_num_blocks: 100,
            max_age_duration: tendermint::evidence::Duration(Duration::from_secs(100)),
            max_bytes: 1_000,
        },
        validator: tendermint::consensus::params::ValidatorParams {
            pub_key_types: vec![tendermint::public_key::Algorithm::Ed25519],
        },
        version: None,
        abci: tendermint::consensus::params::AbciParams::default(),
    }
}
