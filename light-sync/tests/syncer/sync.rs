//! Whole syncs.

use crate::node::{LONG, Manner, Node, chain};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tercet_light_core::header::Height;
use tercet_light_core::planner::{Condition, Config, Fault, Mode, Role};
use tercet_light_core::testing::chain::Chain;
use tercet_light_core::testing::world::World;
use tercet_light_sync::driver::{Progress, Source, Syncer};
use tercet_light_sync::store::{Store, summary};

pub(crate) fn config(chain: &Chain, root: Height) -> Config {
    Config { run_headers: 20, ..Config::new(World::root(chain, root)) }
}

/// Syncs until `done`; then stops as a process that is killed does, without a word to the store.
pub(crate) async fn sync(
    folder: &Path,
    config: &Config,
    nodes: &[&Node],
    done: impl Fn(&Progress) -> bool,
) -> Progress {
    let store = Store::open(folder, &config.root).unwrap();
    let source =
        |node: &&Node| Source { provider: Arc::new(node.provider()), role: Role::Provider };
    let sources = nodes.iter().map(source).collect();
    let syncer = Syncer::new(config.clone(), store, sources).unwrap();
    let mut progress = syncer.progress();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = syncer.run(async { drop(stopped.await) });
    tokio::pin!(run);
    let found = tokio::select! {
        end = &mut run => panic!("ended: {end:?}"),
        found = tokio::time::timeout(LONG, progress.wait_for(|now| done(now))) => {
            found.expect("in time").expect("a syncer").clone()
        }
    };
    drop(stop);
    // Its store is closed then.
    run.await.expect("an end");
    found
}

pub(crate) fn is_synced(progress: &Progress) -> bool {
    progress.status.condition == Condition::Synced
}

/// Everything of this chain is there and trusted.
pub(crate) fn is_at_tip(chain: &Chain) -> impl Fn(&Progress) -> bool {
    let last = chain.spec.last;
    move |now| is_synced(now) && now.status.trusted.is_some_and(|point| point.height == last)
}

/// Every header of the chain from `low` on is kept.
pub(crate) fn assert_whole(folder: &Path, chain: &Chain, low: Height) {
    let store = Store::open(folder, &World::root(chain, low)).unwrap();
    for height in low..=chain.spec.last {
        let header = store.header(height).unwrap().unwrap_or_else(|| panic!("no {height}"));
        assert_eq!(header.hash(), chain.hash(height));
    }
    assert!(store.header(chain.spec.last + 1).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_nodes_give_the_whole_chain() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(700));
    let nodes = [&honest(&chain).await, &honest(&chain).await, &honest(&chain).await];
    let progress = sync(folder.path(), &config(&chain, 1), &nodes, is_synced).await;
    assert_eq!(progress.status.trusted.unwrap().hash, chain.hash(700));
    assert_eq!(progress.headers, 700);
    assert_whole(folder.path(), &chain, 1);
    let summary = summary(folder.path()).unwrap();
    assert_eq!(summary.missing, 0);
    assert_eq!(summary.verified.unwrap().1, chain.hash(700));
    let (height, by) = summary.confirmed.unwrap();
    assert_eq!((height, by.len()), (700, 2));
}

