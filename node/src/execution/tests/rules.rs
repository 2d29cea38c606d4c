//! The rules of what an application may answer to FinalizeBlock and InitChain, one a case, with CometBFT's bounds.

use super::{App, Rig, origin, params, update};
use crate::execution::{ExecutionError, State};
use tendermint::public_key::Algorithm;
use tendermint_proto::google::protobuf::Duration;
use tendermint_proto::v0_38::abci::{ResponseInitChain, ValidatorUpdate};
use tendermint_proto::v0_38::crypto::{PublicKey as RawKey, public_key::Sum};
use tendermint_proto::v0_38::types::{
    BlockParams, ConsensusParams, EvidenceParams, ValidatorParams, VersionParams,
};

/// The state after block 1 that the application answers with these validator updates.
fn with_updates(updates: Vec<ValidatorUpdate>) -> Result<State, ExecutionError> {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["tx"], None);
    rig.app.with(|inner| inner.updates = updates);
    rig.apply(&block)
}

/// The same for parameters.
fn with_params(updates: ConsensusParams) -> Result<State, ExecutionError> {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["tx"], None);
    rig.app.with(|inner| inner.param_updates = Some(updates));
    rig.apply(&block)
}

fn refused(result: Result<State, ExecutionError>, words: &str) {
    let error = result.expect_err(words).to_string();
    assert!(
        error.starts_with("the application answered FinalizeBlock of height 1 with"),
        "{error}"
    );
    assert!(error.contains(words), "{words}: {error}");
}

/// "The number of results must be that of the transactions": the node halts before Commit with that sentence, and goes on once the
/// application is mended.
#[test]
fn a_number_of_results_that_is_wrong_halts_the_node_and_loses_nothing() {
    for (missing, extra, words) in
        [(1, 0, "2 results for 3 transactions"), (0, 1, "4 results for 3 transactions")]
    {
        let mut rig = Rig::new();
        let block = rig.propose(1, &["a", "b", "c"], None);
        let before = rig.chain.state().expect("readable");
        rig.app.with(|i| (i.results_missing, i.results_extra) = (missing, extra));
        let error = rig.apply(&block).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        assert!(!rig.app.calls().contains(&"commit 1".to_owned()));
        assert_eq!(rig.chain.state().expect("readable"), before, "nothing changed");
        assert!(rig.chain.results(block.header().height).expect("readable").is_none());
        let rig = rig.restart(App::default()).expect("executed");
        assert_eq!(rig.app.calls(), ["init {}", "finalize 1", "commit 1"]);
        let state = rig.chain.state().expect("readable").expect("there");
        assert_eq!(state.last_block_id, Some(block.id()));
    }
}

/// A replay looks at it too.
#[test]
fn a_number_of_results_that_is_wrong_in_a_replay_is_refused() {
    let mut rig = Rig::new();
    rig.advance(1, &["a"], None);
    let app = App::default();
    app.with(|inner| inner.results_missing = 1);
    let error = rig.restart(app.clone()).err().expect("refused").to_string();
    assert!(error.contains("0 results for 1 transactions"), "{error}");
    assert_eq!(app.calls(), ["init {}", "finalize 1"]);
}

#[test]
fn two_updates_of_one_validator_are_refused() {
    refused(with_updates(vec![update(1, 4), update(1, 5)]), "two updates");
    refused(with_updates(vec![update(1, 4), update(1, 4)]), "two updates");
}

#[test]
fn a_negative_power_is_refused() {
    refused(with_updates(vec![update(1, -4)]), "negative voting power -4");
}

#[test]
fn a_kind_of_key_that_is_not_known_is_refused() {
    let of = |sum| vec![ValidatorUpdate { pub_key: Some(RawKey { sum }), power: 1 }];
    refused(with_updates(of(Some(Sum::Secp256k1(vec![2; 33])))), "secp256k1");
    refused(with_updates(of(None)), "without a key");
    refused(with_updates(vec![ValidatorUpdate { pub_key: None, power: 1 }]), "without a key");
    refused(with_updates(of(Some(Sum::Ed25519(vec![1; 31])))), "not a valid one");
}

#[test]
fn the_removal_of_who_is_no_validator_is_refused() {
    refused(with_updates(vec![update(1, 0)]), "no validator");
}

#[test]
fn a_power_or_a_total_above_the_limit_is_refused() {
    let most = i64::MAX / 8;
    refused(with_updates(vec![update(1, most + 1)]), "above the limit");
    refused(with_updates(vec![update(1, most - 9)]), "exceeds");
    let state = with_updates(vec![update(1, most - 10)]).expect("the most there may be");
    assert_eq!(state.next_validators.total_power(), most.cast_unsigned());
    // What goes makes room, as CometBFT counts it.
    let state = with_updates(vec![update(0, 0), update(1, most)]).expect("alone");
    assert_eq!(state.next_validators.total_power(), most.cast_unsigned());
}

#[test]
fn a_set_without_validators_is_refused() {
    refused(with_updates(vec![update(0, 0)]), "empty");
}

