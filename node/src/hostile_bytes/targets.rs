//! Every decoder, and what must hold of it. None of them may panic, overflow or take much more memory than its input; what decodes must
//! come back from its encoding, and where a hash depends on the bytes, as the same bytes.

use super::Target;
use crate::evidence::{Piece, misbehavior};
use crate::network::raw::{check_hello, encode_hello, framed, read_frames};
use crate::network::{HelloContent, ValidatorProof};
use crate::wire::{
    Body, Consensus, Frame, ItemLimits, ResponseLimits, Sync, Transactions, decode_block,
    decode_commit, decode_evidence, decode_last_commit, decode_record, decode_transactions,
    encode_commit, encode_pieces, encode_record, encode_transactions, samples,
};
use crate::{execution, rpc, store};
use bytes::Bytes;
use prost::Message as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use tendermint::consensus::Params;
use tendermint::{Hash, Time};
use tendermint_proto::v0_38::abci::{
    ExecTxResult, ResponseFinalizeBlock, ResponseInitChain, ValidatorUpdate,
};
use tendermint_proto::v0_38::crypto::{PublicKey as RawKey, public_key::Sum};
use tercet_config::{Genesis, Loaded};
use tercet_consensus::testing::{public, validators};

/// Room for lists of ten thousand elements: those of a few bytes are larger in memory.
const LISTS_BYTES: usize = 32 << 20;
/// Room for what is as large as its input.
const FLAT_BYTES: usize = 256 << 10;
/// Room for lists of elements of a few bytes that nothing counts beforehand: disk, application, clients, files.
const SMALL_BYTES: usize = 4 << 20;
/// The largest block in these tests.
const BLOCK_BYTES_MAX: usize = 1 << 20;
/// The longest frame in these tests.
const FRAME_BYTES_MAX: usize = 100_000;

/// Every decoder of the node.
pub const TARGETS: &[Target] = &[
    target("frames", frames, framed_samples, FLAT_BYTES),
    target("hello", hello, hello_samples, FLAT_BYTES),
    target("consensus", consensus, consensus_samples, LISTS_BYTES),
    target("body", body, body_samples, FLAT_BYTES),
    target("sync", sync, sync_samples, FLAT_BYTES),
    target("transactions", transactions, transaction_samples, LISTS_BYTES),
    target("evidence", evidence, evidence_samples, LISTS_BYTES),
    target("record", record, record_samples, LISTS_BYTES),
    target("block", block, block_samples, LISTS_BYTES),
    target("commit", commit, commit_samples, LISTS_BYTES),
    target("validators", store::hostile::validator_set, || stored(0), SMALL_BYTES),
    target("parameters", store::hostile::parameters, || stored(1), SMALL_BYTES),
    target("state", store::hostile::state, || stored(2), SMALL_BYTES),
    target("finalize-block", finalize_block, finalize_samples, SMALL_BYTES),
    target("init-chain", init_chain, init_samples, SMALL_BYTES),
    target("rpc-body", rpc::hostile::body, body_texts, SMALL_BYTES),
    target("rpc-query", rpc::hostile::query, query_texts, SMALL_BYTES),
    target("genesis", genesis, genesis_texts, SMALL_BYTES),
    target("config", config, config_texts, 1 << 20),
    target("peer-address", peer_address, address_texts, SMALL_BYTES),
];

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    corpus: fn() -> Vec<Vec<u8>>,
    heap_bytes_max: usize,
) -> Target {
    Target { name, run, corpus, heap_bytes_max }
}

/// They are cut out of the stream in order.
fn frames(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let Ok(runtime) = runtime else { return };
    let mut rest = bytes;
    runtime.block_on(read_frames(bytes, FRAME_BYTES_MAX, |frame| {
        rest = rest.strip_prefix(framed(&frame).as_slice()).expect("the next of them");
    }));
}

fn framed_samples() -> Vec<Vec<u8>> {
    let frames = consensus_samples();
    vec![frames.iter().flat_map(|frame| framed(frame)).collect(), framed(&[])]
}

