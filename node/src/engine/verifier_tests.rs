use super::*;
use crate::engine::heights::{Rules, Sets};
use crate::network::PeerId;
use crate::wire::Frame;
use bytes::Bytes;
use crossbeam_channel::bounded;
use std::task::Poll;
use tendermint::block::Height;
use tercet_consensus::block::{Block, SealedBlock};
use tercet_consensus::commit::{Commit, CommitSig, median_time};
use tercet_consensus::message::{Justification, Phase, SignedVote, ViewChangeMessage};
use tercet_consensus::testing::cluster::header;
use tercet_consensus::testing::messages::{CHAIN_ID, Signers, block_id, view};
use tercet_consensus::testing::{public, sign};
use tercet_consensus::view::View;

/// Fills the inbox with frames of this size while no thread has time, and says how many were taken out of it.
fn taken_while_busy(class: Class, bytes: usize) -> usize {
    const FRAMES: usize = 20_000;
    let heights = Sets::new("test-chain", 64, Height::from(1u32)).published();
    let (events, _queue) = bounded(1);
    let verifier = Verifier::new(heights, events, Audit::default(), 1).expect("a thread");
    let (go_on, blocked) = bounded::<()>(0);
    verifier.spawn(move || {
        let _ = blocked.recv();
    });
    let (inbox, queue) = mpsc::channel(FRAMES);
    let frame = Bytes::from(vec![0; bytes]);
    for _ in 0..FRAMES {
        let inbound = Inbound {
            peer: PeerId::random(),
            class,
            bytes: frame.clone(),
            room: None,
            share: None,
        };
        inbox.try_send(inbound).expect("room");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        // Nothing stops it for the sake of other tasks: what it leaves is what there is no room for.
        let mut run = Box::pin(tokio::task::unconstrained(verifier.run(queue)));
        assert!(matches!(futures::poll!(&mut run), Poll::Pending));
        drop(go_on);
        inbox.capacity()
    })
}

#[test]
fn what_waits_to_be_verified_is_bounded_in_bytes() {
    assert_eq!(taken_while_busy(Class::Bodies, 4 * 1024 * 1024), 16 + 1);
    assert_eq!(taken_while_busy(Class::Consensus, 200), 16_384 + 1);
}

#[test]
fn what_was_verified_takes_its_room_until_the_engine_has_taken_it() {
    const FRAMES: usize = 20_000;
    const ROOM: usize = WAITING_UNITS_MAX as usize;
    let heights = Sets::new("test-chain", 64, Height::from(1u32)).published();
    let (events, queue) = bounded(FRAMES);
    let verifier = Verifier::new(heights, events, Audit::default(), 1).expect("a thread");
    let (inbox, frames) = mpsc::channel(FRAMES);
    let ask = FetchBlock { height: Height::from(1u32), block_id: block_id(1) };
    let Frame::Consensus(bytes) = Consensus::FetchBlock(ask).encode() else { panic!("its class") };
    for _ in 0..FRAMES {
        let (peer, class, bytes) = (PeerId::random(), Class::Consensus, bytes.clone());
        inbox.try_send(Inbound { peer, class, bytes, room: None, share: None }).expect("room");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut run = Box::pin(tokio::task::unconstrained(verifier.run(frames)));
        assert!(matches!(futures::poll!(&mut run), Poll::Pending));
        // Until the thread has given all of them to the engine.
        while queue.len() < ROOM {
            std::thread::yield_now();
        }
        for taken in ROOM + 1..ROOM + 4 {
            assert!(matches!(futures::poll!(&mut run), Poll::Pending));
            assert_eq!(inbox.capacity(), taken);
            drop(queue.recv().expect("an event"));
        }
    });
}

/// What was verified before says nothing of another key, message or signature.
#[test]
fn a_remembered_signature_is_good_for_its_key_and_message_alone() {
    let check = CachedCheck::default();
    let (key, other_key) = (public(0), public(1));
    let (signature, other) = (sign(0, b"message"), sign(1, b"message"));
    for _ in 0..2 {
        assert!(check.check(&key, b"message", &signature));
        assert!(!check.check(&key, b"another", &signature));
        assert!(!check.check(&other_key, b"message", &signature));
        assert!(!check.check(&key, b"message", &other));
    }
}

