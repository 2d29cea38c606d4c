//! A peer that speaks the right protocols and then misbehaves.

use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt};

use super::support::{Node, config, soon};
use crate::network::raw::{Raw, below_yamux};
use crate::network::*;

/// Connects to `node` and holds the raw streams.
async fn connect(node: &Node, key: u8) -> Raw {
    Raw::connect(node.listen, config(key).settings).await.expect("it is let in")
}

#[tokio::test]
async fn a_length_prefix_of_four_gibibytes_cuts_the_peer() {
    for (key, class) in (10..).zip(Class::ALL) {
        let mut node = Node::start(config(1)).await;
        let mut hostile = connect(&node, key).await;
        hostile.say_hello().await.unwrap();
        assert_eq!(node.connected().await.peer, hostile.peer);
        hostile.write(class, &[0xff; 64]).await.unwrap();
        let (peer, reason) = node.disconnected().await;
        assert_eq!(peer, hostile.peer);
        assert!(reason.contains("4294967295 bytes"), "{reason}");
        let discard = node.discarded(DiscardReason::Oversized).await;
        assert_eq!(discard.class, Some(class));
    }
}

#[tokio::test]
async fn a_frame_one_byte_above_the_limit_of_its_class_cuts_the_peer() {
    for (key, class) in (10..).zip(Class::ALL) {
        let mut node = Node::start(config(1)).await;
        let mut hostile = connect(&node, key).await;
        hostile.say_hello().await.unwrap();
        node.connected().await;
        let limit = ClassLimits::default().of(class).frame_bytes_max;
        let prefix = u32::try_from(limit + 1).unwrap().to_be_bytes();
        hostile.write(class, &prefix).await.unwrap();
        let (_, reason) = node.disconnected().await;
        assert!(reason.contains("is the most"), "{reason}");
        let discard = node.discarded(DiscardReason::Oversized).await;
        assert_eq!((discard.class, discard.peer), (Some(class), Some(hostile.peer)));
    }
}

#[tokio::test]
async fn a_truncated_frame_is_not_delivered() {
    let mut node = Node::start(config(1)).await;
    let mut hostile = connect(&node, 10).await;
    hostile.say_hello().await.unwrap();
    node.connected().await;
    hostile.write(Class::Sync, &[0, 0, 0, 1, 7, 0, 0, 0, 9, 1, 2]).await.unwrap();
    assert_eq!(node.receive(Class::Sync).await.bytes, vec![7]);
    hostile.stream(Class::Sync).close().await.unwrap();
    let (peer, reason) = node.disconnected().await;
    assert_eq!(peer, hostile.peer);
    assert!(reason.contains("within a frame"), "{reason}");
    let discard = node.discarded(DiscardReason::Truncated).await;
    assert_eq!((discard.class, discard.peer), (Some(Class::Sync), Some(hostile.peer)));
    assert!(node.nothing_received(Class::Sync));
}

#[tokio::test]
async fn random_bytes_after_the_hello_do_no_harm() {
    for key in 10..18 {
        let mut node = Node::start(config(1)).await;
        let mut hostile = connect(&node, key).await;
        hostile.say_hello().await.unwrap();
        node.connected().await;
        let class = Class::ALL[usize::from(key) % Class::COUNT];
        let bytes: Vec<u8> = (0..100_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(u32::from(key)) >> 24) as u8 | 1)
            .collect();
        // The node may cut before all is written.
        let stream = hostile.stream(class);
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let (peer, _) = node.disconnected().await;
        assert_eq!(peer, hostile.peer);
        let honest = Node::start(config(2).persistent(node.address())).await;
        assert_eq!(node.connected().await.peer, honest.network.local());
    }
}

#[tokio::test]
async fn garbage_instead_of_a_hello_is_refused() {
    let mut node = Node::start(config(1)).await;
    let mut hostile = connect(&node, 10).await;
    hostile.write(Class::Consensus, &[0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]).await.unwrap();
    let discard = node.discarded(DiscardReason::MalformedHello).await;
    assert_eq!(discard.peer, Some(hostile.peer));
    let mut hostile = connect(&node, 11).await;
    hostile.write(Class::Consensus, &[0xff; 8]).await.unwrap();
    node.discarded(DiscardReason::Oversized).await;
    soon(node.idle()).await;
    assert!(node.no_more_events());
}

