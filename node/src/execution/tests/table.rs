//! The handshake table (docs/handshake.md): a cell a test, each with that state on disk.

use super::{App, Rig, commit, genesis, hash, origin, origin_at, params, public, update};
use crate::execution::handshake::Origin;
use crate::execution::{ExecutionError, State};
use bytes::Bytes;
use std::sync::Arc;
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::ResponseInitChain;
use tendermint_proto::v0_38::types::{BlockParams, ConsensusParams, VersionParams};
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::commit::Commit;

/// An application at a height, with as many transactions.
fn app_at(height: i64, txs: u64) -> App {
    let app = App::default();
    app.with(|inner| (inner.height, inner.txs) = (height, txs));
    app
}

/// A chain with so many blocks of a transaction each, and the state after each.
fn chain_of(blocks: u32) -> (Rig, Vec<State>) {
    from(Rig::new(), 1, blocks)
}

fn from(mut rig: Rig, first: u32, blocks: u32) -> (Rig, Vec<State>) {
    let (mut last, mut states) = (None, Vec::new());
    for height in first..first + blocks {
        let (state, commit) = rig.advance(height, &["tx"], last);
        states.push(state);
        last = Some(commit);
    }
    rig.app.calls();
    (rig, states)
}

/// The next block, stored with what decided it and not executed.
fn store_next(rig: &mut Rig, height: u32, last: Option<Commit>) -> Arc<SealedBlock> {
    let block = rig.propose(height, &["tx"], last);
    rig.chain.save_block(&block, &commit(&block)).expect("stored");
    block
}

fn last_commit(rig: &Rig) -> Option<Commit> {
    rig.chain.seen_commit(rig.chain.height()?).expect("readable")
}

/// What it says where it refuses: one line with a remedy.
fn line(result: Result<Rig, ExecutionError>) -> String {
    let error = result.err().expect("refused").to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn says(line: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(line.contains(word), "{word}: {line}"));
}

#[test]
fn a_new_application_gets_the_genesis_and_its_answer_counts() {
    let app = App::default();
    let block = Some(BlockParams { max_bytes: 7_000, max_gas: 5 });
    let version = Some(VersionParams { app: 9 });
    let consensus_params = Some(ConsensusParams { block, version, ..ConsensusParams::default() });
    let init = ResponseInitChain {
        consensus_params,
        validators: vec![update(0, 3), update(4, 8)],
        app_hash: Bytes::from_static(b"first"),
    };
    app.with(|inner| inner.init = Some(init));
    let text = Bytes::from_static(b"{ \"k\" :  1.50 }");
    let rig = Rig::with(app, Origin { app_state: text.clone(), ..origin_at(50) });
    let rig = rig.expect("a handshake");
    let told = rig.app.with(|inner| inner.told.clone()).expect("told");
    assert_eq!(told.app_state_bytes, text, "byte for byte");
    assert_eq!((told.initial_height, told.chain_id.as_str()), (50, super::CHAIN_ID));
    assert_eq!(told.validators, [update(0, 10)]);
    assert_eq!(told.time, Some(genesis().last_block_time.into()));
    assert_eq!(told.consensus_params, Some(params().into()));
    let state = rig.chain.state().expect("readable").expect("there");
    assert_eq!(state.next_height(), Height::from(50u32));
    assert_eq!((state.validators.count(), state.validators.total_power()), (2, 11));
    assert_eq!(state.next_validators, state.validators);
    assert_eq!((state.params.block.max_bytes, state.params.block.max_gas), (7_000, 5));
    assert_eq!(state.params.evidence, params().evidence, "what is absent stays");
    assert_eq!((state.app_hash.as_slice(), state.app_version), (&b"first"[..], 9));
}

#[test]
fn what_an_answer_to_init_chain_leaves_out_is_that_of_the_genesis() {
    let genesis = State { app_hash: b"genesis".to_vec(), ..genesis() };
    let app = App::default();
    app.with(|inner| inner.init = Some(ResponseInitChain::default()));
    let rig = Rig::with(app, Origin { genesis: genesis.clone(), ..origin() }).expect("begun");
    let state = rig.chain.state().expect("readable").expect("there");
    assert_eq!(state, State { app_version: 3, ..genesis });
}

