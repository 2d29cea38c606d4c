//! The index over a chain with events, against a search by looking at everything.

use super::*;
use crate::store::chain_tests::chain_of;
use tempfile::TempDir;
use tendermint_proto::v0_38::abci::{EventAttribute, ExecTxResult};

const BLOCKS: u64 = 40;

fn height(at: u64) -> Height {
    Height::try_from(at).unwrap()
}

fn event(kind: &str, attributes: &[(&str, String)]) -> Event {
    let attribute = |(key, value): &(&str, String)| EventAttribute {
        key: (*key).to_owned(),
        value: value.clone(),
        index: !key.starts_with("no"),
    };
    Event { r#type: kind.to_owned(), attributes: attributes.iter().map(attribute).collect() }
}

/// Events that follow from the height alone.
fn results(block: &SealedBlock) -> ResponseFinalizeBlock {
    let at = block.header().height.value();
    let result = |index: u64| ExecTxResult {
        code: 0,
        events: vec![
            event("a", &[("n", (at * 10 + index).to_string()), ("mod", (at % 3).to_string())]),
            event("a", &[("n", "none".to_owned()), ("nothing", "x".to_owned())]),
            event("", &[("n", "x".to_owned())]),
            event("tx", &[("height", "7".to_owned())]),
        ],
        ..ExecTxResult::default()
    };
    let txs = u64::try_from(block.txs().len()).unwrap();
    ResponseFinalizeBlock {
        events: vec![event("whole", &[("mod", (at % 4).to_string())])],
        tx_results: (0..txs).map(result).collect(),
        ..ResponseFinalizeBlock::default()
    }
}

fn filled() -> (TempDir, Chain, Index) {
    let (folder, chain) = chain_of(BLOCKS);
    let index = Index::open(&folder.path().join("index"), &chain).unwrap();
    for at in 1..=BLOCKS {
        let block = chain.block(height(at)).unwrap().unwrap();
        index.add(&block, &results(&block)).unwrap();
    }
    (folder, chain, index)
}

fn all<'a>(scope: Scope) -> Search<'a> {
    Search {
        scope,
        heights: (0, u64::MAX),
        height_accepts: None,
        is: vec![],
        has: vec![],
        descending: false,
        skip: 0,
        take: PAGE_MAX,
    }
}

fn places(found: &Found) -> Vec<(u64, u32)> {
    found.places.iter().map(|(height, index)| (height.value(), *index)).collect()
}

#[test]
fn a_value_is_found_where_it_stands_in_the_order_of_the_chain() {
    let (_folder, chain, index) = filled();
    let search = Search { is: vec![("a.mod", "1")], take: 5, ..all(Scope::Txs) };
    let found = index.search(&search).unwrap();
    let txs = |at: u64| chain.block(height(at)).unwrap().unwrap().txs().len();
    let total: usize = (1..=BLOCKS).filter(|at| at % 3 == 1).map(txs).sum();
    assert_eq!(found.total, total);
    assert!(total > 5);
    let mut expected = (1..=BLOCKS)
        .filter(|at| at % 3 == 1)
        .flat_map(|at| (0..u32::try_from(txs(at)).unwrap()).map(move |index| (at, index)));
    assert_eq!(places(&found), expected.by_ref().take(5).collect::<Vec<_>>());
    let next = Search { is: vec![("a.mod", "1")], take: 5, skip: 5, ..all(Scope::Txs) };
    assert_eq!(places(&index.search(&next).unwrap()), expected.take(5).collect::<Vec<_>>());
    let back = Search { is: vec![("a.mod", "1")], descending: true, take: 1, ..all(Scope::Txs) };
    assert_eq!(places(&index.search(&back).unwrap())[0].0, 40);
    let past = Search { is: vec![("a.mod", "1")], skip: total, ..all(Scope::Txs) };
    assert_eq!(index.search(&past).unwrap(), Found { places: vec![], total });
}

#[test]
fn conditions_are_met_within_one_event() {
    let (_folder, _, index) = filled();
    let both = |n: &'static str, modulo: &'static str| Search {
        is: vec![("a.n", n), ("a.mod", modulo)],
        ..all(Scope::Txs)
    };
    assert_eq!(places(&index.search(&both("130", "1")).unwrap()), [(13, 0)]);
    assert_eq!(index.search(&both("130", "2")).unwrap().total, 0);
    // In another event of the same transaction.
    assert_eq!(index.search(&both("none", "1")).unwrap().total, 0);
    let above = |least: u64| -> Accepts<'static> {
        Box::new(move |value| value.parse::<u64>().is_ok_and(|value| value >= least))
    };
    let range =
        Search { is: vec![("a.mod", "1")], has: vec![("a.n", above(391))], ..all(Scope::Txs) };
    assert_eq!(places(&index.search(&range).unwrap())[0].0, 40);
    let range = Search { has: vec![("a.n", above(391))], descending: true, ..all(Scope::Txs) };
    let found = places(&index.search(&range).unwrap());
    assert!(found.contains(&(39, 1)) && !found.contains(&(39, 0)), "{found:?}");
}

