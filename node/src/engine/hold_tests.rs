use super::*;
use std::sync::Arc;
use tercet_consensus::message::{Justification, Phase, SignedVote, Verified, ViewChangeMessage};
use tercet_consensus::replica::{HeightStart, Settings};
use tercet_consensus::testing::messages::{Signers, block_id, view};
use tercet_consensus::verify::SignatureCheck;

struct Good;

impl SignatureCheck for Good {
    fn check(
        &self,
        _: &tercet_consensus::key::PublicKey,
        _: &[u8],
        _: &tercet_consensus::key::Signature,
    ) -> bool {
        true
    }
}

fn setup() -> (Signers, Replica, Address) {
    setup_as(0)
}

fn setup_as(index: ValidatorIndex) -> (Signers, Replica, Address) {
    let signers = Signers::new(&[10; 4], 5);
    let me = signers.validators.at(index).expect("four").address;
    let settings = Settings {
        me: Some(me),
        commit_grace: Duration::ZERO,
        disconnect_grace: Duration::ZERO,
        timeout: Duration::from_secs(1),
    };
    let start = HeightStart {
        height: signers.height,
        validators: Arc::new(signers.validators.clone()),
        schedule: Arc::new(signers.schedule.clone()),
        prior: None,
        extensions: false,
        prior_extensions: false,
    };
    (signers, Replica::new(settings, start), me)
}

fn verified(signers: &Signers, vote: SignedVote) -> Verified<SignedVote> {
    signers.context().vote(vote, &Good).expect("it verifies")
}

fn foreign(signers: &Signers, input: &Input, replica: &Replica, me: Address) -> bool {
    let primary = |view: View| {
        signers.validators.at(signers.schedule.primary(signers.height, view)).map(|v| v.address)
    };
    shows_foreign(input, replica, me, primary)
}

/// A STATUS of a peer at this height, of which `votes` are added.
fn status(replica: &Replica, height: u64) -> Status {
    Status { height: Height::try_from(height).expect("a height"), ..replica.status([]) }
}

#[test]
fn a_vote_of_this_key_that_the_replica_did_not_make_is_foreign_and_one_that_it_has_is_not() {
    let (signers, mut replica, me) = setup();
    for phase in [Phase::Prepare, Phase::Commit] {
        let own = verified(&signers, signers.vote(phase, 0, 0, block_id(3)));
        assert!(foreign(&signers, &Input::Vote(own.clone()), &replica, me));
        replica.step(Input::Vote(own.clone()));
        assert!(!foreign(&signers, &Input::Vote(own), &replica, me), "an echo");
        let others = verified(&signers, signers.vote(phase, 1, 0, block_id(3)));
        assert!(!foreign(&signers, &Input::Vote(others), &replica, me));
    }
}

#[test]
fn a_view_change_above_what_the_replica_asked_for_is_foreign() {
    let (signers, mut replica, me) = setup();
    let message = |index, view| {
        let signed = signers.view_change(index, view, None);
        let message = ViewChangeMessage { signed, certificate: None };
        Input::ViewChange(signers.context().view_change(message, &Good).expect("it verifies"))
    };
    assert!(foreign(&signers, &message(0, 2), &replica, me));
    assert!(!foreign(&signers, &message(1, 2), &replica, me));
    replica.step(message(0, 2));
    assert!(!foreign(&signers, &message(0, 2), &replica, me), "an echo");
    assert!(!foreign(&signers, &message(0, 1), &replica, me), "outgrown");
    assert!(foreign(&signers, &message(0, 3), &replica, me));
}

