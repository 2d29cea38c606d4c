//! Names, meanings and labels.

use super::abci::Timings;
use super::pool::OfPool;
use super::process::Process;
use crate::rpc::sources::{Snapshot, Sources};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A figure with a fraction.
type Real = Gauge<f64, AtomicU64>;

/// The shortest block interval that has a bucket of its own, in seconds, and how many buckets, each twice as wide, follow.
const INTERVAL_FIRST: f64 = 0.002;
const INTERVAL_BUCKETS: u16 = 15;

/// Which validator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfValidator {
    pub(super) validator_address: String,
}

/// Which peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPeer {
    peer_id: String,
}

/// What was thrown away and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Thrown {
    reason: &'static str,
    class: &'static str,
}

/// Why nothing is signed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Held {
    reason: &'static str,
}

/// What this program is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    moniker: String,
}

/// All figures.
pub(super) struct Figures {
    pub(super) blocks: Blocks,
    consensus: Consensus,
    network: Network,
    pbft: Pbft,
    pub(super) process: Process,
}

/// Registers figures of one subsystem.
struct Names<'a> {
    registry: &'a mut Registry,
}

impl Names<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.registry.register(name, help, metric.clone());
        metric
    }
}

fn names<'a>(registry: &'a mut Registry, namespace: &str, subsystem: &str) -> Names<'a> {
    let prefix = match (namespace.is_empty(), subsystem.is_empty()) {
        (true, _) => subsystem.to_owned(),
        (false, true) => namespace.to_owned(),
        (false, false) => format!("{namespace}_{subsystem}"),
    };
    Names { registry: registry.sub_registry_with_prefix(prefix) }
}

/// As a figure; what is larger is the largest.
pub(super) fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Figures {
    /// Registers all of them, each with the label `chain_id`, as in CometBFT.
    pub(super) fn new(
        registry: &mut Registry,
        namespace: &str,
        (sources, timings): (&Sources, &Timings),
    ) -> Figures {
        let process = Process::new(registry);
        let chain_id = sources.genesis.chain_id.clone();
        let label = (Cow::from("chain_id"), Cow::from(chain_id));
        let root = registry.sub_registry_with_labels(std::iter::once(label));
        let pool = Box::new(OfPool(Arc::clone(&sources.pool)));
        names(root, namespace, "mempool").registry.register_collector(pool);
        let help =
            "Time that the application takes for a call; checks that are asked together count once";
        let abci = names(root, namespace, "abci_connection").registry;
        abci.register("method_timing_seconds", help, timings.0.clone());
        Figures {
            blocks: Blocks::new(root, namespace),
            consensus: Consensus::new(names(root, namespace, "consensus")),
            network: Network::new(root, namespace),
            pbft: Pbft::new(names(root, "tercet", "")),
            process,
        }
    }

    /// Sets what is so now.
    pub(super) fn now(&self, snapshot: &Snapshot, sources: &Sources) {
        self.consensus.now(snapshot);
        self.network.now(snapshot, sources);
        self.pbft.now(snapshot, sources);
    }
}

/// CometBFT's figures of blocks, counted by [`super::blocks::Walk`].
pub(super) struct Blocks {
    pub(super) latest_block_height: Gauge,
    pub(super) last_signed_height: Family<OfValidator, Gauge>,
    pub(super) missed_blocks: Family<OfValidator, Gauge>,
    pub(super) missing_validators: Gauge,
    pub(super) missing_validators_power: Gauge,
    pub(super) interval_seconds: Histogram,
    pub(super) num_txs: Gauge,
    pub(super) size_bytes: Gauge,
    pub(super) chain_size_bytes: Counter,
    pub(super) total_txs: Gauge,
    pub(super) left_out: Counter,
}

