//! Two nodes on the loopback interface: the round trip of a vote, alone and beside a stream of
//! block bodies, and the throughput of bodies. Beside criterion's figures it prints percentiles
//! and the processor time of both ends.
//!
//! `cargo bench -p tercet-benches --bench network [-- FILTER]`

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use tercet_node::network::{
    Class, ClassLimits, HelloContent, Inbound, Inboxes, Limits, Network, NetworkEvent, PeerAddress,
    PeerId, Settings, Timeouts, Transport, start,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// A vote with its frame.
const VOTE_BYTES: usize = 200;
const BODY_BYTES: usize = 4_000_000;
/// Bodies on their way at a moment.
const BODIES_UNDER_WAY: usize = 3;
const INBOX_FRAMES_MAX: usize = 1024;

struct Node {
    network: Network,
    consensus: mpsc::Receiver<Inbound>,
    bodies: mpsc::Receiver<Inbound>,
    events: mpsc::Receiver<NetworkEvent>,
    runtime: Runtime,
}

fn settings(n: u8, transport: Transport, persistent: Vec<PeerAddress>) -> Settings {
    Settings {
        secret: [n; 32],
        listen: ([127, 0, 0, 1], 0).into(),
        transport,
        persistent,
        unconditional: HashSet::new(),
        private: HashSet::new(),
        peer_exchange: false,
        limits: Limits::default(),
        classes: ClassLimits::default(),
        timeouts: Timeouts::default(),
        hello: HelloContent {
            version_min: 1,
            version_max: 1,
            genesis_hash: [1; 32],
            chain_id: "bench".to_owned(),
            validator: None,
            moniker: format!("node {n}"),
            listen_address: String::new(),
            rpc_address: String::new(),
            software_version: String::new(),
        },
        verify: Arc::new(|_, _, _| true),
        knows_validator: Arc::new(|_| false),
    }
}

impl Node {
    fn start(settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let (consensus_in, consensus) = mpsc::channel(INBOX_FRAMES_MAX);
        let (bodies_in, bodies) = mpsc::channel(INBOX_FRAMES_MAX);
        let (rest, _) = mpsc::channel(INBOX_FRAMES_MAX);
        let (events_in, events) = mpsc::channel(64);
        let inboxes = Inboxes {
            consensus: consensus_in,
            bodies: bodies_in,
            transactions: rest.clone(),
            sync: rest,
            events: events_in,
        };
        let guard = runtime.enter();
        let (network, _) = start(settings, inboxes, Arc::new(|_| {})).expect("the network starts");
        drop(guard);
        Self { network, consensus, bodies, events, runtime }
    }

    fn event<T>(&mut self, wanted: impl Fn(NetworkEvent) -> Option<T>) -> T {
        loop {
            let event = self.events.blocking_recv().expect("the network runs");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    fn connected(&mut self) -> PeerId {
        self.event(|event| match event {
            NetworkEvent::Connected(info) => Some(info.peer),
            _ => None,
        })
    }
}

/// Node a, whose votes come back from node b, and whose bodies b takes.
struct Pair {
    network: Network,
    peer: PeerId,
    echoes: mpsc::Receiver<Inbound>,
    taken: std::sync::mpsc::Receiver<()>,
    _runtimes: [Runtime; 2],
}

impl Pair {
    fn start(transport: Transport) -> Self {
        let mut a = Node::start(settings(1, transport, Vec::new()));
        let listen = a.event(|event| match event {
            NetworkEvent::Listening(socket) => Some(socket),
            _ => None,
        });
        let address = match transport {
            Transport::Tcp => format!("/ip4/127.0.0.1/tcp/{}", listen.port()),
            Transport::Quic => format!("/ip4/127.0.0.1/udp/{}/quic-v1", listen.port()),
        };
        let address = address.parse().expect("it is an address");
        let mut b = Node::start(settings(2, transport, vec![address]));
        let (at_a, at_b) = (a.connected(), b.connected());
        let (echo, mut votes) = (b.network.clone(), b.consensus);
        std::thread::spawn(move || {
            while let Some(vote) = votes.blocking_recv() {
                // It fails only when the other side has gone.
                let _ = echo.send(at_b, Class::Consensus, vote.bytes);
            }
        });
        let (took, taken) = std::sync::mpsc::channel();
        let mut bodies = b.bodies;
        std::thread::spawn(
            move || {
                while bodies.blocking_recv().is_some() && took.send(()).is_ok() {}
            },
        );
        let (network, echoes) = (a.network, a.consensus);
        Self { network, peer: at_a, echoes, taken, _runtimes: [a.runtime, b.runtime] }
    }

    fn round_trip(&mut self, vote: &Bytes) -> Duration {
        let begun = Instant::now();
        self.network.send(self.peer, Class::Consensus, vote.clone()).expect("it is connected");
        self.echoes.blocking_recv().expect("the network runs");
        begun.elapsed()
    }
}

/// Sends bodies until `end`, a few at a time, and says how many.
fn stream(
    network: &Network,
    peer: PeerId,
    taken: &std::sync::mpsc::Receiver<()>,
    end: impl Fn(usize) -> bool,
) -> usize {
    let body = Bytes::from(vec![7; BODY_BYTES]);
    let (mut sent, mut arrived) = (0, 0);
    while !end(arrived) {
        while sent - arrived < BODIES_UNDER_WAY {
            network.send(peer, Class::Bodies, body.clone()).expect("there is room");
            sent += 1;
        }
        taken.recv().expect("the network runs");
        arrived += 1;
    }
    for _ in arrived..sent {
        taken.recv().expect("the network runs");
    }
    sent
}

fn percentiles(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len().max(1) - 1) * percent / 100);
    if let (Some(p50), Some(p99)) = (at(50), at(99)) {
        println!("{name}: p50 {p50:?}, p99 {p99:?} of {} round trips", times.len());
    }
}

/// Processor time of this process so far (Linux: in hundredths of a second).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn round_trips(criterion: &mut Criterion, pair: &mut Pair, name: &str) {
    let vote = Bytes::from(vec![7; VOTE_BYTES]);
    let mut times = Vec::new();
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let begun = times.len();
            times.extend((0..count).map(|_| pair.round_trip(&vote)));
            times[begun..].iter().sum()
        });
    });
    percentiles(name, &mut times);
}