#[test]
fn a_proposal_of_this_key_that_the_replica_did_not_make_is_foreign() {
    let signers = Signers::new(&[10; 4], 5);
    let (signers, mut replica, me) = setup_as(signers.schedule.primary(signers.height, View::ZERO));
    let message = |n| {
        let message = signers.pre_prepare(0, block_id(n), None);
        Input::PrePrepare(signers.context().pre_prepare(message, &Good).expect("it verifies"))
    };
    assert!(foreign(&signers, &message(3), &replica, me));
    replica.step(message(3));
    assert!(!foreign(&signers, &message(3), &replica, me), "an echo");
    let other = signers.validators.list().iter().find(|v| v.address != me).expect("four").address;
    assert!(!foreign(&signers, &message(4), &replica, other));
}

#[test]
fn a_view_change_of_this_key_inside_a_new_view_is_foreign_where_the_replica_did_not_make_it() {
    let signers = Signers::new(&[10; 4], 5);
    let primary = signers.schedule.primary(signers.height, View::ZERO.next());
    let mine = (0..4).find(|index| *index != primary).expect("four");
    let (signers, mut replica, me) = setup_as(mine);
    let view_changes = (0..4).map(|index| signers.view_change(index, 1, None)).collect();
    let justification = Justification { view_changes, certificate: None };
    let message = signers.pre_prepare(1, block_id(3), Some(justification));
    let message = signers.context().pre_prepare(message, &Good).expect("it verifies");
    assert!(foreign(&signers, &Input::PrePrepare(message.clone()), &replica, me));
    let own = ViewChangeMessage { signed: signers.view_change(mine, 1, None), certificate: None };
    let own = signers.context().view_change(own, &Good).expect("it verifies");
    replica.step(Input::ViewChange(own));
    assert!(!foreign(&signers, &Input::PrePrepare(message), &replica, me), "an echo");
}

#[test]
fn after_a_restart_peers_count_where_they_show_nothing_that_is_missing_here() {
    let (signers, replica, me) = setup();
    let address = |index| signers.validators.at(index).expect("four").address;
    let now = Instant::now();
    let over = |statuses: &[(u32, Status)]| {
        let mut hold = Hold::new(now + Duration::from_secs(1), None);
        statuses.iter().for_each(|(index, status)| hold.hear(address(*index), status, &replica));
        hold.end_restart(now, Duration::from_secs(1), &replica, Some(me));
        hold.until().is_none()
    };
    let at = |height| status(&replica, height);
    assert!(!over(&[]));
    assert!(!over(&[(1, at(5))]), "a third of the others is not more than a third");
    assert!(over(&[(1, at(5)), (2, at(5))]));
    assert!(over(&[(1, at(4)), (2, at(5))]), "one that is behind holds nothing of this height");
    assert!(!over(&[(1, at(9)), (2, at(9))]), "they are ahead: it catches up first");
    assert!(!over(&[(1, at(6)), (2, at(6))]));
    assert!(
        over(&[(1, at(3)), (1, at(9)), (2, at(3)), (2, at(9))]),
        "it has passed where they were"
    );
    // One that shows a vote or a VIEW-CHANGE of this key waits for the proof.
    let votes = vec![(View::ZERO, [0u32].into_iter().collect())];
    let shown = [
        Status { prepares: votes.clone(), ..at(5) },
        Status { commits: votes, ..at(5) },
        Status { view_changes: vec![(0, View::ZERO.next())], ..at(5) },
    ];
    for shows in shown {
        assert!(!over(&[(1, shows.clone()), (2, at(5))]), "{shows:?}");
        assert!(over(&[(1, shows), (2, at(5)), (3, at(5))]), "one liar stops nobody");
    }
}

/// A restored copy that has voted in view 0 hears of its votes in view 2: it lacks them, though it has one at this height.
#[test]
fn a_vote_of_another_view_than_mine_is_missing_here() {
    let (signers, mut replica, me) = setup();
    let address = |index| signers.validators.at(index).expect("four").address;
    for phase in [Phase::Prepare, Phase::Commit] {
        replica.step(Input::Vote(verified(&signers, signers.vote(phase, 0, 0, block_id(3)))));
    }
    let now = Instant::now();
    let own = replica.status([]);
    let over = |shows: &Status| {
        let mut hold = Hold::new(now + Duration::from_secs(1), None);
        hold.hear(address(1), shows, &replica);
        hold.hear(address(2), &own, &replica);
        hold.end_restart(now, Duration::from_secs(1), &replica, Some(me));
        hold.until().is_none()
    };
    let votes = |v: u32| vec![(view(v), [0u32].into_iter().collect())];
    assert!(over(&Status { prepares: votes(0), commits: votes(0), ..own.clone() }));
    assert!(!over(&Status { prepares: votes(2), ..own.clone() }));
    assert!(!over(&Status { commits: votes(2), ..own.clone() }));
}

