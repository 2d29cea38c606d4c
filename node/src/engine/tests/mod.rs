//! The engine's loop: what it tells the replica, the pool and peers, and when.

mod rig;

use super::Event;
use super::run::Primary;
use crate::execution::Job;
use crate::network::PeerId;
use crate::wire::Consensus;
use rig::{
    DEAD, HEIGHT, Rig, T, backup, commit, decided, decided_by, extended_commit, full_commit, input,
    primary, prior, signers,
};
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::Height;
use tercet_consensus::block::SealedBlock;
use tercet_consensus::message::{Justification, Message, Phase, SignedVote};
use tercet_consensus::replica::Input;
use tercet_consensus::testing::messages::{Signers, block_id};
use tercet_consensus::verify::Direct;

const NONE: [u32; 0] = [];

/// A timer runs from the end of the turn that asked for it: the time of a slow sync is the disk's, not the primary's.
#[test]
fn a_timer_runs_from_the_end_of_its_turn() {
    let mut rig = Rig::new(backup());
    rig.outside.lock().waiting = 1;
    rig.slow_turn(vec![Event::Pool], 5 * T);
    rig.turn(Vec::new());
    rig.after(T - Duration::from_millis(1));
    assert_eq!(rig.view_changes(), NONE);
    rig.after(Duration::from_millis(1));
    assert_eq!(rig.view_changes(), [1]);
}

/// Of each offence the first two votes are told, once, however often the second is sent; also of the height before.
#[test]
fn two_votes_of_one_validator_are_told_once_for_each_offence() {
    let mut rig = Rig::new(backup());
    let liar = (0..4).find(|index| *index != backup()).expect("four");
    let mut say = |s: &Signers, phase, v, id| {
        let vote = s.context().vote(s.vote(phase, liar, v, block_id(id)), &Direct);
        rig.turn(vec![input(Input::Vote(vote.expect("valid")))]);
    };
    let (here, before) = (signers(HEIGHT), signers(HEIGHT - 1));
    for id in [1, 2, 2, 3] {
        say(&here, Phase::Prepare, 0, id);
        say(&here, Phase::Commit, 0, id);
        say(&here, Phase::Prepare, 1, id);
    }
    // Commit(h-1) has its COMMIT for block 4.
    say(&before, Phase::Commit, 0, 9);
    say(&before, Phase::Commit, 0, 9);
    let told = std::mem::take(&mut rig.outside.lock().evidence);
    let offence = |(a, b): &(SignedVote, SignedVote)| {
        assert_ne!(a.message.block_id, b.message.block_id);
        (a.message.height.value(), a.message.phase, a.message.view.number())
    };
    let (now, then) = (u64::from(HEIGHT), u64::from(HEIGHT - 1));
    let mut offences: Vec<_> = told.iter().map(offence).collect();
    offences.sort_unstable();
    let expected = [
        (then, Phase::Commit, 0),
        (now, Phase::Prepare, 0),
        (now, Phase::Prepare, 1),
        (now, Phase::Commit, 0),
    ];
    assert_eq!(offences, expected);
}

/// Transactions go straight to the primary: the pool hears of each new one, and of its end.
#[test]
fn the_pool_is_pointed_at_the_primary_of_the_view_and_away_from_one_that_is_gone() {
    let mut rig = Rig::new(backup());
    let last = |rig: &Rig| rig.outside.lock().primaries.last().copied();
    let peer = |rig: &Rig, v| rig.peers[rig.primary(v) as usize];
    assert_eq!(last(&rig), Some(Primary::Peer(peer(&rig, 0))));
    let view_changes = (0..3).map(|index| rig.s.view_change(index, 1, None)).collect();
    let justification = Justification { view_changes, certificate: None };
    let new_view = rig.s.pre_prepare(1, block_id(7), Some(justification));
    rig.turn(vec![input(Input::PrePrepare(
        rig.s.context().pre_prepare(new_view, &Direct).expect("valid"),
    ))]);
    assert_eq!(rig.engine.replica().view().number(), 1);
    assert_eq!(last(&rig), Some(Primary::Peer(peer(&rig, 1))));
    rig.turn(vec![Event::PeerDown { peer: peer(&rig, 1) }]);
    assert_eq!(last(&rig), Some(Primary::Elsewhere));
    // A Commit(h-1) of a higher round raises the view without a NEW-VIEW.
    let v = (2..).find(|v| ![rig.primary(1), rig.me].contains(&rig.primary(*v))).expect("four");
    let raised = commit(HEIGHT - 1, v, block_id(4));
    let raised = signers(HEIGHT - 1).context().commit(raised, &Direct);
    rig.turn(vec![input(Input::Prior(raised.expect("valid")))]);
    assert_eq!(rig.engine.replica().view().number(), v);
    assert_eq!(last(&rig), Some(Primary::Peer(peer(&rig, v))));
}