#[test]
fn validators_that_neither_genesis_nor_application_name_are_missed_and_those_of_one_taken() {
    let origin = Origin { names_validators: false, ..origin() };
    let error = line(Rig::with(App::default(), origin.clone()));
    says(&error, &["genesis.json names no validators", "InitChain"]);
    let app = App::default();
    let validators = vec![update(5, 2)];
    app.with(|i| i.init = Some(ResponseInitChain { validators, ..Default::default() }));
    let rig = Rig::with(app, origin).expect("begun");
    assert_eq!(rig.app.with(|inner| inner.told.clone()).expect("told").validators, []);
    let state = rig.chain.state().expect("readable").expect("there");
    assert_eq!(state.validators.list()[0].key, public(5));
}

#[test]
fn init_chain_is_asked_again_where_no_block_was_executed() {
    let rig = Rig::new();
    rig.app.calls();
    let other = App::default();
    let app_hash = Bytes::from_static(b"another");
    other.with(|i| i.init = Some(ResponseInitChain { app_hash, ..Default::default() }));
    let rig = rig.restart(other).expect("begun again");
    assert_eq!(rig.app.calls(), ["init {}"]);
    assert_eq!(rig.chain.state().expect("readable").expect("there").app_hash, b"another");
}

#[test]
fn a_first_block_that_was_stored_is_executed_after_init_chain() {
    let mut rig = Rig::new();
    store_next(&mut rig, 1, None);
    let rig = rig.restart(App::default()).expect("executed");
    assert_eq!(rig.app.calls(), ["init {}", "finalize 1", "commit 1"]);
    assert_eq!(rig.chain.state().expect("readable").expect("there").app_hash, hash(1));
}

#[test]
fn an_answer_to_init_chain_that_the_first_block_contradicts_is_refused() {
    let mut rig = Rig::new();
    store_next(&mut rig, 1, None);
    let other = App::default();
    let app_hash = Bytes::from_static(b"X");
    other.with(|i| i.init = Some(ResponseInitChain { app_hash, ..Default::default() }));
    let error = line(rig.restart(other.clone()));
    says(&error, &["InitChain led the application to hash 58", "not deterministic", "start with"]);
    // The same where the chain is further on.
    let (rig, _) = chain_of(2);
    let error = line(rig.restart(other.clone()));
    says(&error, &["InitChain led the application to hash 58"]);
    assert_eq!(other.calls(), ["init {}", "init {}"], "no block was executed");
}

#[test]
fn an_application_that_forgot_everything_gets_the_chain_again() {
    let (rig, states) = chain_of(2);
    let rig = rig.restart(App::default()).expect("replayed");
    assert_eq!(rig.app.calls(), ["init {}", "finalize 1", "commit 1", "finalize 2", "commit 2"]);
    assert_eq!(rig.chain.state().expect("readable"), states.last().cloned());
}

#[test]
fn a_chain_that_begins_above_1_is_replayed_from_its_first_block() {
    let (rig, states) = from(Rig::of(origin_at(50)), 50, 2);
    let rig = rig.restart(App::default()).expect("replayed");
    let calls = rig.app.calls();
    assert_eq!(calls, ["init {}", "finalize 50", "commit 50", "finalize 51", "commit 51"]);
    assert_eq!(rig.app.with(|inner| inner.votes.clone()), [0, 1]);
    assert_eq!(rig.chain.state().expect("readable"), states.last().cloned());
}

#[test]
fn an_application_that_forgot_everything_is_refused_where_blocks_are_pruned() {
    let (rig, _) = chain_of(4);
    rig.chain.prune(Height::from(3u32)).expect("pruned");
    let app = App::default();
    let error = line(rig.restart(app.clone()));
    says(&error, &["at height 0 and needs block 1", "the lowest stored is 3", "restore", "reset"]);
    assert!(app.calls().is_empty(), "refused before anything is asked of it");
}

#[test]
fn an_application_that_forgot_everything_is_refused_where_the_chain_began_behind_a_snapshot() {
    let (rig, states) = chain_of(3);
    let folder = tempfile::tempdir().expect("a folder");
    let chain = crate::store::Chain::open(&folder.path().join("chain")).expect("a chain");
    let commit = last_commit(&rig).expect("there");
    chain.begin(states.last().expect("three"), &commit).expect("begun");
    let app = App::default();
    let error = line(Rig::start(folder, chain, app.clone(), origin()));
    says(&error, &["needs block 1", "no block is stored", "snapshot"]);
    assert!(app.calls().is_empty(), "refused before anything is asked of it");
}