#[test]
fn nobody_is_waited_for_longer_than_the_timeout_unless_blocks_come_in() {
    let (_, replica, me) = setup();
    let (now, timeout) = (Instant::now(), Duration::from_secs(1));
    let mut hold = Hold::new(now + timeout, None);
    hold.following = true;
    hold.end_restart(now + timeout / 2, timeout, &replica, Some(me));
    hold.following = false;
    hold.end_restart(now + timeout, timeout, &replica, Some(me));
    assert!(hold.until().is_some(), "blocks came in until a moment ago");
    hold.end_restart(now + timeout * 3 / 2, timeout, &replica, Some(me));
    assert!(hold.until().is_none());
}

/// J of a NEW-VIEW that binds nothing.
fn free(signers: &Signers, turn: u32) -> Justification {
    let view_changes = (1..4).map(|index| signers.view_change(index, turn, None)).collect();
    Justification { view_changes, certificate: None }
}

/// One that is buffered for the next height would count as the replica's own there.
#[test]
fn a_signature_of_this_key_at_a_later_height_than_the_journal_knows_is_foreign() {
    let (signers, replica, me) = setup();
    let next = Signers::new(&[10; 4], 6);
    let primary = |height: Height, view: View| {
        next.validators.at(next.schedule.primary(height, view)).map(|v| v.address)
    };
    let later = |input: &Input, upto| shows_later(input, upto, me, primary);
    let context = next.context();
    let (here, above) = (replica.height(), replica.height().increment());
    for (index, mine) in [(0, true), (1, false)] {
        let vote = Input::Vote(verified(&next, next.vote(Phase::Prepare, index, 0, block_id(3))));
        assert_eq!(later(&vote, here), mine);
        assert!(!later(&vote, above), "the journal has been there: its records tell");
        let signed = next.view_change(index, 1, None);
        let change = ViewChangeMessage { signed, certificate: None };
        assert_eq!(
            later(&Input::ViewChange(context.view_change(change, &Good).unwrap()), here),
            mine
        );
        let turn = (0..4u32).find(|v| next.schedule.primary(next.height, view(*v)) == index);
        let turn = turn.expect("its turn");
        let justification = (turn > 0).then(|| free(&next, turn));
        let proposal = next.pre_prepare(turn, block_id(3), justification);
        assert_eq!(
            later(&Input::PrePrepare(context.pre_prepare(proposal, &Good).unwrap()), here),
            mine
        );
    }
    let at_this_height = verified(&signers, signers.vote(Phase::Prepare, 0, 0, block_id(3)));
    assert!(!later(&Input::Vote(at_this_height), here));
}

/// Anyone can prove to have a key, and catch-up may last for hours.
#[test]
fn strangers_who_prove_a_key_are_not_kept_during_the_wait_after_a_restart() {
    let (signers, replica, _) = setup();
    let mut hold = Hold::new(Instant::now(), None);
    let heard = |hold: &Hold| hold.restart.as_ref().map(|restart| restart.heard.len());
    for n in 0..100u8 {
        hold.hear(Address::new([n; 20]), &status(&replica, 5), &replica);
    }
    assert_eq!(heard(&hold), Some(0));
    for validator in signers.validators.list() {
        hold.hear(validator.address, &status(&replica, 5), &replica);
    }
    assert_eq!(heard(&hold), Some(4));
}