#[test]
fn a_refused_update_leaves_no_trace() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &["tx"], None);
    let before = rig.chain.state().expect("readable");
    rig.app.with(|inner| inner.updates = vec![update(1, 4), update(2, -1)]);
    rig.apply(&block).expect_err("negative");
    assert_eq!(rig.chain.state().expect("readable"), before);
    assert!(!rig.app.calls().contains(&"commit 1".to_owned()));
}

fn block(max_bytes: i64, max_gas: i64) -> ConsensusParams {
    ConsensusParams { block: Some(BlockParams { max_bytes, max_gas }), ..Default::default() }
}

fn evidence(blocks: i64, age: Option<Duration>, max_bytes: i64) -> ConsensusParams {
    let evidence = EvidenceParams { max_age_num_blocks: blocks, max_age_duration: age, max_bytes };
    ConsensusParams { evidence: Some(evidence), ..Default::default() }
}

fn secs(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn key_types(names: &[&str]) -> ConsensusParams {
    let pub_key_types = names.iter().map(|name| (*name).to_owned()).collect();
    ConsensusParams { validator: Some(ValidatorParams { pub_key_types }), ..Default::default() }
}

#[test]
fn the_largest_block_is_from_1_to_100_mib_or_without_a_limit() {
    for bytes in [0, -2, i64::MIN, 104_857_601, i64::MAX] {
        refused(with_params(block(bytes, -1)), "block.max_bytes");
    }
    for (bytes, right) in [(1_000, 1_000), (104_857_600, 104_857_600), (-1, u64::MAX)] {
        let state = with_params(block(bytes, -1)).expect("allowed");
        assert_eq!(state.params.block.max_bytes, right);
    }
}

#[test]
fn gas_is_without_a_limit_or_from_0_on() {
    for gas in [-2, i64::MIN] {
        refused(with_params(block(10_000, gas)), "block.max_gas");
    }
    for gas in [-1, 0, 1, i64::MAX] {
        let state = with_params(block(10_000, gas)).expect("allowed");
        assert_eq!(state.params.block.max_gas, gas);
    }
}

#[test]
fn the_age_of_evidence_is_above_0() {
    for blocks in [0, -1] {
        refused(with_params(evidence(blocks, secs(1), 0)), "evidence");
    }
    for age in [None, secs(0), secs(-1), Some(Duration { seconds: 0, nanos: -1 })] {
        refused(with_params(evidence(1, age, 0)), "evidence");
    }
    let age = Some(Duration { seconds: 0, nanos: 1 });
    let state = with_params(evidence(1, age, 0)).expect("the least there may be");
    assert_eq!(state.params.evidence.max_age_num_blocks, 1);
    assert_eq!(state.params.evidence.max_age_duration.0.as_nanos(), 1);
}

#[test]
fn evidence_takes_at_most_a_whole_block() {
    for bytes in [-1, 10_001] {
        refused(with_params(evidence(1, secs(1), bytes)), "evidence.max_bytes");
    }
    with_params(evidence(1, secs(1), 10_000)).expect("the whole block");
    // Without a limit of the block it is the largest of all.
    let unlimited =
        |bytes| ConsensusParams { block: block(-1, -1).block, ..evidence(1, secs(1), bytes) };
    refused(with_params(unlimited(104_857_601)), "evidence.max_bytes");
    with_params(unlimited(104_857_600)).expect("the whole block");
    // What stays counts too.
    refused(with_params(block(999, -1)), "evidence.max_bytes 1000");
}

#[test]
fn kinds_of_keys_are_known_and_at_least_one() {
    refused(with_params(key_types(&[])), "pub_key_types");
    refused(with_params(key_types(&["ed25519", "bls12381"])), "bls12381");
    refused(with_params(key_types(&["ED25519"])), "ED25519");
    let state = with_params(key_types(&["secp256k1", "ed25519"])).expect("known");
    let kinds = &state.params.validator.pub_key_types;
    assert_eq!(kinds, &[Algorithm::Secp256k1, Algorithm::Ed25519]);
}

#[test]
fn the_version_of_the_application_is_that_of_the_next_header() {
    let version = Some(VersionParams { app: 12 });
    let mut rig = Rig::new();
    let first = rig.propose(1, &[], None);
    assert_eq!(first.header().version.app, 3, "what Info said");
    rig.app.with(|inner| {
        inner.param_updates = Some(ConsensusParams { version, ..Default::default() });
    });
    let state = rig.apply(&first).expect("applied");
    assert_eq!(state.params.version.as_ref().map(|version| version.app), Some(12));
    let second = rig.propose(2, &[], Some(super::commit(&first)));
    assert_eq!(second.header().version.app, 12);
}

/// "Updates of FinalizeBlock(H) are the parameters of H+1", and absent ones stay.
#[test]
fn parameters_hold_from_the_next_height_on() {
    let mut rig = Rig::new();
    let first = rig.propose(1, &[], None);
    rig.app.with(|inner| inner.param_updates = Some(block(5_000, 77)));
    let state = rig.apply(&first).expect("applied");
    let mut right = params();
    (right.block.max_bytes, right.block.max_gas) = (5_000, 77);
    assert_eq!(state.params, right);
    let stored = |at: u32| rig.chain.params(at.into()).expect("readable").expect("there");
    assert_eq!((stored(1), stored(2)), (params(), right));
    let second = rig.propose(2, &[], Some(super::commit(&first)));
    assert_ne!(second.header().consensus_hash, first.header().consensus_hash);
    assert_eq!(rig.judge((*second).clone()), Ok(()));
}

/// CometBFT checks a validator's kind of key by the parameters before the block.
#[test]
fn validators_and_kinds_of_keys_of_one_block_are_judged_by_the_parameters_before_it() {
    let mut rig = Rig::new();
    let block = rig.propose(1, &[], None);
    rig.app.with(|inner| {
        inner.updates = vec![update(1, 4)];
        inner.param_updates = Some(key_types(&["secp256k1"]));
    });
    let state = rig.apply(&block).expect("applied");
    assert_eq!(state.next_validators.count(), 2);
}

#[test]
fn what_init_chain_answers_keeps_the_same_rules() {
    let with = |answer: ResponseInitChain| {
        let app = App::default();
        app.with(|inner| inner.init = Some(answer));
        let error = Rig::with(app, origin()).err().expect("refused").to_string();
        assert!(error.starts_with("the application answered InitChain with"), "{error}");
        assert!(error.contains("; mend it or the genesis document, reset its data"), "{error}");
        error
    };
    let validators = |validators| with(ResponseInitChain { validators, ..Default::default() });
    for (updates, words) in [
        (vec![update(1, 4), update(1, 5)], "two updates"),
        (vec![update(1, -4)], "negative"),
        (vec![update(1, 4), update(2, 0)], "power"),
        (vec![update(1, i64::MAX / 8), update(2, 1)], "exceeds"),
        (vec![ValidatorUpdate { pub_key: None, power: 1 }], "without a key"),
    ] {
        let error = validators(updates);
        assert!(error.contains(words), "{words}: {error}");
    }
    let params =
        |params| with(ResponseInitChain { consensus_params: Some(params), ..Default::default() });
    assert!(params(block(0, -1)).contains("block.max_bytes"));
    assert!(params(block(10_000, -2)).contains("block.max_gas"));
    assert!(params(evidence(0, secs(1), 0)).contains("evidence"));
    assert!(params(evidence(1, None, 0)).contains("evidence"));
    assert!(params(key_types(&[])).contains("pub_key_types"));
}

/// A genesis that begins above it is refused where it is read.
#[test]
fn the_highest_first_height_is_the_highest_of_all() {
    assert_eq!(tercet_config::INITIAL_HEIGHT_MAX, tercet_consensus::block::HEIGHT_MAX);
}

/// CometBFT `state/execution.go`, `updateState`: an update of any parameter makes the version that of the parameters.
#[test]
fn the_version_of_the_application_after_an_update_is_that_of_the_parameters() {
    use tendermint::consensus::params::VersionParams;
    use tendermint_proto::v0_38::types as pb;
    let block = Some(pb::BlockParams { max_bytes: 9_000, max_gas: -1 });
    let update = pb::ConsensusParams { block, ..Default::default() };
    for (genesis, right) in [(None, 0), (Some(7), 7)] {
        let mut origin = origin();
        origin.genesis.params.version = genesis.map(|app| VersionParams { app });
        // In FinalizeBlock: before it is what Info says.
        let mut rig = Rig::of(origin.clone());
        let (state, last) = rig.advance(1, &[], None);
        assert_eq!(state.app_version, 3);
        rig.app.with(|inner| inner.param_updates = Some(update.clone()));
        let (state, _) = rig.advance(2, &[], Some(last));
        assert_eq!(state.app_version, right);
        // In InitChain.
        let app = App::default();
        let consensus_params = Some(update.clone());
        let answer = ResponseInitChain { consensus_params, ..Default::default() };
        app.with(|inner| inner.init = Some(answer));
        let rig = Rig::with(app, origin).expect("begun");
        assert_eq!(rig.chain.state().expect("read").expect("there").app_version, right);
    }
}

/// The version is compared before what says whether a block belongs here: one of another place or chain says nothing of the application.
#[test]
fn another_version_is_the_applications_fault_in_the_next_block_of_this_chain_alone() {
    use tercet_consensus::block::Block;
    let applied = |change: &dyn Fn(&mut Block)| {
        let mut rig = Rig::new();
        let (_, last) = rig.advance(1, &[], None);
        let next = rig.propose(2, &[], Some(last));
        let mut block = next.block().clone();
        block.header.version.app = 12;
        change(&mut block);
        let block = std::sync::Arc::new(tercet_consensus::block::SealedBlock::seal(block));
        rig.apply(&block).expect_err("another version")
    };
    let error = applied(&|_| {});
    assert!(matches!(error, ExecutionError::Diverged { field: "version.app", .. }), "{error}");
    let changes: [&dyn Fn(&mut Block); 2] =
        [&|block| block.header.chain_id = "another-chain".parse().expect("a name"), &|block| {
            block.header.last_block_id = None
        }];
    for change in changes {
        let error = applied(change);
        assert!(matches!(error, ExecutionError::Sequence { .. }), "{error}");
    }
}
