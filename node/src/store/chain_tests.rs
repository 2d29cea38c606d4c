//! The chain: what is stored comes back, from any height on, after pruning and after damage.

use super::chain::{Chain, Family, key};
use super::state::{Applied, State, decode_params, encode_params};
use super::{BlockMeta, StoreError};
use crate::wire;
use crate::wire::samples::{self, height, time};
use std::sync::Arc;
use tempfile::TempDir;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseFinalizeBlock};
use tercet_consensus::block::SealedBlock;
use tercet_consensus::commit::Commit;
use tercet_consensus::testing::validators;
use tercet_consensus::validators::Validators;

fn open() -> (TempDir, Chain) {
    let dir = TempDir::new().unwrap();
    let chain = Chain::open(dir.path()).unwrap();
    (dir, chain)
}

/// A chain of so many blocks, all applied.
pub(crate) fn chain_of(blocks: u64) -> (TempDir, Chain) {
    let (dir, chain) = open();
    chain.init(&genesis(1)).unwrap();
    apply(&chain, genesis(1), 1..=blocks);
    (dir, chain)
}

/// The same with what the application answered to each block.
pub(crate) fn chain_with(
    folder: &std::path::Path,
    blocks: u64,
    results: impl Fn(&SealedBlock) -> ResponseFinalizeBlock,
) -> Chain {
    let chain = Chain::open(&folder.join("chain")).unwrap();
    let mut state = genesis(1);
    chain.init(&state).unwrap();
    for at in 1..=blocks {
        save(&chain, at..=at);
        let applied = after(&state, at, state.next_validators.clone(), state.params.clone());
        let applied = Applied { results: results(&block(at, 2).0), ..applied };
        chain.apply(&applied).unwrap();
        state = applied.state;
    }
    chain
}

/// Block `at` with the commit of the block before it, and its own commit.
fn block(at: u64, txs: u8) -> (Arc<SealedBlock>, Commit) {
    let last = (at > 1).then(|| samples::commit(at - 1, samples::block_id(), false));
    let block = samples::block(at, txs, last);
    let commit = samples::commit(at, block.id(), true);
    (block, commit)
}

fn save(chain: &Chain, heights: std::ops::RangeInclusive<u64>) {
    for at in heights {
        let (block, commit) = block(at, 2);
        chain.save_block(&block, &commit).unwrap();
    }
}

fn set(n: u64) -> Arc<Validators> {
    Arc::new(validators(&[4, 3, 2, n]))
}

fn params(max_bytes: u64) -> Params {
    let mut params = Params {
        block: tendermint::block::Size { max_bytes, max_gas: -1, time_iota_ms: 1000 },
        evidence: tendermint::evidence::Params {
            max_age_num_blocks: 100_000,
            max_age_duration: tendermint::evidence::Duration(std::time::Duration::from_secs(
                172_800,
            )),
            max_bytes: 1_048_576,
        },
        validator: tendermint::consensus::params::ValidatorParams {
            pub_key_types: vec![tendermint::public_key::Algorithm::Ed25519],
        },
        version: None,
        abci: Default::default(),
    };
    // The wire format has no such field.
    params.block.time_iota_ms = decode_params(&encode_params(&params)).unwrap().block.time_iota_ms;
    params
}

/// The state before the first block of a chain that begins at `initial`.
fn genesis(initial: u64) -> State {
    State {
        chain_id: samples::CHAIN_ID.into(),
        initial_height: height(initial),
        last_height: None,
        last_block_id: None,
        last_block_time: time(0),
        last_validators: None,
        validators: set(1),
        next_validators: set(1),
        params: params(1_000_000),
        app_hash: vec![1],
        last_results_hash: None,
        app_version: 1,
        evidence_floor: initial,
    }
}

fn results(n: u8) -> ResponseFinalizeBlock {
    let result = ExecTxResult { code: 0, data: vec![n; 10].into(), ..Default::default() };
    ResponseFinalizeBlock {
        tx_results: vec![result; 2],
        app_hash: vec![n].into(),
        ..Default::default()
    }
}

