//! Vote extensions, this node's and those of others.

use super::*;
use tercet_consensus::message::{Extension, Signed, SignedVote, Verified};
use tercet_consensus::testing::messages::Signers;
use tercet_consensus::verify::{Direct, EXTENSION_BYTES_MAX};

/// A COMMIT of this node for a block of height 1, not signed.
fn own(block: &SealedBlock) -> Vote {
    commit(block).vote(0).expect("an entry").0
}

fn extend(rig: &mut Rig, block: &Arc<SealedBlock>) -> Option<Bytes> {
    match rig.work(Job::Extend { vote: own(block), block: block.clone() }) {
        Some(Done::Extended { vote, data }) => {
            assert_eq!(vote, own(block));
            Some(data)
        }
        None => None,
        other => panic!("not extended: {other:?}"),
    }
}

#[test]
fn a_commit_is_extended_once_a_view_and_its_extension_verified() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    rig.app.calls();
    rig.app.with(|inner| inner.extension = Bytes::from_static(b"ext"));
    assert_eq!(extend(&mut rig, &block), Some(Bytes::from_static(b"ext")));
    assert_eq!(rig.app.calls(), ["extend 1", "verify 1"]);
    assert_eq!(extend(&mut rig, &block), Some(Bytes::from_static(b"ext")));
    assert!(rig.app.calls().is_empty(), "the application is asked once");
}

/// CometBFT #5204: the own extension was never verified.
#[test]
fn an_extension_that_the_application_rejects_itself_is_not_signed() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    rig.app.with(|inner| inner.rejects_extensions = true);
    assert_eq!(extend(&mut rig, &block), None);
}

#[test]
fn an_extension_that_is_too_large_is_not_signed() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    rig.app.with(|inner| inner.extension = vec![0; EXTENSION_BYTES_MAX + 1].into());
    assert_eq!(extend(&mut rig, &block), None);
    rig.app.with(|inner| inner.extension = vec![0; EXTENSION_BYTES_MAX].into());
    assert!(extend(&mut rig, &block).is_some());
}

#[test]
fn a_commit_of_a_height_that_is_over_is_not_extended() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    rig.apply(&block).expect("applied");
    rig.app.calls();
    assert_eq!(extend(&mut rig, &block), None);
    assert!(rig.app.calls().is_empty());
}

/// The COMMIT of another, with an extension.
pub(super) fn foreign(height: u32) -> Verified<SignedVote> {
    let s = Signers::new(&[1; 4], height);
    let id = tercet_consensus::testing::messages::block_id(5);
    let Signed { message: mut vote, .. } = s.vote(Phase::Commit, 1, 0, id);
    let data = Bytes::from_static(b"ext");
    let signature = s.sign(1, &sign_bytes::extension(CHAIN_ID, &vote, &data));
    vote.extension = Some(Extension { data, signature });
    let context = tercet_consensus::verify::Context { extensions: Some(true), ..s.context() };
    context.vote(s.sign_vote(vote), &Direct).expect("verified")
}

fn others(rig: &mut Rig) -> Option<bool> {
    match rig.work(Job::VerifyExtension(foreign(1))) {
        Some(Done::ExtensionVerified { accepted, .. }) => Some(accepted),
        _ => None,
    }
}

#[test]
fn the_application_decides_whether_the_commit_of_another_counts() {
    let mut rig = Rig::new();
    assert_eq!(others(&mut rig), Some(true));
    rig.app.with(|inner| inner.rejects_extensions = true);
    assert_eq!(others(&mut rig), Some(false));
}

/// An application that rejects everything filled the log with a line for each validator at each height.
#[test]
fn a_validator_whose_extensions_are_refused_is_told_of_once_in_a_while() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    rig.app.with(|inner| inner.rejects_extensions = true);
    for _ in 0..5 {
        assert_eq!(others(&mut rig), Some(false));
        assert_eq!(extend(&mut rig, &block), None);
    }
    let another = Signers::new(&[1; 4], 1).validators.list()[3].key.address();
    let suppressed = rig.executor.refused_extensions.line(another, std::time::Instant::now());
    assert_eq!(suppressed, Some(4), "of five, the first was told");
    let suppressed = rig.executor.own_refused.line((), std::time::Instant::now());
    assert_eq!(suppressed, None, "the own one was told, whatever there is to say of others");
}

/// CometBFT `types/params.go`, `ValidateUpdate`.
#[test]
fn vote_extensions_begin_above_the_block_and_never_end() {
    let begin = |old: u32, new: i64, height: u64| {
        let old = (old > 0).then(|| Height::from(old));
        updates::update_extensions(old, new, height)
            .map(|begin| begin.map_or(0, |begin| begin.value()))
            .map_err(|_| ())
    };
    // (set, new, block) -> what is set then.
    for (row, expected) in [
        ((0, 0, 5), Ok(0)),
        ((0, 6, 5), Ok(6)),
        ((0, 5, 5), Err(())),
        ((0, 4, 5), Err(())),
        ((0, -1, 5), Err(())),
        ((9, 0, 5), Err(())),
        ((9, 9, 5), Ok(9)),
        ((9, 7, 5), Ok(7)),
        ((9, 12, 5), Ok(12)),
        ((5, 12, 5), Err(())),
        ((3, 12, 5), Err(())),
        ((3, 3, 5), Ok(3)),
        ((3, 0, 5), Err(())),
    ] {
        let (old, new, height) = row;
        assert_eq!(begin(old, new, height), expected, "{row:?}");
    }
}

/// CometBFT panics at UNKNOWN.
#[test]
fn a_status_that_is_none_counts_as_reject_and_is_told() {
    use crate::execution::extensions::no_status;
    for status in [0, 3, -1] {
        let mut rig = Rig::new();
        let block = rig.propose(1, &["a"], None);
        rig.app.with(|inner| inner.verify_status = Some(status));
        assert_eq!(others(&mut rig), Some(false), "{status}");
        assert_eq!(extend(&mut rig, &block), None, "{status}");
        let line = no_status(&own(&block), status).expect("a line");
        assert!(line.contains(&format!("with the status {status}, which is none")), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
    for status in [VerifyStatus::Accept, VerifyStatus::Reject] {
        let rig = &mut Rig::new();
        let block = rig.propose(1, &["a"], None);
        assert_eq!(no_status(&own(&block), status.into()), None);
    }
}