fn bodies(criterion: &mut Criterion, pair: &Pair, name: &str) {
    let (begun, mut count) = (processor_time(), 0);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(BODY_BYTES as u64));
    group.bench_function("4 MB", |bencher| {
        bencher.iter_custom(|wanted| {
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            let begun = Instant::now();
            let sent = stream(&pair.network, pair.peer, &pair.taken, |arrived| arrived >= wanted);
            count += sent;
            let per_body = begun.elapsed() / u32::try_from(sent).unwrap_or(u32::MAX);
            per_body * u32::try_from(wanted).unwrap_or(u32::MAX)
        });
    });
    group.finish();
    let megabytes = (count * BODY_BYTES / 1_000_000).max(1);
    let used = (processor_time() - begun) / u32::try_from(megabytes).unwrap_or(u32::MAX);
    println!("{name}: {used:?} of processor time a megabyte, both ends together");
}

fn measure(criterion: &mut Criterion, transport: Transport) {
    let mut pair = Pair::start(transport);
    round_trips(criterion, &mut pair, &format!("{transport}: vote and back"));
    bodies(criterion, &pair, &format!("{transport}: bodies"));
    let (network, peer) = (pair.network.clone(), pair.peer);
    let (_, nothing) = std::sync::mpsc::channel();
    let taken = std::mem::replace(&mut pair.taken, nothing);
    let done = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&done);
    let streaming: JoinHandle<usize> =
        std::thread::spawn(move || stream(&network, peer, &taken, |_| end.load(Ordering::Relaxed)));
    round_trips(criterion, &mut pair, &format!("{transport}: vote and back beside bodies"));
    done.store(true, Ordering::Relaxed);
    streaming.join().expect("the stream ends");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for transport in [Transport::Tcp, Transport::Quic] {
        measure(&mut criterion, transport);
    }
    criterion.final_summary();
}