/// The state after block `at`; V(at+2) and the parameters of at+1 are the given ones.
fn after(before: &State, at: u64, next: Arc<Validators>, params: Params) -> Applied {
    let (block, _) = block(at, 2);
    let n = u8::try_from(at % 256).unwrap();
    let state = State {
        last_height: Some(height(at)),
        last_block_id: Some(block.id()),
        last_block_time: time(i64::try_from(at).unwrap()),
        last_validators: Some(before.validators.clone()),
        validators: before.next_validators.clone(),
        next_validators: next,
        params,
        app_hash: vec![n],
        last_results_hash: Some(block.id().hash),
        ..before.clone()
    };
    Applied { height: height(at), results: results(n), state, offences: Vec::new() }
}

/// Saves and applies `heights`, with nothing changing, and says the last state.
fn apply(chain: &Chain, mut state: State, heights: std::ops::RangeInclusive<u64>) -> State {
    for at in heights {
        save(chain, at..=at);
        let applied = after(&state, at, state.next_validators.clone(), state.params.clone());
        chain.apply(&applied).unwrap();
        state = applied.state;
    }
    state
}

fn is_damaged<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Damaged { .. }))
}

#[test]
fn a_block_comes_back_with_all_that_belongs_to_it() {
    let (dir, chain) = open();
    assert_eq!((chain.base(), chain.height(), chain.state().unwrap()), (None, None, None));
    save(&chain, 1..=3);
    let (second, commit) = block(2, 2);
    let check = |chain: &Chain| {
        assert_eq!((chain.base(), chain.height()), (Some(height(1)), Some(height(3))));
        assert_eq!(chain.block(height(2)).unwrap(), Some(second.clone()));
        assert_eq!(chain.block_bytes(height(2)).unwrap().as_ref(), Some(second.bytes()));
        let meta = BlockMeta {
            block_id: second.id(),
            header: second.header().clone(),
            size_bytes: second.bytes().len(),
            num_txs: 2,
        };
        assert_eq!(chain.meta(height(2)).unwrap(), Some(meta));
        assert_eq!(chain.height_of(&second.id().hash).unwrap(), Some(height(2)));
        assert_eq!(chain.seen_commit(height(2)).unwrap(), Some(commit.clone()));
        let bytes = chain.seen_commit_bytes(height(2)).unwrap();
        assert_eq!(bytes, Some(wire::encode_commit(&commit)));
        let in_block = samples::commit(2, samples::block_id(), false);
        assert_eq!(chain.canonical_commit(height(2)).unwrap(), Some(in_block));
        assert_eq!(chain.canonical_commit(height(3)).unwrap(), None);
        assert_eq!(chain.block(height(4)).unwrap(), None);
        assert_eq!(chain.meta(height(0)).unwrap(), None);
        assert_eq!(chain.seen_commit(height(9)).unwrap(), None);
        assert_eq!(chain.results(height(2)).unwrap(), None);
    };
    check(&chain);
    chain.sync().unwrap();
    drop(chain);
    check(&Chain::open(dir.path()).unwrap());
}

#[test]
fn a_large_block_comes_back_after_a_restart() {
    let (dir, chain) = open();
    let mut large = block(1, 0).0.block().clone();
    large.txs = (0..4u8).map(|n| vec![n; 1_000_000].into()).collect();
    let large = SealedBlock::seal(large);
    chain.save_block(&large, &samples::commit(1, large.id(), false)).unwrap();
    drop(chain);
    let chain = Chain::open(dir.path()).unwrap();
    assert_eq!(chain.block_bytes(height(1)).unwrap().as_ref(), Some(large.bytes()));
}

