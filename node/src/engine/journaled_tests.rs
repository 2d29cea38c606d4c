use super::*;
use crate::engine::outside::{Records, WatermarkFile};
use crate::engine::signer::LocalSigner;
use crate::store::{Journal, StoreError};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tercet_config::SignState;
use tercet_consensus::block::{Block, SealedBlock};
use tercet_consensus::commit::Commit;
use tercet_consensus::message::{Phase, SignRequest, SignedMessage, Vote};
use tercet_consensus::replica::{HeightStart, Settings};
use tercet_consensus::testing::cluster::{CHAIN_ID, header};
use tercet_consensus::testing::key;
use tercet_consensus::testing::messages::Signers;
use tercet_consensus::verify::{Context, Direct};
use tercet_consensus::view::View;

/// The journal's and the file's reservation, and what they say.
const ROWS: [(Option<u64>, Option<u64>, Option<u64>); 13] = [
    // A fresh home, with and without the file.
    (None, None, None),
    (None, Some(0), None),
    // Sound.
    (Some(64), Some(64), None),
    (Some(640), Some(640), None),
    // Interrupted writes: the first, a later one, one after `mark_stale` left an odd height.
    (Some(64), Some(0), None),
    (Some(192), Some(128), None),
    (Some(256), Some(214), None),
    // The file is of an older moment.
    (Some(192), Some(64), Some(192)),
    // The file is lost.
    (Some(64), None, Some(64)),
    (Some(640), None, Some(640)),
    // The journal is lost, or of an older moment.
    (None, Some(64), Some(64)),
    (Some(64), Some(128), Some(128)),
    (Some(64), Some(100), Some(100)),
];

#[test]
fn every_difference_but_an_interrupted_write_is_stale() {
    let height = |value: u64| Height::try_from(value).expect("a height");
    for (journal, file, stale) in ROWS {
        let said = compare(journal.map(height), file.map(height));
        let expected = stale.map_or(Reservation::Sound, |at| Reservation::Stale(height(at)));
        assert_eq!(said, expected, "journal {journal:?}, file {file:?}");
    }
}

fn now() -> Time {
    Time::now()
}

/// A validator alone, so that each height is decided by its own votes.
struct Alone {
    dir: TempDir,
    signers: Signers,
}

struct CountingSigner {
    inner: LocalSigner,
    asked: Arc<AtomicUsize>,
}

impl Signer for CountingSigner {
    fn address(&self) -> tercet_consensus::key::Address {
        self.inner.address()
    }

    fn sign(&mut self, chain_id: &str, request: SignRequest, now: Time) -> Option<SignedMessage> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.sign(chain_id, request, now)
    }

    fn extend(
        &mut self,
        chain_id: &str,
        vote: Vote,
        data: Bytes,
        now: Time,
    ) -> Option<SignedMessage> {
        self.inner.extend(chain_id, vote, data, now)
    }
}

impl Alone {
    fn new() -> Alone {
        Alone { dir: tempfile::tempdir().expect("a folder"), signers: Signers::new(&[10], 1) }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("priv_validator_state.json")
    }

    fn filed(&self) -> Option<u64> {
        SignState::load(&self.file()).expect("readable").map(|state| state.height)
    }

    fn start(&self, height: u64, prior: Option<Commit>) -> HeightStart {
        HeightStart {
            height: Height::try_from(height).expect("a height"),
            validators: Arc::new(self.signers.validators.clone()),
            schedule: Arc::new(self.signers.schedule.clone()),
            prior,
            extensions: false,
            prior_extensions: false,
        }
    }

    fn open(&self, start: HeightStart) -> Journaled {
        self.open_with(start, self.file()).0
    }

