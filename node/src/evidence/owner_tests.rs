//! The owner on a real store, driven by hand.

use super::super::tests::{signers, time_of};
use super::super::{What, pool};
use super::*;
use crate::store::Applied;
use std::sync::Mutex;
use tempfile::TempDir;
use tendermint::block::Height;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::{Block, SealedBlock};
use tercet_consensus::message::Phase;
use tercet_consensus::testing::cluster::header;
use tercet_consensus::testing::messages::{CHAIN_ID, block_id};
use tercet_consensus::validators::Validators;
use tercet_consensus::verify::Direct;

struct Rig {
    folder: TempDir,
    chain: Chain,
    evidence: Evidence,
    owner: Owner,
    told: Arc<Mutex<Vec<Bytes>>>,
    audit: Audit,
}

fn state(height: u32, validators: &Arc<Validators>) -> State {
    State {
        chain_id: CHAIN_ID.into(),
        initial_height: Height::from(1u32),
        last_height: (height > 0).then(|| Height::from(height)),
        last_block_id: (height > 0).then(|| block_id(1)),
        last_block_time: time_of(height),
        last_validators: (height > 0).then(|| validators.clone()),
        validators: validators.clone(),
        next_validators: validators.clone(),
        params: tendermint::consensus::Params {
            block: tendermint::block::Size { max_bytes: 100_000, max_gas: -1, time_iota_ms: 1 },
            evidence: tendermint::evidence::Params {
                max_age_num_blocks: 20,
                max_age_duration: tendermint::evidence::Duration(Duration::from_secs(200)),
                max_bytes: 10_000,
            },
            validator: tendermint::consensus::params::ValidatorParams {
                pub_key_types: vec![tendermint::public_key::Algorithm::Ed25519],
            },
            version: None,
            abci: tendermint::consensus::params::AbciParams::default(),
        },
        app_hash: Vec::new(),
        last_results_hash: None,
        app_version: 1,
        evidence_floor: 0,
    }
}

impl Rig {
    fn new(height: u32) -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = Chain::open(&folder.path().join("chain")).expect("a chain");
        let validators = Arc::new(signers(1).validators);
        chain.init(&state(0, &validators)).expect("a disk");
        let mut rig = Rig::on(folder, chain);
        (1..=height).for_each(|height| rig.grow(height, &[]));
        rig
    }

    fn on(folder: TempDir, chain: Chain) -> Rig {
        let (told, audit) = (Arc::<Mutex<Vec<Bytes>>>::default(), Audit::default());
        let telling = told.clone();
        let (evidence, owner) = Evidence::new(Parts {
            chain: chain.clone(),
            check: Arc::new(Direct),
            broadcast: Box::new(move |frame| telling.lock().expect("told").push(frame)),
            audit: audit.clone(),
        });
        Rig { folder, chain, evidence, owner, told, audit }
    }

    fn restart(self) -> Rig {
        let Rig { folder, chain, evidence, owner, .. } = self;
        drop((chain, evidence, owner));
        let chain = Chain::open(&folder.path().join("chain")).expect("it opens again");
        let mut rig = Rig::on(folder, chain);
        rig.owner.load();
        rig.owner.publish();
        rig
    }

    /// A block at `height` with this evidence is executed.
    fn grow(&mut self, height: u32, evidence: &[&pb::Evidence]) {
        self.grow_from(height, evidence, 0);
    }

    /// The same; evidence of heights below `floor` is too old for ever after it.
    fn grow_from(&mut self, height: u32, evidence: &[&pb::Evidence], floor: u64) {
        let validators = Arc::new(signers(1).validators);
        let proposer = validators.at(0).expect("four").address;
        let evidence = evidence.iter().map(|raw| (*raw).clone()).collect();
        let block = Arc::new(SealedBlock::seal(Block {
            header: header(Height::from(height), time_of(height), proposer, &validators, None),
            txs: Vec::new(),
            evidence: pb::EvidenceList { evidence },
            last_commit: None,
        }));
        let commit = super::super::tests::commit(height, 0, block.id(), &[0, 1, 2]);
        self.chain.save_block(&block, &commit).expect("a disk");
        let offences = super::super::marks(&block.block().evidence);
        let applied = Applied {
            height: Height::from(height),
            results: Default::default(),
            state: State { evidence_floor: floor, ..state(height, &validators) },
            offences: offences.iter().map(super::super::Key::to_bytes).collect(),
        };
        self.chain.apply(&applied).expect("a disk");
        self.evidence.moved();
        self.run();
    }

    /// Does what waits, as [`Owner::run`] does.
    fn run(&mut self) {
        while let Ok(notice) = self.owner.queues.notices.try_recv() {
            if let Notice::Votes(pair) = notice {
                self.owner.wait(*pair);
            }
        }
        while let Ok(offer) = self.owner.queues.offers.try_recv() {
            self.owner.look(offer);
        }
        if self.owner.queues.moved.swap(false, Ordering::AcqRel) {
            self.owner.update();
        }
    }

    fn pending(&self) -> usize {
        self.evidence.pending().len()
    }

    fn offer(&mut self, bytes: Vec<u8>) -> PeerId {
        let peer = PeerId::random();
        self.evidence.offer(peer, &[bytes.into()]);
        self.run();
        peer
    }

    fn counted(&self, reason: &'static str, peer: PeerId) -> u64 {
        let key = (reason, Some(peer), Some(Class::Transactions));
        self.audit.counts().get(&key).copied().unwrap_or_default()
    }
}