#[test]
fn a_chain_may_begin_at_any_height() {
    let (dir, chain) = open();
    save(&chain, 5_001..=5_003);
    assert_eq!((chain.base(), chain.height()), (Some(height(5_001)), Some(height(5_003))));
    assert_eq!(
        chain.canonical_commit(height(5_000)).unwrap().map(|c| c.height.value()),
        Some(5_000)
    );
    let before = State {
        last_height: Some(height(5_000)),
        last_validators: Some(set(7)),
        validators: set(8),
        next_validators: set(9),
        ..genesis(1)
    };
    chain.init(&before).unwrap();
    assert_eq!(chain.state().unwrap(), Some(before.clone()));
    let applied = after(&before, 5_001, set(10), params(5));
    chain.apply(&applied).unwrap();
    drop(chain);
    let chain = Chain::open(dir.path()).unwrap();
    assert_eq!(chain.state().unwrap(), Some(applied.state));
    let known = |at| chain.validators(height(at)).unwrap();
    assert_eq!(known(4_999), None);
    assert_eq!((known(5_000), known(5_001)), (Some(set(7)), Some(set(8))));
    assert_eq!((known(5_002), known(5_003)), (Some(set(9)), Some(set(10))));
    assert_eq!(known(5_004), None);
}

#[test]
fn a_gap_and_another_block_are_refused() {
    let (_dir, chain) = open();
    save(&chain, 5..=7);
    save(&chain, 5..=7);
    let refused = |at, txs| {
        let (block, commit) = block(at, txs);
        chain.save_block(&block, &commit).unwrap_err()
    };
    let gap = refused(9, 2);
    assert!(matches!(gap, StoreError::Gap { .. }));
    assert_eq!(gap.to_string(), "height 9 does not follow 7");
    assert!(matches!(refused(4, 2), StoreError::Gap { .. }));
    assert!(matches!(refused(6, 3), StoreError::Conflict { height } if height.value() == 6));
    assert_eq!(chain.height(), Some(height(7)));
    assert_eq!(chain.block(height(6)).unwrap(), Some(block(6, 2).0));
}

#[test]
fn what_was_applied_comes_back() {
    let (dir, chain) = open();
    let genesis = genesis(1);
    chain.init(&genesis).unwrap();
    assert_eq!(chain.state().unwrap(), Some(genesis.clone()));
    let state = apply(&chain, genesis, 1..=3);
    save(&chain, 4..=4);
    let changed = after(&state, 4, set(9), params(77));
    chain.apply(&changed).unwrap();
    let check = |chain: &Chain| {
        assert_eq!(chain.state().unwrap(), Some(changed.state.clone()));
        assert_eq!(chain.results(height(4)).unwrap(), Some(results(4)));
        assert_eq!(chain.results(height(5)).unwrap(), None);
        let known = |at| chain.validators(height(at)).unwrap();
        assert_eq!((known(1), known(5)), (Some(set(1)), Some(set(1))));
        assert_eq!((known(6), known(7)), (Some(set(9)), None));
        let known = |at| chain.params(height(at)).unwrap();
        assert_eq!((known(1), known(4)), (Some(params(1_000_000)), Some(params(1_000_000))));
        assert_eq!((known(5), known(6)), (Some(params(77)), None));
    };
    check(&chain);
    drop(chain);
    check(&Chain::open(dir.path()).unwrap());
}

#[test]
fn how_far_a_chain_is_applied_is_known_after_a_restart() {
    let (dir, chain) = open();
    chain.init(&genesis(10)).unwrap();
    assert_eq!(chain.validators(height(11)).unwrap(), Some(set(1)));
    let state = apply(&chain, genesis(10), 10..=20);
    drop(chain);
    let chain = Chain::open(dir.path()).unwrap();
    assert_eq!(chain.validators(height(22)).unwrap(), Some(set(1)));
    assert_eq!(chain.validators(height(23)).unwrap(), None);
    assert!(chain.params(height(21)).unwrap().is_some());
    assert_eq!(chain.params(height(22)).unwrap(), None);
    assert_eq!(chain.prune(height(15)).unwrap(), 5);
    apply(&chain, state, 21..=22);
}

#[test]
fn states_are_applied_in_order() {
    let (_dir, chain) = open();
    chain.init(&genesis(1)).unwrap();
    let gap = |result| matches!(result, Err(StoreError::Gap { .. }));
    let second = after(&genesis(1), 2, set(1), params(1));
    assert!(gap(chain.apply(&second)));
    let state = apply(&chain, genesis(1), 1..=3);
    let again = Applied {
        height: height(3),
        results: results(3),
        state: state.clone(),
        offences: Vec::new(),
    };
    chain.apply(&again).unwrap();
    assert!(gap(chain.apply(&second)), "the state would fall");
    assert!(gap(chain.apply(&Applied { height: height(4), ..again })), "a state of another height");
    assert_eq!(chain.state().unwrap(), Some(state));
}