/// What a STATUS says of whom its sender is connected to costs as much as there are pairs of peers: it is not taken up for each of them.
#[test]
fn statuses_that_say_something_else_each_time_are_taken_up_in_turn() {
    let mut rig = Rig::new(backup());
    let strangers: Vec<PeerId> = (0..10).map(|_| PeerId::random()).collect();
    let up = |peer: &PeerId| Event::PeerUp { peer: *peer, validator: None };
    rig.turn(strangers.iter().map(up).collect());
    let say = |rig: &Rig, peer: PeerId, direct: &[u32]| {
        let status = Arc::new(rig.engine.replica().status(direct.iter().copied()));
        Event::Status { peer, status, room: None }
    };
    let relays = |rig: &Rig| rig.engine.parts.relay.load_full();
    let mut changes = 0;
    for n in 0..200 {
        let before = relays(&rig);
        rig.after(Duration::from_millis(1));
        for (index, peer) in (0..).zip(&strangers) {
            rig.turn(vec![say(&rig, *peer, &[(n / 20 + index) % 4])]);
        }
        changes += u32::from(!Arc::ptr_eq(&before, &relays(&rig)));
    }
    assert!((5..=11).contains(&changes), "{changes} times in 200 ms");
    // What was said last is taken up in the end, though nothing comes any more.
    rig.after(Duration::from_millis(20));
    rig.turn(vec![say(&rig, strangers[0], &[0, 1, 2, 3])]);
    rig.after(Duration::from_millis(20));
    let mut others = strangers[1..].to_vec();
    others.sort_unstable();
    assert_eq!(relays(&rig).get(&strangers[0]), Some(&others));
}

/// "disconnected primary: where my connection to the primary is closed and refused": what is refused counts until the peer is back, and
/// a refusal that is told after that is old.
#[test]
fn a_refused_primary_is_dead_until_it_is_back() {
    let run = |events: &dyn Fn(&Rig) -> Vec<Event>| {
        let mut rig = Rig::new(backup());
        for event in events(&rig) {
            rig.turn(vec![event]);
        }
        rig.work(1);
        rig.after(DEAD);
        rig.view_changes()
    };
    let peer = |rig: &Rig| rig.peers[rig.primary(0) as usize];
    let down = |rig: &Rig| Event::PeerDown { peer: peer(rig) };
    let refused = |rig: &Rig| Event::PeerRefused { peer: peer(rig) };
    let up = |rig: &Rig| rig.up(rig.primary(0));
    assert_eq!(run(&|_| vec![]), NONE);
    assert_eq!(run(&|rig| vec![down(rig)]), NONE, "closed alone is no death");
    assert_eq!(run(&|rig| vec![down(rig), refused(rig)]), [1]);
    assert_eq!(run(&|rig| vec![down(rig), up(rig), refused(rig)]), NONE, "an old refusal");
    assert_eq!(run(&|rig| vec![down(rig), refused(rig), up(rig)]), NONE, "it is back");
}