    fn open_with(&self, start: HeightStart, state_file: PathBuf) -> (Journaled, Arc<AtomicUsize>) {
        let signing = SigningKey::from_bytes(&key(0).to_bytes());
        let inner = LocalSigner::new(signing);
        let settings = Settings {
            me: Some(inner.address()),
            commit_grace: Duration::ZERO,
            disconnect_grace: Duration::ZERO,
            timeout: Duration::from_secs(1),
        };
        let asked = Arc::<AtomicUsize>::default();
        let parts = Parts {
            replica: Replica::new(settings, start),
            journal: Box::new(Journal::open(&self.dir.path().join("journal")).expect("a journal")),
            signer: Some(Box::new(CountingSigner { inner, asked: asked.clone() })),
            chain_id: CHAIN_ID.into(),
            watermark: Box::new(WatermarkFile(state_file)),
        };
        (Journaled::new(parts), asked)
    }

    fn block(&self, height: u64, last_commit: Option<&Commit>) -> Arc<SealedBlock> {
        let validators = &self.signers.validators;
        let proposer = validators.at(0).expect("one").address;
        let time =
            Time::from_unix_timestamp(1_700_000_000 + i64::try_from(height).expect("small"), 0)
                .expect("a time");
        let height = Height::try_from(height).expect("a height");
        let header = header(height, time, proposer, validators, last_commit);
        let evidence = tendermint_proto::v0_38::types::EvidenceList::default();
        let block = Block { header, txs: Vec::new(), evidence, last_commit: last_commit.cloned() };
        Arc::new(SealedBlock::seal(block))
    }

    /// Decides the replica's height; returns what left.
    fn decide(&self, core: &mut Journaled, prior: Option<&Commit>) -> (Vec<Action>, Commit) {
        let mut left = core.step(vec![Input::Work(true)], now(), &mut |_| {}).expect("a disk");
        let block = self.block(core.replica().height().value(), prior);
        let view = core.replica().view();
        let built = Input::Built { view, block: block.clone() };
        left.extend(core.step(vec![built], now(), &mut |_| {}).expect("a disk"));
        let accepted = Input::Validated { block_id: block.id(), accepted: true };
        left.extend(core.step(vec![accepted], now(), &mut |_| {}).expect("a disk"));
        let commit = left.iter().find_map(|action| match action {
            Action::Decide(decided) => Some(decided.commit.clone()),
            _ => None,
        });
        (left, commit.expect("alone, it decides"))
    }
}

fn votes(actions: &[Action], phase: Phase) -> usize {
    let is = |action: &&Action| matches!(action, Action::Broadcast(Message::Vote(vote)) if vote.message.phase == phase);
    actions.iter().filter(is).count()
}

/// A journal that may fail, and tells when it is written.
struct Told {
    inner: Journal,
    fails: bool,
    written: Arc<AtomicUsize>,
}

impl Records for Told {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if self.fails {
            let height = Height::from(1u32);
            return Err(StoreError::Gap { height, last: height });
        }
        self.written.fetch_add(records.len(), Ordering::Relaxed);
        Records::append(&mut self.inner, records)
    }

    fn records(&self, height: Height) -> Result<Vec<Record>, StoreError> {
        self.inner.records(height)
    }

    fn last_height(&self) -> Result<Option<Height>, StoreError> {
        self.inner.last_height()
    }

    fn prune_below(&mut self, height: Height) -> Result<(), StoreError> {
        self.inner.prune_below(height)
    }

    fn reserved(&self) -> Option<Height> {
        self.inner.reserved()
    }

    fn reserve(&mut self, upto: Height) -> Result<(), StoreError> {
        self.inner.reserve(upto)
    }
}