#[test]
fn pruning_keeps_what_is_needed() {
    let (dir, chain) = open();
    chain.init(&genesis(1)).unwrap();
    let mut state = apply(&chain, genesis(1), 1..=2);
    for at in 3..=40 {
        save(&chain, at..=at);
        let applied = after(&state, at, set(at / 10 + 1), params(at / 10 + 1));
        chain.apply(&applied).unwrap();
        state = applied.state;
    }
    let first = block(1, 2).0;
    assert_eq!(chain.prune(height(25)).unwrap(), 24);
    assert_eq!(chain.prune(height(25)).unwrap(), 0);
    assert_eq!(chain.prune(height(7)).unwrap(), 0);
    let check = |chain: &Chain| {
        assert_eq!((chain.base(), chain.height()), (Some(height(25)), Some(height(40))));
        for at in [1, 24] {
            assert_eq!(chain.block(height(at)).unwrap(), None);
            assert_eq!(chain.results(height(at)).unwrap(), None);
            // Evidence of these heights may still come.
            assert!(chain.meta(height(at)).unwrap().is_some());
            assert!(chain.seen_commit(height(at)).unwrap().is_some());
            assert!(chain.validators(height(at)).unwrap().is_some());
        }
        assert_eq!(chain.height_of(&first.id().hash).unwrap(), None);
        for at in 25..=40 {
            assert_eq!(chain.block(height(at)).unwrap(), Some(block(at, 2).0));
            assert!(chain.seen_commit(height(at)).unwrap().is_some());
            assert!(chain.results(height(at)).unwrap().is_some());
            assert_eq!(chain.height_of(&block(at, 2).0.id().hash).unwrap(), Some(height(at)));
            assert_eq!(chain.validators(height(at)).unwrap(), Some(set((at - 2) / 10 + 1)));
            assert_eq!(chain.params(height(at)).unwrap(), Some(params((at - 1) / 10 + 1)));
        }
        assert_eq!(chain.canonical_commit(height(24)).unwrap().map(|c| c.height.value()), Some(24));
        assert_eq!(chain.state().unwrap(), Some(state.clone()));
    };
    check(&chain);
    drop(chain);
    check(&Chain::open(dir.path()).unwrap());
}

/// Saves a block whose header says a second for each height.
fn save_timed(chain: &Chain, at: u64) {
    let mut block = block(at, 2).0.block().clone();
    block.header.time = time(i64::try_from(at).unwrap());
    let block = SealedBlock::seal(block);
    chain.save_block(&block, &samples::commit(at, block.id(), true)).unwrap();
}

/// "header and commit data within the evidence age" stay, and go with a later run (CometBFT forgets to).
#[test]
fn headers_commits_and_validators_stay_as_long_as_evidence_may_come() {
    let (dir, chain) = open();
    let mut young = params(1_000_000);
    young.evidence.max_age_num_blocks = 10;
    let secs = std::time::Duration::from_secs;
    young.evidence.max_age_duration = tendermint::evidence::Duration(secs(15));
    chain.init(&State { params: young.clone(), ..genesis(1) }).unwrap();
    let mut state = chain.state().unwrap().unwrap();
    for at in 1..=60 {
        save_timed(&chain, at);
        let applied = after(&state, at, set(at / 5 + 1), young.clone());
        chain.apply(&applied).unwrap();
        state = applied.state;
    }
    let kept = |chain: &Chain, first: u64| {
        for at in 1..=60 {
            let there = at >= first;
            assert_eq!(chain.meta(height(at)).unwrap().is_some(), there, "header {at}");
            assert_eq!(chain.seen_commit(height(at)).unwrap().is_some(), there, "commit {at}");
            if there {
                let right = if at < 3 { set(1) } else { set((at - 2) / 5 + 1) };
                assert_eq!(chain.validators(height(at)).unwrap(), Some(right), "V({at})");
            }
        }
        assert!(chain.validators(height(1)).unwrap().is_none() || first < 5);
    };
    // Young enough by either: 60 − 15 s is the lower bound.
    assert_eq!(chain.prune(height(58)).unwrap(), 57);
    kept(&chain, 45);
    drop(chain);
    let chain = Chain::open(dir.path()).unwrap();
    assert_eq!(chain.base(), Some(height(58)), "headers do not move the base");
    kept(&chain, 45);
    // Where nothing is retained for evidence, V of the block before the base stays: its votes are told with the block.
    for at in 61..=90 {
        save_timed(&chain, at);
        let applied = after(&state, at, set(at / 5 + 1), young.clone());
        chain.apply(&applied).unwrap();
        state = applied.state;
    }
    assert_eq!(chain.prune(height(60)).unwrap(), 2);
    assert!(chain.meta(height(59)).unwrap().is_none(), "what an earlier run kept goes");
    assert_eq!(chain.validators(height(59)).unwrap(), Some(set(57 / 5 + 1)));
    assert_eq!(chain.validators(height(30)).unwrap(), None);
}

