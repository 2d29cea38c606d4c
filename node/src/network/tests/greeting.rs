//! Who is let in by the hello, and what follows when one is not.

use libp2p::identity::Keypair;
use libp2p::swarm::{Config, Swarm, dummy};

use super::support::{Node, config, soon, validator};
use bytes::Bytes;

use crate::network::*;

/// A node that differs in its hello from node 1 is refused by both, each for the same reason.
async fn refused_by_both(change: impl FnOnce(&mut HelloContent)) {
    let mut a = Node::start(config(1)).await;
    let mut other = config(2).persistent(a.address());
    change(&mut other.settings.hello);
    let mut b = Node::start(other).await;
    let by_a = a.discarded(DiscardReason::Incompatible).await;
    assert_eq!(by_a.peer, Some(b.network.local()));
    let by_b = b.discarded(DiscardReason::Incompatible).await;
    assert_eq!(by_b.peer, Some(a.network.local()));
    soon(a.idle()).await;
    assert!(a.network.peers().is_empty() && b.network.peers().is_empty());
    assert!(a.no_more_events() && b.no_more_events());
    let unsent = b.network.send(a.network.local(), Class::Sync, Bytes::from_static(b"x"));
    assert_eq!(unsent, Err(SendError::NotConnected));
}

#[tokio::test]
async fn a_peer_of_another_genesis_is_refused_on_both_sides() {
    refused_by_both(|hello| hello.genesis_hash = [9; 32]).await;
}

#[tokio::test]
async fn a_peer_of_another_chain_is_refused_on_both_sides() {
    refused_by_both(|hello| hello.chain_id = "other-chain".to_owned()).await;
}

#[tokio::test]
async fn a_peer_without_a_common_protocol_version_is_refused_on_both_sides() {
    refused_by_both(|hello| (hello.version_min, hello.version_max) = (2, 3)).await;
}

#[tokio::test]
async fn peers_agree_on_the_newest_common_version() {
    let mut newer = config(1);
    newer.settings.hello.version_max = 3;
    let mut a = Node::start(newer).await;
    let mut older = config(2).persistent(a.address());
    older.settings.hello.version_max = 2;
    let mut b = Node::start(older).await;
    assert_eq!(a.connected().await.hello.version, 2);
    assert_eq!(b.connected().await.hello.version, 2);
}

#[tokio::test]
async fn a_validator_proves_its_key_and_an_impostor_is_refused() {
    let mut a = Node::start(config(1)).await;
    let b = Node::start(config(2).with_validator(2).persistent(a.address())).await;
    let info = a.connected().await;
    assert_eq!(info.peer, b.network.local());
    assert_eq!(info.validator(), Some(&validator(2, &b.network.local()).key[..]));
    // The proof of node 2, used by node 3.
    let mut stolen = config(3).persistent(a.address());
    stolen.settings.hello.validator = Some(validator(2, &b.network.local()));
    let c = Node::start(stolen).await;
    assert_eq!(a.discarded(DiscardReason::BadSignature).await.peer, Some(c.network.local()));
    // A signature over another chain.
    let mut other_chain = config(4).with_validator(4).persistent(a.address());
    if let Some(proof) = &mut other_chain.settings.hello.validator {
        proof.signature[0] ^= 1;
    }
    let d = Node::start(other_chain).await;
    assert_eq!(a.discarded(DiscardReason::BadSignature).await.peer, Some(d.network.local()));
    assert_eq!(a.network.peers().len(), 1);
}

#[tokio::test]
async fn a_second_home_with_our_consensus_key_shows_itself() {
    let own = config(1).with_validator(9);
    let key = own.settings.hello.validator.as_ref().map(|proof| proof.key.clone());
    let mut a = Node::start(own).await;
    let mut b = Node::start(config(2).with_validator(9).persistent(a.address())).await;
    assert_eq!(a.connected().await.validator(), key.as_deref());
    assert_eq!(b.connected().await.validator(), key.as_deref());
}

#[tokio::test]
async fn a_node_with_our_node_key_is_told_apart_from_a_peer() {
    // The one that dials notices; to the other it is a connection that broke in its handshake.
    let a = Node::start(config(1)).await;
    let address = format!("/ip4/127.0.0.1/tcp/{}", a.listen.port()).parse().unwrap();
    let mut copy = Node::start(config(1).persistent(PeerAddress::Multiaddr(address))).await;
    let own =
        |event: &NetworkEvent| matches!(event, NetworkEvent::OwnIdentity { .. }).then_some(());
    copy.event(own).await;
    assert!(a.network.peers().is_empty() && copy.network.peers().is_empty());
}

#[tokio::test]
async fn a_peer_that_speaks_other_protocols_is_dropped() {
    let mut a = Node::start(config(1)).await;
    let settings = config(2).settings;
    let keys = Keypair::ed25519_from_bytes(settings.secret).unwrap();
    let transport = transport::build(&keys, Transport::Tcp, &settings.timeouts).unwrap();
    let peer = keys.public().to_peer_id();
    let mut stranger = Swarm::new(transport, dummy::Behaviour, peer, Config::with_tokio_executor());
    stranger.dial(address::multiaddr(a.listen, Transport::Tcp)).unwrap();
    let ended = async {
        use futures::StreamExt;
        loop {
            let event = stranger.select_next_some().await;
            if matches!(event, libp2p::swarm::SwarmEvent::ConnectionClosed { .. }) {
                return;
            }
        }
    };
    soon(ended).await;
    soon(a.idle()).await;
    assert!(a.no_more_events());
}