#[tokio::test]
async fn frames_before_the_hello_are_not_delivered() {
    let mut node = Node::start(config(1)).await;
    let mut hostile = connect(&node, 10).await;
    hostile.write(Class::Sync, &[0, 0, 0, 1, 7]).await.unwrap();
    assert!(node.network.peers().is_empty());
    hostile.say_hello().await.unwrap();
    node.connected().await;
    assert_eq!(node.receive(Class::Sync).await.bytes, vec![7]);
}

#[tokio::test]
async fn a_peer_that_never_says_hello_is_cut() {
    let mut short = config(1);
    short.settings.timeouts.hello = Duration::from_millis(100);
    let mut node = Node::start(short).await;
    let mut hostile = connect(&node, 10).await;
    // The node's hello, then the end of the stream.
    for (_, stream) in &mut hostile.inbound {
        let mut bytes = Vec::new();
        let _ = soon(stream.read_to_end(&mut bytes)).await;
    }
    soon(node.idle()).await;
    assert!(node.no_more_events());
}

#[tokio::test]
async fn a_peer_that_is_silent_is_dropped() {
    let mut short = config(1);
    short.settings.timeouts.silence = Duration::from_millis(200);
    let mut node = Node::start(short).await;
    let mut hostile = connect(&node, 10).await;
    hostile.say_hello().await.unwrap();
    node.connected().await;
    let (_, reason) = node.disconnected().await;
    assert!(reason.contains("nothing heard"), "{reason}");
}