/// Validator `index` votes twice at `height` in view `v`.
fn pair(height: u32, index: u32, v: u32) -> Pair {
    let s = signers(height);
    let vote = |n| s.vote(Phase::Commit, index, v, block_id(n));
    (vote(1), vote(2))
}

fn piece(height: u32, index: u32, v: u32) -> Piece {
    let validators = signers(height).validators;
    Piece::of_votes(&pair(height, index, v), time_of(height), &validators).expect("an offence")
}

fn bytes(piece: &Piece) -> Vec<u8> {
    piece.raw().encode_to_vec()
}

#[test]
fn votes_wait_until_their_height_is_decided_and_are_told_then() {
    let mut rig = Rig::new(4);
    rig.evidence.votes(pair(5, 1, 0));
    rig.evidence.votes(pair(5, 1, 0));
    rig.run();
    assert_eq!(rig.pending(), 0, "its block has no time yet");
    rig.grow(5, &[]);
    assert_eq!(*rig.evidence.pending()[0], piece(5, 1, 0));
    let told = rig.told.lock().expect("told").clone();
    assert_eq!(told, [wire::encode_pieces(vec![bytes(&piece(5, 1, 0)).into()])]);
    // Votes of a height that is decided make evidence at once.
    rig.evidence.votes(pair(4, 2, 0));
    rig.run();
    assert_eq!(rig.pending(), 2);
    assert_eq!(rig.evidence.pending()[0].height(), Height::from(4u32), "the oldest is first");
}

#[test]
fn what_is_pending_survives_a_restart_and_goes_once_a_block_has_it() {
    let mut rig = Rig::new(5);
    rig.evidence.votes(pair(4, 1, 0));
    rig.evidence.votes(pair(5, 2, 0));
    rig.run();
    let mut rig = rig.restart();
    assert_eq!(rig.pending(), 2);
    let one = piece(4, 1, 0);
    rig.grow(6, &[one.raw()]);
    assert_eq!(rig.pending(), 1);
    assert_eq!(rig.chain.pending_evidence().expect("a disk").len(), 1);
    // Seen or told once more, it is known: also after a restart.
    rig.evidence.votes(pair(4, 1, 0));
    rig.run();
    let mut rig = rig.restart();
    let peer = rig.offer(bytes(&one));
    assert_eq!((rig.pending(), rig.counted("duplicate", peer)), (1, 1));
}

/// The owner hears of a block after it is executed: a crash in between leaves what the block has on disk as pending.
#[test]
fn what_a_block_has_is_not_pending_after_a_crash_before_the_owner_heard() {
    let mut rig = Rig::new(5);
    rig.evidence.votes(pair(4, 1, 0));
    rig.run();
    let one = piece(4, 1, 0);
    rig.chain.put_pending_evidence(&piece(5, 2, 0).key().to_bytes(), b"damaged").expect("a disk");
    let key = one.key().to_bytes();
    rig.grow(6, &[one.raw()]);
    rig.chain.put_pending_evidence(&key, &bytes(&one)).expect("a disk");
    let rig = rig.restart();
    assert_eq!(rig.pending(), 0);
    assert!(rig.chain.pending_evidence().expect("a disk").is_empty());
}

#[test]
fn what_is_too_old_goes() {
    let mut rig = Rig::new(5);
    rig.evidence.votes(pair(5, 1, 0));
    rig.run();
    (6..=25).for_each(|height| rig.grow(height, &[]));
    assert_eq!(rig.pending(), 1, "twenty blocks and two hundred seconds are allowed");
    rig.grow(26, &[]);
    assert_eq!(rig.pending(), 0);
    assert!(rig.chain.pending_evidence().expect("a disk").is_empty());
    let peer = rig.offer(bytes(&piece(5, 1, 0)));
    assert_eq!((rig.pending(), rig.counted("stale", peer)), (0, 1));
}