/// Evidence is verified against the commit that every node has: it stays as it was while the block after it was there.
#[test]
fn pruning_keeps_the_commits_that_evidence_is_verified_against() {
    use crate::evidence::Facts;
    let (dir, chain) = open();
    let mut young = params(1_000_000);
    young.evidence.max_age_num_blocks = 10;
    let age = std::time::Duration::from_secs(15);
    young.evidence.max_age_duration = tendermint::evidence::Duration(age);
    chain.init(&State { params: young.clone(), ..genesis(1) }).unwrap();
    let mut state = chain.state().unwrap().unwrap();
    for at in 1..=60 {
        save_timed(&chain, at);
        let applied = after(&state, at, set(at / 5 + 1), young.clone());
        chain.apply(&applied).unwrap();
        state = applied.state;
    }
    let facts = |chain: &Chain, at: u64| {
        let header = Facts::header(chain, height(at)).unwrap();
        let commit = Facts::commit(chain, height(at)).unwrap();
        (header, commit, Facts::validators(chain, height(at)).unwrap())
    };
    let before: Vec<_> = (45..=59).map(|at| facts(&chain, at)).collect();
    assert!(before.iter().all(|(header, commit, _)| header.is_some() && commit.is_some()));
    let check = |chain: &Chain| {
        for (at, before) in (45..).zip(&before) {
            assert_eq!(facts(chain, at), *before, "{at}");
        }
        assert_eq!(chain.block(height(50)).unwrap(), None);
    };
    assert_eq!(chain.prune(height(50)).unwrap(), 49);
    assert!((45..).zip(&before).all(|(at, before)| facts(&chain, at) == *before));
    assert_eq!(chain.prune(height(58)).unwrap(), 8);
    check(&chain);
    drop(chain);
    check(&Chain::open(dir.path()).unwrap());
}