/// §7: the last commit of block h is verified under V(h−1), which need not be V(h).
#[test]
fn a_last_commit_is_verified_under_the_set_of_its_own_height() {
    let (old, new) = (Signers::new(&[10; 4], 4), Signers::new(&[10, 10, 10, 40], 5));
    let mut sets = Sets::new(CHAIN_ID, 64, new.height);
    sets.add(
        old.height,
        &Arc::new(old.validators.clone()),
        Rules { block_bytes_max: 1_000, extensions: Some(false) },
    );
    sets.add(
        new.height,
        &Arc::new(new.validators.clone()),
        Rules { block_bytes_max: 1_000, extensions: Some(false) },
    );
    sets.publish(new.height);
    let heights = sets.published().load_full();
    // Three of the four old ones are a quorum; without the heaviest of the new ones, three of these are none.
    let heavy = new.validators.list().iter().position(|v| v.power == 40).expect("one");
    let heavy = new.validators.list()[heavy].address;
    let signed = |signs: &dyn Fn(Address) -> bool| {
        let entry = |index: u32| {
            let vote = old.vote(Phase::Commit, index, 0, block_id(4));
            let (address, time) = (vote.message.validator, vote.message.time);
            let entry = CommitSig { address, time, signature: vote.signature, extension: None };
            signs(address).then_some(entry)
        };
        let signatures = (0..4).map(entry).collect();
        let commit =
            Commit { height: old.height, view: View::ZERO, block_id: block_id(4), signatures };
        let time = median_time(&commit, &old.validators).expect("a time");
        let proposer = new.validators.list()[0].address;
        let header = header(new.height, time, proposer, &new.validators, Some(&commit));
        let (txs, evidence, last_commit) = (Vec::new(), Default::default(), Some(commit));
        let block = SealedBlock::seal(Block { header, txs, evidence, last_commit });
        verify_last_commit(&block, &heights, &CachedCheck::default())
    };
    assert_eq!(signed(&|address| address != heavy), Ok(()));
    assert_eq!(signed(&|address| address == heavy), Err(Reject::NoQuorum));
}

/// A verifier at a height of these signers, with its counters.
fn at_height_of(signers: &Signers) -> (Verifier, Audit) {
    let mut sets = Sets::new(CHAIN_ID, 64, signers.height);
    sets.add(
        signers.height,
        &Arc::new(signers.validators.clone()),
        Rules { block_bytes_max: 1_000, extensions: Some(false) },
    );
    sets.publish(signers.height);
    let (events, _) = bounded(1);
    let audit = Audit::default();
    (Verifier::new(sets.published(), events, audit.clone(), 1).expect("a thread"), audit)
}

fn inbound(message: Message) -> Inbound {
    let Frame::Consensus(bytes) = Consensus::Message(message).encode() else { panic!("its class") };
    Inbound { peer: PeerId::random(), class: Class::Consensus, bytes, room: None, share: None }
}

/// Why a message is dropped, and what that cost; none where it is not.
fn dropped(verifier: &Verifier, message: Message) -> Option<(Reject, u32)> {
    match verifier.consensus(&inbound(message)).err()? {
        Dropped::Rejected(reject, cost) => Some((reject, cost)),
        Dropped::TooMany => None,
    }
}