/// "Durable before sent": what is written is counted before anything that binds leaves, and where nothing can be written nothing
/// leaves, "a failed sync ends the process".
#[test]
fn nothing_that_binds_leaves_before_its_record_or_without() {
    for fails in [false, true] {
        let alone = Alone::new();
        let mut core = alone.open(alone.start(1, None));
        core.step(vec![Input::Work(true)], now(), &mut |_| {}).expect("a disk");
        let written = Arc::<AtomicUsize>::default();
        let inner = Journal::open(&alone.dir.path().join("told")).expect("a journal");
        core.journal = Box::new(Told { inner, fails, written: written.clone() });
        let block = alone.block(1, None);
        let inputs = [
            Input::Built { view: View::ZERO, block: block.clone() },
            Input::Validated { block_id: block.id(), accepted: true },
        ];
        let (mut early, mut left) = (Vec::new(), Vec::new());
        for input in inputs {
            match core.step(vec![input], now(), &mut |action| early.push(action)) {
                Ok(actions) => left.extend(actions),
                Err(error) => assert!(fails && matches!(error, EngineError::Journal(_))),
            }
        }
        assert!(early.iter().all(|action| match action {
            Action::Broadcast(message) => matches!(message, Message::Block(_)),
            other => !matches!(other, Action::Send(..) | Action::Decide(_)),
        }));
        let records = "proposal, two votes, decision";
        let expected = if fails { (0, 0) } else { (1, 4) };
        let found = (votes(&left, Phase::Commit), written.load(Ordering::Relaxed));
        assert_eq!(found, expected, "{records}");
    }
}

/// Catch-up takes a block and moves on in one step: the application executes the block before it is asked about the next height.
/// Before, it was asked first (found by the grammar of ABCI in the simulator, seed 24).
#[test]
fn what_the_application_is_asked_after_a_decision_stays_behind_it() {
    let (decider, alone) = (Alone::new(), Alone::new());
    let (left, _) = decider.decide(&mut decider.open(decider.start(1, None)), None);
    let decided = left.into_iter().find_map(|action| match action {
        Action::Decide(decided) => Some(decided),
        _ => None,
    });
    let context = Context { chain_id: CHAIN_ID, ..decider.signers.context() };
    let decided = context.decided(decided.expect("alone, it decides"), &Direct).expect("valid");
    let mut core = alone.open(alone.start(1, None));
    let advance = Input::Advance(alone.start(2, None));
    let inputs = vec![Input::Decided(decided), advance, Input::Work(true)];
    let mut early = Vec::new();
    let left = core.step(inputs, now(), &mut |action| early.push(action)).expect("a disk");
    let is_asked = |action: &Action| matches!(action, Action::Propose { .. });
    let is_decision = |action: &Action| matches!(action, Action::Decide(_));
    let asked = left.iter().position(is_asked).expect("it is primary");
    assert!(left.iter().position(is_decision).expect("decided") < asked);
    assert!(!early.iter().any(is_asked));
}