/// The files as a crash leaves them.
fn copied(dir: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// A crash between any two batches leaves a chain that opens, and the next run goes on.
#[test]
fn pruning_goes_on_after_a_crash_between_any_two_batches() {
    let (dir, chain) = chain_of(2_500);
    let mut steps = 0;
    loop {
        let copy = copied(&dir);
        let again = Chain::open(copy.path()).unwrap();
        let base = again.base().unwrap();
        assert_eq!(Some(base), chain.base());
        assert!(again.block(base).unwrap().is_some() && again.results(base).unwrap().is_some());
        again.prune(height(2_400)).unwrap();
        assert_eq!(again.base(), Some(height(2_400)), "from batch {steps} on");
        if !chain.prune_batch(height(2_400)).unwrap().more {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 3, "{steps} batches");
    assert_eq!(chain.base(), Some(height(2_400)));
}

#[test]
fn pruning_keeps_the_last_block_and_the_last_applied_one() {
    let (_dir, chain) = open();
    assert_eq!(chain.prune(height(10)).unwrap(), 0);
    chain.init(&genesis(1)).unwrap();
    apply(&chain, genesis(1), 1..=5);
    save(&chain, 6..=9);
    assert_eq!(chain.prune(height(1_000)).unwrap(), 4);
    assert_eq!(chain.base(), Some(height(5)));
    assert!(chain.block(height(5)).unwrap().is_some());
    let state = chain.state().unwrap().unwrap();
    apply(&chain, state, 6..=9);
    assert_eq!(chain.prune(height(1_000)).unwrap(), 4);
    assert_eq!((chain.base(), chain.height()), (Some(height(9)), Some(height(9))));
}

#[test]
fn damaged_values_are_reported() {
    let (_dir, chain) = open();
    chain.init(&genesis(1)).unwrap();
    apply(&chain, genesis(1), 1..=3);
    let at: Height = height(2);
    let hash = block(2, 2).0.id().hash;
    for value in [&b""[..], b"\x0a\xff\xff\xff\xff\x0f", &[7; 90]] {
        for family in [Family::Block, Family::Meta, Family::Commit] {
            chain.put_raw(family, &key(at), value);
        }
        chain.put_raw(Family::Hash, hash.as_bytes(), value);
        assert!(is_damaged(chain.block(at)) && is_damaged(chain.meta(at)), "{value:?}");
        assert!(is_damaged(chain.seen_commit(at)) && is_damaged(chain.height_of(&hash)));
        assert!(is_damaged(chain.canonical_commit(height(1))));
    }
    chain.put_raw(Family::Results, &key(at), &[7; 90]);
    assert!(is_damaged(chain.results(at)));
    chain.put_raw(Family::Validators, &key(at), &[7; 90]);
    assert!(is_damaged(chain.validators(at)));
    chain.put_raw(Family::Params, &key(at), b"");
    assert!(is_damaged(chain.params(at)));
    chain.put_raw(Family::State, b"state", &[7; 90]);
    assert!(is_damaged(chain.state()));
}

#[test]
fn a_value_of_another_height_is_damage() {
    let (_dir, chain) = open();
    save(&chain, 1..=3);
    let bytes = chain.block_bytes(height(1)).unwrap().unwrap();
    chain.put_raw(Family::Block, &key(height(2)), &bytes);
    assert!(is_damaged(chain.block(height(2))));
    let bytes = chain.seen_commit_bytes(height(1)).unwrap().unwrap();
    chain.put_raw(Family::Commit, &key(height(2)), &bytes);
    assert!(is_damaged(chain.seen_commit(height(2))));
}

#[test]
fn a_state_without_its_validators_is_damage() {
    let (dir, chain) = open();
    let state = genesis(1);
    chain.init(&state).unwrap();
    chain.put_raw(Family::Validators, &key(height(1)), b"");
    assert!(is_damaged(chain.state()));
    chain.put_raw(Family::State, b"state", b"\xff");
    drop(chain);
    assert!(is_damaged(Chain::open(dir.path())));
}

#[test]
fn parameters_without_a_limit_come_back() {
    let mut unlimited = params(u64::MAX);
    assert_eq!(decode_params(&encode_params(&unlimited)), Some(unlimited.clone()));
    unlimited.block.max_gas = 10;
    assert_eq!(decode_params(&encode_params(&unlimited)), Some(unlimited.clone()));
    for bytes in [1, 22_020_096, 104_857_600] {
        assert_eq!(decode_params(&encode_params(&params(bytes))), Some(params(bytes)));
    }
    unlimited.block.max_bytes = u64::MAX - 1;
    assert_eq!(decode_params(&encode_params(&unlimited)), None, "-2 is no size");
    assert_eq!(decode_params(b""), None);
    assert_eq!(decode_params(b"\x0a"), None);

    let (_dir, chain) = open();
    let state = State { params: params(u64::MAX), ..genesis(1) };
    chain.init(&state).unwrap();
    assert_eq!(chain.state().unwrap(), Some(state));
}

#[test]
fn a_chain_is_opened_once_and_in_its_format() {
    let (dir, chain) = open();
    let second = Chain::open(dir.path()).unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }) && second.is_environment());
    drop(chain);
    std::fs::write(dir.path().join("FORMAT"), "tercet chain 9\n").unwrap();
    let other = Chain::open(dir.path()).unwrap_err();
    assert!(matches!(&other, StoreError::Format { found, .. } if found == "tercet chain 9"));
    assert!(other.to_string().contains("use the version that wrote it"), "{other}");
    std::fs::remove_file(dir.path().join("FORMAT")).unwrap();
    assert!(matches!(Chain::open(dir.path()), Err(StoreError::Incomplete { .. })));
}

