//! PrepareProposal and ProcessProposal: what is proposed, and what is made of an application that contradicts itself.

use super::{Rig, commit};
use crate::execution::Refusal;
use bytes::Bytes;
use tercet_consensus::block::TRANSACTIONS_MAX;

#[test]
fn an_application_that_prepares_too_much_gets_an_empty_block() {
    let mut rig = Rig::new();
    let bytes = vec![Bytes::from(vec![0; 10_000])];
    rig.app.with(|inner| inner.prepared = Some(bytes));
    let block = rig.propose(1, &["a"], None);
    assert!(block.txs().is_empty());
    assert_eq!(rig.judge((*block).clone()), Ok(()));
}

/// Above the limit by one byte, by what CometBFT counts, and at it.
#[test]
fn what_is_prepared_may_fill_a_block_to_its_last_byte() {
    let room = 10_000 - 11 - 626 - 94;
    for (bytes, taken) in [(room - 3, 1), (room - 2, 0)] {
        let mut rig = Rig::new();
        rig.app.with(|inner| inner.prepared = Some(vec![Bytes::from(vec![0; bytes])]));
        let block = rig.propose(1, &[], None);
        assert_eq!(block.txs().len(), taken, "{bytes} bytes");
        assert!(block.bytes().len() <= 10_000);
    }
}

#[test]
fn more_transactions_than_any_block_may_hold_are_not_proposed() {
    let mut origin = super::origin();
    origin.genesis.params.block.max_bytes = u64::MAX;
    let mut rig = Rig::of(origin);
    rig.app.with(|inner| inner.prepared = Some(vec![Bytes::new(); TRANSACTIONS_MAX + 1]));
    assert!(rig.propose(1, &[], None).txs().is_empty());
    rig.app.with(|inner| inner.prepared = Some(vec![Bytes::new(); 3]));
    assert_eq!(rig.propose(1, &[], None).txs().len(), 3);
}

/// What counts is the last answer; what a quorum decided is executed in any case.
#[test]
fn a_block_that_the_application_refuses_and_others_decide_is_executed() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    assert_eq!(rig.judge((*block).clone()), Ok(()));
    rig.app.with(|inner| inner.judges = Some(2));
    assert_eq!(rig.judge((*block).clone()), Err(Refusal::Application));
    rig.app.calls();
    let state = rig.apply(&block).expect("executed");
    assert_eq!(rig.app.calls(), ["finalize 1", "commit 1"]);
    assert_eq!(state.last_block_id, Some(block.id()));
    let next = rig.propose(2, &[], Some(commit(&block)));
    assert_eq!(next.header().last_block_id, Some(block.id()));
}