impl Blocks {
    fn new(root: &mut Registry, namespace: &str) -> Blocks {
        let left_out = names(root, "tercet", "").add(
            "blocks_left_out",
            "Blocks that are in no figure, as too many came between two questions",
        );
        let mut at = names(root, namespace, "consensus");
        let interval = exponential_buckets(INTERVAL_FIRST, 2.0, INTERVAL_BUCKETS);
        let interval_seconds = Histogram::new(interval);
        let help = "Time between a block's header and that of the block before it";
        at.registry.register("block_interval_seconds", help, interval_seconds.clone());
        Blocks {
            latest_block_height: at.add("latest_block_height", "Height of the last executed block"),
            last_signed_height: at.add(
                "validator_last_signed_height",
                "Last height whose commit, as the next block has it, this node signed",
            ),
            missed_blocks: at.add(
                "validator_missed_blocks",
                "Commits in blocks since the start without this node's signature",
            ),
            missing_validators: at.add(
                "missing_validators",
                "Validators that did not sign the last commit in a block",
            ),
            missing_validators_power: at.add("missing_validators_power", "Their voting power"),
            interval_seconds,
            num_txs: at.add("num_txs", "Transactions of the last block"),
            size_bytes: at.add("block_size_bytes", "Size of the last block"),
            chain_size_bytes: at.add("chain_size_bytes", "Bytes of all blocks since the start"),
            total_txs: at.add("total_txs", "Transactions of all blocks since the start"),
            left_out,
        }
    }
}

/// CometBFT's figures of consensus.
struct Consensus {
    height: Gauge,
    rounds: Gauge,
    validators: Gauge,
    validators_power: Gauge,
    validator_power: Family<OfValidator, Gauge>,
}

impl Consensus {
    fn new(mut at: Names<'_>) -> Consensus {
        let power = "Voting power of this node; absent where it is no validator";
        Consensus {
            height: at.add("height", "Height that is being decided"),
            rounds: at.add("rounds", "View of this height, counted from 0"),
            validators: at.add("validators", "Validators"),
            validators_power: at.add("validators_power", "Voting power of all validators"),
            validator_power: at.add("validator_power", power),
        }
    }

    fn now(&self, snapshot: &Snapshot) {
        let pbft = &snapshot.pbft;
        self.height.set(whole(pbft.height.value()));
        self.rounds.set(whole(pbft.view.number()));
        self.validators.set(whole(pbft.validators.len()));
        self.validators_power.set(whole(pbft.total_power));
        self.validator_power.clear();
        if snapshot.power > 0 {
            let label = OfValidator { validator_address: snapshot.key.address().to_string() };
            self.validator_power.get_or_create(&label).set(whole(snapshot.power));
        }
    }
}

/// CometBFT's figures of peers, transactions that wait, and catch-up.
struct Network {
    syncing: Gauge,
    mempool_size: Gauge,
    mempool_size_bytes: Gauge,
    peers: Gauge,
    peer_receive_bytes: Family<OfPeer, Counter>,
    peer_send_bytes: Family<OfPeer, Counter>,
}

impl Network {
    fn new(root: &mut Registry, namespace: &str) -> Network {
        let mut sync = names(root, namespace, "blocksync");
        let syncing = sync.add("syncing", "1 while this node is behind its peers");
        let mut pool = names(root, namespace, "mempool");
        let mempool_size = pool.add("size", "Transactions that wait");
        let mempool_size_bytes = pool.add("size_bytes", "Bytes of the transactions that wait");
        let mut p2p = names(root, namespace, "p2p");
        let (came, went) = ("Bytes that came from a peer", "Bytes that went to a peer");
        Network {
            syncing,
            mempool_size,
            mempool_size_bytes,
            peers: p2p.add("peers", "Connected peers"),
            peer_receive_bytes: p2p.add("peer_receive_bytes", came),
            peer_send_bytes: p2p.add("peer_send_bytes", went),
        }
    }

    fn now(&self, snapshot: &Snapshot, sources: &Sources) {
        self.syncing.set(i64::from(snapshot.catching_up));
        let pool = sources.pool.stats();
        self.mempool_size.set(whole(pool.count));
        self.mempool_size_bytes.set(whole(pool.total_bytes));
        let peers = sources.net.peers();
        self.peers.set(whole(peers.len()));
        // Those who have gone are no series any more.
        self.peer_receive_bytes.clear();
        self.peer_send_bytes.clear();
        for peer in peers {
            let label = OfPeer { peer_id: peer.id };
            self.peer_receive_bytes.get_or_create(&label).inc_by(peer.received_bytes);
            self.peer_send_bytes.get_or_create(&label).inc_by(peer.sent_bytes);
        }
    }
}