#[tokio::test]
async fn keep_alives_hold_an_idle_connection() {
    let with_times = |n| {
        let mut config = config(n);
        config.settings.timeouts.silence = Duration::from_millis(400);
        config.settings.timeouts.keep_alive = Duration::from_millis(40);
        config
    };
    let mut a = Node::start(with_times(1)).await;
    let mut b = Node::start(with_times(2).persistent(a.address())).await;
    let (at_a, _) = tokio::join!(a.connected(), b.connected());
    // 40 keep-alives take four times the permitted silence.
    soon(async {
        while at_a.traffic.received_bytes(Class::Consensus) < 160 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(a.no_more_events() && b.no_more_events());
}

#[tokio::test]
async fn a_peer_that_never_reads_is_dropped_while_others_go_on() {
    let mut small = config(1);
    small.settings.timeouts.write_stall = Duration::from_millis(300);
    let mut node = Node::start(small).await;
    let mut honest = Node::start(config(2).persistent(node.address())).await;
    let good = node.connected().await.peer;
    let mut hostile = connect(&node, 10).await;
    hostile.say_hello().await.unwrap();
    assert_eq!(node.connected().await.peer, hostile.peer);
    // More than the windows on the way take, less than the queue holds.
    let body = Bytes::from(vec![1; 4_000_000]);
    for _ in 0..4 {
        node.network.send(hostile.peer, Class::Bodies, body.clone()).unwrap();
        node.network.send(good, Class::Bodies, body.clone()).unwrap();
    }
    for _ in 0..4 {
        assert_eq!(honest.receive(Class::Bodies).await.bytes, body);
    }
    let (peer, reason) = node.disconnected().await;
    assert_eq!(peer, hostile.peer);
    assert!(reason.contains("does not read"), "{reason}");
    node.network.send(good, Class::Consensus, Bytes::from_static(b"on")).unwrap();
    assert_eq!(honest.receive(Class::Consensus).await.bytes, "on");
    assert!(hostile.inbound.len() == Class::COUNT);
}

#[tokio::test]
async fn an_overflowing_queue_drops_the_peer_but_not_for_transactions() {
    let mut small = config(1);
    let limit =
        ClassLimit { frame_bytes_max: 65_536, queue_frames_max: 8, queue_bytes_max: 262_144 };
    small.settings.classes =
        ClassLimits { consensus: limit, bodies: limit, transactions: limit, sync: limit };
    let mut node = Node::start(small).await;
    let mut hostile = connect(&node, 10).await;
    hostile.say_hello().await.unwrap();
    node.connected().await;
    let full = Bytes::from(vec![1; 65_536]);
    let fill = |class| {
        let outcomes = (0..1000).map(|_| node.network.send(hostile.peer, class, full.clone()));
        outcomes.filter(|outcome| *outcome == Err(SendError::Full)).count()
    };
    assert!(fill(Class::Transactions) > 0);
    assert!(fill(Class::Consensus) > 0);
    let (_, reason) = node.disconnected().await;
    assert!(reason.contains("consensus queue is full"), "{reason}");
    let oversized = node.network.send(hostile.peer, Class::Sync, Bytes::from(vec![1; 65_537]));
    assert_eq!(oversized, Err(SendError::NotConnected));
}

/// Who comes and goes while nobody listens is not kept: the next is let in when there is room.
#[tokio::test]
async fn no_more_peers_are_let_in_than_can_be_told_of() {
    let mut few = config(1);
    few.events_max = 4;
    let mut node = Node::start(few).await;
    let mut first = connect(&node, 10).await;
    first.say_hello().await.unwrap();
    let mut second = connect(&node, 11).await;
    second.say_hello().await.unwrap();
    node.present(2).await;
    let mut third = connect(&node, 12).await;
    third.say_hello().await.unwrap();
    let denied = node.discarded(DiscardReason::ConnectionDenied).await;
    assert_eq!(denied.peer, Some(third.peer));
    drop(first);
    let told = node.connected().await.peer;
    assert_eq!(node.connected().await.peer, second.peer);
    assert_eq!(node.disconnected().await.0, told);
    let mut fourth = connect(&node, 13).await;
    fourth.say_hello().await.unwrap();
    assert_eq!(node.connected().await.peer, fourth.peer);
}

/// What nobody takes of a class waits in a bounded number of bytes, of all peers together.
#[tokio::test]
async fn frames_that_nobody_takes_are_bounded_in_bytes() {
    const FRAME_BYTES: usize = 4 << 20;
    let node = Node::start(config(1)).await;
    let body = Bytes::from(vec![1; FRAME_BYTES]);
    let mut peers = Vec::new();
    for n in 2..7 {
        peers.push(Node::start(config(n).persistent(node.address())).await);
    }
    node.present(5).await;
    for peer in &mut peers {
        peer.connected().await;
        for _ in 0..10 {
            peer.network.send(node.network.local(), Class::Bodies, body.clone()).unwrap();
        }
    }
    let inbox = &node.inboxes[Class::Bodies.index()];
    soon(async {
        while inbox.len() < 8 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Each reader holds one more at most, and has told nobody of it.
    let received = || {
        let infos = node.network.peers();
        infos.iter().map(|info| info.traffic.received_bytes(Class::Bodies)).sum::<u64>()
    };
    let most = u64::try_from((8 + 5) * (FRAME_BYTES + 4)).unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert!(inbox.len() == 8 && received() <= most, "{} {}", inbox.len(), received());
    }
}

#[tokio::test]
async fn a_peer_that_floods_has_its_share_and_another_is_heard_meanwhile() {
    for (class, share) in [(Class::Consensus, SHARE_FRAMES_MAX), (Class::Bodies, SHARE_BODIES_MAX)]
    {
        let mut node = Node::start(config(1)).await;
        let mut flood = Node::start(config(2).persistent(node.address())).await;
        let mut honest = Node::start(config(3).persistent(node.address())).await;
        node.present(2).await;
        for peer in [&mut flood, &mut honest] {
            peer.connected().await;
        }
        let (local, sender) = (node.network.local(), flood.network.local());
        for _ in 0..2 * share {
            flood.network.send(local, class, Bytes::from_static(b"flood")).unwrap();
        }
        // None of these is done with.
        let mut held = Vec::new();
        for _ in 0..share {
            held.push(node.receive(class).await);
        }
        honest.network.send(local, class, Bytes::from_static(b"honest")).unwrap();
        let heard = node.receive(class).await;
        assert_eq!(heard.bytes, b"honest"[..]);
        assert!(held.iter().all(|inbound| inbound.peer == sender));
        drop(held);
        for _ in 0..share {
            assert_eq!(node.receive(class).await.peer, sender);
        }
    }
}

/// However few they are, one peer's frames do not fill the room of all.
#[tokio::test]
async fn the_share_of_a_peer_is_bounded_in_bytes_and_one_frame_has_always_room_in_it() {
    for (class, mib, at_once) in [
        (Class::Consensus, 4, 2),
        (Class::Consensus, 3, 2),
        (Class::Bodies, 4, 2),
        (Class::Bodies, 6, 1),
        (Class::Bodies, 20, 1),
    ] {
        let mut node = Node::start(config(1)).await;
        let mut flood = Node::start(config(2).persistent(node.address())).await;
        node.connected().await;
        flood.connected().await;
        let frame = Bytes::from(vec![7; mib * 1024 * 1024]);
        for _ in 0..3 {
            flood.network.send(node.network.local(), class, frame.clone()).unwrap();
        }
        let mut held = Vec::new();
        for _ in 0..at_once {
            held.push(node.receive(class).await);
        }
        // One more is read, and waits.
        let read = u64::try_from((at_once + 1) * (frame.len() + 4)).unwrap();
        let traffic = Arc::clone(&node.network.peers()[0].traffic);
        soon(async {
            while traffic.received_bytes(class) < read {
                tokio::task::yield_now().await;
            }
        })
        .await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
            assert!(node.inboxes[class.index()].is_empty(), "{class} {mib}");
        }
        drop(held);
        for _ in at_once..3 {
            node.receive(class).await;
        }
    }
}

/// Yamux frames by hand: version, type, flags, stream, length.
fn yamux(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

/// T-43 and T-117: none of this ends anything but its own connection, and each ends by itself.
#[tokio::test]
async fn malformed_yamux_and_streams_on_which_nothing_comes_end_their_connection() {
    const SYN: u16 = 1;
    let mut short = config(1);
    short.settings.timeouts.hello = Duration::from_millis(300);
    let mut node = Node::start(short).await;
    let many = |count: u32| (0..count).flat_map(|n| yamux(0, SYN, 2 * n + 1, 0)).collect();
    let reset = |n: u32| [yamux(0, SYN, 2 * n + 1, 0), yamux(0, 8, 2 * n + 1, 0)].concat();
    let nonsense: Vec<Vec<u8>> = vec![
        [&[7], &yamux(0, SYN, 1, 0)[1..]].concat(),
        yamux(9, SYN, 1, 0),
        yamux(0, SYN, 1, u32::MAX),
        yamux(0, SYN, 2, 0),
        [yamux(1, SYN, 1, u32::MAX), yamux(1, 0, 1, u32::MAX)].concat(),
        many(8),
        many(1_000),
        (0..5_000).flat_map(reset).collect(),
        (0..5_000).flat_map(|n| yamux(2, SYN, 0, n)).collect(),
    ];
    for (key, bytes) in (20..).zip(nonsense) {
        let mut socket = below_yamux(node.listen, [key; 32]).await.unwrap();
        // The node may close before all is written.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.flush().await;
        let mut answer = Vec::new();
        let _ = soon(socket.read_to_end(&mut answer)).await;
    }
    soon(node.idle()).await;
    assert!(node.no_more_events());
    let honest = Node::start(config(2).persistent(node.address())).await;
    assert_eq!(node.connected().await.peer, honest.network.local());
}

/// A peer that begins a frame and never ends it, on any of its streams.
#[tokio::test]
async fn a_frame_of_which_the_rest_never_comes_ends_the_connection() {
    let mut short = config(1);
    short.settings.timeouts.write_stall = Duration::from_millis(200);
    let mut node = Node::start(short).await;
    // Half a prefix; a prefix of what may take minutes, and a little of it.
    let begun = [vec![0, 0], [&[0, 0x30, 0, 0][..], &[1; 100]].concat()];
    let all = begun.iter().flat_map(|bytes| Class::ALL.map(|class| (bytes, class)));
    for (key, (bytes, class)) in (10..).zip(all) {
        let mut hostile = connect(&node, key).await;
        hostile.say_hello().await.unwrap();
        node.connected().await;
        hostile.write(class, bytes).await.unwrap();
        let (peer, reason) = node.disconnected().await;
        assert_eq!(peer, hostile.peer);
        assert!(reason.contains("too slow"), "{reason}");
    }
}

#[test]
fn what_peers_can_cause_is_said_a_few_times() {
    let (mut lines, now) = (Occasional::default(), std::time::Instant::now());
    for minute in 0..3u32 {
        let now = now + Duration::from_secs(60) * minute;
        assert_eq!((0..1_000).filter(|_| lines.allows(now)).count(), 4);
    }
}