#[test]
fn the_hash_of_the_genesis_stays() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Chain::open(folder.path()).unwrap();
    let chain = open();
    assert_eq!(chain.genesis_hash().unwrap(), None);
    chain.set_genesis_hash(&[7; 32]).unwrap();
    drop(chain);
    assert_eq!(open().genesis_hash().unwrap(), Some([7; 32]));
}

/// A chain of 10 blocks of which each changes validators and parameters, and the state after each.
fn changing() -> (TempDir, Chain, Vec<State>) {
    let (dir, chain) = open();
    let mut states = vec![genesis(1)];
    chain.init(&states[0]).unwrap();
    for at in 1..=10 {
        // The header says what the block before led to.
        let last = states.last().unwrap().clone();
        let block = block_after(&last, at);
        let commit = samples::commit(at, block.id(), true);
        chain.save_block(&block, &commit).unwrap();
        let mut applied = after(&last, at, set(at + 1), params(at + 1));
        applied.state.last_block_id = Some(block.id());
        applied.state.last_block_time = block.header().time;
        applied.state.app_version = 1;
        chain.apply(&applied).unwrap();
        states.push(applied.state);
    }
    (dir, chain, states)
}

fn block_after(state: &State, at: u64) -> SealedBlock {
    let mut block = block(at, 2).0.block().clone();
    block.header.app_hash = state.app_hash.clone().try_into().unwrap();
    block.header.last_results_hash = state.last_results_hash;
    block.header.version.app = 1;
    SealedBlock::seal(block)
}

#[test]
fn a_rollback_restores_the_state_before_the_last_block_and_keeps_the_block() {
    let (dir, chain, states) = changing();
    assert_eq!(chain.rollback(false).unwrap(), states[9]);
    let check = |chain: &Chain| {
        assert_eq!(chain.state().unwrap(), Some(states[9].clone()));
        assert_eq!(chain.height(), Some(height(10)));
        assert!(chain.results(height(10)).unwrap().is_some(), "for an application that stayed");
        assert_eq!(chain.validators(height(12)).unwrap(), None, "not known any more");
    };
    check(&chain);
    // The block waits: once more changes nothing.
    assert_eq!(chain.rollback(false).unwrap(), states[9]);
    check(&chain);
    drop(chain);
    let chain = Chain::open(dir.path()).unwrap();
    check(&chain);
    // Executed again with another outcome.
    let applied = after(&states[9], 10, states[9].next_validators.clone(), params(10));
    chain.apply(&applied).unwrap();
    assert_eq!(chain.state().unwrap(), Some(applied.state));
}

/// What a block told of is told by the block that is executed in its place, or not at all.
#[test]
fn a_rollback_forgets_what_the_block_told_of_and_nothing_else() {
    let (_dir, chain, states) = changing();
    chain.rollback(false).unwrap();
    let applied = after(&states[9], 10, states[9].next_validators.clone(), params(10));
    chain.apply(&Applied { offences: vec![b"ten".to_vec()], ..applied }).unwrap();
    chain.put_pending_evidence(b"ten", b"piece").unwrap();
    assert_eq!(chain.evidence_mark(b"ten").unwrap(), Some(height(10)));
    chain.rollback(false).unwrap();
    assert_eq!(chain.evidence_mark(b"ten").unwrap(), None);
    assert_eq!(chain.pending_evidence().unwrap().len(), 1);
}

