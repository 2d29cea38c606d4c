//! The audit against nodes that are played: an honest chain passes, every defect is found.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tendermint::block::header::Version;
use tendermint::block::parts::Header as Parts;
use tendermint::block::signed_header::SignedHeader;
use tendermint::block::{Commit, CommitSig, Header, Height, Id, Round};
use tendermint::vote::{Power, Type, ValidatorIndex, Vote};
use tendermint::{AppHash, Hash, PublicKey, Signature, Time, account, chain, validator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const LAST: u64 = 20;

/// A chain as one node has it.
#[derive(Clone)]
struct Chain {
    blocks: BTreeMap<u64, SignedHeader>,
    sets: BTreeMap<u64, Vec<validator::Info>>,
    computed: Vec<u8>,
}

fn keys(from: u8, count: u8) -> Vec<SigningKey> {
    (from..from + count).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect()
}

fn info(key: &SigningKey) -> validator::Info {
    let bytes = key.verifying_key().to_bytes();
    let public = PublicKey::from_raw_ed25519(&bytes).expect("key");
    validator::Info::new(public, Power::from(10_u32))
}

fn hash(bytes: &[u8]) -> Hash {
    Hash::Sha256(Sha256::digest(bytes).into())
}

/// Who signs a height: four, of whom the first are `replaced` from height 11 on.
fn signers(height: u64, replaced: u8) -> Vec<SigningKey> {
    let replaced = if height > 10 { replaced } else { 0 };
    [keys(101, replaced), keys(1 + replaced, 4 - replaced)].concat()
}

fn set(height: u64, replaced: u8) -> validator::Set {
    validator::Set::without_proposer(signers(height, replaced).iter().map(info).collect())
}

/// A chain that is all right; what `mark` says goes into the headers from height 10 on.
fn chain(replaced: u8, mark: &str) -> Chain {
    let mut chain = Chain { blocks: BTreeMap::new(), sets: BTreeMap::new(), computed: vec![7; 8] };
    let mut before = None;
    for height in 1..=LAST {
        let header = Header { last_block_id: before, ..header(height, replaced, mark) };
        let signed = signed(header, &signers(height, replaced));
        before = Some(signed.commit.block_id);
        chain.blocks.insert(height, signed);
    }
    for height in 1..=LAST + 1 {
        chain.sets.insert(height, set(height, replaced).validators().clone());
    }
    chain
}

fn header(height: u64, replaced: u8, mark: &str) -> Header {
    let mark = if height < 10 { "" } else { mark };
    let time = Time::from_unix_timestamp(1_700_000_000 + i64::try_from(height).expect("small"), 0);
    Header {
        version: Version { block: 11, app: 1 },
        chain_id: chain::Id::try_from("played").expect("id"),
        height: Height::try_from(height).expect("height"),
        time: time.expect("time"),
        last_block_id: None,
        last_commit_hash: None,
        data_hash: Some(hash(mark.as_bytes())),
        validators_hash: set(height, replaced).hash(),
        next_validators_hash: set(height + 1, replaced).hash(),
        consensus_hash: hash(b"params"),
        app_hash: AppHash::try_from(vec![1; 8]).expect("hash"),
        last_results_hash: None,
        evidence_hash: Some(hash(b"")),
        proposer_address: account::Id::from(info(&signers(height, replaced)[0]).pub_key),
    }
}

fn signed(header: Header, signers: &[SigningKey]) -> SignedHeader {
    let parts = Parts::new(1, hash(b"part")).expect("parts");
    let block_id = Id { hash: header.hash(), part_set_header: parts };
    let mut commit =
        Commit { height: header.height, round: Round::from(0_u8), block_id, signatures: vec![] };
    for (index, key) in (0_u16..).zip(signers) {
        let mut vote = Vote {
            vote_type: Type::Precommit,
            height: commit.height,
            round: commit.round,
            block_id: Some(block_id),
            timestamp: Some(header.time),
            validator_address: info(key).address,
            validator_index: ValidatorIndex::try_from(u32::from(index)).expect("index"),
            signature: None,
            extension: vec![],
            extension_signature: None,
        };
        let bytes = vote.clone().into_signable_vec(header.chain_id.clone());
        vote.signature = Signature::new(key.sign(&bytes).to_bytes()).expect("signature");
        commit.signatures.push(CommitSig::BlockIdFlagCommit {
            validator_address: vote.validator_address,
            timestamp: header.time,
            signature: vote.signature,
        });
    }
    SignedHeader::new(header, commit).expect("heights agree")
}

impl Chain {
    fn answer(&self, request: &Value) -> Value {
        let height = request["params"]["height"].as_str().and_then(|text| text.parse().ok());
        let height: u64 = height.unwrap_or(0);
        let result = match request["method"].as_str() {
            Some("status") => Some(json!({"sync_info": {
                "earliest_block_height": "1",
                "latest_block_height": LAST.to_string(),
            }})),
            Some("commit") => self
                .blocks
                .get(&height)
                .map(|signed| json!({"signed_header": signed, "canonical": true})),
            Some("validators") => self.sets.get(&height).map(|set| {
                json!({"block_height": height.to_string(), "validators": set, "count": "4",
                    "total": set.len().to_string()})
            }),
            Some("block_results") => Some(json!({"app_hash": STANDARD.encode(&self.computed)})),
            _ => None,
        };
        match result {
            Some(result) => json!({"jsonrpc": "2.0", "id": 1, "result": result}),
            None => json!({"jsonrpc": "2.0", "id": 1,
                "error": {"code": -32603, "message": "Internal error", "data": "not here"}}),
        }
    }
}

/// Plays a node; returns its address.
async fn play(chain: Chain) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address").to_string();
    let chain = Arc::new(chain);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, chain.clone()));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, chain: Arc<Chain>) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8(bytes.clone()).ok()?;
        let request = text
            .split_once("\r\n\r\n")
            .and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
        if let Some(request) = request {
            let body = chain.answer(&request).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.ok()?;
            bytes.clear();
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn audit(chains: Vec<Chain>) -> Findings {
    let mut nodes = Vec::new();
    for (index, chain) in chains.into_iter().enumerate() {
        nodes.push((format!("node{index}"), play(chain).await));
    }
    run(&Audit { nodes, logs: Vec::new(), jumps: 30, seed: 1, progress: false })
        .await
        .expect("audited")
}

fn has(findings: &Findings, words: &[&str]) -> bool {
    findings.lines.iter().any(|line| words.iter().all(|word| line.contains(word)))
}

#[tokio::test]
async fn an_honest_chain_is_clean() {
    let findings = audit(vec![chain(0, ""), chain(0, "")]).await;
    assert!(findings.clean(), "{findings}");
    assert!(findings.summary.contains("heights 1 to 20"), "{findings}");
    assert!(findings.summary.contains("80 signatures verified, 30 light client jumps"));
}

#[tokio::test]
async fn where_all_validators_changed_no_jump_is_expected() {
    let findings = audit(vec![chain(4, "")]).await;
    assert!(findings.clean(), "{findings}");
    assert!(!findings.summary.contains(" 30 light client jumps"), "{findings}");
}

#[tokio::test]
async fn where_one_validator_changed_every_jump_succeeds() {
    let findings = audit(vec![chain(1, "")]).await;
    assert!(findings.clean(), "{findings}");
    let all = "32 light client jumps, 2 jumps over changes";
    assert!(findings.summary.contains(all), "{findings}");
}

#[tokio::test]
async fn a_block_that_does_not_follow_the_one_before_is_found() {
    let mut torn = chain(0, "");
    torn.blocks.insert(5, signed(header(5, 0, ""), &signers(5, 0)));
    let findings = audit(vec![torn]).await;
    assert!(has(&findings, &["height 5: commit of node0", "names none"]), "{findings}");
    assert!(has(&findings, &["height 6: commit of node0", "as the block before"]), "{findings}");
    assert!(!has(&findings, &["height 7:"]), "{findings}");
}

#[tokio::test]
async fn a_fork_is_found_with_those_who_signed_both() {
    let findings = audit(vec![chain(0, ""), chain(0, "forked")]).await;
    assert!(!findings.clean());
    assert!(has(&findings, &["height 10: fork", "node1 has block", "node0 has"]), "{findings}");
    assert!(has(&findings, &["height 10:", "signed twice in view 0"]));
    assert!(!has(&findings, &["height 9:"]));
    assert!(findings.to_string().contains("audit FAILED"));
}

#[tokio::test]
async fn another_application_hash_is_found() {
    let mut other = chain(0, "");
    let mut header = other.blocks[&12].header.clone();
    header.app_hash = AppHash::try_from(vec![2; 8]).expect("hash");
    other.blocks.insert(12, signed(header, &signers(12, 0)));
    other.computed = vec![8; 8];
    let findings = audit(vec![chain(0, ""), other]).await;
    assert!(has(&findings, &["height 12: application hash 0202"]), "{findings}");
    assert!(has(&findings, &["height 20: node1 computed application hash"]));
}

#[tokio::test]
async fn a_bad_signature_is_found_even_beyond_two_thirds() {
    let mut bad = chain(0, "");
    let block = bad.blocks.get_mut(&5).expect("block");
    if let Some(CommitSig::BlockIdFlagCommit { signature, .. }) = block.commit.signatures.last_mut()
    {
        *signature = Signature::new([9; 64]).expect("signature");
    }
    let findings = audit(vec![bad]).await;
    assert!(has(&findings, &["height 5:", "bad signature of"]), "{findings}");
}

#[tokio::test]
async fn a_commit_without_enough_power_is_found() {
    let mut weak = chain(0, "");
    let header = weak.blocks[&5].header.clone();
    weak.blocks.insert(5, signed(header, &signers(5, 0)[..2]));
    let findings = audit(vec![weak]).await;
    assert!(has(&findings, &["height 5: commit of node0"]), "{findings}");
}

#[tokio::test]
async fn evidence_and_false_validator_sets_are_found() {
    let mut guilty = chain(0, "");
    let mut header = guilty.blocks[&5].header.clone();
    header.evidence_hash = Some(hash(b"evidence"));
    guilty.blocks.insert(5, signed(header, &signers(5, 0)));
    guilty.sets.insert(1, keys(50, 4).iter().map(info).collect());
    let findings = audit(vec![guilty]).await;
    assert!(has(&findings, &["height 5: evidence in the block of node0"]), "{findings}");
    assert!(has(&findings, &["height 1: validators at node0", "the header says"]), "{findings}");
}

#[tokio::test]
async fn a_node_that_is_down_ends_the_audit() {
    let nodes = vec![("node0".to_owned(), "127.0.0.1:1".to_owned())];
    let audit = Audit { nodes, logs: Vec::new(), jumps: 0, seed: 1, progress: false };
    assert!(matches!(run(&audit).await, Err(AuditError::Node(_, _))));
}