#[test]
fn what_is_not_to_be_indexed_is_not_and_reserved_keys_are_the_nodes_own() {
    let (_folder, _, index) = filled();
    for tag in ["a.nothing", ".n", "tx.height", "a.absent"] {
        let search = Search { has: vec![(tag, Box::new(|_| true))], ..all(Scope::Txs) };
        assert_eq!(index.search(&search).unwrap().total, 0, "{tag}");
    }
    let blocks = Search { has: vec![("a.n", Box::new(|_| true))], ..all(Scope::Blocks) };
    assert_eq!(index.search(&blocks).unwrap().total, 0, "events of transactions are not a block's");
}

#[test]
fn heights_alone_are_counted_without_looking() {
    let (_folder, chain, index) = filled();
    let txs = |at: u64| chain.block(height(at)).unwrap().unwrap().txs().len();
    let every: Vec<(u64, u32)> = (5..=9u64)
        .flat_map(|at| (0..u32::try_from(txs(at)).unwrap()).map(move |index| (at, index)))
        .collect();
    for descending in [false, true] {
        let mut expected = every.clone();
        if descending {
            expected.reverse();
        }
        let counted = Search { heights: (5, 9), descending, ..all(Scope::Txs) };
        let found = index.search(&counted).unwrap();
        assert_eq!((places(&found), found.total), (expected.clone(), every.len()));
        let looked = Search {
            height_accepts: Some(Box::new(|height| {
                ("5"..="9").contains(&height) && height.len() == 1
            })),
            descending,
            ..all(Scope::Txs)
        };
        assert_eq!(places(&index.search(&looked).unwrap()), expected);
    }
    let blocks = Search { heights: (38, 99), skip: 1, ..all(Scope::Blocks) };
    let found = index.search(&blocks).unwrap();
    assert_eq!((places(&found), found.total), (vec![(39, 0), (40, 0)], 3));
}

#[test]
fn pruned_heights_leave_nothing_behind() {
    let (_folder, chain, index) = filled();
    // The chain of the test has no events: what is there follows from its results.
    let (folder, other) = (tempfile::tempdir().unwrap(), chain);
    let index_of_chain = Index::open(&folder.path().join("index"), &other).unwrap();
    for at in 1..=BLOCKS {
        let block = other.block(height(at)).unwrap().unwrap();
        index_of_chain.add(&block, &other.results(height(at)).unwrap().unwrap()).unwrap();
    }
    while index_of_chain.prune(&other, 31).unwrap() {}
    let count = |family: Family| {
        let db = &index_of_chain.0.db;
        db.iterator_cf(index_of_chain.family(family), rocksdb::IteratorMode::Start).count()
    };
    let hashes = |at: u64| {
        let results = other.results(height(at)).unwrap().unwrap();
        let block = other.block(height(at)).unwrap().unwrap();
        block.tx_hashes().iter().take(results.tx_results.len()).copied().collect::<Vec<_>>()
    };
    // The same transaction may stand in many blocks: the last counts.
    let kept: std::collections::BTreeSet<[u8; 32]> = (31..=BLOCKS).flat_map(hashes).collect();
    assert_eq!(count(Family::Tx), kept.len());
    assert_eq!(count(Family::Count), usize::try_from(BLOCKS - 29).unwrap());
    let search = Search { heights: (0, 35), ..all(Scope::Blocks) };
    let found = index_of_chain.search(&search).unwrap();
    assert_eq!(places(&found).first(), Some(&(31, 0)));
    drop(index);
}