/// Whoever asks for a block that was decided a moment ago gets it without a read of the disk; any peer may ask, again and again.
#[test]
fn a_block_decided_a_moment_ago_is_served_from_memory() {
    let mut rig = Rig::new(backup());
    rig.knows_rules();
    let block = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    rig.turn(vec![Event::Decided(vec![decided(&block)])]);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 1));
    let before = rig.outside.lock().blocks_read;
    let peer = rig.peers[rig.primary(1) as usize];
    let height = Height::from(HEIGHT);
    rig.turn(vec![Event::FetchBlock { peer, height, block_id: block.id(), room: None }]);
    rig.turn(vec![Event::FetchBlock { peer, height, block_id: block_id(9), room: None }]);
    let outside = rig.outside.lock();
    let served = outside.sent.iter().filter(|(to, message)| {
        *to == Some(peer) && matches!(message, Consensus::Message(Message::Block(_)))
    });
    assert_eq!((served.count(), outside.blocks_read), (1, before));
}

/// "A node that is ingesting decided blocks does not vote for those heights": while blocks come in and peers have decided more, and for a
/// timeout after, in which it hears what this key signs elsewhere (fault table, T-57b). Not for longer: a validator whom a faulty one keeps
/// a height behind, block by block, would never vote again (simulator, seed 1013340).
#[test]
fn decided_blocks_that_come_in_hold_a_replica_until_it_has_caught_up_for_a_timeout() {
    for (coming, behind, waited, votes) in [
        (true, true, false, false),
        (true, true, true, false),
        (true, false, false, false),
        (true, false, true, true),
        (false, false, false, true),
        (false, true, false, true),
    ] {
        let mut rig = Rig::new(backup());
        // It was behind until now.
        rig.outside.lock().behind = true;
        rig.turn(Vec::new());
        rig.outside.lock().ingesting_until = coming.then_some(rig.now + 2 * T);
        rig.outside.lock().behind = behind;
        rig.turn(Vec::new());
        if waited {
            rig.after(T);
        }
        let block = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
        rig.propose(&block);
        let voted = if votes { vec![Phase::Prepare] } else { vec![] };
        assert_eq!(rig.votes(), voted, "coming in: {coming}, behind: {behind}, waited: {waited}");
    }
}

/// The wait after a restart ends though decided blocks come one by one, to a validator whose only peer is one other: what it hears of is a
/// third of the others at most.
#[test]
fn the_wait_after_a_restart_ends_though_blocks_come_one_by_one() {
    let mut rig = Rig::alone(backup(), None);
    rig.knows_rules();
    let mut last = prior();
    for height in HEIGHT..HEIGHT + 25 {
        let block = Arc::new(SealedBlock::seal(rig.block(&last, 1)));
        last = commit(height, 0, block.id());
        rig.outside.lock().ingesting_until = Some(rig.now + T / 2);
        rig.turn(vec![Event::Decided(vec![decided(&block)])]);
        rig.after(T / 10);
    }
    assert_eq!(rig.snapshot.load().hold, None);
}

/// Two copies of a validator that do not know each other: where the one goes on signing, the entries of decided commits hold the other, a
/// reservation past each, however fast the heights go by (fault table, T-57b). With the other gone it signs again.
#[test]
fn what_this_key_signs_elsewhere_holds_a_copy_as_long_as_decided_commits_show_it() {
    const SHOWN: u32 = 80;
    for by_last_commit in [false, true] {
        let mut rig = Rig::alone(backup(), None);
        rig.hear(HEIGHT, &[0, 1, 2, 3]);
        let held = rig.catch_up(4 * 64, by_last_commit, |height| height < HEIGHT + SHOWN);
        let shown_upto = HEIGHT + SHOWN - 1;
        assert!(held[0] <= HEIGHT + 3, "{by_last_commit}: from {}", held[0]);
        assert!(held.is_sorted_by(|a, b| a + 1 == *b), "{by_last_commit}: without a gap");
        let end = held.last().expect("held");
        assert!(
            (shown_upto + 64..=shown_upto + 2 * 64).contains(end),
            "{by_last_commit}: to {end}"
        );
        let file = rig.outside.lock().file;
        assert_eq!(file, Some(u64::from(end + 1)), "also for the next start");
    }
}

