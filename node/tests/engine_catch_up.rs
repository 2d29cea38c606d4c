//! A validator that was down comes back by itself and votes again, whatever some peers claim.
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, missing_docs, dead_code)]

mod support;

use std::time::{Duration, Instant};
use support::Net;
use support::observer::Observer;
use tendermint::block::Height;
use tercet_consensus::status::{Bitmap, Status};
use tercet_consensus::view::View;
use tercet_node::network::Transport;
use tercet_node::wire::Consensus;

fn order(net: &Net, through: usize, watch: usize, txs: std::ops::Range<u32>) {
    for n in txs {
        net.send(through, &format!("k{n}=1"));
        net.apps[watch].wait_for(&format!("k{n}=1"));
    }
}

fn claim(height: u64) -> Consensus {
    Consensus::Status(Status {
        height: Height::try_from(height).expect("a height"),
        start_view: View::ZERO,
        view: View::ZERO,
        pre_prepares: Vec::new(),
        prepares: Vec::new(),
        commits: Vec::new(),
        view_changes: Vec::new(),
        blocks: Vec::new(),
        direct: Bitmap::default(),
        lacks_extensions: false,
    })
}

/// Stops validator 3 for a hundred heights, starts it, and waits until it votes; another being down, the chain needs its votes.
fn comes_back(net: &mut Net, meanwhile: impl Fn()) -> Duration {
    net.start_all();
    order(net, 0, 3, 0..5);
    net.stop(3);
    order(net, 0, 1, 5..105);
    let start = Instant::now();
    net.start(3);
    meanwhile();
    net.apps[3].wait_for("k104=1");
    net.stop(0);
    net.send(1, "with=1");
    net.apps[3].wait_for("with=1");
    start.elapsed()
}

#[test]
fn a_validator_that_was_down_for_a_hundred_heights_votes_again() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    let took = comes_back(&mut net, || ());
    assert!(took < Duration::from_secs(20), "{took:?}");
    net.assert_one_chain();
}

#[test]
fn peers_that_claim_the_sky_and_serve_nothing_keep_nobody_from_voting() {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    let liars: Vec<Observer> =
        (2..4).map(|n| Observer::start(n, net.addresses(&[0, 1, 2, 3]))).collect();
    let lie = || {
        for liar in &liars {
            liar.wait_for(4);
            // Upwards, downwards, and what nobody can have.
            for height in [1_000_000, 7, 1 << 60, 500] {
                liar.say(&claim(height));
            }
        }
    };
    let took = comes_back(&mut net, lie);
    assert!(took < Duration::from_secs(20), "{took:?}");
    net.assert_one_chain();
}