fn entries(index: &Index, family: Family) -> usize {
    index.0.db.iterator_cf(index.family(family), rocksdb::IteratorMode::Start).count()
}

/// A chain whose blocks have the events of [`results`], but for every third, which has none.
fn chain_with_events(folder: &TempDir) -> (Chain, Index) {
    let chain = crate::store::chain_tests::chain_with(folder.path(), BLOCKS, |block| {
        match block.header().height.value() % 3 {
            0 => ResponseFinalizeBlock { events: Vec::new(), ..without_events(block) },
            _ => results(block),
        }
    });
    let index = Index::open(&folder.path().join("index"), &chain).unwrap();
    for at in 1..=BLOCKS {
        let block = chain.block(height(at)).unwrap().unwrap();
        index.add(&block, &chain.results(height(at)).unwrap().unwrap()).unwrap();
    }
    (chain, index)
}

fn without_events(block: &SealedBlock) -> ResponseFinalizeBlock {
    let tx_results = vec![ExecTxResult::default(); block.txs().len()];
    ResponseFinalizeBlock { tx_results, ..ResponseFinalizeBlock::default() }
}

#[test]
fn nothing_is_left_of_pruned_heights_whether_they_have_events_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, index) = chain_with_events(&folder);
    let of_heights = |family, from: u64| {
        let heights = (from..=BLOCKS).map(|at| chain.results(height(at)).unwrap().unwrap());
        let postings = heights.map(|results| postings(&results));
        let count = |one: Postings| if family == "is" { one.is.len() } else { one.has.len() };
        postings.map(count).sum::<usize>()
    };
    assert_eq!(entries(&index, Family::Is), of_heights("is", 1));
    assert!(of_heights("is", 31) > 0);
    while index.prune(&chain, 31).unwrap() {}
    assert_eq!(entries(&index, Family::Is), of_heights("is", 31));
    assert_eq!(entries(&index, Family::Has), of_heights("has", 31));
    let search = Search { has: vec![("a.n", Box::new(|_| true))], ..all(Scope::Txs) };
    let found = places(&index.search(&search).unwrap());
    assert_eq!(found.first().map(|(at, _)| *at), Some(31));
    // The index follows from what is left alone: of all that there was nothing stays.
    while index.prune(&chain, BLOCKS + 1).unwrap() {}
    let left = [Family::Is, Family::Has, Family::Tx].map(|family| entries(&index, family));
    assert_eq!((left, index.search(&search).unwrap().total), ([0, 0, 0], 0));
}

/// CometBFT's `AddBatch`, which its indexer calls, writes over what was there.
#[test]
fn a_transaction_that_is_repeated_stands_where_it_was_last_whatever_became_of_it() {
    let (_folder, chain) = chain_of(4);
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(&folder.path().join("index"), &chain).unwrap();
    let block = |at: u64| chain.block(height(at)).unwrap().unwrap();
    let hash = block(1).tx_hashes()[0];
    let repeated = |at: u64, code: u32| {
        let mut inner = block(at).block().clone();
        inner.txs = vec![block(1).txs()[0].clone(); 2];
        let result = ExecTxResult { code, ..ExecTxResult::default() };
        let results = ResponseFinalizeBlock { tx_results: vec![result; 2], ..Default::default() };
        index.add(&SealedBlock::seal(inner), &results).unwrap();
        index.tx(&hash).unwrap().unwrap()
    };
    for (at, code) in [(1, 1), (2, 0), (3, 5), (4, 0)] {
        assert_eq!(repeated(at, code), TxAt { height: height(at), index: 1 });
    }
}

