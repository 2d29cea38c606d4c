//! One key never signs twice: data of an older moment, two copies of one home, and restarts, as a third node sees them.
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, missing_docs, dead_code)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};
use support::Net;
use support::observer::Observer;
use tercet_node::network::Transport;

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("readable").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn order(net: &Net, through: usize, watch: usize, txs: std::ops::Range<u32>) {
    for n in txs {
        net.send(through, &format!("k{n}=1"));
        net.apps[watch].wait_for(&format!("k{n}=1"));
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + support::PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_restored_older_copy_signs_nothing_that_the_original_signed() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.start_all();
    let observer = Observer::start(0, net.addresses(&[0, 1, 2, 3]));
    order(&net, 0, 3, 0..10);
    net.stop(3);
    let old = net.data(3).with_extension("old");
    copy_folder(&net.data(3), &old);
    let app = net.apps[3].copy();
    net.start(3);
    observer.wait_for(4);
    order(&net, 3, 3, 10..40);
    net.stop(3);
    // The whole data folder is that of the older moment: journal and watermark agree.
    let died_at = net.apps[3].look(|chain| chain.height);
    std::fs::remove_dir_all(net.data(3)).expect("removed");
    copy_folder(&old, &net.data(3));
    net.apps[3] = app;
    net.start(3);
    observer.wait_for(4);
    order(&net, 1, 3, 40..50);
    observer.assert_nobody_signed_twice();
    // No second signature, not even under the same block, at any height that the original saw.
    let heights = observer.heights_of(net.address(3));
    let twice: Vec<_> = heights.iter().filter(|(h, n)| **h <= died_at && **n > 1).collect();
    assert!(twice.is_empty(), "signed again at {twice:?}, the original died at {died_at}");
    // In the end it votes again: it is needed once another is down.
    net.stop(0);
    net.send(1, "late=1");
    [1, 2, 3].iter().for_each(|index| net.apps[*index].wait_for("late=1"));
    net.assert_one_chain();
}

/// Who is primary, as node `index` says.
fn primary(net: &Net, index: usize) -> usize {
    let state = net.get(index, "pbft_state");
    let is = |other: &usize| state.contains(&format!("\"primary\":\"{}\"", net.address(*other)));
    (0..4).find(is).expect("one of them")
}

#[test]
fn a_copy_restored_while_the_chain_waits_for_it_hears_of_its_own_signatures_first() {
    // With two of four down, the chain stands at a height where the third has signed.
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.start_all();
    let observer = Observer::start(0, net.addresses(&[0, 1, 2, 3]));
    order(&net, 0, 0, 0..5);
    let keeps = primary(&net, 0);
    let copied = (keeps + 1) % 4;
    let others = [(keeps + 2) % 4, (keeps + 3) % 4];
    net.stop(copied);
    let old = net.data(copied).with_extension("old");
    copy_folder(&net.data(copied), &old);
    let app = net.apps[copied].copy();
    net.start(copied);
    observer.wait_for(4);
    order(&net, keeps, copied, 5..8);
    others.iter().for_each(|index| net.stop(*index));
    net.send(keeps, "stuck=1");
    let at = net.apps[copied].look(|chain| chain.height) + 1;
    until("it votes", || observer.heights_of(net.address(copied)).contains_key(&at));
    net.stop(copied);
    std::fs::remove_dir_all(net.data(copied)).expect("removed");
    copy_folder(&old, &net.data(copied));
    net.apps[copied] = app;
    net.start(copied);
    let stale = |net: &Net| net.get(copied, "pbft_state").contains("older than the key's use");
    until("it is told", || stale(&net));
    observer.assert_nobody_signed_twice();
    assert_eq!(observer.heights_of(net.address(copied)).get(&at), Some(&1));
    // So it is after another restart, though nobody shows it anything any more.
    net.stop(copied);
    net.start(copied);
    assert!(stale(&net));
    others.iter().for_each(|index| net.start(*index));
    net.apps.iter().for_each(|app| app.wait_for("stuck=1"));
    observer.assert_nobody_signed_twice();
    net.assert_one_chain();
}

#[test]
fn a_restarted_validator_takes_its_own_echo_for_no_stranger() {
    let mut net = Net::new(&[10; 4], 1, Transport::Tcp);
    // Half of them see each other through a full node alone, which relays everything.
    net.connect(0, &[4]);
    net.connect(1, &[4]);
    net.connect(2, &[3, 4]);
    net.connect(3, &[2, 4]);
    net.connect(4, &[0, 1, 2, 3]);
    net.start_all();
    let observer = Observer::start(1, net.addresses(&[4]));
    net.apps[1].wait("connected", |chain| chain.height > 1);
    for round in 0..4u32 {
        order(&net, 1, 0, round * 5..round * 5 + 5);
        for index in [0, 2] {
            net.stop(index);
            net.start(index);
        }
    }
    order(&net, 1, 0, 20..25);
    for index in 0..4 {
        let state = net.get(index, "pbft_state");
        assert!(!state.contains("older than the key's use"), "{index}: {state}");
    }
    observer.assert_nobody_signed_twice();
    net.assert_one_chain();
}
