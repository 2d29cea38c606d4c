//! Real sockets on the loopback interface. Every wait is for an event.

mod admission;
mod greeting;
mod hostile;
mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use support::{Node, config, free_port, soon};

fn frame(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn frames_arrive_in_order(transport: Transport) {
    let mut a = Node::start(config(1).over(transport)).await;
    let mut b = Node::start(config(2).over(transport).persistent(a.address())).await;
    let (at_a, at_b) = (a.connected().await, b.connected().await);
    assert_eq!((at_a.peer, at_b.peer), (b.network.local(), a.network.local()));
    assert_eq!((at_a.outbound, at_b.outbound), (false, true));
    assert_eq!(at_a.hello.moniker, "node 2");
    for class in Class::ALL {
        for n in 0..200 {
            let text = format!("{class} {n}");
            a.network.send(at_a.peer, class, frame(&text)).unwrap();
            b.network.broadcast(class, frame(&text));
        }
        let large = Bytes::from(vec![7; 3_000_000]);
        a.network.send(at_a.peer, class, large.clone()).unwrap();
        for n in 0..200 {
            let text = format!("{class} {n}");
            let received = a.receive(class).await;
            assert_eq!((received.peer, received.class), (at_a.peer, class));
            assert_eq!(received.bytes, frame(&text));
            assert_eq!(b.receive(class).await.bytes, text.as_bytes());
        }
        assert_eq!(b.receive(class).await.bytes, large);
        assert!(at_b.traffic.received_bytes(class) >= 3_000_000);
    }
    assert_eq!(a.network.peers().len(), 1);
}

#[tokio::test]
async fn frames_of_every_class_arrive_in_order() {
    frames_arrive_in_order(Transport::Tcp).await;
}

#[tokio::test]
async fn frames_of_every_class_arrive_in_order_over_quic() {
    frames_arrive_in_order(Transport::Quic).await;
}

/// Four nodes that all dial each other hear each other's broadcasts.
async fn four_nodes_form_a_mesh(transport: Transport) {
    let places: Vec<_> = (0..4).map(|_| free_port()).collect();
    let mut nodes = Vec::new();
    for (n, at) in (1..).zip(&places) {
        let mut config = config(n).over(transport).at(*at);
        for (m, other) in (1..).zip(&places).filter(|(m, _)| *m != n) {
            let address = support::config(m).address_at(*other);
            config = config.persistent(address);
        }
        nodes.push(Node::start(config).await);
    }
    for node in &nodes {
        soon(node.present(3)).await;
    }
    for (n, node) in nodes.iter().enumerate() {
        node.network.broadcast(Class::Consensus, frame(&format!("from {n}")));
    }
    for (n, node) in nodes.iter_mut().enumerate() {
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(node.receive(Class::Consensus).await.bytes);
        }
        heard.sort();
        let expected: Vec<_> =
            (0..4).filter(|m| *m != n).map(|m| frame(&format!("from {m}"))).collect();
        assert_eq!(heard, expected);
    }
}

#[tokio::test]
async fn four_nodes_form_a_mesh_over_tcp() {
    four_nodes_form_a_mesh(Transport::Tcp).await;
}

#[tokio::test]
async fn four_nodes_form_a_mesh_over_quic() {
    four_nodes_form_a_mesh(Transport::Quic).await;
}

#[tokio::test]
async fn a_peer_that_comes_up_late_is_found() {
    let at = free_port();
    let mut a = Node::start(config(1).persistent(config(2).address_at(at))).await;
    let b = Node::start(config(2).at(at)).await;
    assert_eq!(a.connected().await.peer, b.network.local());
}

#[tokio::test]
async fn a_stopped_node_starts_again_on_its_port() {
    let mut a = Node::start(config(1)).await;
    let (mut b, at) = (Node::start(config(2).persistent(a.address())).await, a.listen);
    for _ in 0..3 {
        a.connected().await;
        b.connected().await;
        a.network.stop();
        b.disconnected().await;
        b.refused().await;
        a = Node::start(config(1).at(at)).await;
    }
    a.connected().await;
}

#[tokio::test]
async fn another_node_at_a_persistent_address_is_cut() {
    let mut a = Node::start(config(1)).await;
    let wrong = PeerAddress::NodeId {
        id: NodeId([3; 20]),
        host: "127.0.0.1".to_owned(),
        port: a.listen.port(),
    };
    let mut b = Node::start(config(2).persistent(wrong)).await;
    b.discarded(DiscardReason::WrongNode).await;
    assert!(b.network.peers().is_empty());
    // The right node still gets through.
    let mut c = Node::start(config(3).persistent(a.address())).await;
    c.connected().await;
    assert_eq!(a.connected().await.peer, c.network.local());
}

#[tokio::test]
async fn garbage_on_the_port_does_no_harm() {
    use tokio::io::AsyncWriteExt;
    let mut a = Node::start(config(1)).await;
    for seed in 0..8_u8 {
        let mut socket = tokio::net::TcpStream::connect(a.listen).await.unwrap();
        let bytes: Vec<u8> =
            (0..4096_u32).map(|n| (n % 251) as u8 ^ seed.wrapping_mul(37)).collect();
        // The node may close before all is written.
        let _ = socket.write_all(&bytes).await;
        a.discarded(DiscardReason::Handshake).await;
    }
    soon(a.idle()).await;
    let b = Node::start(config(2).persistent(a.address())).await;
    assert_eq!(a.connected().await.peer, b.network.local());
}