#[test]
fn a_hard_rollback_removes_the_block_too_and_may_be_repeated() {
    let (dir, chain, states) = changing();
    let top = chain.meta(height(10)).unwrap().unwrap();
    for below in [9, 8, 7] {
        assert_eq!(chain.rollback(true).unwrap(), states[below]);
        assert_eq!(chain.height(), Some(height(below as u64)));
    }
    drop(chain);
    let chain = Chain::open(dir.path()).unwrap();
    assert_eq!((chain.base(), chain.height()), (Some(height(1)), Some(height(7))));
    assert_eq!(chain.state().unwrap(), Some(states[7].clone()));
    assert_eq!(chain.block(height(8)).unwrap(), None);
    assert_eq!(chain.results(height(8)).unwrap(), None);
    assert_eq!(chain.height_of(&top.block_id.hash).unwrap(), None);
    // Of a block that was stored and not executed, it is all that goes.
    let block = block_after(&states[7], 8);
    chain.save_block(&block, &samples::commit(8, block.id(), true)).unwrap();
    assert_eq!(chain.rollback(true).unwrap(), states[7]);
    assert_eq!(
        (chain.height(), chain.state().unwrap()),
        (Some(height(7)), Some(states[7].clone()))
    );
}

#[test]
fn a_rollback_is_refused_where_there_is_nothing_before_and_changes_nothing() {
    let (_dir, chain) = open();
    let refused = |chain: &Chain, words: &str| {
        for hard in [false, true] {
            let before = (chain.state().unwrap(), chain.height());
            let error = chain.rollback(hard).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert_eq!((chain.state().unwrap(), chain.height()), before);
        }
    };
    refused(&chain, "nothing to roll back");
    chain.init(&genesis(1)).unwrap();
    refused(&chain, "nothing to roll back");
    let state = apply(&chain, genesis(1), 1..=1);
    refused(&chain, "first of the chain");
    // A state that is not of the blocks' moment.
    chain.init(&State { last_height: Some(height(4)), ..state }).unwrap();
    refused(&chain, "not of one moment");
    let (_dir, chain, states) = changing();
    chain.prune(height(10)).unwrap();
    let error = chain.rollback(true).unwrap_err().to_string();
    assert!(error.contains("block of height 9 is not stored"), "{error}");
    assert_eq!(chain.state().unwrap(), states.last().cloned());
    // Its header is kept for evidence, so the state can go back.
    assert_eq!(chain.rollback(false).unwrap(), states[9]);
}

#[test]
fn a_chain_that_is_opened_to_be_read_changes_nothing_on_the_disk() {
    let (dir, chain) = chain_of(20);
    drop(chain);
    let files = || {
        let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> =
            entries.map(|e| (e.file_name(), e.metadata().unwrap().len())).collect();
        files.sort();
        files
    };
    let before = files();
    let chain = Chain::open_read_only(dir.path()).unwrap();
    assert_eq!((chain.base(), chain.height()), (Some(height(1)), Some(height(20))));
    assert!(chain.block(height(7)).unwrap().is_some());
    assert!(matches!(Chain::open(dir.path()), Err(StoreError::Locked { .. })));
    assert!(chain.set_retain(height(3)).is_err(), "nothing can be written");
    drop(chain);
    assert_eq!(files(), before);
    let none = TempDir::new().unwrap();
    let missing = Chain::open_read_only(&none.path().join("chain"));
    assert!(matches!(missing, Err(StoreError::Missing { .. })));
    assert!(!none.path().join("chain").exists());
}

/// A home that was written before there was a column family for evidence.
#[test]
fn a_chain_of_an_older_version_can_be_read_and_is_completed_when_it_is_opened() {
    let (folder, chain) = chain_of(3);
    drop(chain);
    let names = ["block", "meta", "hash", "commit", "state", "validators", "params", "results"];
    let options = rocksdb::Options::default();
    let with = names.iter().chain(&["evidence"]);
    let mut db = rocksdb::DB::open_cf(&options, folder.path(), with).expect("it opens");
    db.drop_cf("evidence").expect("dropped");
    drop(db);
    let older = Chain::open_read_only(folder.path()).expect("it can be read");
    assert_eq!(older.height(), Some(Height::from(3u32)));
    assert!(older.block(Height::from(2u32)).expect("a disk").is_some());
    assert_eq!(older.evidence_mark(b"an offence").expect("a disk"), None);
    drop(older);
    let chain = Chain::open(folder.path()).expect("it opens");
    chain.put_pending_evidence(b"an offence", b"a piece").expect("written");
}
