use super::*;
use crate::wire::{Consensus, Frame};
use std::collections::BTreeSet;
use tercet_consensus::commit::{Commit, CommitSig};
use tercet_consensus::message::{
    Justification, Message, Phase, PrePrepare, SignedVote, ViewChangeMessage,
};
use tercet_consensus::testing::messages::{Signers, block_id, view};

const SHARE: Share = Share { a_second: 10_000, at_once: 2_000 };
/// As often as a STATUS is answered.
const EVERY: Duration = Duration::from_millis(20);

/// All that four validators sign: three views of votes, and a VIEW-CHANGE of each with its certificate.
struct Signed {
    s: Signers,
    proposal: PrePrepare,
    votes: Vec<SignedVote>,
    view_changes: Vec<ViewChangeMessage>,
}

impl Signed {
    fn new() -> Signed {
        let s = Signers::new(&[1; 4], 5);
        let places = (0..3).flat_map(|v| (0..4).map(move |index| (v, index)));
        let votes = places.clone().map(|(v, index)| s.vote(Phase::Prepare, index, v, block_id(1)));
        let commits = places.map(|(v, index)| s.vote(Phase::Commit, index, v, block_id(1)));
        let certificate = || Some(s.certificate(2, block_id(1), &[0, 1, 2, 3]));
        let view_changes = (0..4).map(|index| {
            let signed = s.view_change(index, 3, Some((2, block_id(1))));
            ViewChangeMessage { signed, certificate: certificate() }
        });
        let view_changes: Vec<_> = view_changes.collect();
        let in_j = view_changes.iter().map(|message| message.signed.clone()).collect();
        let j = Justification { view_changes: in_j, certificate: certificate() };
        let proposal = s.pre_prepare(3, block_id(1), Some(j));
        Signed { proposal, votes: votes.chain(commits).collect(), view_changes, s }
    }

    fn lacking(&self) -> Vec<Lacking<'_>> {
        let votes = self.votes.iter().map(Lacking::Vote);
        let view_changes = self.view_changes.iter().map(Lacking::ViewChange);
        [Lacking::PrePrepare(&self.proposal)].into_iter().chain(votes).chain(view_changes).collect()
    }
}

#[test]
fn a_peer_that_says_it_lacks_everything_is_sent_no_more_than_its_share() {
    let (signed, mut answers, start) = (Signed::new(), Answers::default(), Instant::now());
    let longest = signed.lacking().iter().map(Lacking::bytes).max().expect("some");
    let mut bytes = 0;
    for n in 0..500u32 {
        let now = start + EVERY * n;
        let sent = answers.choose(signed.lacking(), signed.s.height, SHARE, now);
        bytes += sent.iter().map(Lacking::bytes).sum::<usize>();
        let most = SHARE.at_once + longest + SHARE.a_second * n as usize / 50;
        assert!(bytes <= most, "{bytes} of {most} after {n} answers");
    }
    assert!(bytes > 9 * SHARE.a_second, "{bytes}: it is used");
    let (all, mut fresh) = (signed.lacking(), Answers::default());
    assert_eq!(fresh.choose(all.clone(), signed.s.height, STRANGER, start), all, "all at once");
}

/// Whatever is said to be lacking in every STATUS, nothing is sent twice before everything was sent.
#[test]
fn what_an_answer_leaves_out_comes_with_one_of_the_next() {
    let (signed, mut answers, start) = (Signed::new(), Answers::default(), Instant::now());
    let all = signed.lacking().len();
    let mut round = BTreeSet::new();
    let mut rounds = 0;
    for n in 0..2_000u32 {
        let sent = answers.choose(signed.lacking(), signed.s.height, SHARE, start + EVERY * n);
        for message in sent {
            assert!(round.insert(message.place()), "{:?} comes again too soon", message.place());
            if round.len() == all {
                (round, rounds) = (BTreeSet::new(), rounds + 1);
            }
        }
    }
    assert!(rounds > 10, "{rounds}");
    // Proposals of one view share a place, and go together.
    let tight = Share { a_second: 1, at_once: 1 };
    let two = vec![Lacking::PrePrepare(&signed.proposal); 2];
    assert_eq!(Answers::default().choose(two, signed.s.height, tight, start).len(), 2);
}

#[test]
fn a_view_change_is_not_sent_to_a_peer_again_at_once() {
    let (signed, mut answers, now) = (Signed::new(), Answers::default(), Instant::now());
    let mut view_changes = |height, message: &ViewChangeMessage, now| {
        answers.choose(vec![Lacking::ViewChange(message)], height, VALIDATOR, now).len()
    };
    let (height, first) = (signed.s.height, &signed.view_changes[0]);
    assert_eq!(view_changes(height, first, now), 1);
    assert_eq!(view_changes(height, first, now + EVERY), 0);
    let signed = signed.s.view_change(0, 4, None);
    let higher = ViewChangeMessage { signed, certificate: None };
    assert_eq!(view_changes(height, &higher, now + EVERY), 1, "a higher one is another");
    assert_eq!(view_changes(height, &higher, now + EVERY + VIEW_CHANGE_AGAIN), 1);
    assert_eq!(view_changes(height.increment(), &higher, now + EVERY + VIEW_CHANGE_AGAIN), 1);
}

#[test]
fn a_message_is_about_as_long_as_it_is_said_to_be() {
    let signed = Signed::new();
    let signatures = signed.votes.iter().skip(12).take(4).map(|vote| {
        let (address, time) = (vote.message.validator, vote.message.time);
        Some(CommitSig { address, time, signature: vote.signature, extension: None })
    });
    let (height, id) = (signed.s.height, block_id(1));
    let commit = Commit { height, view: view(0), block_id: id, signatures: signatures.collect() };
    for lacking in signed.lacking().into_iter().chain([Lacking::Prior(&commit)]) {
        let (Frame::Consensus(frame) | Frame::Body(frame)) =
            Consensus::Message(lacking.message()).encode();
        let said = lacking.bytes();
        assert!(
            said >= frame.len() * 3 / 4 && said <= 2 * frame.len() + 200,
            "{said} for {}: {:?}",
            frame.len(),
            lacking.place()
        );
        assert!(!matches!(lacking.message(), Message::Block(_)));
    }
}
