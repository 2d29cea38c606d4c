//! What a provider makes of a node's answers.

use crate::node::{Manner, Node, chain};
use std::time::Duration;
use tercet_light_core::chain::RunRequest;
use tercet_light_core::header::Height;
use tercet_light_core::planner::{Answer, Failure, Fault, What};
use tercet_light_core::testing::chain::{Chain, Spec};
use tercet_light_sync::provider::{Provider as _, RpcProvider};

async fn ask(node: &Node, what: What) -> Result<Answer, Failure> {
    ask_of(&node.provider(), what).await
}

async fn ask_of(provider: &RpcProvider, what: What) -> Result<Answer, Failure> {
    provider.ask(&what, what.bytes_max()).await
}

fn run(low: Height, high: Height) -> What {
    What::Run(RunRequest { chain_id: "light-test".to_owned(), low, high })
}

#[tokio::test]
async fn what_a_node_says_arrives_as_it_is() {
    let chain = chain(300);
    let node = Node::new(&chain, Manner::Honest).await;
    let Ok(Answer::Status(claim)) = ask(&node, What::Status).await else { panic!("no status") };
    assert_eq!((claim.chain_id.as_str(), claim.first, claim.last), ("light-test", 1, 300));
    assert_eq!(claim.time, chain.header(300).time());
    for (asked, height) in [(Some(1), 1), (Some(77), 77), (Some(300), 300), (None, 300)] {
        let Ok(Answer::Block(block)) = ask(&node, What::Block(asked)).await else {
            panic!("no block {height}")
        };
        assert_eq!(block.header.bytes(), chain.header(height).bytes());
        assert_eq!(block.commit, chain.commit(height));
        assert_eq!(block.bind().unwrap().hash(), chain.hash(height));
    }
    let Ok(Answer::Header(header)) = ask(&node, What::Header(9)).await else { panic!("none") };
    assert_eq!(header.hash(), chain.hash(9));
    let Ok(Answer::Commits(commits)) = ask(&node, What::Commits { low: 5, high: 200 }).await else {
        panic!("no commits")
    };
    assert_eq!(commits, (5..15).map(|height| chain.commit(height)).collect::<Vec<_>>());
    let Ok(Answer::Validators(set)) = ask(&node, What::Validators(60)).await else { panic!() };
    assert_eq!(set.hash(), chain.clone().set(60).hash());
}

#[tokio::test]
async fn two_hundred_headers_come_in_one_exchange() {
    let chain = chain(300);
    let node = Node::new(&chain, Manner::Honest).await;
    let Ok(Answer::Run(linked)) = ask(&node, run(101, 300)).await else { panic!("no run") };
    assert_eq!((linked.low(), linked.high()), (101, 300));
    assert_eq!(node.posts(), 1);
    let Ok(Answer::Run(linked)) = ask(&node, run(1, 7)).await else { panic!("no run") };
    assert_eq!((linked.low(), linked.high()), (1, 7));
}

#[tokio::test]
async fn a_node_that_takes_no_batches_is_asked_one_by_one() {
    let chain = chain(300);
    let node = Node::new(&chain, Manner::NoBatches).await;
    let provider = node.provider();
    for _ in 0..2 {
        let Ok(Answer::Run(linked)) = ask_of(&provider, run(101, 300)).await else { panic!() };
        assert_eq!((linked.low(), linked.high()), (281, 300));
    }
    assert_eq!(node.posts(), 3);
}

#[tokio::test]
async fn validators_are_read_page_by_page() {
    let chain = Chain::new(Spec { last: 2, validators: 250, ..Spec::default() });
    let node = Node::new(&chain, Manner::Honest).await;
    let Ok(Answer::Validators(set)) = ask(&node, What::Validators(2)).await else { panic!() };
    assert_eq!(set.count(), 250);
    assert_eq!(node.posts(), 3);
}

#[tokio::test]
async fn a_set_is_fetched_once_for_all_blocks_that_have_it() {
    let chain = Chain::new(Spec { last: 20, ..Spec::default() });
    let node = Node::new(&chain, Manner::Honest).await;
    let provider = node.provider();
    for height in [3, 9, 20] {
        ask_of(&provider, What::Block(Some(height))).await.unwrap();
    }
    assert_eq!(node.posts(), 4);
}

#[tokio::test]
async fn heights_that_a_node_does_not_have_are_told_apart() {
    let node = Node::new(&chain(100), Manner::Pruned(50)).await;
    for what in [What::Block(Some(101)), What::Header(101), What::Validators(102), run(101, 120)] {
        assert_eq!(ask(&node, what.clone()).await.unwrap_err(), Failure::NotYet, "{what:?}");
    }
    for what in [What::Block(Some(49)), What::Header(49), What::Validators(49), run(30, 49)] {
        assert_eq!(ask(&node, what.clone()).await.unwrap_err(), Failure::Gone, "{what:?}");
    }
    // What is there is taken.
    let Ok(Answer::Run(linked)) = ask(&node, run(1, 100)).await else { panic!("no run") };
    assert_eq!((linked.low(), linked.high()), (50, 100));
}

#[tokio::test]
async fn a_node_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    let node = Node::new(&chain(10), Manner::Busy(7)).await;
    let busy = ask(&node, What::Status).await.unwrap_err();
    assert_eq!(busy, Failure::Busy(Duration::from_secs(7)));
    assert_eq!(node.posts(), 1);
}

#[tokio::test]
async fn garbage_and_bodies_without_end_are_malformed() {
    for manner in [Manner::Garbage, Manner::Endless, Manner::Zipped] {
        let node = Node::new(&chain(10), manner.clone()).await;
        for what in [What::Status, What::Block(Some(1)), What::Header(1), run(1, 10)] {
            let failure = ask(&node, what).await.unwrap_err();
            assert_eq!(failure, Failure::Malformed(Fault::Malformed), "{manner:?}");
        }
    }
}

#[tokio::test]
async fn the_clock_of_a_node_is_taken_from_its_answers() {
    let manner = Manner::Dates("Tue, 01 Jan 2030 00:00:07 GMT");
    for (manner, wanted) in [(Manner::Honest, None), (manner, Some(1_893_456_007))] {
        let node = Node::new(&chain(10), manner).await;
        let Ok(Answer::Status(claim)) = ask(&node, What::Status).await else { panic!() };
        let now = tercet_light_sync::clock::now().unix_seconds();
        let off = claim.clock.unwrap().unix_seconds() - wanted.unwrap_or(now);
        assert!(off.abs() <= 2, "{off} s off");
    }
    let node = Node::new(&chain(10), Manner::Dates("yesterday")).await;
    let Ok(Answer::Status(claim)) = ask(&node, What::Status).await else { panic!() };
    assert_eq!(claim.clock, None);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Node::new(&chain(10), Manner::Honest).await;
    let node = Node::new(&chain(10), Manner::Redirects(target.url.clone())).await;
    assert_eq!(ask(&node, What::Status).await.unwrap_err(), Failure::Unavailable);
    assert_eq!(target.posts(), 0);
}

#[tokio::test]
async fn a_node_that_is_not_there_is_unavailable() {
    let node = Node::new(&chain(10), Manner::Honest).await;
    let provider = node.provider();
    drop(node);
    tokio::task::yield_now().await;
    assert_eq!(ask_of(&provider, What::Status).await.unwrap_err(), Failure::Unavailable);
}