/// T-112: nothing is kept of them, and what is wrong without a look at the signature costs little.
#[test]
fn votes_of_nobody_of_another_epoch_and_of_another_chain_are_told_apart_by_what_they_cost() {
    let (old, new) = (Signers::new(&[10; 5], 4), Signers::new(&[10; 4], 5));
    let (verifier, _) = at_height_of(&new);
    let gone = |v: &&tercet_consensus::validators::Validator| {
        new.validators.index_of(&v.address).is_none()
    };
    let gone = old.validators.list().iter().find(gone).expect("one that is gone").address;
    let index = old.validators.index_of(&gone).expect("a validator then");
    let mut vote = old.vote(Phase::Commit, index, 0, block_id(1)).message;
    vote.height = new.height;
    let of_another_epoch = old.sign_vote(vote);
    assert_eq!(
        dropped(&verifier, Message::Vote(of_another_epoch)),
        Some((Reject::UnknownValidator, 1))
    );
    let mut vote = new.vote(Phase::Commit, 0, 0, block_id(1));
    let bytes = tercet_consensus::sign_bytes::vote("another-chain", &vote.message);
    vote.signature = new.sign(0, &bytes);
    assert_eq!(dropped(&verifier, Message::Vote(vote)), Some((Reject::Signature, FAULT_COST)));
    let past = Signers::new(&[10; 4], 1).vote(Phase::Commit, 0, 0, block_id(1));
    assert_eq!(
        dropped(&verifier, Message::Vote(past)).map(|(reject, _)| reject),
        Some(Reject::Past)
    );
    let large =
        Inbound { bytes: Bytes::from(vec![0; 50 * 1024]), ..inbound(Message::Prior(commit(&old))) };
    let Err(Dropped::Rejected(Reject::Malformed(_), cost)) = verifier.consensus(&large) else {
        panic!("it is no message")
    };
    assert_eq!(cost, 51);
}

fn commit(signers: &Signers) -> Commit {
    let signatures = vec![None; signers.validators.count()];
    Commit { height: signers.height, view: View::ZERO, block_id: block_id(1), signatures }
}

/// T-113: a validator can sign without end.
#[test]
fn one_validator_cannot_have_ever_more_messages_verified_and_nobody_can_use_up_what_is_anothers() {
    let signers = Signers::new(&[10; 4], 5);
    let (verifier, _) = at_height_of(&signers);
    let passes = |message| verifier.consensus(&inbound(message)).is_ok();
    let vote = |index: u32, view| signers.vote(Phase::Commit, index, view, block_id(1));
    // Copies, and signatures in its name that are none of its own.
    let forged = |view| SignedVote { signature: signers.sign(1, b"x"), ..vote(0, view) };
    for view in 0..100 {
        assert!(passes(Message::Vote(vote(0, 0))));
        assert!(!passes(Message::Vote(forged(view))));
    }
    // NEW-VIEWs of a correct primary that hold ever other VIEW-CHANGEs of another.
    let primary = signers.schedule.primary(signers.height, view(1));
    for n in 0..100 {
        let other = (0..4).find(|index| *index != primary).expect("another");
        let mut view_changes: Vec<_> = (0..3).map(|n| signers.view_change(n, 1, None)).collect();
        let varied = signers.view_change(other, 2 + n, None);
        view_changes.retain(|signed| signed.message.index != other);
        view_changes.push(varied);
        view_changes.sort_by_key(|signed| signed.message.index);
        let justification = Justification { view_changes, certificate: None };
        let message = signers.pre_prepare(1, block_id(1), Some(justification));
        let _ = verifier.consensus(&inbound(Message::PrePrepare(message)));
    }
    assert!(passes(Message::Vote(vote(primary, 1))), "what is its own is left");
    let mut passed = (1..1_000u32).filter(|view| passes(Message::Vote(vote(2, *view)))).count();
    assert!((50..500).contains(&passed), "{passed}");
    passed = (1..40u32).filter(|view| passes(Message::Vote(vote(3, *view)))).count();
    assert_eq!(passed, 39);
}

/// Where the application refuses every block, as many views in a row as there are validators fail at once.
#[test]
fn all_that_a_correct_validator_signs_is_verified_where_a_view_of_each_primary_fails_at_once() {
    const VALIDATORS: u32 = 100;
    let signers = Signers::new(&[10; VALIDATORS as usize], 5);
    let (verifier, _) = at_height_of(&signers);
    for view in 0..VALIDATORS {
        let vote = |phase| Message::Vote(signers.vote(phase, 0, view, block_id(1)));
        let signed = signers.view_change(0, view + 1, None);
        let asks = Message::ViewChange(ViewChangeMessage { signed, certificate: None });
        for message in [vote(Phase::Prepare), vote(Phase::Commit), asks] {
            assert!(verifier.consensus(&inbound(message)).is_ok(), "view {view}");
        }
    }
}
