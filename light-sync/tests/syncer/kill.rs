//! T-74: a process that is killed again and again goes on where it was.

use crate::node::{LONG, Node, chain};
use crate::sync::{assert_whole, config, honest, is_at_tip, sync};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tercet_light_core::header::Height;
use tercet_light_core::options::TrustRoot;
use tercet_light_core::planner::{Config, Role};
use tercet_light_sync::driver::{Source, Syncer};
use tercet_light_sync::provider::RpcProvider;
use tercet_light_sync::store::Store;

const KILLS: usize = 50;
const LAST: Height = 10_000;
const VARIABLE: &str = "TERCET_LIGHT_TEST_CHILD";

/// Not a test by itself: the process that is killed, which syncs until it is.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_syncs() {
    let Ok(arguments) = std::env::var(VARIABLE) else { return };
    let mut arguments = arguments.split('|');
    let folder = PathBuf::from(arguments.next().unwrap());
    let bytes = hex::decode(arguments.next().unwrap()).unwrap();
    let hash = tercet_light_core::hash::Hash::from_slice(&bytes).unwrap();
    let chain_id = "light-test".to_owned();
    let root = TrustRoot { chain_id, height: 1, hash, genesis_hash: None };
    let config = Config { run_headers: 20, ..Config::new(root) };
    let store = Store::open(&folder, &config.root).unwrap();
    let source = |url: &str| Source {
        provider: Arc::new(RpcProvider::new(url.parse().unwrap())),
        role: Role::Provider,
    };
    let syncer = Syncer::new(config, store, arguments.map(source).collect()).unwrap();
    let end = syncer.run(std::future::pending()).await;
    panic!("ended: {end:?}");
}

fn kept(folder: &Path, root: &TrustRoot) -> BTreeSet<Height> {
    if !folder.exists() {
        return BTreeSet::new();
    }
    let store = Store::open(folder, root).unwrap();
    (1..=LAST).filter(|height| store.header(*height).unwrap().is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_nothing_that_was_kept() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, chain) = (parent.path().join("light"), chain(LAST));
    let config = config(&chain, 1);
    let mut before = BTreeSet::new();
    for kill in 0..KILLS {
        let nodes = [honest(&chain).await, honest(&chain).await, honest(&chain).await];
        nodes.iter().for_each(|node| node.limit_runs(3));
        let urls: Vec<&str> = nodes.iter().map(|node| node.url.as_str()).collect();
        let arguments = format!("{}|{}|{}", folder.display(), config.root.hash, urls.join("|"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_that_syncs", "--nocapture"])
            .env(VARIABLE, arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed as soon as the answers are out: before, while or after they are written.
        let served = async {
            while nodes.iter().filter(|node| node.runs_left() == 0).count() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for _ in 0..kill {
                tokio::task::yield_now().await;
            }
        };
        let served = tokio::time::timeout(LONG, served).await;
        child.kill().unwrap();
        child.wait().unwrap();
        served.unwrap_or_else(|_| panic!("kill {kill}: the process does not ask"));
        for (low, high) in nodes.iter().flat_map(Node::runs).filter(|(low, high)| low < high) {
            let again = before.range(low..=high).next();
            assert_eq!(again, None, "kill {kill}: asked again for {low} to {high}");
        }
        let now = kept(&folder, &config.root);
        assert!(now.is_superset(&before), "kill {kill}: headers are gone");
        before = now;
    }
    assert!(before.len() > 1_000, "only {} headers were kept", before.len());
    let checked = Store::verify(&folder, false).unwrap();
    assert_eq!(checked.damages, []);
    let nodes = [honest(&chain).await, honest(&chain).await, honest(&chain).await];
    let all: Vec<&Node> = nodes.iter().collect();
    let progress = sync(&folder, &config, &all, is_at_tip(&chain)).await;
    let missing = LAST - before.len() as u64;
    assert!(progress.headers <= missing, "{} fetched, {missing} were missing", progress.headers);
    assert_whole(&folder, &chain, 1);
}