/// What a search counts below the lowest height is removed with the heights.
#[test]
fn a_search_that_pruning_overtakes_counts_again() {
    let (_folder, chain, index) = filled();
    let before = index.span().unwrap();
    while index.prune(&chain, 21).unwrap() {}
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let search = Search { heights: (11, u64::MAX), ..all(Scope::Txs) };
    let stale = index.search_in(before, &search, until).unwrap();
    let txs = |at: u64| chain.block(height(at)).unwrap().unwrap().txs().len();
    let right: usize = (21..=BLOCKS).map(txs).sum();
    assert_ne!(stale.total, right, "it counted from a height that is gone");
    // The height that is accepted last is looked at once all others were: pruned meanwhile, once.
    let meanwhile = std::cell::Cell::new(0);
    let accepts = |text: &str| {
        if text == "40" && meanwhile.replace(meanwhile.get() + 1) == 0 {
            while index.prune(&chain, 31).unwrap() {}
        }
        true
    };
    let search = Search { height_accepts: Some(Box::new(accepts)), ..all(Scope::Txs) };
    let found = index.search(&search).unwrap();
    assert_eq!(found.total, (31..=BLOCKS).map(txs).sum::<usize>());
    assert_eq!((places(&found)[0].0, meanwhile.get()), (31, 2));
}

#[test]
fn an_index_that_pruning_overtakes_begins_at_the_lowest_height_that_is_left() {
    let (folder, chain) = chain_of(BLOCKS);
    let path = folder.path().join("index");
    let index = Index::open(&path, &chain).unwrap();
    let add = |index: &Index, at: u64| {
        let block = chain.block(height(at)).unwrap().unwrap();
        index.add(&block, &results(&block)).unwrap();
    };
    (1..=10).for_each(|at| add(&index, at));
    while index.prune(&chain, 31).unwrap() {}
    assert_eq!(index.span(), Some(Span { base: 31, next: 31 }));
    while chain.prune_batch(height(31)).unwrap().more {}
    add(&index, 31);
    add(&index, 32);
    drop(index);
    // It fits the chain and is not made again.
    let index = Index::open(&path, &chain).unwrap();
    assert_eq!(index.span(), Some(Span { base: 31, next: 33 }));
    let txs = |at: u64| chain.block(height(at)).unwrap().unwrap().txs().len();
    let found = index.search(&all(Scope::Txs)).unwrap();
    assert_eq!((found.total, places(&found)[0].0), (txs(31) + txs(32), 31));
}

#[test]
fn an_index_of_another_format_is_made_anew_and_no_other_folder_is_touched() {
    let (folder, chain, index) = filled();
    let path = folder.path().join("index");
    drop(index);
    let format = path.join(crate::store::folder::FILE);
    std::fs::write(&format, "tercet index 1\n").unwrap();
    assert_eq!(Index::open(&path, &chain).unwrap().next(), None);
    assert_eq!(std::fs::read_to_string(&format).unwrap().trim_end(), FORMAT);
    std::fs::write(&format, "something else\n").unwrap();
    let refused = Index::open(&path, &chain).unwrap_err();
    assert!(matches!(refused, StoreError::Format { .. }), "{refused}");
    assert!(path.exists());
}

#[test]
fn an_index_goes_on_where_it_was_and_begins_anew_where_the_chain_was_rolled_back() {
    let (folder, chain, index) = filled();
    let path = folder.path().join("index");
    drop(index);
    let index = Index::open(&path, &chain).unwrap();
    assert_eq!(index.next(), Some(BLOCKS + 1));
    let block = chain.block(height(3)).unwrap().unwrap();
    index.add(&block, &results(&block)).unwrap();
    assert_eq!(index.next(), Some(BLOCKS + 1), "a height that is indexed is passed over");
    let hash = block.tx_hashes()[0];
    assert_eq!(index.tx(&hash).unwrap().map(|tx| tx.index), Some(0));
    drop(index);
    let (_shorter, chain) = chain_of(5);
    assert_eq!(Index::open(&path, &chain).unwrap().next(), None);
}

#[test]
fn a_search_that_would_take_long_says_so() {
    let (_folder, _, index) = filled();
    let search = Search { has: vec![("a.n", Box::new(|_| false))], ..all(Scope::Txs) };
    assert_eq!(index.search(&search).unwrap().total, 0);
    let error = index.search_within(&search, std::time::Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains("narrow it with bounds of tx.height"), "{error}");
}