#[test]
fn a_restart_goes_through_all_heights_that_the_journal_holds_and_signs_none_of_them_again() {
    let alone = Alone::new();
    let mut core = alone.open(alone.start(1, None));
    let mut commits = Vec::new();
    for height in 1..=3 {
        let (left, commit) = alone.decide(&mut core, commits.last());
        assert_eq!((votes(&left, Phase::Prepare), votes(&left, Phase::Commit)), (1, 1));
        commits.push(commit.clone());
        let next = alone.start(height + 1, Some(commit));
        core.step(vec![Input::Advance(next)], now(), &mut |_| {}).expect("a disk");
    }
    drop(core);
    // The chain database has nothing of it.
    let (mut core, asked) = alone.open_with(alone.start(1, None), alone.file());
    for height in 1..=3u64 {
        let restored = core.restore(now()).expect("readable");
        let [Action::Decide(decided)] = &restored[..] else { panic!("{restored:?}") };
        assert_eq!(decided.commit, commits[usize::try_from(height - 1).expect("small")]);
        assert_eq!(core.is_restoring(), height < 3);
        let next = alone.start(height + 1, None);
        core.step(vec![Input::Advance(next)], now(), &mut |_| {}).expect("a disk");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert!(core.restore(now()).expect("readable").is_empty());
    core.step(vec![Input::Hold(false)], now(), &mut |_| {}).expect("a disk");
    let (left, _) = alone.decide(&mut core, commits.last());
    assert_eq!(votes(&left, Phase::Commit), 1);
}

/// Nothing is signed before all records of a height were replayed and the caller lets the replica go.
#[test]
fn a_replica_is_held_from_the_replay_of_its_journal_on() {
    let alone = Alone::new();
    let mut core = alone.open(alone.start(1, None));
    let block = alone.block(1, None);
    let built = Input::Built { view: View::ZERO, block: block.clone() };
    for input in [Input::Work(true), built] {
        core.step(vec![input], now(), &mut |_| {}).expect("a disk");
    }
    drop(core);
    let (mut core, asked) = alone.open_with(alone.start(1, None), alone.file());
    assert!(core.restore(now()).expect("readable").is_empty());
    let accepted = Input::Validated { block_id: block.id(), accepted: true };
    for input in [Input::Block(block), accepted.clone()] {
        core.step(vec![input], now(), &mut |_| {}).expect("a disk");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0, "held");
    for input in [Input::Hold(false), accepted] {
        core.step(vec![input], now(), &mut |_| {}).expect("a disk");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "PREPARE and COMMIT");
}

#[test]
fn a_restart_resends_the_same_signature() {
    let alone = Alone::new();
    let mut core = alone.open(alone.start(1, None));
    let (left, commit) = alone.decide(&mut core, None);
    drop(core);
    let (mut core, asked) = alone.open_with(alone.start(1, None), alone.file());
    let again = core.restore(now()).expect("readable");
    assert!(matches!(&again[..], [Action::Decide(decided)] if decided.commit == commit));
    core.step(vec![Input::Hold(false), Input::Work(true)], now(), &mut |_| {}).expect("a disk");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(votes(&left, Phase::Commit), 1);
}

#[test]
fn after_many_heights_without_signing_the_file_is_never_more_than_a_step_behind() {
    for height in [1u32, 63, 64, 65, 960, 961, 1_010, 1_024] {
        let (begin, upto) = step_of(Height::from(height));
        let height = u64::from(height);
        assert!(begin < height && height <= upto, "{height}: {begin}..{upto}");
        // A crash before the journal is written: the file is ahead, of heights that are passed. After it: an interrupted write.
        let at = |value: u64| Height::try_from(value).expect("a height");
        assert_eq!(compare(Some(at(upto)), Some(at(begin))), Reservation::Sound);
    }
    let alone = Alone::new();
    let mut core = alone.open(alone.start(1, None));
    alone.decide(&mut core, None);
    assert_eq!((alone.filed(), core.reserved), (Some(64), Some(Height::from(64u32))));
    core.step(vec![Input::Advance(alone.start(1_010, None))], now(), &mut |_| {}).expect("a disk");
    core.reserve().expect("a disk");
    assert_eq!((alone.filed(), core.reserved), (Some(1_024), Some(Height::from(1_024u32))));
}

#[test]
fn where_the_reservation_cannot_be_written_nothing_is_signed_and_nothing_leaves() {
    let alone = Alone::new();
    let broken = alone.dir.path().join("none/priv_validator_state.json");
    let (mut core, asked) = alone.open_with(alone.start(1, None), broken);
    core.step(vec![Input::Work(true)], now(), &mut |_| {}).expect("nothing to sign yet");
    let built = Input::Built { view: View::ZERO, block: alone.block(1, None) };
    let failed = core.step(vec![built], now(), &mut |action| panic!("{action:?} left"));
    assert!(matches!(failed, Err(EngineError::Reservation(_))), "{failed:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_marked_stale_is_stale_after_a_restart_and_never_lowers_the_file() {
    let alone = Alone::new();
    let mut core = alone.open(alone.start(1, None));
    alone.decide(&mut core, None);
    let height = |value: u32| Height::from(value);
    core.mark_stale(height(170)).expect("written");
    core.mark_stale(height(100)).expect("written");
    let file = alone.filed().and_then(|at| Height::try_from(at).ok());
    assert_eq!(compare(core.journal.reserved(), file), Reservation::Stale(height(170)));
    // Once the chain has passed it, signing goes on, and a crash between the two writes is sound.
    core.step(vec![Input::Advance(alone.start(171, None))], now(), &mut |_| {}).expect("a disk");
    core.reserve().expect("a disk");
    assert_eq!((alone.filed(), core.reserved), (Some(192), Some(height(192))));
    assert_eq!(compare(Some(height(192)), Some(height(170))), Reservation::Sound);
}