static HELLO: LazyLock<HelloContent> = LazyLock::new(|| HelloContent {
    version_min: 1,
    version_max: 3,
    genesis_hash: [1; 32],
    chain_id: "chain".to_owned(),
    validator: Some(ValidatorProof { key: vec![2; 32], signature: [3; 64] }),
    moniker: "m".to_owned(),
    listen_address: "0.0.0.0:1".to_owned(),
    rpc_address: String::new(),
    software_version: "1".to_owned(),
});

fn hello(bytes: &[u8]) {
    if let Ok(hello) = check_hello(&HELLO, bytes) {
        assert!((1..=3).contains(&hello.version));
        assert!(!hello.moniker.chars().any(char::is_control), "it is shown to people");
    }
}

fn hello_samples() -> Vec<Vec<u8>> {
    let peers = (0..64).map(|n| format!("{}@10.0.0.{n}:26656", "ab".repeat(20))).collect();
    vec![encode_hello(&HELLO, Vec::new()), encode_hello(&HELLO, peers)]
}

fn bytes_of(message: &Consensus) -> Bytes {
    match message.encode() {
        Frame::Consensus(bytes) | Frame::Body(bytes) => bytes,
    }
}

fn consensus(bytes: &[u8]) {
    if let Ok(message) = Consensus::decode(Bytes::copy_from_slice(bytes)) {
        assert_eq!(Consensus::decode(bytes_of(&message)), Ok(message));
    }
}

fn consensus_samples() -> Vec<Vec<u8>> {
    samples::consensus().iter().map(|(_, message)| bytes_of(message).to_vec()).collect()
}

fn body(bytes: &[u8]) {
    if let Ok(body) = Body::decode(Bytes::copy_from_slice(bytes))
        && let Ok(block) = body.block(BLOCK_BYTES_MAX)
    {
        let again = Body::decode(Body::encode(&block)).expect("it is one");
        assert_eq!(again.block(BLOCK_BYTES_MAX).map(|again| again.id()), Ok(block.id()));
    }
}

fn body_samples() -> Vec<Vec<u8>> {
    let last = samples::commit(4, samples::block_id(), false);
    let blocks = [samples::block(5, 2, None), samples::block(5, 3, Some(last))];
    blocks.iter().map(|block| Body::encode(block).to_vec()).collect()
}

