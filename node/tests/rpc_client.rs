//! Whole nodes with the key-value store, as their clients see them: `tendermint-rpc` calls every route that it knows and that a
//! node has, and `tendermint-light-client-verifier` follows the chain over changes of the validator set.
#![allow(missing_docs)]

#[path = "support/kvstore_net.rs"]
mod kvstore_net;
#[path = "support/ports.rs"]
mod ports;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use kvstore_net::{CHAIN, Net, run};
use std::time::Duration;
use tendermint::block::{CommitSig, Height};
use tendermint::{Genesis, Hash, Time, validator};
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::types::{
    LightBlock, PeerId, TrustThreshold, TrustedBlockState,
};
use tendermint_light_client_verifier::{ProdVerifier, Verdict, Verifier};
use tendermint_rpc::endpoint::validators::DEFAULT_VALIDATORS_PER_PAGE;
use tendermint_rpc::{Client, HttpClient, Paging};
use tercet_config::{Config, Home, ValidatorKey};

/// Commits a transaction, and returns its height.
async fn commit(client: &HttpClient, tx: String) -> Height {
    let reply = client.broadcast_tx_commit(tx.clone()).await.expect("an answer");
    assert!(reply.check_tx.code.is_ok() && reply.tx_result.code.is_ok(), "{tx}: {reply:?}");
    reply.height
}

#[test]
fn a_client_sends_transactions_in_all_three_ways() {
    let net = Net::start(1);
    run(async {
        let client = net.client(0).await;
        let reply = client.broadcast_tx_async("a=1").await.expect("an answer");
        assert!(reply.code.is_ok());
        let reply = client.broadcast_tx_sync("b=2").await.expect("an answer");
        assert!(reply.code.is_ok());
        let reply = client.broadcast_tx_sync("no pair").await.expect("an answer");
        assert_eq!(reply.code.value(), 2);
        let committed = client.broadcast_tx_commit("c=3").await.expect("an answer");
        assert!(committed.tx_result.code.is_ok());
        // All are in blocks once the last is: one node orders what it is sent.
        for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
            let reply = client.abci_query(None, key, None, false).await.expect("an answer");
            assert_eq!((reply.value, reply.log.as_str()), (value.into(), "exists"));
        }
        let missing = client.abci_query(Some("/store".into()), "d", None, true).await;
        assert_eq!(missing.expect("an answer").log, "does not exist");
        let again = client.broadcast_tx_sync("b=2").await.expect_err("it is known");
        assert!(again.to_string().contains("tx already exists in cache"), "{again}");
        let block = client.block(committed.height).await.expect("the block");
        assert!(block.block.data.contains(&b"c=3".to_vec()));
    });
}

#[test]
fn a_client_reads_blocks_in_every_way() {
    let net = Net::start(1);
    run(async {
        let client = net.client(0).await;
        let height = commit(&client, "k=v".into()).await;
        let block = client.block(height).await.expect("the block");
        assert_eq!(block.block.header.height, height);
        assert_eq!(block.block.header.hash(), block.block_id.hash);
        let by_hash = client.block_by_hash(block.block_id.hash).await.expect("the block");
        assert_eq!(by_hash.block.as_ref(), Some(&block.block));
        let unknown = client.block_by_hash(Hash::Sha256([1; 32])).await.expect("an answer");
        assert_eq!(unknown.block, None);
        let header = client.header(height).await.expect("the header").header;
        assert_eq!(header, block.block.header);
        let header = client.header_by_hash(block.block_id.hash).await.expect("the header").header;
        assert_eq!(header.as_ref(), Some(&block.block.header));
        let chain = client.blockchain(height, height).await.expect("a range");
        assert_eq!(chain.block_metas[0].block_id, block.block_id);
        assert!(chain.last_height >= height);
        let commit = client.commit(height).await.expect("the commit").signed_header;
        assert_eq!(commit.commit.block_id.hash, header.expect("one").hash());
        let results = client.block_results(height).await.expect("the results");
        assert_eq!(results.height, height);
        assert!(results.txs_results.expect("one transaction")[0].code.is_ok());
        assert!(client.latest_block().await.expect("the block").block.header.height >= height);
        let latest = client.latest_commit().await.expect("the commit");
        assert!(latest.signed_header.header.height >= height);
        assert!(client.latest_block_results().await.expect("the results").height >= height);
        let beyond = client.block(Height::from(1_000_000u32)).await.expect_err("no such block");
        assert!(beyond.to_string().contains("must be less than or equal to"), "{beyond}");
    });
}