#[test]
fn an_application_that_is_where_a_chain_began_behind_a_snapshot_goes_on() {
    let (rig, states) = chain_of(3);
    let folder = tempfile::tempdir().expect("a folder");
    let chain = crate::store::Chain::open(&folder.path().join("chain")).expect("a chain");
    let commit = last_commit(&rig).expect("there");
    chain.begin(states.last().expect("three"), &commit).expect("begun");
    let mut rig = Rig::start(folder, chain, app_at(3, 3), origin()).expect("level");
    let (state, _) = rig.advance(4, &["tx"], Some(commit));
    assert_eq!(state.app_hash, hash(4));
}

#[test]
fn an_application_of_heights_before_the_first_is_refused() {
    let error = line(Rig::with(app_at(20, 0), origin_at(50)));
    says(&error, &["at height 20", "begins at 50", "another chain", "empty the application"]);
}

#[test]
fn an_application_right_before_the_first_block_needs_the_hash_of_the_genesis() {
    let genesis = State { app_hash: hash(7).to_vec(), ..origin_at(50).genesis };
    let origin = Origin { genesis, ..origin_at(50) };
    let rig = Rig::with(app_at(49, 7), origin.clone()).expect("level");
    assert!(rig.app.calls().is_empty());
    let (rig, states) = from(rig, 50, 1);
    let rig = rig.restart(app_at(49, 7)).expect("block 50 again");
    assert_eq!(rig.app.calls(), ["finalize 50", "commit 50"]);
    assert_eq!(rig.chain.state().expect("readable"), states.last().cloned());
    let error = line(Rig::with(app_at(49, 8), origin));
    says(&error, &["at height 49", "0000000000000008", "0000000000000007"]);
}

#[test]
fn an_application_that_lacks_blocks_gets_them_down_to_the_lowest_that_is_stored() {
    let (rig, states) = chain_of(5);
    rig.chain.prune(Height::from(4u32)).expect("pruned");
    let rig = rig.restart(app_at(3, 3)).expect("replayed");
    assert_eq!(rig.app.calls(), ["finalize 4", "commit 4", "finalize 5", "commit 5"]);
    assert_eq!(rig.app.with(|inner| inner.votes.clone()), [1, 1], "the votes of block 3 too");
    assert_eq!(rig.chain.state().expect("readable"), states.last().cloned());
}

#[test]
fn an_application_that_lacks_pruned_blocks_is_refused() {
    let (rig, _) = chain_of(5);
    rig.chain.prune(Height::from(4u32)).expect("pruned");
    let error = line(rig.restart(app_at(2, 2)));
    says(&error, &["at height 2 and needs block 3", "lowest stored is 4", "height 3 or above"]);
}

#[test]
fn an_application_that_computes_something_else_on_replay_is_refused() {
    let (rig, _) = chain_of(3);
    let error = line(rig.restart(app_at(1, 5)));
    // Block 2 led to 6 transactions, and block 3 says 2.
    says(&error, &["block 2", "0000000000000006", "0000000000000002", "tercet replay"]);
}

#[test]
fn an_application_at_the_height_of_the_chain_is_asked_for_nothing() {
    let (rig, states) = chain_of(2);
    let app = rig.app.clone();
    let rig = rig.restart(app).expect("level");
    assert!(rig.app.calls().is_empty());
    assert_eq!(rig.chain.state().expect("readable"), states.last().cloned());
}

#[test]
fn another_hash_at_one_height_is_refused_with_both_and_how_to_find_the_first_difference() {
    let (rig, _) = chain_of(2);
    let error = line(rig.restart(app_at(2, 77)));
    let words = ["at height 2", "000000000000004D", "0000000000000002", "tercet replay", "restore"];
    says(&error, &words);
    says(&error, &["not that of this chain"]);
}

/// Between the results and Commit: the block is executed again, on what the application had committed.
#[test]
fn a_crash_between_results_and_commit_executes_the_block_again() {
    let (rig, states) = chain_of(2);
    let rig = rig.restart(app_at(1, 1)).expect("replayed");
    assert_eq!(rig.app.calls(), ["finalize 2", "commit 2"]);
    assert_eq!(rig.chain.state().expect("readable"), states.last().cloned());
}

/// Between Commit and the state: what the application answered is there, so it is not asked again.
#[test]
fn a_crash_between_commit_and_the_state_takes_the_stored_answer() {
    let (rig, states) = chain_of(2);
    // As `tercet rollback` leaves it.
    rig.chain.init(&states[0]).expect("written");
    let app = rig.app.clone();
    let rig = rig.restart(app).expect("a handshake");
    assert!(rig.app.calls().is_empty());
    assert_eq!(rig.chain.state().expect("readable"), states.last().cloned());
}