fn sync(bytes: &[u8]) {
    let limits = ResponseLimits { items_max: 10, bytes_max: BLOCK_BYTES_MAX };
    let decode = |bytes| Sync::decode(bytes, |_| Some(limits));
    let Ok(message) = decode(Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(decode(message.encode()).as_ref(), Ok(&message));
    if let Sync::Response(response) = message {
        let limits = ItemLimits { block_bytes_max: BLOCK_BYTES_MAX, validators: 10 };
        for item in response.items {
            drop(item.decode(limits));
        }
    }
}

fn sync_samples() -> Vec<Vec<u8>> {
    samples::sync().iter().map(|(_, message)| message.encode().to_vec()).collect()
}

fn transactions(bytes: &[u8]) {
    if let Ok(Transactions { txs, evidence }) = decode_transactions(Bytes::copy_from_slice(bytes)) {
        let again = decode_transactions(encode_transactions(txs.clone()));
        assert_eq!(again, Ok(Transactions { txs, evidence: Vec::new() }));
        let pieces = decode_transactions(encode_pieces(evidence.clone()));
        assert_eq!(pieces, Ok(Transactions { txs: Vec::new(), evidence }));
    }
}

fn transaction_samples() -> Vec<Vec<u8>> {
    let pieces = encode_pieces(vec!["piece".into(), "of evidence".into()]);
    vec![encode_transactions(vec!["a=1".into(), "b=2".into()]).to_vec(), pieces.to_vec()]
}

/// A hash covers its bytes: they come back. What has the right form has a key, and clients are shown all of it.
fn evidence(bytes: &[u8]) {
    let Ok(raw) = decode_evidence(bytes) else { return };
    assert_eq!(raw.encode_to_vec(), bytes);
    if let Ok(piece) = Piece::new(raw.clone()) {
        assert_eq!((piece.raw(), piece.size_bytes()), (&raw, bytes.len()));
        assert!(piece.key().to_bytes().len() > 20 && piece.hash() != [0; 32]);
    }
    let list = tendermint_proto::v0_38::types::EvidenceList { evidence: vec![raw] };
    let most = misbehavior(&list).len();
    assert!(most <= bytes.len());
}

fn evidence_samples() -> Vec<Vec<u8>> {
    let lines = include_str!("../evidence/samples/cometbft.txt").lines();
    let protos = lines.filter_map(|line| line.split_once(" proto "));
    protos.filter_map(|(_, proto)| hex::decode(proto).ok()).collect()
}

fn record(bytes: &[u8]) {
    if let Ok(record) = decode_record(Bytes::copy_from_slice(bytes)) {
        assert_eq!(decode_record(encode_record(&record).into()), Ok(record));
    }
}

fn record_samples() -> Vec<Vec<u8>> {
    samples::records().iter().map(|(_, record)| encode_record(record)).collect()
}

/// A block's id is over its bytes: there is one encoding.
fn block(bytes: &[u8]) {
    drop(decode_last_commit(bytes));
    if let Ok(block) = decode_block(Bytes::copy_from_slice(bytes), BLOCK_BYTES_MAX) {
        let sealed = tercet_consensus::block::SealedBlock::seal(block.block().clone());
        assert_eq!((sealed.bytes().as_ref(), sealed.id()), (bytes, block.id()));
    }
}

fn block_samples() -> Vec<Vec<u8>> {
    let last = samples::commit(4, samples::block_id(), false);
    let blocks = [samples::block(5, 2, None), samples::block(5, 3, Some(last))];
    blocks.iter().map(|block| block.bytes().to_vec()).collect()
}

fn commit(bytes: &[u8]) {
    if let Ok(commit) = decode_commit(bytes) {
        assert_eq!(decode_commit(&encode_commit(&commit)), Ok(commit));
    }
}

fn commit_samples() -> Vec<Vec<u8>> {
    let commits = [false, true].map(|extended| samples::commit(5, samples::block_id(), extended));
    commits.iter().map(|commit| encode_commit(commit).to_vec()).collect()
}

/// The state after block 4.
static STATE: LazyLock<execution::State> = LazyLock::new(|| {
    let set = Arc::new(validators(&[4, 3, 2, 1]));
    execution::State {
        chain_id: samples::CHAIN_ID.to_owned(),
        initial_height: samples::height(1),
        last_height: Some(samples::height(4)),
        last_block_id: Some(samples::block_id()),
        last_block_time: Time::unix_epoch(),
        last_validators: Some(set.clone()),
        validators: set.clone(),
        next_validators: set,
        params: params(),
        app_hash: vec![1, 2, 3],
        last_results_hash: Some(Hash::Sha256([1; 32])),
        app_version: 1,
        evidence_floor: 0,
    }
});

fn params() -> Params {
    let text = genesis_texts().remove(0);
    let text = String::from_utf8(text).expect("it is a text");
    Genesis::parse(&text).expect("a genesis").params
}

fn stored(kind: usize) -> Vec<Vec<u8>> {
    let [set, params, state] = store::hostile::samples(&STATE);
    vec![[set, params, state][kind].clone()]
}

/// What an application answers is as little trusted as what comes from elsewhere, though it runs in this process.
fn finalize_block(bytes: &[u8]) {
    let Ok(answer) = ResponseFinalizeBlock::decode(bytes) else { return };
    let block = samples::block(5, 2, None);
    if let Ok(applied) = execution::updates::after_block(&STATE, &block, answer) {
        let set = &applied.state.next_validators;
        assert!(set.count() > 0 && set.list().iter().all(|validator| validator.power > 0));
        assert_eq!(applied.state.last_height, Some(applied.height));
    }
}

fn updates() -> Vec<ValidatorUpdate> {
    let key = |n| RawKey { sum: Some(Sum::Ed25519(public(n).to_bytes().to_vec())) };
    let update = |(n, power)| ValidatorUpdate { pub_key: Some(key(n)), power };
    [(0, 0), (1, 7), (9, 1)].map(update).into()
}

fn finalize_samples() -> Vec<Vec<u8>> {
    let result = ExecTxResult { code: 1, data: "d".into(), gas_used: 5, ..Default::default() };
    let answer = ResponseFinalizeBlock {
        tx_results: vec![result.clone(), result],
        validator_updates: updates(),
        consensus_param_updates: Some(params().into()),
        app_hash: "hash".into(),
        ..ResponseFinalizeBlock::default()
    };
    vec![answer.encode_to_vec()]
}

fn init_chain(bytes: &[u8]) {
    let Ok(answer) = ResponseInitChain::decode(bytes) else { return };
    if let Ok(state) = execution::updates::after_init(STATE.clone(), &answer) {
        assert!(state.validators.count() > 0);
    }
}

fn init_samples() -> Vec<Vec<u8>> {
    let answer = ResponseInitChain {
        consensus_params: Some(params().into()),
        validators: updates().into_iter().filter(|update| update.power > 0).collect(),
        app_hash: "hash".into(),
    };
    vec![answer.encode_to_vec()]
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn body_texts() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"jsonrpc":"2.0","id":1,"method":"block","params":{"height":"7"}}"#,
        r#"[{"id":"a","method":"abci_query","params":["/p","6162","0",true]},{"method":"health"}]"#,
        r#"{"id":-1.5e3,"method":"broadcast_tx_sync","params":{"tx":"YT1i"}}"#,
    ])
}

