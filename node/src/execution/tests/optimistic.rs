//! Blocks that are executed before they are decided.

use super::{App, Rig, commit, hash};
use crate::execution::{Done, Job};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::mpsc::channel;
use tercet_consensus::block::SealedBlock;

fn rig() -> Rig {
    let app = App::default();
    app.with(|inner| inner.optimistic = true);
    let rig = Rig::with(app, super::origin()).expect("a handshake");
    rig.app.calls();
    rig
}

impl Rig {
    /// The application accepts a block, and has time before anything is decided.
    fn vote(&mut self, block: &SealedBlock) {
        assert_eq!(self.judge(block.clone()), Ok(()));
        self.executor.speculate().expect("executed");
    }
}

/// Another block of the same height with these transactions.
fn other(block: &SealedBlock, txs: &[&'static str]) -> Arc<SealedBlock> {
    let mut other = block.block().clone();
    other.txs = txs.iter().copied().map(Bytes::from).collect();
    Arc::new(SealedBlock::seal(other))
}

#[test]
fn the_decided_block_is_executed_once_while_it_is_voted_on() {
    let mut rig = rig();
    let block = rig.propose(1, &["a", "b"], None);
    rig.vote(&block);
    assert_eq!(rig.app.calls(), ["execute 1"]);
    rig.vote(&block);
    assert!(rig.app.calls().is_empty(), "not again in the next view");
    assert_eq!(rig.apply(&block).expect("applied").app_hash, hash(2));
    assert_eq!(rig.app.calls(), ["adopt 1", "commit 1"]);
    assert_eq!(rig.app.1.disorders(), [], "for the order of ABCI it was FinalizeBlock");
    // And goes on.
    let next = rig.propose(2, &["c"], Some(commit(&block)));
    rig.vote(&next);
    assert_eq!(rig.apply(&next).expect("applied").app_hash, hash(3));
    assert_eq!(rig.app.calls(), ["execute 2", "adopt 2", "commit 2"]);
}

#[test]
fn where_another_block_is_decided_the_work_is_thrown_away() {
    let (mut rig, mut plain) = (rig(), Rig::new());
    let block = rig.propose(1, &["a", "b"], None);
    let decided = other(&block, &["c"]);
    rig.vote(&block);
    let (state, right) = (rig.apply(&decided).expect("applied"), plain.apply(&decided));
    assert_eq!(state, right.expect("applied"), "as without");
    assert_eq!(rig.app.calls(), ["execute 1", "finalize 1", "commit 1"]);
    assert_eq!(rig.app.1.disorders(), []);
    let last = Some(commit(&decided));
    assert_eq!(rig.propose(2, &["d"], last.clone()), plain.propose(2, &["d"], last));
}

/// The first block is bound again in the third view, and the application is not asked about it again.
#[test]
fn after_view_changes_the_block_that_is_decided_counts() {
    for (decide_first, calls) in [(false, "adopt 1"), (true, "finalize 1")] {
        let mut rig = rig();
        let first = rig.propose(1, &["a"], None);
        let second = other(&first, &["b", "c"]);
        rig.vote(&first);
        rig.vote(&second);
        let decided = if decide_first { &first } else { &second };
        let state = rig.apply(decided).expect("applied");
        assert_eq!(state.app_hash, hash(decided.txs().len() as u64));
        assert_eq!(rig.app.calls(), ["execute 1", "execute 1", calls, "commit 1"]);
    }
}

#[test]
fn a_crash_before_the_decision_leaves_nothing() {
    let mut rig = rig();
    let block = rig.propose(1, &["a", "b"], None);
    rig.vote(&block);
    let app = rig.app.clone();
    let mut rig = rig.restart(app).expect("the application is where it was");
    let decided = other(&block, &["c"]);
    assert_eq!(rig.apply(&decided).expect("applied").app_hash, hash(1));
    assert_eq!(rig.app.calls(), ["execute 1", "init {}", "finalize 1", "commit 1"]);
}

#[test]
fn a_job_that_waits_goes_before_a_block_that_may_never_be_decided() {
    let mut rig = rig();
    let block = rig.propose(1, &["a"], None);
    let (jobs, queue) = crossbeam_channel::unbounded();
    for job in
        [Job::Validate(block.clone()), Job::Apply { block: block.clone(), commit: commit(&block) }]
    {
        jobs.send(job).expect("a queue");
    }
    drop(jobs);
    rig.executor.run(&queue);
    assert_eq!(rig.app.calls(), ["finalize 1", "commit 1"]);
}

#[test]
fn the_executor_has_the_block_executed_once_no_job_waits() {
    let mut rig = rig();
    let block = rig.propose(1, &["a"], None);
    let (told, heard) = channel();
    rig.app.with(|inner| {
        inner.at_execute = Some(Box::new(move || told.send(()).expect("the test listens")));
    });
    let (jobs, queue) = crossbeam_channel::unbounded();
    jobs.send(Job::Validate(block.clone())).expect("a queue");
    let Rig { executor, done, app, .. } = &mut rig;
    std::thread::scope(|scope| {
        scope.spawn(|| executor.run(&queue));
        heard.recv().expect("executed");
        assert!(
            matches!(done.recv(), Ok(Done::Validated { result: Ok(()), .. })),
            "answered before"
        );
        jobs.send(Job::Apply { block: block.clone(), commit: commit(&block) }).expect("a queue");
        assert!(matches!(done.recv(), Ok(Done::Applied(_))));
        drop(jobs);
    });
    assert_eq!(app.calls(), ["execute 1", "adopt 1", "commit 1"]);
}

#[test]
fn an_application_that_does_not_take_part_is_asked_after_the_decision() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["a"], None);
    rig.vote(&block);
    rig.apply(&block).expect("applied");
    assert_eq!(rig.app.calls(), ["init {}", "finalize 1", "commit 1"]);
}

#[test]
fn a_panic_ends_the_node_with_a_line_that_says_where() {
    let mut rig = rig();
    let block = rig.propose(1, &["a"], None);
    rig.app.with(|inner| inner.at_execute = Some(Box::new(|| panic!("out of order"))));
    assert_eq!(rig.judge((*block).clone()), Ok(()));
    let error = rig.executor.speculate().expect_err("ended").to_string();
    let line = "the application failed in FinalizeBlock of a block that is not decided (consensus): out of order, at height 1";
    assert_eq!(error, line);
}

/// Every COMMIT would wait for the execution, on a timer that learns nothing from the view change that follows.
#[test]
fn at_heights_with_vote_extensions_nothing_is_executed_ahead() {
    let app = App::default();
    app.with(|inner| inner.optimistic = true);
    let mut origin = super::origin();
    origin.genesis.params.abci.vote_extensions_enable_height = Some(2u32.into());
    let mut rig = Rig::with(app, origin).expect("a handshake");
    rig.app.calls();
    let block = rig.propose(1, &["a"], None);
    rig.vote(&block);
    rig.apply(&block).expect("applied");
    assert_eq!(rig.app.calls(), ["execute 1", "adopt 1", "commit 1"]);
    let next = rig.propose(2, &["b"], Some(commit(&block)));
    rig.vote(&next);
    assert!(rig.app.calls().is_empty());
}