/// The application may raise the age: what was too old before it stays so.
#[test]
fn what_is_below_the_lowest_height_of_evidence_goes_however_young_it_is() {
    let mut rig = Rig::new(5);
    rig.evidence.votes(pair(4, 1, 0));
    rig.evidence.votes(pair(5, 1, 0));
    rig.run();
    assert_eq!(rig.pending(), 2);
    rig.grow_from(6, &[], 5);
    assert_eq!(*rig.evidence.pending()[0], piece(5, 1, 0));
    assert_eq!((rig.pending(), rig.chain.pending_evidence().expect("a disk").len()), (1, 1));
}

#[test]
fn a_peer_is_told_from_a_liar_by_what_it_passes_on() {
    let mut rig = Rig::new(5);
    let good = rig.offer(bytes(&piece(5, 1, 0)));
    assert_eq!(rig.pending(), 1);
    assert!(rig.audit.counts().keys().all(|(_, peer, _)| *peer != Some(good)));
    assert_eq!(rig.told.lock().expect("told").len(), 1, "it is passed on");
    let known = rig.offer(bytes(&piece(5, 1, 0)));
    assert_eq!(rig.counted("duplicate", known), 1);
    let early = rig.offer(bytes(&piece(6, 1, 0)));
    assert_eq!(rig.counted("future", early), 1);
    let mut wrong = bytes(&piece(5, 2, 0));
    let at = wrong.len() - 40;
    wrong[at] ^= 1;
    let liar = rig.offer(wrong);
    let faults = ["bad_signature", "malformed"].map(|reason| rig.counted(reason, liar));
    assert_eq!(faults.iter().sum::<u64>(), 1);
    let garbage = rig.offer(b"garbage".to_vec());
    assert_eq!(rig.counted("malformed", garbage), 1);
    assert_eq!((rig.pending(), rig.told.lock().expect("told").len()), (1, 1));
}

/// As in every other class: a peer that goes on is dropped, and nothing of it is looked at.
#[test]
fn a_peer_that_sends_ever_more_invalid_evidence_is_cut_off() {
    let mut rig = Rig::new(5);
    let expelled: Arc<Mutex<Vec<PeerId>>> = Arc::default();
    let expelling = expelled.clone();
    rig.audit.on_too_many_faults(move |peer| expelling.lock().expect("whole").push(peer));
    let (peer, mut wrong) = (PeerId::random(), piece(5, 2, 0).raw().clone());
    if let Some(pb::evidence::Sum::DuplicateVoteEvidence(inner)) = &mut wrong.sum {
        inner.vote_a.as_mut().expect("there").signature[0] ^= 1;
    }
    let wrong: Bytes = wrong.encode_to_vec().into();
    for _ in 0..200 {
        rig.evidence.offer(peer, std::slice::from_ref(&wrong));
        rig.run();
    }
    assert_eq!(*expelled.lock().expect("whole"), [peer]);
    assert!(rig.counted("bad_signature", peer) <= 100);
}

#[test]
fn what_waits_for_the_owner_is_bounded() {
    let mut rig = Rig::new(5);
    let peer = PeerId::random();
    for v in 0..2 * u32::try_from(OFFERS_MAX).expect("small") {
        rig.evidence.offer(peer, &[bytes(&piece(5, 1, v)).into()]);
    }
    assert_eq!(rig.owner.queues.offers.len(), OFFERS_MAX);
    assert_eq!(rig.counted("too_many", peer), OFFERS_MAX as u64);
    let mut answer = rig.evidence.add(piece(5, 2, 0));
    let error = answer.try_recv().expect("an answer").expect_err("no room");
    assert!(error.contains("try again"), "{error}");
    for v in 0..2 * u32::try_from(NOTICES_MAX).expect("small") {
        rig.evidence.votes(pair(9, 1, v));
    }
    assert_eq!(rig.owner.queues.notices.len(), NOTICES_MAX);
    rig.run();
}

#[test]
fn a_client_hears_why_its_evidence_is_not_taken() {
    let mut rig = Rig::new(5);
    let ask = |rig: &mut Rig, piece: Piece| {
        let mut answer = rig.evidence.add(piece);
        rig.run();
        answer.try_recv().expect("an answer")
    };
    assert_eq!(ask(&mut rig, piece(5, 1, 0)), Ok(()));
    assert_eq!(ask(&mut rig, piece(5, 1, 0)), Ok(()), "what is pending is taken");
    assert_eq!(rig.pending(), 1);
    let one = piece(5, 1, 0);
    rig.grow(6, &[one.raw()]);
    assert_eq!(ask(&mut rig, one), Ok(()), "what is committed is taken");
    assert_eq!(rig.pending(), 0);
    let early = ask(&mut rig, piece(7, 1, 0)).expect_err("early");
    assert_eq!(early, "Invalid evidence: don't have header #7: it is not decided here");
}

