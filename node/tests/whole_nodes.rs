//! Whole nodes in one process: they connect over loopback, order transactions, and come back after they were down.
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, missing_docs, dead_code)]

mod support;

use support::Net;
use tercet_node::network::Transport;
use tercet_node::store::Chain;

#[test]
fn one_validator_alone_commits() {
    let mut net = Net::new(&[10], 0, Transport::Tcp);
    net.start_all();
    net.send(0, "a=1");
    net.apps[0].wait_for("a=1");
}

#[test]
fn four_validators_commit_what_any_of_them_is_sent() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.start_all();
    for index in 0..4 {
        net.send(index, &format!("k{index}=v"));
    }
    for app in &net.apps {
        (0..4).for_each(|index| app.wait_for(&format!("k{index}=v")));
    }
    net.assert_one_chain();
}

#[test]
fn three_of_four_go_on_and_the_fourth_comes_back_and_votes() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.start_all();
    net.send(0, "before=1");
    net.apps.iter().for_each(|app| app.wait_for("before=1"));
    net.stop(3);
    for n in 0..30 {
        net.send(0, &format!("without{n}=1"));
        net.apps[1].wait_for(&format!("without{n}=1"));
    }
    net.start(3);
    net.apps[3].wait_for("without29=1");
    // Its vote is needed once another is down.
    net.stop(0);
    net.send(3, "with=1");
    [1, 2, 3].iter().for_each(|index| net.apps[*index].wait_for("with=1"));
    net.assert_one_chain();
}

#[test]
fn all_four_stopped_and_started_go_on_from_where_they_were() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    for round in 0..3 {
        net.start_all();
        let tx = format!("round{round}=1");
        net.send(round, &tx);
        net.apps.iter().for_each(|app| app.wait_for(&tx));
        (0..4).for_each(|index| net.stop(index));
    }
    net.assert_one_chain();
}

/// The primary too: it asks its application about its own block like everybody else, and nobody asks twice.
#[test]
fn each_validator_asks_its_application_once_about_each_block() {
    for validators in [1, 4] {
        let mut net = Net::new(&vec![10; validators], 0, Transport::Tcp);
        net.start_all();
        for n in 0..5 {
            net.send(n % validators, &format!("k{n}=v"));
            net.apps.iter().for_each(|app| app.wait_for(&format!("k{n}=v")));
        }
        let mut asked = 0;
        for app in &net.apps {
            app.look(|chain| {
                assert!(chain.judged.values().all(|times| *times == 1), "{:?}", chain.judged);
                asked += chain.hashes.values().filter(|h| chain.judged.contains_key(*h)).count();
            });
        }
        assert!(asked >= 5 * (validators - validators / 4), "asked {asked} times");
    }
}

/// Two of four refuse every other block at first, and accept it later: views change, blocks are decided that some refused, and there is
/// one chain.
#[test]
fn applications_that_contradict_themselves_never_fork_the_chain() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.apps[..2].iter().for_each(support::App::contradict);
    net.start_all();
    for n in 0..12 {
        net.send(n % 4, &format!("k{n}=v"));
        net.apps.iter().for_each(|app| app.wait_for(&format!("k{n}=v")));
    }
    net.assert_one_chain();
    let refused =
        net.apps[0].look(|chain| chain.judged.keys().filter(|hash| hash[0] % 2 == 0).count());
    assert!(refused > 0, "nothing was refused");
}

#[test]
fn over_quic_too() {
    let mut net = Net::new(&[10; 4], 0, Transport::Quic);
    net.start_all();
    net.send(2, "q=1");
    net.apps.iter().for_each(|app| app.wait_for("q=1"));
}

#[test]
fn two_validators_that_see_each_other_through_a_full_node_alone() {
    // 0 and 1 are connected to the full node 4 only; 2 and 3 to each other and to it.
    let mut net = Net::new(&[10; 4], 1, Transport::Tcp);
    net.connect(0, &[4]);
    net.connect(1, &[4]);
    net.connect(2, &[3, 4]);
    net.connect(3, &[2, 4]);
    net.connect(4, &[0, 1, 2, 3]);
    net.start_all();
    for n in 0..10 {
        net.send(n % 4, &format!("s{n}=1"));
        net.apps.iter().for_each(|app| app.wait_for(&format!("s{n}=1")));
    }
    net.assert_one_chain();
}

