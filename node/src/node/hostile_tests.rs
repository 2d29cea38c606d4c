//! A peer that speaks the right protocols to a whole node that runs, and then misbehaves: the chain goes on, nothing is kept, and the
//! operator can read who did what.

#[path = "../../tests/support/mod.rs"]
#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    dead_code,
    reason = "shared with the tests outside of the crate"
)]
mod support;

use crate::network::raw::Raw;
use crate::network::{Class, NodeId, PeerId, Transport};
use crate::wire::{Consensus, Frame, Sync, SyncRequest, SyncResponse};
use bytes::Bytes;
use ed25519_dalek::Signer as _;
use futures::AsyncWriteExt as _;
use std::time::{Duration, Instant};
use support::Net;
use support::observer::settings;
use tendermint::block::Height;
use tercet_consensus::key::Signature;
use tercet_consensus::message::{Message, Phase, Signed, SignedVote};
use tercet_consensus::sign_bytes;
use tercet_consensus::status::Status;
use tercet_consensus::testing::messages::{Signers, block_id, view};

/// More than a node queues for one peer and two nodes' buffers hold, in responses of four mebibytes.
const RESPONSES: u64 = 60;
/// How often the counters are read while one is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The network under attack; the attacked node is node 0.
struct Attacked {
    net: Net,
    attackers: u8,
}

impl Attacked {
    async fn attacker(&mut self) -> Raw {
        self.attackers += 1;
        let settings = settings(self.attackers, Vec::new());
        let mut raw = Raw::connect(self.net.listens(0), settings).await.expect("it is let in");
        raw.say_hello().await.expect("it takes a hello");
        raw
    }

    /// How many messages of `peer` the node says to have discarded for this reason.
    fn discarded(&self, peer: &PeerId, reason: &str, class: Class) -> u64 {
        let node_id = NodeId::of_peer(peer).expect("an id").to_string();
        let reply = self.net.get(0, "pbft_state");
        let body = reply.split_once("\r\n\r\n").expect("a body").1;
        let reply: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let list = reply["result"]["discarded"].as_array().expect("a list").clone();
        let found = list.into_iter().find(|entry| {
            entry["peer"] == node_id && entry["reason"] == reason && entry["class"] == class.name()
        });
        found.map_or(0, |entry| {
            entry["count"].as_str().expect("a number").parse().expect("a number")
        })
    }