#[test]
fn an_application_ahead_whose_hash_is_not_that_of_the_stored_answer_is_refused() {
    let (rig, states) = chain_of(2);
    rig.chain.init(&states[0]).expect("written");
    let error = line(rig.restart(app_at(2, 9)));
    says(&error, &["at height 2", "0000000000000009", "0000000000000002"]);
}

#[test]
fn a_block_that_was_stored_and_not_executed_is_executed() {
    let (mut rig, _) = chain_of(1);
    let last = last_commit(&rig);
    store_next(&mut rig, 2, last);
    let app = rig.app.clone();
    let rig = rig.restart(app).expect("executed");
    assert_eq!(rig.app.calls(), ["finalize 2", "commit 2"]);
    assert_eq!(rig.chain.state().expect("readable").expect("there").app_hash, hash(2));
}

#[test]
fn an_application_behind_the_state_gets_what_it_lacks_and_then_the_block_that_was_stored() {
    let (mut rig, _) = chain_of(2);
    let last = last_commit(&rig);
    store_next(&mut rig, 3, last);
    let rig = rig.restart(app_at(1, 1)).expect("executed");
    assert_eq!(rig.app.calls(), ["finalize 2", "commit 2", "finalize 3", "commit 3"]);
}

#[test]
fn an_application_ahead_whose_answer_is_not_stored_is_refused() {
    let (mut rig, _) = chain_of(1);
    let last = last_commit(&rig);
    store_next(&mut rig, 2, last);
    let error = line(rig.restart(app_at(2, 2)));
    says(&error, &["at height 2", "executed (1)", "restore", "roll the application back to 1"]);
}

#[test]
fn an_application_above_every_block_is_refused() {
    let (rig, _) = chain_of(2);
    let error = line(rig.restart(app_at(3, 3)));
    says(&error, &["at height 3", "executed (2)", "restore", "reset"]);
    let error = line(Rig::with(app_at(7, 7), origin()));
    says(&error, &["at height 7", "executed (0)", "reset"]);
    let error = line(Rig::with(app_at(70, 7), origin_at(50)));
    says(&error, &["at height 70", "executed (49)", "reset"]);
}

#[test]
fn a_state_above_all_blocks_is_refused() {
    let (rig, states) = chain_of(3);
    let first = rig.chain.block(Height::from(1u32)).expect("readable").expect("there");
    let folder = tempfile::tempdir().expect("a folder");
    let chain = crate::store::Chain::open(&folder.path().join("chain")).expect("a chain");
    chain.save_block(&first, &commit(&first)).expect("stored");
    chain.init(&states[2]).expect("written");
    let error = line(Rig::start(folder, chain, app_at(3, 3), origin()));
    says(&error, &["highest block is 1", "state of height 3", "tercet reset"]);
}

#[test]
fn blocks_without_a_state_are_refused() {
    let (rig, _) = chain_of(1);
    let first = rig.chain.block(Height::from(1u32)).expect("readable").expect("there");
    let folder = tempfile::tempdir().expect("a folder");
    let chain = crate::store::Chain::open(&folder.path().join("chain")).expect("a chain");
    chain.save_block(&first, &commit(&first)).expect("stored");
    let error = line(Rig::start(folder, chain, App::default(), origin()));
    says(&error, &["highest block is 1", "state of height 0", "tercet reset"]);
}

#[test]
fn a_negative_height_is_refused() {
    let error = line(Rig::with(app_at(-1, 0), origin()));
    says(&error, &["height -1", "mend it"]);
}

/// A block that another chain decided does not follow: found by the header, before anything is executed.
#[test]
fn a_stored_block_that_does_not_follow_the_state_is_refused() {
    let (mut rig, _) = chain_of(1);
    let last = last_commit(&rig);
    let good = rig.propose(2, &["tx"], last).block().clone();
    let mut bad = good;
    bad.header.last_block_id = Some(BlockId {
        hash: tendermint::Hash::Sha256([9; 32]),
        part_set_header: tendermint::block::parts::Header::new(
            1,
            tendermint::Hash::Sha256([9; 32]),
        )
        .expect("a header"),
    });
    let bad = SealedBlock::seal(bad);
    rig.chain.save_block(&bad, &commit(&bad)).expect("stored");
    let app = rig.app.clone();
    let error = line(rig.restart(app.clone()));
    says(&error, &["block 2 does not follow the state at 1", "last_block_id"]);
    assert!(app.calls().is_empty());
}