#[test]
fn a_node_that_begins_at_5001_without_earlier_blocks_serves_and_votes() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.begin_at(4_990);
    (0..3).for_each(|index| net.start(index));
    let mut last = 0;
    while last < 5_000 {
        let tx = format!("h{last}=1");
        net.send(0, &tx);
        net.apps[0].wait_for(&tx);
        last = net.apps[0].look(|chain| chain.height);
    }
    net.stop(0);
    // What a snapshot and a light client would give: application, state and commit.
    let (state, commit) = {
        let chain = Chain::open(&net.data(0).join("chain")).expect("the chain of node 0");
        let state = chain.state().expect("readable").expect("there");
        let commit = chain.seen_commit(state.last_height.expect("a block")).expect("readable");
        (state, commit.expect("there"))
    };
    let base = state.next_height().value();
    net.apps[3] = net.apps[0].copy();
    let chain = Chain::open(&net.data(3).join("chain")).expect("an empty chain");
    chain.begin(&state, &commit).expect("begun");
    drop(chain);
    // Nodes 1 and 2 cannot go on without it.
    net.start(3);
    net.send(3, "after=1");
    [1, 2, 3].iter().for_each(|index| net.apps[*index].wait_for("after=1"));
    let status = net.get(3, "status");
    assert!(status.contains(&format!("\"earliest_block_height\":\"{base}\"")), "{status}");
    assert!(net.get(3, &format!("block?height={base}")).contains("\"block_id\""));
    net.assert_one_chain();
}

/// Switched on in the middle of the chain, for the very next height; kept over restarts; there for a node that catches up.
#[test]
fn vote_extensions_reach_the_application_of_every_primary() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.start_all();
    net.send(0, "plain=1");
    net.apps[0].wait_for("plain=1");
    net.send(1, support::EXTEND);
    net.apps.iter().for_each(|app| app.wait_for(support::EXTEND));
    let order = |net: &Net, from: usize, tx: &str, at: &[usize]| {
        net.send(from, tx);
        at.iter().for_each(|index| net.apps[*index].wait_for(tx));
    };
    (0..10).for_each(|n| order(&net, n % 4, &format!("a{n}=1"), &[0, 1, 2, 3]));
    net.stop(3);
    (0..10).for_each(|n| order(&net, n % 3, &format!("b{n}=1"), &[0, 1, 2]));
    net.start(3);
    net.apps[3].wait_for("b9=1");
    // Its COMMITs, and what it learned while it was behind, are needed now.
    net.stop(0);
    (0..10).for_each(|n| order(&net, 1 + n % 3, &format!("c{n}=1"), &[1, 2, 3]));
    // What is proposed first after a stop of all builds on a commit from the disk.
    (1..4).for_each(|index| net.stop(index));
    net.start_all();
    (0..10).for_each(|n| order(&net, n % 4, &format!("d{n}=1"), &[0, 1, 2, 3]));
    let seen: u64 = net.apps.iter().map(|app| app.look(|chain| chain.extended_proposals)).sum();
    assert!(seen >= 40, "blocks were built with vote extensions {seen} times only");
    for app in &net.apps {
        app.look(|chain| assert_eq!(chain.faults, Vec::<String>::new()));
    }
    net.assert_one_chain();
}

#[test]
fn two_nodes_with_one_key_notice_each_other_and_sign_nothing() {
    let mut net = Net::new(&[10; 4], 1, Transport::Tcp);
    net.copy_key(4, 3);
    (0..4).for_each(|index| net.start(index));
    net.send(0, "before=1");
    net.apps[3].wait_for("before=1");
    net.start(4);
    let held = |net: &Net, index| {
        net.get(index, "pbft_state").contains("another node holds this validator key")
    };
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while !(held(&net, 3) && held(&net, 4)) {
        assert!(std::time::Instant::now() < deadline, "they did not notice");
        std::thread::yield_now();
    }
    // The other three go on, and both copies follow.
    net.send(1, "after=1");
    net.apps.iter().for_each(|app| app.wait_for("after=1"));
    net.assert_one_chain();
}

#[test]
fn data_of_an_older_moment_signs_nothing_that_it_signed_before() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.start_all();
    net.send(0, "old=1");
    net.apps[3].wait_for("old=1");
    let file = net.data(3).join("priv_validator_state.json");
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while tercet_config::SignState::load(&file).expect("readable").is_none_or(|s| s.height == 0) {
        assert!(std::time::Instant::now() < deadline, "it never signed");
        std::thread::yield_now();
    }
    net.stop(3);
    // The journal is lost, the watermark is not.
    std::fs::remove_dir_all(net.data(3).join("journal")).expect("removed");
    net.start(3);
    let state = net.get(3, "pbft_state");
    assert!(state.contains("older than the key's use"), "{state}");
    net.send(1, "new=1");
    net.apps.iter().for_each(|app| app.wait_for("new=1"));
    net.assert_one_chain();
}