fn query_texts() -> Vec<Vec<u8>> {
    texts(&["height=7&page=1&per_page=30", "tx=%22a%3Db%22", "hash=0x00ff&data=0xAB&prove=true"])
}

/// The hash of a genesis is compared between nodes: it must not depend on how the file is written.
fn genesis(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(genesis) = Genesis::parse(text) {
        let again = Genesis::parse(&genesis.to_json()).expect("it is one");
        assert_eq!(again.hash(), genesis.hash());
    }
}

fn genesis_texts() -> Vec<Vec<u8>> {
    texts(&[concat!(
        r#"{"genesis_time":"2023-05-17T14:12:48.347696215Z","chain_id":"c","initial_height":"1","#,
        r#""consensus_params":{"block":{"max_bytes":"22020096","max_gas":"-1"},"evidence":"#,
        r#"{"max_age_num_blocks":"100000","max_age_duration":"172800000000000","max_bytes":"#,
        r#""1048576"},"validator":{"pub_key_types":["ed25519"]},"version":{"app":"0"},"abci":"#,
        r#"{"vote_extensions_enable_height":"0"}},"validators":[{"pub_key":{"type":"#,
        r#""tendermint/PubKeyEd25519","value":"bNNlGls5R25wC3Sd8720F/3+7IZBhXcD22MNFtPk/v0="},"#,
        r#""power":"10","name":""}],"app_hash":"","app_state":{"a":[1,2]},"tercet":"#,
        r#"{"primary_term":"64","min_block_interval":"0s"}}"#,
    )])
}

fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(loaded) = Loaded::from_text(text, Path::new("config.toml")) {
        // Settings may not fit together; written and read they are the same.
        let written = loaded.config.to_toml();
        let again = Loaded::from_text(&written, Path::new("again")).expect("it is one");
        assert_eq!(again.config, loaded.config);
    }
}

fn config_texts() -> Vec<Vec<u8>> {
    vec![tercet_config::Config::default().to_toml().into_bytes()]
}

fn peer_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<crate::network::PeerAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
}

fn address_texts() -> Vec<Vec<u8>> {
    texts(&[
        "f9baeaa15fedf5e1ef7448dd60f46c01f1a9e9c4@10.0.0.7:26656",
        "f9baeaa15fedf5e1ef7448dd60f46c01f1a9e9c4@[::1]:26656",
        "/dns4/example.org/tcp/26656/p2p/12D3KooWGzh1uXSX6WCJsNwqzFYKJaLBbXZ4gYTmBX5dCd8hwEyG",
        "/ip4/10.0.0.7/udp/26656/quic-v1",
    ])
}