#[test]
fn pending_evidence_is_told_again_up_to_a_bound() {
    let mut rig = Rig::new(5);
    for v in 0..3 {
        rig.evidence.votes(pair(5, 1, v));
    }
    rig.run();
    rig.told.lock().expect("told").clear();
    rig.owner.tell_again();
    let told = rig.told.lock().expect("told").clone();
    let [frame] = &told[..] else { panic!("{} frames", told.len()) };
    let found = wire::decode_transactions(frame.clone()).expect("a frame").evidence;
    assert_eq!(found.len(), 3);
    // Three large ones: the first two are as much as is told at once.
    let mut rig = Rig::new(5);
    for n in 0..3u8 {
        let mut piece = piece(5, 1, n.into());
        piece.pretend(What::Attack { header: [n; 32] }, TOLD_BYTES_MAX / 2);
        assert_eq!(rig.owner.pool.add(piece), Added::New);
    }
    rig.owner.tell_again();
    let told = rig.told.lock().expect("told").clone();
    let [frame] = &told[..] else { panic!("{} frames", told.len()) };
    let found = wire::decode_transactions(frame.clone()).expect("a frame").evidence;
    assert_eq!(found.len(), 2);
}

/// S12: whatever one validator signs, what is kept of it is bounded, and others find room beside it.
#[test]
fn one_offender_does_not_crowd_out_the_others() {
    let mut pool = Pool::default();
    let most = u32::try_from(pool::PENDING_OF_ONE_MAX).expect("small");
    for v in 0..2 * most {
        let expected = if v < most { Added::New } else { Added::Full };
        assert_eq!(pool.add(piece(5, 1, v)), expected, "{v}");
    }
    assert_eq!(pool.add(piece(5, 2, 0)), Added::New);
    assert_eq!(pool.add(piece(5, 2, 0)), Added::Known);
    let first = piece(5, 1, 0);
    pool.remove(&first.key());
    assert_eq!(pool.add(first), Added::New, "what went makes room");
    let waiting = u32::try_from(pool::UNDECIDED_OF_ONE_MAX).expect("small");
    for v in 0..2 * waiting {
        assert_eq!(pool.wait(pair(9, 1, v)), v < waiting);
    }
    assert!(pool.wait(pair(9, 1, 0)), "it waits already");
    assert!(pool.wait(pair(9, 2, 0)));
    assert!(pool.take_decided(Height::from(8u32)).is_empty());
    assert_eq!(pool.take_decided(Height::from(9u32)).len(), waiting as usize + 1);
}

#[test]
fn pending_evidence_is_bounded_in_number_and_bytes_and_attacks_leave_room_for_votes() {
    let mut pool = Pool::default();
    let attack = |n: u8, size: usize| {
        let mut piece = piece(5, 1, 0);
        piece.pretend(What::Attack { header: [n; 32] }, size);
        piece
    };
    let third = pool::ATTACK_BYTES_MAX / 3;
    let added = (0..4).map(|n| pool.add(attack(n, third))).collect::<Vec<_>>();
    assert_eq!(added, [Added::New, Added::New, Added::New, Added::Full]);
    let rest = pool::PENDING_BYTES_MAX - 3 * third;
    let votes = |n: u32, size| {
        let mut piece = piece(5, 1, 0);
        let validator =
            tercet_consensus::key::Address::new([u8::try_from(n / 60).expect("small"); 20]);
        piece.pretend(What::Votes { view: n, kind: 2, validator }, size);
        piece
    };
    assert_eq!(pool.add(votes(0, rest + 1)), Added::Full);
    assert_eq!(pool.add(votes(0, rest)), Added::New);
    assert_eq!(pool.add(votes(1, 1)), Added::Full);
    let mut pool = Pool::default();
    let most = u32::try_from(pool::PENDING_MAX).expect("small");
    assert!((0..most).all(|n| pool.add(votes(n, 1)) == Added::New));
    assert_eq!(pool.add(votes(most, 1)), Added::Full);
    let mut pool = Pool::default();
    let most = pool::UNDECIDED_MAX;
    let mut waits = 0;
    for index in 0..200u8 {
        for v in 0..16 {
            let (mut first, second) = pair(9, 1, v);
            first.message.validator = tercet_consensus::key::Address::new([index; 20]);
            waits += usize::from(pool.wait((first, second)));
        }
    }
    assert_eq!(waits, most);
}