/// What the key signed before the process started may be of an earlier life: a node with older data signs again as soon as it has caught
/// up, though its own entries are in the commits on the way. Where the chain was at the start, a third of the others must have said.
#[test]
fn what_this_key_signed_before_the_start_holds_nobody_once_it_has_caught_up() {
    let tip = HEIGHT + 40;
    let held = |heard: &dyn Fn(&mut Rig), upto: u32| {
        let mut rig = Rig::alone(backup(), None);
        heard(&mut rig);
        rig.catch_up(60, false, |height| height <= upto)
    };
    assert_eq!(held(&|rig| rig.hear(tip, &[0, 1, 2, 3]), tip + 1), NONE);
    let first = held(&|rig| rig.hear(tip, &[0, 1, 2, 3]), tip + 2)[0];
    assert_eq!(first, tip + 2);
    // One of three is no more than a third: a lie about the start counts for nothing.
    let others: Vec<_> = (0..4).filter(|index| *index != backup()).collect();
    let lie = |rig: &mut Rig| {
        rig.hear(tip + 1_000, &others[..1]);
        rig.hear(tip, &others[1..]);
    };
    assert_eq!(held(&lie, tip + 1), NONE);
    assert_eq!(held(&lie, tip + 2)[0], tip + 2);
    assert_eq!(held(&|rig| rig.hear(tip, &others[..1]), tip + 2), NONE, "too few were heard");
}

/// What this validator itself signed before it was held, at the height where it is, holds nobody: a validator that restarts, or that was behind for
/// a moment, finds itself in the commit of that height.
#[test]
fn the_own_entry_in_the_commit_of_the_height_of_the_start_is_not_foreign() {
    let mut rig = Rig::new(backup());
    rig.knows_rules();
    let block = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    rig.propose(&block);
    assert_eq!(rig.votes(), [Phase::Prepare]);
    let full = full_commit(HEIGHT, 0, block.id());
    rig.turn(vec![Event::Decided(vec![decided_by(&block, full.clone())])]);
    let next = Arc::new(SealedBlock::seal(rig.block(&full, 1)));
    rig.turn(vec![Event::Decided(vec![decided(&next)])]);
    rig.turn(Vec::new());
    assert_eq!(rig.snapshot.load().hold, None);
}

/// The same between two batches: a block of a later height is here, so this height is decided already.
#[test]
fn nothing_is_signed_below_a_decided_block_that_waits() {
    let mut rig = Rig::new(backup());
    rig.knows_rules();
    let first = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    let second = Arc::new(SealedBlock::seal(rig.block(&commit(HEIGHT, 0, first.id()), 1)));
    let third = Arc::new(SealedBlock::seal(rig.block(&commit(HEIGHT + 1, 0, second.id()), 1)));
    rig.turn(vec![Event::Decided(vec![decided(&first), decided(&third)])]);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 1));
    rig.propose(&second);
    assert_eq!(rig.votes(), []);
    rig.turn(vec![Event::Decided(vec![decided(&second)])]);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 3));
    let fourth = Arc::new(SealedBlock::seal(rig.block(&commit(HEIGHT + 2, 0, third.id()), 1)));
    rig.turn(Vec::new());
    rig.propose(&fourth);
    assert_eq!(rig.votes(), [Phase::Prepare], "and once they are used up it votes");
}

/// §7: V(h+1) follows from a decided header alone only where that says that the set stays; otherwise the application is waited for.
#[test]
fn a_set_that_changes_is_not_guessed_while_catching_up() {
    let mut rig = Rig::new(backup());
    let new = Signers::new(&[10, 10, 10, 10, 25], HEIGHT + 1);
    let mut block = rig.block(&prior(), 1);
    block.header.next_validators_hash = new.validators.hash();
    let block = Arc::new(SealedBlock::seal(block));
    rig.turn(vec![Event::Decided(vec![decided(&block)])]);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT), "nobody knows the set yet");
    rig.applied(&block, &new);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 1));
    assert_eq!(rig.engine.replica().validators().hash(), new.validators.hash());
}

