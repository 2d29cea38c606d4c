//! How many are let in, and who finds whom.

use super::support::{Node, config, free_port, generous_limits, secret, soon, validator};
use crate::network::*;

#[tokio::test]
async fn connections_that_say_nothing_are_bounded_in_total_and_per_ip() {
    for (pending, pending_per_ip) in [(2, 100), (100, 2)] {
        let mut small = config(1);
        small.settings.timeouts.handshake = Duration::from_millis(300);
        small.settings.limits = Limits { pending, pending_per_ip, ..generous_limits() };
        let mut a = Node::start(small).await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(tokio::net::TcpStream::connect(a.listen).await.unwrap());
        }
        a.discarded(DiscardReason::ConnectionDenied).await;
        for _ in 0..2 {
            a.discarded(DiscardReason::Handshake).await;
        }
        soon(a.idle()).await;
        let b = Node::start(config(2).persistent(a.address())).await;
        assert_eq!(a.connected().await.peer, b.network.local());
    }
}

#[tokio::test]
async fn connections_of_one_ip_are_bounded() {
    let mut small = config(1);
    small.settings.limits = Limits { per_ip: 2, ..generous_limits() };
    let mut a = Node::start(small).await;
    let mut nodes = Vec::new();
    for n in [2, 3] {
        nodes.push(Node::start(config(n).persistent(a.address())).await);
        a.connected().await;
    }
    let third = Node::start(config(4).persistent(a.address())).await;
    let denied = a.discarded(DiscardReason::ConnectionDenied).await;
    assert_eq!(denied.peer, Some(third.network.local()));
    assert_eq!(a.network.peers().len(), 2);
}

#[tokio::test]
async fn inbound_slots_are_bounded_but_not_for_known_validators_and_unconditional_nodes() {
    let mut a = config(1);
    a.settings.limits = Limits { inbound: 1, validator_slots: 1, ..generous_limits() };
    a.settings.unconditional.insert(NodeId::of_peer(&peer_id(secret(5)).unwrap()).unwrap());
    let known = validator(4, &peer_id(secret(4)).unwrap()).key;
    a.settings.knows_validator = Arc::new(move |key| *key == known);
    let mut a = Node::start(a).await;
    let _b = Node::start(config(2).persistent(a.address())).await;
    a.connected().await;
    let c = Node::start(config(3).with_validator(3).persistent(a.address())).await;
    let denied = a.discarded(DiscardReason::ConnectionDenied).await;
    assert_eq!(denied.peer, Some(c.network.local()));
    c.kill();
    let mut nodes = Vec::new();
    for n in [4, 5] {
        let node = Node::start(config(n).with_validator(n).persistent(a.address())).await;
        assert_eq!(a.connected().await.peer, node.network.local());
        nodes.push(node);
    }
}

#[tokio::test]
async fn a_validator_cannot_fill_the_slots_of_the_others() {
    let mut a = config(1);
    a.settings.limits = Limits { inbound: 0, validator_slots: 2, ..generous_limits() };
    a.settings.knows_validator = Arc::new(|_| true);
    let mut a = Node::start(a).await;
    let _first = Node::start(config(2).with_validator(2).persistent(a.address())).await;
    a.connected().await;
    // The same consensus key on another node.
    let second = Node::start(config(3).with_validator(2).persistent(a.address())).await;
    let denied = a.discarded(DiscardReason::ConnectionDenied).await;
    assert_eq!(denied.peer, Some(second.network.local()));
    let other = Node::start(config(4).with_validator(4).persistent(a.address())).await;
    assert_eq!(a.connected().await.peer, other.network.local());
}

#[tokio::test]
async fn a_peer_that_is_sent_away_stays_away() {
    let mut a = Node::start(config(1)).await;
    let mut b = Node::start(config(2).persistent(a.address())).await;
    let peer = a.connected().await.peer;
    b.connected().await;
    a.network.disconnect(peer, "bad blocks");
    assert_eq!(a.disconnected().await, (peer, "bad blocks".to_owned()));
    b.disconnected().await;
    // It alone: others come from the same address.
    assert_eq!(a.discarded(DiscardReason::ConnectionDenied).await.peer, Some(peer));
}

#[tokio::test]
async fn a_peer_that_is_expelled_stays_away_and_so_does_who_comes_from_its_address() {
    let mut a = Node::start(config(1)).await;
    let mut b = Node::start(config(2).persistent(a.address())).await;
    let peer = a.connected().await.peer;
    b.connected().await;
    a.network.expel(peer, "flood");
    assert_eq!(a.disconnected().await, (peer, "flood".to_owned()));
    b.disconnected().await;
    // It is not even asked who it is now: another identity would not help it.
    assert_eq!(a.discarded(DiscardReason::ConnectionDenied).await.peer, None);
}

#[tokio::test]
async fn who_is_behind_the_same_address_as_a_validator_is_kept_out_alone() {
    let mut a = config(1);
    a.settings.knows_validator = Arc::new(|_| true);
    let mut a = Node::start(a).await;
    let validator = Node::start(config(3).with_validator(3).persistent(a.address())).await;
    let known = a.connected().await.peer;
    // It was connected, and is not when another is expelled.
    validator.kill();
    assert_eq!(a.disconnected().await.0, known);
    let mut b = Node::start(config(2).persistent(a.address())).await;
    let peer = a.connected().await.peer;
    b.connected().await;
    a.network.expel(peer, "flood");
    assert_eq!(a.disconnected().await.0, peer);
    assert_eq!(a.discarded(DiscardReason::ConnectionDenied).await.peer, Some(peer));
    let other = Node::start(config(4).with_validator(4).persistent(a.address())).await;
    assert_eq!(a.connected().await.peer, other.network.local());
}

fn listening(n: u8, peer_exchange: bool) -> super::support::Config {
    let mut config = config(n).at(free_port());
    config.settings.peer_exchange = peer_exchange;
    config.settings.hello.listen_address = config.settings.listen.to_string();
    config
}

#[tokio::test]
async fn peers_are_told_and_dialled() {
    let mut a = Node::start(listening(1, true)).await;
    let b = Node::start(listening(2, true).persistent(a.address())).await;
    a.connected().await;
    let mut c = Node::start(listening(3, true).persistent(a.address())).await;
    let met = [c.connected().await.peer, c.connected().await.peer];
    assert!(met.contains(&a.network.local()) && met.contains(&b.network.local()));
}

#[tokio::test]
async fn without_peer_exchange_nobody_is_told_and_nobody_dialled() {
    for (teller, listener) in [(false, true), (true, false)] {
        let mut a = Node::start(listening(1, teller)).await;
        let _b = Node::start(listening(2, false).persistent(a.address())).await;
        a.connected().await;
        let mut c = Node::start(listening(3, listener).persistent(a.address())).await;
        assert_eq!(c.connected().await.peer, a.network.local());
        assert_eq!(c.network.gauges().addresses, 1, "only the persistent one");
    }
}

#[tokio::test]
async fn private_peers_are_not_told() {
    let mut secretive = listening(1, true);
    secretive.settings.private.insert(NodeId::of_peer(&peer_id(secret(2)).unwrap()).unwrap());
    let mut a = Node::start(secretive).await;
    let _b = Node::start(listening(2, false).persistent(a.address())).await;
    a.connected().await;
    let mut c = Node::start(listening(3, true).persistent(a.address())).await;
    assert_eq!(c.connected().await.peer, a.network.local());
    assert_eq!(c.network.gauges().addresses, 1, "only the persistent one");
}