pub(crate) async fn honest(chain: &Chain) -> Node {
    Node::new(chain, Manner::Honest).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_node_among_good_ones_changes_nothing() {
    let chain = chain(400);
    let nodes = [&honest(&chain).await, &honest(&chain).await, &honest(&chain).await];
    let cases = [
        (Manner::Lies(150), None),
        (Manner::Lies(400), None),
        (Manner::Silent, None),
        (Manner::Busy(1), None),
        (Manner::NoBatches, None),
        (Manner::Endless, Some(Fault::Malformed)),
        (Manner::Garbage, Some(Fault::Malformed)),
        (Manner::NamesChain("another".to_owned()), Some(Fault::OtherChain)),
    ];
    for (manner, fault) in cases {
        let folder = tempfile::tempdir().unwrap();
        let bad = Node::new(&chain, manner.clone()).await;
        let all = [&bad, nodes[0], nodes[1], nodes[2]];
        let mut config = config(&chain, 1);
        config.patience = std::time::Duration::from_secs(1);
        let done = |progress: &Progress| {
            is_synced(progress) && (fault.is_none() || !progress.refused.is_empty())
        };
        let progress = sync(folder.path(), &config, &all, done).await;
        assert_whole(folder.path(), &chain, 1);
        assert!(progress.refused.iter().all(|(name, _)| *name == bad.url), "{manner:?}");
        if let Some(fault) = fault {
            assert_eq!(progress.refused, [(bad.url.clone(), fault)], "{manner:?}");
        }
    }
}

/// What a sync that was dropped in the middle has kept is neither asked for nor verified again.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_sync_goes_on_where_it_was() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(900));
    let config = config(&chain, 1);
    let nodes = [honest(&chain).await, honest(&chain).await, honest(&chain).await];
    nodes.iter().for_each(|node| node.limit_runs(8));
    let all: Vec<&Node> = nodes.iter().collect();
    let climbed = |now: &Progress| now.status.verified.is_some_and(|top| top.height == 900);
    let first = sync(folder.path(), &config, &all, |now| climbed(now) && now.headers >= 200).await;
    assert!(first.status.missing > 0);
    let kept = summary(folder.path()).unwrap();
    assert!(kept.missing > 0);
    let store = Store::open(folder.path(), &config.root).unwrap();
    let kept_heights: BTreeSet<Height> =
        (1..=900).filter(|height| store.header(*height).unwrap().is_some()).collect();
    drop(store);
    let fresh = [honest(&chain).await, honest(&chain).await, honest(&chain).await];
    let all: Vec<&Node> = fresh.iter().collect();
    let second = sync(folder.path(), &config, &all, is_synced).await;
    // Not one anchor is new, and as many headers as were missing.
    assert_eq!((second.anchors, second.headers), (0, kept.missing));
    let runs: Vec<_> = fresh.iter().flat_map(Node::runs).filter(|(low, high)| low < high).collect();
    assert!(!runs.is_empty());
    for (low, high) in runs {
        assert_eq!(kept_heights.range(low..=high).next(), None, "{low} to {high}");
    }
    assert_whole(folder.path(), &chain, 1);
    let third = sync(folder.path(), &config, &all, is_synced).await;
    assert_eq!((third.anchors, third.headers), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_root_leaves_nobody_to_fetch_from() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(50));
    let nodes = [&honest(&chain).await, &honest(&chain).await];
    let mut config = config(&chain, 7);
    config.root.hash = chain.hash(8);
    let progress = sync(folder.path(), &config, &nodes, |now| now.providers == 0).await;
    let other = |(_, fault): &(String, Fault)| *fault == Fault::OtherRoot(7);
    assert!(progress.refused.iter().all(other), "{:?}", progress.refused);
    assert_eq!((progress.headers, progress.status.trusted), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_blocks_are_followed_and_kept() {
    let (folder, mut chain) = (tempfile::tempdir().unwrap(), chain(100));
    let nodes = [honest(&chain).await, honest(&chain).await, honest(&chain).await];
    let all: Vec<&Node> = nodes.iter().collect();
    sync(folder.path(), &config(&chain, 1), &all, is_synced).await;
    chain.grow(130);
    nodes.iter().for_each(|node| node.grow(130));
    let at_tip = |now: &Progress| {
        is_synced(now) && now.status.trusted.is_some_and(|point| point.height == 130)
    };
    let progress = sync(folder.path(), &config(&chain, 1), &all, at_tip).await;
    assert_eq!(progress.headers, 30);
    assert_whole(folder.path(), &chain, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_below_the_root_are_fetched_where_asked() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(300));
    let nodes = [honest(&chain).await, honest(&chain).await, honest(&chain).await];
    let all: Vec<&Node> = nodes.iter().collect();
    let config = Config { fill_from: Some(1), ..config(&chain, 200) };
    sync(folder.path(), &config, &all, is_synced).await;
    assert_whole(folder.path(), &chain, 1);
    let summary = summary(folder.path()).unwrap();
    assert_eq!((summary.root.height, summary.lowest), (200, Some(1)));
    assert_eq!(summary.beginning, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn full_mode_checks_every_commit() {
    let start = chain(1).spec.start;
    let spec = tercet_light_core::testing::chain::Spec {
        last: 120,
        start,
        commits: true,
        ..Default::default()
    };
    let (folder, chain) = (tempfile::tempdir().unwrap(), Chain::new(spec));
    let nodes = [honest(&chain).await, honest(&chain).await, honest(&chain).await];
    let all: Vec<&Node> = nodes.iter().collect();
    let config = Config { mode: Mode::Full, ..config(&chain, 1) };
    sync(folder.path(), &config, &all, is_synced).await;
    assert_whole(folder.path(), &chain, 1);
    assert_eq!(summary(folder.path()).unwrap().missing, 0);
}

/// T-75, the clock's part: two nodes of three whose clocks are years ahead.
#[tokio::test(flavor = "multi_thread")]
async fn no_trust_is_extended_where_the_clocks_of_two_thirds_are_others() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), chain(300));
    let ahead = || Node::new(&chain, Manner::Dates("Tue, 01 Jan 2030 00:00:00 GMT"));
    let nodes = [&honest(&chain).await, &ahead().await, &ahead().await];
    let suspect = |now: &Progress| now.status.condition == Condition::ClockSuspect;
    sync(folder.path(), &config(&chain, 1), &nodes, suspect).await;
    // One alone is not believed.
    let nodes = [&honest(&chain).await, &honest(&chain).await, &ahead().await];
    sync(folder.path(), &config(&chain, 1), &nodes, is_synced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_proposed_where_all_agree_and_says_who_does_not() {
    use tercet_light_core::testing::chain::Twist;
    use tercet_light_sync::provider::Provider;
    use tercet_light_sync::root::propose;
    let chain = chain(100);
    let other = chain.fork(50, Twist::AppHash);
    let good = [honest(&chain).await, honest(&chain).await];
    let (liar, silent) = (honest(&other).await, Node::new(&chain, Manner::Garbage).await);
    let unsigned = Node::new(&chain, Manner::Lies(98)).await;
    let ask = |nodes: Vec<&Node>| {
        let all: Vec<_> =
            nodes.iter().map(|node| Arc::new(node.provider()) as Arc<dyn Provider>).collect();
        async move { propose(&all, None).await }
    };
    let agreed = ask(vec![&good[0], &good[1]]).await;
    let opinion = agreed.agreed().unwrap();
    assert_eq!((agreed.height, opinion.hash), (98, chain.hash(98)));
    assert_eq!(opinion.chain_id, "light-test");
    let alone = ask(vec![&good[0]]).await;
    assert_eq!(alone.agreed(), None, "one is no comparison");
    let split = ask(vec![&liar, &good[0], &good[1], &silent, &unsigned]).await;
    assert_eq!(split.agreed(), None);
    let [(first, by), (second, other_by)] = split.opinions.as_slice() else { panic!("{split:?}") };
    assert_eq!((first.hash, by.len()), (chain.hash(98), 2));
    assert_eq!((second.hash, other_by.len()), (other.hash(98), 1));
    assert_eq!(split.silent.len(), 2, "{:?}", split.silent);
}
