//! Commit: what the application lets go, and what is said where it fails.

use super::Rig;
use crate::execution::ExecutionError;
use crate::execution::executor::retained;
use crate::execution::handshake::Misfit;
use std::sync::Arc;
use tendermint::block::Height;
use tendermint::{AppHash, Hash};
use tercet_abci::{AppError, Role};
use tercet_consensus::block::{Block, SealedBlock};

/// CometBFT prunes nothing either (`store/store.go`, `PruneBlocks`): an application that is mistaken must not cost the history.
#[test]
fn a_retain_height_that_no_block_has_yet_lets_nothing_go() {
    let at = Height::from(7u32);
    assert_eq!(retained(0, at), None);
    assert_eq!(retained(1, at), Some(Height::from(1u32)));
    assert_eq!(retained(7, at), Some(at));
    for wrong in [8, 1 << 40, i64::MAX, -1, i64::MIN] {
        assert_eq!(retained(wrong, at), None, "{wrong}");
    }
}

/// CometBFT locks its mempool around both (`state/execution.go`, `Commit`), and applications reset there what CheckTx builds on.
#[test]
fn no_transaction_is_checked_from_before_a_commit_until_its_block_has_left_the_pool() {
    let mut rig = Rig::new();
    let heard = rig.heard.clone();
    let commits = move |_| heard.lock().expect("whole").push("commit");
    rig.app.with(|inner| inner.at_commit = Some(Box::new(commits)));
    rig.advance(1, &["a"], None);
    assert_eq!(*rig.heard.lock().expect("whole"), ["hold", "commit", "committed"]);
}

#[test]
fn an_application_that_fails_in_a_call_is_told_with_the_height() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    rig.app.with(|inner| inner.at_commit = Some(Box::new(|_| panic!("out of disk"))));
    let error = rig.apply(&block).expect_err("it failed").to_string();
    assert!(error.contains("Commit") && error.ends_with("at height 1"), "{error}");
}

/// Not the disk: the next block tells that the others computed something else.
#[test]
fn an_application_that_computes_another_hash_is_told_as_what_it_is() {
    let other_hash = |block: &mut Block| {
        block.header.app_hash = AppHash::try_from(vec![0xab; 8]).expect("a hash");
    };
    let other_results =
        |block: &mut Block| block.header.last_results_hash = Some(Hash::Sha256([0xab; 32]));
    type Change<'a> = &'a dyn Fn(&mut Block);
    let changes: [(&str, Change<'_>); 2] =
        [("app_hash", &other_hash), ("last_results_hash", &other_results)];
    for (field, change) in changes {
        let mut rig = Rig::new();
        let (_, last) = rig.advance(1, &["a"], None);
        let mut block = rig.propose(2, &["b"], Some(last)).block().clone();
        change(&mut block);
        let error = rig.apply(&Arc::new(SealedBlock::seal(block))).expect_err("it diverged");
        assert!(matches!(error, ExecutionError::Diverged { .. }), "{error}");
        let text = error.to_string();
        let parts = [field, "at height 1", "block 2", "ABAB", "tercet reset"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// As the command line prints it: the error, then its causes.
#[test]
fn what_an_application_did_is_told_once() {
    let app = AppError::Answer { method: "Info", role: Role::Consensus, what: "nothing".into() };
    for error in [ExecutionError::App(app), ExecutionError::Handshake(Misfit::Negative(-1))] {
        let printed = format!("{:#}", anyhow::Error::new(error));
        assert_eq!(printed.matches("the application").count(), 1, "{printed}");
    }
}

/// A call that was not answered in time names its height itself.
#[test]
fn a_height_is_told_once() {
    let (method, role, seconds) = ("FinalizeBlock", Role::Consensus, 3);
    let silent = |height| AppError::Silent { method, role, height, seconds };
    for app in [silent(7), silent(0)] {
        let text = ExecutionError::App(app).at(Height::from(7u32)).to_string();
        assert_eq!(text.matches("height 7").count(), 1, "{text}");
        assert_eq!(text.matches("height").count(), 1, "{text}");
    }
}