/// Vote extensions may begin at the very next height: no height begins before the one below is executed, but where it is decided too.
#[test]
fn a_height_begins_once_it_is_known_whether_it_has_vote_extensions() {
    let mut rig = Rig::new(backup());
    let first = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    let second = Arc::new(SealedBlock::seal(rig.block(&commit(HEIGHT, 0, first.id()), 1)));
    rig.turn(vec![Event::Decided(vec![decided(&first), decided(&second)])]);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 1));
    assert!(rig.engine.replica().is_decided());
    let stays = signers(HEIGHT + 2);
    rig.applied(&first, &stays);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 1), "not executed");
    rig.applied(&second, &stays);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 2));
}

/// Checked while it was open whether its height has vote extensions, a commit may lack them; the replica does not take it, and no height is
/// left that is not decided: the blocks above would leave a gap in the chain.
#[test]
fn a_decision_that_lacks_its_extensions_is_dropped_and_the_height_stays() {
    let mut rig = Rig::new(backup());
    rig.knows_extensions();
    let first = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    let second = Arc::new(SealedBlock::seal(rig.block(&commit(HEIGHT, 0, first.id()), 1)));
    let third = Arc::new(SealedBlock::seal(rig.block(&commit(HEIGHT + 1, 0, second.id()), 1)));
    rig.turn(vec![Event::Decided(vec![decided(&first), decided(&second), decided(&third)])]);
    let at = |rig: &Rig| (rig.engine.replica().height(), rig.engine.replica().is_decided());
    assert_eq!(at(&rig), (Height::from(HEIGHT + 1), false));
    let waits = |rig: &Rig| rig.engine.ahead.has(Height::from(HEIGHT + 2));
    assert!(waits(&rig), "what lies above waits for it");
    let applied = |rig: &Rig| -> Vec<_> {
        let apply = |job| match job {
            Job::Apply { block, .. } => Some(block.id()),
            _ => None,
        };
        rig.jobs.try_iter().filter_map(apply).collect()
    };
    assert_eq!(applied(&rig), [first.id()]);
    let full = extended_commit(HEIGHT + 1, 0, second.id());
    rig.turn(vec![Event::Decided(vec![decided_by(&second, full)])]);
    assert_eq!(at(&rig), (Height::from(HEIGHT + 2), false));
    assert!(!waits(&rig), "it lacks them too");
    assert_eq!(applied(&rig), [second.id()]);
}

/// What is decided and not executed yet is taken off the pool's count, and what is executed no longer is.
#[test]
fn executed_transactions_no_longer_count_as_ordered() {
    let mut rig = Rig::new(primary());
    rig.outside.lock().waiting = 3;
    let block = Arc::new(SealedBlock::seal(rig.block(&prior(), 3)));
    rig.turn(vec![Event::Decided(vec![decided(&block)])]);
    let proposes =
        |rig: &Rig| rig.jobs.try_iter().filter(|job| matches!(job, Job::Propose { .. })).count();
    proposes(&rig);
    rig.turn(Vec::new());
    assert_eq!(proposes(&rig), 0, "the three are those of the block");
    let stays = signers(HEIGHT + 1);
    rig.applied(&block, &stays);
    rig.turn(Vec::new());
    rig.after(DEAD);
    assert_eq!(proposes(&rig), 1, "three others");
}

/// "Do not vote until the chain has passed the reservation": at the last reserved height itself nothing is signed.
#[test]
fn stale_data_signs_nothing_up_to_and_at_the_last_reserved_height() {
    let mut rig = Rig::alone(backup(), Some(Height::from(HEIGHT)));
    rig.knows_rules();
    rig.after(2 * T);
    let why = |rig: &Rig| rig.snapshot.load().hold;
    assert_eq!(why(&rig), Some("the data is older than the key's use"));
    let block = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    rig.propose(&block);
    assert_eq!(rig.votes(), []);
    rig.turn(vec![Event::Decided(vec![decided(&block)])]);
    rig.turn(Vec::new());
    assert_eq!(why(&rig), None);
}