#[tokio::test]
async fn a_killed_peer_is_known_dead_at_once_and_back_soon_after_its_restart() {
    let mut b = Node::start(config(2)).await;
    let mut a = Node::start(config(1).persistent(b.address())).await;
    let (listen, peer) = (b.listen, b.network.local());
    for _ in 0..3 {
        a.connected().await;
        b.connected().await;
        let killed = Instant::now();
        b.kill();
        assert_eq!(a.disconnected().await.0, peer);
        let noticed = killed.elapsed();
        assert_eq!(a.refused().await, peer);
        let dead = killed.elapsed();
        assert!(dead < Duration::from_millis(500), "noticed {noticed:?}, dead {dead:?}");
        let restarted = Instant::now();
        b = Node::start(config(2).at(listen)).await;
        soon(a.present(1)).await;
        let back = restarted.elapsed();
        assert!(back < Duration::from_millis(1_500), "back after {back:?}");
    }
}

#[tokio::test]
async fn a_validator_that_dialled_us_is_known_dead_as_well() {
    let mut a = Node::start(config(1)).await;
    let mut config = config(2).with_validator(2).at(free_port());
    config.settings.hello.listen_address = format!("0.0.0.0:{}", config.settings.listen.port());
    let b = Node::start(config.persistent(a.address())).await;
    let peer = a.connected().await.peer;
    b.kill();
    assert_eq!(a.disconnected().await.0, peer);
    assert_eq!(a.refused().await, peer);
    soon(a.idle()).await;
    assert_eq!(a.network.gauges().addresses, 0);
}

#[tokio::test]
async fn a_simultaneous_dial_settles_to_one_connection() {
    for round in 0..10 {
        let (at_a, at_b) = (free_port(), free_port());
        let to = |n, listen| config(n).address_at(listen);
        let (a_config, b_config) = (config(1).at(at_a), config(2).at(at_b));
        let (mut a, mut b) = tokio::join!(
            Node::start(a_config.persistent(to(2, at_b))),
            Node::start(b_config.persistent(to(1, at_a))),
        );
        tokio::join!(a.connected(), b.connected());
        soon(async { tokio::join!(a.connections(1), b.connections(1)) }).await;
        // Frames flow both ways, and nobody saw a disconnection.
        for (from, to) in [(&mut a, &mut b)] {
            from.network.broadcast(Class::Consensus, frame("ping"));
            assert_eq!(to.receive(Class::Consensus).await.bytes, "ping", "round {round}");
            to.network.broadcast(Class::Consensus, frame("pong"));
            assert_eq!(from.receive(Class::Consensus).await.bytes, "pong", "round {round}");
        }
        assert!(a.no_more_events() && b.no_more_events(), "round {round}");
    }
}

#[tokio::test]
async fn a_hundred_connections_leave_nothing_behind() {
    let mut a = Node::start(config(1)).await;
    for n in 0..100 {
        let mut config = config(2).persistent(a.address());
        if n % 2 == 0 {
            config = config.with_validator(2);
            config.settings.hello.listen_address = "0.0.0.0:1".to_owned();
        }
        let b = Node::start(config).await;
        a.connected().await;
        if n % 3 == 0 {
            b.kill();
        } else {
            b.network.stop();
        }
        let (peer, _) = a.disconnected().await;
        if n % 2 == 0 {
            assert_eq!(a.refused().await, peer);
        }
    }
    soon(a.idle()).await;
    assert!(a.network.peers().is_empty());
}

#[tokio::test]
async fn a_port_in_use_and_impossible_settings_are_refused_at_the_start() {
    let a = Node::start(config(1)).await;
    let error = Node::try_start(config(2).at(a.listen)).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    assert!(error.to_string().contains("is another node running?"), "{error}");
    let quic = Node::start(config(3).over(Transport::Quic)).await;
    let error = Node::try_start(config(4).over(Transport::Quic).at(quic.listen)).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    let mut small = config(2);
    small.settings.classes.bodies.queue_bytes_max = 1;
    assert!(matches!(Node::try_start(small), Err(StartError::Limits(Class::Bodies))));
    let odd = PeerAddress::Multiaddr("/ip4/1.2.3.4/udp/1/quic-v1".parse().unwrap());
    assert!(matches!(Node::try_start(config(2).persistent(odd)), Err(StartError::Address(_))));
}

#[tokio::test]
async fn names_are_resolved_and_multiaddrs_dialled() {
    let mut a = Node::start(config(1)).await;
    let by_name = PeerAddress::NodeId {
        id: NodeId::of_peer(&a.network.local()).unwrap(),
        host: "localhost".to_owned(),
        port: a.listen.port(),
    };
    let b = Node::start(config(2).persistent(by_name)).await;
    assert_eq!(a.connected().await.peer, b.network.local());
    let address = format!("/ip4/127.0.0.1/tcp/{}", a.listen.port()).parse().unwrap();
    let c = Node::start(config(3).persistent(PeerAddress::Multiaddr(address))).await;
    assert_eq!(a.connected().await.peer, c.network.local());
}