#[test]
fn a_client_reads_what_the_node_says_of_itself() {
    let net = Net::start(4);
    run(async {
        let client = net.client(0).await;
        client.wait_until_healthy(Duration::from_secs(1)).await.expect("it is healthy");
        let height = commit(&client, "k=v".into()).await;
        let (home, config) = &net.homes[0];
        let key = ValidatorKey::read(&home.validator_key_file(config)).expect("a key");
        let status = client.status().await.expect("a status");
        assert!(!status.sync_info.catching_up);
        assert!(status.sync_info.latest_block_height >= height);
        assert_eq!(status.validator_info.address, key.address());
        assert_eq!(status.validator_info.power.value(), 10);
        assert_eq!(status.node_info.network.as_str(), CHAIN);
        let peers = client.net_info().await.expect("the peers");
        assert!(peers.listening && !peers.peers.is_empty());
        let genesis: Genesis<Option<serde_json::Value>> = client.genesis().await.expect("one");
        assert_eq!((genesis.chain_id.as_str(), genesis.validators.len()), (CHAIN, 4));
        let chunk = client.genesis_chunked(0).await.expect("a chunk");
        assert_eq!((chunk.chunk, chunk.total), (0, 1));
        let genesis = String::from_utf8(chunk.data).expect("text");
        assert!(genesis.contains(CHAIN), "{genesis}");
        let info = client.abci_info().await.expect("the application");
        assert!(info.last_block_height >= height);
        let params = client.consensus_params(height).await.expect("parameters");
        let latest = client.latest_consensus_params().await.expect("parameters");
        assert_eq!(params.consensus_params, latest.consensus_params);
        for paging in [
            Paging::All,
            Paging::Default,
            Paging::Specific {
                page_number: 1.into(),
                per_page: DEFAULT_VALIDATORS_PER_PAGE.into(),
            },
        ] {
            let set = client.validators(height, paging).await.expect("the set");
            assert_eq!((set.validators.len(), set.total), (4, 4));
            assert_eq!(set.block_height, height);
        }
        let paging = Paging::Specific { page_number: 2.into(), per_page: 3.into() };
        let set = client.validators(height, paging).await.expect("the set");
        assert_eq!((set.validators.len(), set.total), (1, 4));
    });
}

/// A header with the sets that belong to it.
async fn light_block(client: &HttpClient, height: Height) -> LightBlock {
    let signed = client.commit(height).await.expect("the commit").signed_header;
    let set = async |height: Height| {
        let set = client.validators(height, Paging::All).await.expect("the set");
        validator::Set::without_proposer(set.validators)
    };
    let (now, next) = (set(height).await, set(height.increment()).await);
    LightBlock::new(signed, now, next, PeerId::new([0; 20]))
}

/// What a light client that trusts `from` says of `to`.
fn judge(from: &LightBlock, to: &LightBlock) -> Verdict {
    let header = &from.signed_header.header;
    let trusted = TrustedBlockState {
        chain_id: &header.chain_id,
        header_time: header.time,
        height: header.height,
        next_validators: &from.next_validators,
        next_validators_hash: header.next_validators_hash,
    };
    let options = Options {
        trust_threshold: TrustThreshold::ONE_THIRD,
        trusting_period: Duration::from_secs(3_600),
        clock_drift: Duration::from_secs(10),
    };
    let untrusted = to.as_untrusted_state();
    ProdVerifier::default().verify_update_header(untrusted, trusted, &options, Time::now())
}

/// Whether more than a third of the power that `from` trusts signed `to`.
fn is_possible(from: &LightBlock, to: &LightBlock) -> bool {
    let signs = |info: &&validator::Info| {
        let of = |signature: &CommitSig| match signature {
            CommitSig::BlockIdFlagCommit { validator_address, .. } => Some(*validator_address),
            _ => None,
        };
        to.signed_header.commit.signatures.iter().filter_map(of).any(|by| by == info.address)
    };
    let power = |info: &validator::Info| info.power.value();
    let set = from.next_validators.validators();
    let signing: u64 = set.iter().filter(signs).map(power).sum();
    signing * 3 > set.iter().map(power).sum::<u64>()
}

/// A transaction that sets a validator's power.
fn change(key: &[u8; 32], power: u64) -> String {
    format!("val=ed25519!{}!{power}", STANDARD.encode(key))
}

#[test]
fn a_light_client_follows_the_chain_over_changes_of_the_validator_set() {
    let net = Net::start(4);
    let public = |index: usize| {
        let (home, config): &(Home, Config) = &net.homes[index];
        let key = ValidatorKey::read(&home.validator_key_file(config)).expect("a key");
        *key.public().to_bytes().first_chunk().expect("32 bytes")
    };
    let stranger: [u8; 32] = SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes();
    run(async {
        let client = net.client(0).await;
        let mut last = commit(&client, "begin=1".into()).await;
        // One that never votes joins, changes and leaves; one that votes gets most of the power, and another leaves.
        let changes =
            [(stranger, 5), (stranger, 7), (public(1), 100), (stranger, 0), (public(3), 0)];
        for (number, (key, power)) in changes.iter().enumerate() {
            let height = commit(&client, change(key, *power)).await;
            // The change counts two heights later; blocks there prove it.
            while last < height.increment().increment().increment() {
                last = commit(&client, format!("after{number}at{last}=1")).await;
            }
            let set = client.validators(last, Paging::All).await.expect("the set").validators;
            let found = set.iter().find(|info| info.pub_key.to_bytes() == key);
            assert_eq!(found.map_or(0, |info| info.power.value()), *power);
        }
        let mut blocks = Vec::new();
        for height in 1..last.value() {
            blocks.push(light_block(&client, height.try_into().expect("a height")).await);
        }
        for pair in blocks.windows(2) {
            assert_eq!(judge(&pair[0], &pair[1]), Verdict::Success, "{:?}", pair[1].height());
        }
        let mut jumps = [0, 0];
        for (index, from) in blocks.iter().enumerate() {
            for to in blocks.iter().skip(index + 2) {
                let verdict = judge(from, to);
                let possible = is_possible(from, to);
                jumps[usize::from(possible)] += 1;
                let expected = match verdict {
                    Verdict::Success => possible,
                    Verdict::NotEnoughTrust(_) => !possible,
                    Verdict::Invalid(_) => false,
                };
                assert!(expected, "{} to {}: {verdict:?}", from.height(), to.height());
            }
        }
        assert!(jumps[1] > 0, "{jumps:?}");
    });
}