/// A suspicion that comes between two heights is that of the new height's view: told with the old one it would be dropped, and is not
/// told again in its term.
#[test]
fn a_suspicion_between_two_heights_counts_in_the_view_of_the_new_one() {
    let mut rig = Rig::new(backup());
    let block = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    rig.turn(vec![input(Input::Block(block.clone()))]);
    let me = rig.me;
    for index in (0..4).filter(|index| *index != me) {
        let vote = rig.s.vote(Phase::Commit, index, 1, block.id());
        rig.turn(vec![input(Input::Vote(rig.s.context().vote(vote, &Direct).expect("valid")))]);
    }
    rig.outside.lock().waiting = 1;
    // The pool has no suspicion when the turn begins, and one from the next question on.
    rig.outside.lock().suspects = [false, true].into();
    let stays = signers(HEIGHT + 1);
    rig.applied(&block, &stays);
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 1));
    assert_eq!(rig.engine.replica().view().number(), 1);
    rig.turn(Vec::new());
    assert_eq!(rig.view_changes(), [2]);
}

/// The votes of all others for `block`.
fn votes_for(rig: &Rig, phase: Phase, block: &SealedBlock) -> Vec<Event> {
    let vote = |index: &u32| {
        let vote = rig.s.vote(phase, *index, 0, block.id());
        let vote = rig.s.context().vote(vote, &Direct).expect("valid");
        input(Input::Vote(vote))
    };
    let me = rig.me;
    (0..4).filter(|index| *index != me).collect::<Vec<_>>().iter().map(vote).collect()
}

/// PREPAREs and COMMITs that come together decide in one turn, and the next height begins in it.
#[test]
fn all_steps_that_a_turn_passes_are_told() {
    use crate::events::Data;
    use crate::events::bus::Most;
    use crate::events::query::Query;
    let mut rig = Rig::new(backup());
    rig.knows_rules();
    let query = Query::parse("tm.event EXISTS").expect("a query");
    let most = Most { clients: 1, per_client: 1, events: 100 };
    let _subscription = rig.bus.subscribe(1, query, most).expect("room");
    let block = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    rig.propose(&block);
    assert!(rig.told.try_iter().count() > 0);
    let prepares = votes_for(&rig, Phase::Prepare, &block);
    let commits = votes_for(&rig, Phase::Commit, &block);
    rig.turn(prepares.into_iter().chain(commits).collect());
    assert_eq!(rig.engine.replica().height(), Height::from(HEIGHT + 1));
    let told = rig.told.try_iter().filter_map(|event| match &event.data {
        Data::Round(at) | Data::NewRound(at, ..) => {
            Some((event.kind.name(), at.height.value(), at.step.number()))
        }
        _ => None,
    });
    let (here, next) = (u64::from(HEIGHT), u64::from(HEIGHT) + 1);
    let expected = [
        ("Polka", here, 4),
        ("Lock", here, 4),
        ("ValidBlock", here, 4),
        ("NewRoundStep", here, 6),
        ("NewRoundStep", here, 8),
        ("NewRound", next, 2),
        ("NewRoundStep", next, 3),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

/// All votes are written anew for those who look: not for each of them.
#[test]
fn votes_alone_are_shown_a_moment_later_and_with_whatever_else_changes_at_once() {
    let mut rig = Rig::new(backup());
    let block = Arc::new(SealedBlock::seal(rig.block(&prior(), 1)));
    rig.propose(&block);
    let shown = |rig: &Rig| rig.snapshot.load().votes.each_ref().map(|votes| votes.len());
    let before = shown(&rig);
    let mut commits = votes_for(&rig, Phase::Commit, &block).into_iter();
    rig.turn(commits.by_ref().take(1).collect());
    assert_eq!(shown(&rig), before);
    rig.after(Duration::from_millis(49));
    assert_eq!(shown(&rig), before);
    rig.after(Duration::from_millis(1));
    assert_eq!(shown(&rig), [before[0], before[1] + 1]);
    // A quorum of PREPAREs changes the step.
    rig.turn(votes_for(&rig, Phase::Prepare, &block));
    assert!(shown(&rig)[0] > before[0], "{:?}", shown(&rig));
}