/// Figures of PBFT and of this node.
struct Pbft {
    view: Gauge,
    start_view: Gauge,
    view_changing: Gauge,
    view_changes: Counter,
    primary: Gauge,
    view_change_timeout_seconds: Real,
    quorum_power: Gauge,
    faulty_power_max: Gauge,
    connected_validators: Gauge,
    connected_power: Gauge,
    held: Family<Held, Gauge>,
    clock_off_seconds: Gauge,
    fault: Gauge,
    discarded: Family<Thrown, Counter>,
    build: Family<Build, Gauge>,
}

impl Pbft {
    fn new(mut at: Names<'_>) -> Pbft {
        Pbft {
            view: at.add("view", "View of this height"),
            start_view: at.add("start_view", "View in which this height began"),
            view_changing: at.add(
                "view_changing",
                "1 while this node has promised to move to a view and is not there yet",
            ),
            view_changes: at.add("view_changes", "View changes since the start"),
            primary: at.add("primary", "1 while this node is the primary"),
            view_change_timeout_seconds: at
                .add("view_change_timeout_seconds", "How long a primary may do nothing"),
            quorum_power: at.add("quorum_power", "Voting power that decides"),
            faulty_power_max: at.add("faulty_power_max", "Voting power that may be faulty"),
            connected_validators: at
                .add("connected_validators", "Connected validators, and this node if it is one"),
            connected_power: at.add("connected_validators_power", "Their voting power"),
            held: at.add("held", "1 while this node signs nothing, with the reason"),
            clock_off_seconds: at.add(
                "clock_off_seconds",
                "By how much the clock is ahead of the validators'; 0 where it is not wrong",
            ),
            fault: at.add("fault", "1 where the node has stopped working; /healthz says why"),
            discarded: at
                .add("discarded_messages", "Messages that were thrown away since the start"),
            build: at.add("build", "1, with what this program is"),
        }
    }

    fn now(&self, snapshot: &Snapshot, sources: &Sources) {
        self.replica(snapshot);
        self.held.clear();
        if let Some(reason) = snapshot.pbft.hold {
            self.held.get_or_create(&Held { reason }).set(1);
        }
        self.clock_off_seconds.set(snapshot.pbft.clock_off_secs.unwrap_or(0));
        self.fault.set(i64::from(snapshot.fault.is_some()));
        self.discarded.clear();
        for one in sources.status.discarded() {
            // Peers are summed: one that connects under ever new names is not to make ever new series.
            let label = Thrown { reason: one.reason, class: one.class.unwrap_or("none") };
            self.discarded.get_or_create(&label).inc_by(one.count);
        }
        let moniker = snapshot.node.moniker.clone();
        self.build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION"), moniker }).set(1);
    }

    fn replica(&self, snapshot: &Snapshot) {
        let pbft = &snapshot.pbft;
        self.view.set(whole(pbft.view.number()));
        self.start_view.set(whole(pbft.start_view.number()));
        let changing = pbft.promise.is_some_and(|promise| promise > pbft.view);
        self.view_changing.set(i64::from(changing));
        let more = pbft.view_changes.saturating_sub(self.view_changes.get());
        self.view_changes.inc_by(more);
        self.primary.set(i64::from(pbft.primary == Some(snapshot.key.address())));
        self.view_change_timeout_seconds.set(pbft.timeout.as_secs_f64());
        self.quorum_power.set(whole(pbft.quorum));
        self.faulty_power_max.set(whole(pbft.f));
        let connected = || pbft.validators.iter().filter(|validator| validator.connected);
        self.connected_validators.set(whole(connected().count()));
        self.connected_power.set(whole(connected().map(|one| one.power).sum::<u64>()));
    }
}
