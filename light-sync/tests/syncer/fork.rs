//! T-72: a fork that verifies ends the sync, gives evidence to everybody, and waits for a person.

use crate::node::{LONG, Node, chain};
use crate::sync::{assert_whole, config, honest, is_at_tip, is_synced, sync};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tercet_light_core::evidence::Attack;
use tercet_light_core::hash::Hash;
use tercet_light_core::planner::{Fork, Role};
use tercet_light_core::testing::chain::{Chain, Twist};
use tercet_light_sync::driver::{End, Source, Submission, Syncer};
use tercet_light_sync::store::{Resolved, Store, StoreError, summary};

async fn forked(folder: &Path, chain: &Chain, nodes: &[&Node]) -> (Box<Fork>, Vec<Submission>) {
    let config = config(chain, 1);
    let source =
        |node: &&Node| Source { provider: Arc::new(node.provider()), role: Role::Provider };
    let store = Store::open(folder, &config.root).unwrap();
    let syncer = Syncer::new(config, store, nodes.iter().map(source).collect()).unwrap();
    let end = tokio::time::timeout(LONG, syncer.run(std::future::pending())).await;
    let Ok(Ok(End::Forked(fork, submissions))) = end else { panic!("no fork: {end:?}") };
    (fork, submissions)
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_given_the_evidence_in_cometbfts_json() {
    for (twist, attack) in [
        (Twist::AppHash, Attack::Lunatic),
        (Twist::Data, Attack::Equivocation),
        (Twist::Round, Attack::Amnesia),
    ] {
        let (folder, chain) = (tempfile::tempdir().unwrap(), chain(200));
        let other = chain.fork(100, twist);
        let nodes = [honest(&chain).await, honest(&chain).await, honest(&other).await];
        let all: Vec<&Node> = nodes.iter().collect();
        let (fork, submissions) = forked(folder.path(), &chain, &all).await;
        assert_eq!((fork.attack, fork.evidence.len()), (attack, 2));
        assert_eq!(submissions.len(), 6);
        assert!(submissions.iter().all(|sent| sent.outcome.is_ok()), "{submissions:?}");
        for node in &nodes {
            let given = node.evidence();
            assert_eq!(given.len(), 2);
            for piece in &given {
                assert_eq!(piece["type"], "tendermint/LightClientAttackEvidence");
                let value = &piece["value"];
                let block = &value["ConflictingBlock"];
                let hash = |hash: &Value| hash.as_str().unwrap().to_owned();
                let of = hash(&block["signed_header"]["commit"]["block_id"]["hash"]);
                let known = |of: &String| {
                    fork.evidence.iter().find(|one| one.conflicting.hash().to_string() == *of)
                };
                let made = known(&of).unwrap_or_else(|| panic!("no evidence for {of}"));
                assert_eq!(value["CommonHeight"], made.common_height.to_string());
                assert_eq!(value["TotalVotingPower"], made.total_power.to_string());
                let guilty = value["ByzantineValidators"].as_array().unwrap().len();
                assert_eq!(guilty, made.byzantine.len());
                assert_eq!(block["validator_set"]["validators"].as_array().unwrap().len(), 4);
                assert!(block["validator_set"]["proposer"].is_object());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_a_fork_is_not_used_before_somebody_says_which_chain_is_true() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(200));
    let folder = folder.path();
    let other = chain.fork(100, Twist::AppHash);
    let nodes = [honest(&chain).await, honest(&chain).await, honest(&other).await];
    let all: Vec<&Node> = nodes.iter().collect();
    let (fork, _) = forked(folder, &chain, &all).await;
    let root = config(&chain, 1).root;
    let again = Store::open(folder, &root).unwrap_err().to_string();
    assert!(again.contains("holds a fork found at height"), "{again}");
    assert_eq!(again.lines().count(), 1);
    let note = summary(folder).unwrap().fork.unwrap();
    assert!(note.common < note.height, "{note:?}");
    for (height, hash) in [(note.height, Hash::new([7; 32])), (1, chain.hash(1))] {
        let refused = Store::resolve(folder, height, hash).unwrap_err();
        assert!(matches!(refused, StoreError::OnNeither { .. }), "{refused}");
    }
    // Whichever side was kept, the word of a person decides, and the sync goes on with who is on that side.
    let top = fork.theirs.last().unwrap();
    let theirs_are_false = top.hash() == other.hash(top.height());
    let resolved = Store::resolve(folder, note.height, chain.hash(note.height)).unwrap();
    match resolved {
        Resolved::Ours => assert!(theirs_are_false),
        // What was kept goes where it is false, and where it may be.
        Resolved::Theirs(height) => assert!(height <= note.common),
    }
    let none = Store::resolve(folder, note.height, chain.hash(note.height)).unwrap_err();
    assert!(matches!(none, StoreError::NoFork(_)), "{none}");
    let third = honest(&chain).await;
    sync(folder, &config(&chain, 1), &[&nodes[0], &nodes[1], &third], is_at_tip(&chain)).await;
    assert_whole(folder, &chain, 1);
}

/// The false chain was the one that was kept, perhaps with an anchor of the true one above it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_of_a_false_chain_goes_where_somebody_says_so() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(200));
    let folder = folder.path();
    let other = chain.fork(100, Twist::Data);
    let liars = [honest(&other).await, honest(&other).await, honest(&other).await];
    let all: Vec<&Node> = liars.iter().collect();
    sync(folder, &config(&chain, 1), &all, is_synced).await;
    // The true chain goes on, so that there is something to compare.
    let (mut chain, mut other) = (chain, other);
    chain.grow(260);
    other.grow(260);
    let nodes = [honest(&other).await, honest(&other).await, honest(&chain).await];
    let all: Vec<&Node> = nodes.iter().collect();
    forked(folder, &chain, &all).await;
    let note = summary(folder).unwrap().fork.unwrap();
    let resolved = Store::resolve(folder, note.height, chain.hash(note.height)).unwrap();
    assert!(matches!(resolved, Resolved::Theirs(height) if height <= note.common), "{resolved:?}");
    let true_nodes = [honest(&chain).await, honest(&chain).await, honest(&chain).await];
    let all: Vec<&Node> = true_nodes.iter().collect();
    sync(folder, &config(&chain, 1), &all, is_at_tip(&chain)).await;
    assert_whole(folder, &chain, 1);
}