    /// Waits until so many were counted.
    async fn counted(&self, peer: &PeerId, reason: &str, (class, count): (Class, u64)) {
        let deadline = Instant::now() + support::PATIENCE;
        while self.discarded(peer, reason, class) < count {
            assert!(Instant::now() < deadline, "{reason} of {class} was not counted");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A new peer writes these bytes, framed, on the consensus stream until the reason is counted.
    async fn says(&mut self, reason: &str, frame: impl Fn(&Attacked) -> Vec<u8>) {
        let mut raw = self.attacker().await;
        let deadline = Instant::now() + support::PATIENCE;
        while self.discarded(&raw.peer, reason, Class::Consensus) == 0 {
            assert!(Instant::now() < deadline, "{reason} was not counted");
            // The height moves on meanwhile.
            let bytes = frame(self);
            raw.write_frame(Class::Consensus, &bytes).await.expect("it is connected");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until nobody is connected but the other validators.
    async fn left_alone(&self) {
        let running = &self.net.node(0).running;
        let deadline = Instant::now() + support::PATIENCE;
        while running.network.gauges().connections > 3 || running.network.gauges().peers != 3 {
            let gauges = running.network.gauges();
            assert!(Instant::now() < deadline, "connections stay: {gauges:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Sends a transaction of so many bytes and waits until it is executed.
    fn send_large(&self, name: &str, bytes: usize) {
        let tx = format!("{name}={}", "v".repeat(bytes));
        let pool = &self.net.node(0).running.mempool;
        pool.submit(Bytes::from(tx.clone().into_bytes())).expect("room");
        self.net.apps[0].wait_for(&tx);
    }

    /// The height that is being decided, or the one before.
    fn height(&self) -> u32 {
        let height = self.net.apps[0].look(|chain| chain.height) + 1;
        u32::try_from(height).expect("few blocks")
    }

    /// A vote of the validator of node 0, for a view far away, signed for `chain`.
    fn vote(&self, height: u32, chain: &str) -> SignedVote {
        let validators = self.net.validators();
        let index = validators.index_of(&self.net.address(0)).expect("a validator");
        let mut message =
            Signers::new(&[1; 4], height).vote(Phase::Prepare, 0, 1_000, block_id(1)).message;
        (message.validator, message.index) = (self.net.address(0), index);
        let signature = self.net.key(0).sign(&sign_bytes::vote(chain, &message));
        Signed { message, signature: Signature(signature.to_bytes()) }
    }

    /// It takes a transaction and all execute it.
    fn goes_on(&self, tx: &str) {
        self.net.send(0, tx);
        self.net.apps.iter().for_each(|app| app.wait_for(tx));
    }
}

fn frame(message: Message) -> Vec<u8> {
    match Consensus::Message(message).encode() {
        Frame::Consensus(bytes) | Frame::Body(bytes) => bytes.to_vec(),
    }
}

/// The same vote with another height: the encoder knows none above 2^63 − 1.
fn with_height(vote: SignedVote, height: u64) -> Vec<u8> {
    use prost::encoding::{decode_varint, encode_varint};
    let old = frame(Message::Vote(vote));
    // Version, then the vote with its length, whose first fields are phase and height.
    let (head, mut rest) = old.split_at(3);
    decode_varint(&mut rest).expect("a length");
    let (phase, mut rest) = rest.split_at(3);
    decode_varint(&mut rest).expect("a height");
    let mut vote = phase.to_vec();
    encode_varint(height, &mut vote);
    vote.extend_from_slice(rest);
    let mut new = head.to_vec();
    encode_varint(vote.len() as u64, &mut new);
    new.extend_from_slice(&vote);
    new
}

/// Bytes that look random.
fn noise(length: u32, seed: u32) -> Vec<u8> {
    let byte = |n: u32| n.wrapping_add(seed).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    (0..length).map(byte).collect()
}

fn on_attacked_network(attack: impl AsyncFnOnce(&mut Attacked)) {
    let mut net = Net::new(&[10; 4], 0, Transport::Tcp);
    net.start_all();
    let mut attacked = Attacked { net, attackers: 0 };
    attacked.goes_on("before=1");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(attack(&mut attacked));
    attacked.goes_on("after=1");
    attacked.net.assert_one_chain();
    runtime.shutdown_background();
}

#[test]
fn votes_that_no_validator_of_this_chain_signed_are_counted_and_stop_nothing() {
    on_attacked_network(async |attacked| {
        let signers = |attacked: &Attacked| Signers::new(&[1; 4], attacked.height());
        attacked
            .says("unknown_sender", |attacked| {
                let vote = signers(attacked).vote(Phase::Commit, 0, 0, block_id(1));
                frame(Message::Vote(vote))
            })
            .await;
        attacked
            .says("bad_signature", |attacked| {
                frame(Message::Vote(attacked.vote(attacked.height(), "another-chain")))
            })
            .await;
        attacked
            .says("unauthorised_sender", |attacked| {
                frame(Message::PrePrepare(signers(attacked).pre_prepare(0, block_id(1), None)))
            })
            .await;
        attacked
            .says("malformed", |attacked| {
                with_height(attacked.vote(attacked.height(), "test-chain"), 1 << 63)
            })
            .await;
        attacked
            .says("unjustified", |attacked| {
                let (signers, others) = (signers(attacked), Signers::new(&[1; 4], 1));
                let of_another_height = |index| others.view_change(index, 1, None);
                let view_changes = (0..3).map(of_another_height).collect();
                let justification =
                    tercet_consensus::message::Justification { view_changes, certificate: None };
                frame(Message::PrePrepare(signers.pre_prepare(1, block_id(1), Some(justification))))
            })
            .await;
    });
}

#[test]
fn messages_that_are_no_fault_are_counted_too() {
    on_attacked_network(async |attacked| {
        let far = view(1_000);
        attacked
            .says("duplicate", |attacked| {
                let vote = attacked.vote(attacked.height(), "test-chain");
                assert_eq!(vote.message.view, far);
                frame(Message::Vote(vote))
            })
            .await;
        attacked
            .says("future", |attacked| {
                frame(Message::Vote(attacked.vote(2_000_000_000, "test-chain")))
            })
            .await;
        for n in 0..4 {
            attacked.goes_on(&format!("h{n}=1"));
        }
        attacked
            .says("stale", |attacked| frame(Message::Vote(attacked.vote(1, "test-chain"))))
            .await;
    });
}

#[test]
fn noise_in_frames_is_malformed_in_every_class() {
    on_attacked_network(async |attacked| {
        const FRAMES: u32 = 20;
        let mut raw = attacked.attacker().await;
        for class in Class::ALL {
            for n in 0..FRAMES {
                // A field number of 0 is in no message.
                let mut bytes = noise(1 + n % 500, n);
                bytes[0] = 0;
                raw.write_frame(class, &bytes).await.expect("it is connected");
            }
            attacked.counted(&raw.peer, "malformed", (class, u64::from(FRAMES))).await;
        }
        let last = Height::try_from(5u64).expect("a height");
        let unasked = Sync::Response(SyncResponse { id: 77, items: Vec::new(), last });
        raw.write_frame(Class::Sync, &unasked.encode()).await.expect("it is connected");
        attacked.counted(&raw.peer, "unasked", (Class::Sync, 1)).await;
    });
}

#[test]
fn streams_that_break_the_framing_are_cut_and_counted() {
    on_attacked_network(async |attacked| {
        for class in Class::ALL {
            // A length of 4 GiB.
            let mut raw = attacked.attacker().await;
            raw.write(class, &[0xff; 64]).await.expect("it is connected");
            attacked.counted(&raw.peer, "oversized", (class, 1)).await;
            // A frame that ends before its length.
            let mut raw = attacked.attacker().await;
            raw.write(class, &[0, 0, 0, 100, 1, 2, 3]).await.expect("it is connected");
            raw.stream(class).close().await.expect("closed");
            attacked.counted(&raw.peer, "truncated", (class, 1)).await;
            // No frames at all.
            let mut raw = attacked.attacker().await;
            let mut bytes = noise(1_000, 7);
            bytes[0] = 0xf0;
            raw.write(class, &bytes).await.expect("it is connected");
            attacked.counted(&raw.peer, "oversized", (class, 1)).await;
        }
        attacked.left_alone().await;
    });
}

#[test]
fn a_peer_that_asks_for_blocks_and_reads_none_is_dropped() {
    on_attacked_network(async |attacked| {
        for n in 0..6 {
            attacked.send_large(&format!("large{n}"), 700_000);
        }
        let mut raw = attacked.attacker().await;
        let from = Height::from(1u32);
        for id in 1..=RESPONSES {
            let request = SyncRequest { id, from, count: 64, bytes_max: 4 << 20 };
            raw.write_frame(Class::Sync, &Sync::Request(request).encode())
                .await
                .expect("it is connected");
        }
        let deadline = Instant::now() + support::PATIENCE;
        while attacked.net.node(0).running.network.gauges().peers != 3 {
            assert!(Instant::now() < deadline, "it stays");
            // It is not silent, so this is not what it is dropped for. Once it is dropped, a write fails.
            let stream = raw.stream(Class::Consensus);
            let _ = stream.write_all(&[0; 4]).await;
            let _ = stream.flush().await;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    });
}

#[test]
fn a_flood_of_blocks_that_are_none_is_counted_and_stops_nothing() {
    on_attacked_network(async |attacked| {
        let mut raw = attacked.attacker().await;
        let bytes = Bytes::from(vec![0; 900_000]);
        for _ in 0..90 {
            raw.write_frame(Class::Bodies, &bytes).await.expect("it is connected");
        }
        attacked.counted(&raw.peer, "malformed", (Class::Bodies, 90)).await;
    });
}

/// What no correct node sends: a peer that goes on with it is dropped and kept out.
#[test]
fn a_peer_that_sends_what_no_correct_node_sends_is_dropped() {
    on_attacked_network(async |attacked| {
        let mut raw = attacked.attacker().await;
        let vote = frame(Message::Vote(attacked.vote(attacked.height(), "another-chain")));
        let deadline = Instant::now() + support::PATIENCE;
        // Once it is dropped, a write fails.
        while raw.write_frame(Class::Consensus, &vote).await.is_ok() {
            assert!(Instant::now() < deadline, "it stays");
        }
        let again = Raw::connect(attacked.net.listens(0), settings(1, Vec::new())).await;
        assert!(again.is_err(), "it is kept out");
    });
}

/// T-115: a message is passed on once, however often it is said.
#[test]
fn what_is_said_again_is_passed_on_once() {
    on_attacked_network(async |attacked| {
        let mut listener = attacked.attacker().await;
        let mut speaker = attacked.attacker().await;
        // Connected to nobody else: who hears of a validator directly is passed on nothing of it.
        let direct = Default::default();
        let status = Status { direct, ..crate::wire::samples::status() };
        let Frame::Consensus(status) = Consensus::Status(status).encode() else {
            panic!("its class")
        };
        // Until it has told of itself, nothing is passed on to it.
        listener.write_frame(Class::Consensus, &status).await.expect("it is connected");
        let copies = |vote: &SignedVote| frame(Message::Vote(vote.clone()));
        let said = copies(&attacked.vote(attacked.height(), "test-chain"));
        let mut heard = 0;
        let deadline = Instant::now() + support::PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the last message was not passed on");
            for _ in 0..50 {
                speaker.write_frame(Class::Consensus, &said).await.expect("it is connected");
            }
            // One that was not said before: what comes behind it was passed on before it.
            let last = copies(&attacked.vote(attacked.height(), "test-chain"));
            speaker.write_frame(Class::Consensus, &last).await.expect("it is connected");
            let wait = Duration::from_millis(500);
            let mut came = false;
            while let Ok(next) =
                tokio::time::timeout(wait, listener.read_frame(Class::Consensus)).await
            {
                let next = next.expect("it is connected");
                heard += usize::from(next == said);
                came |= next == last && last != said;
                if came {
                    break;
                }
            }
            if came {
                break;
            }
            attacked.goes_on(&format!("again{}=1", rand::random::<u32>()));
        }
        assert!(heard <= 1, "{heard} copies");
    });
}
