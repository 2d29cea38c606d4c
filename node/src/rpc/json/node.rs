//! Status, peers, pool and the state of the protocol.

use super::chain::PubKey;
use super::{Base64Text, Hex, Rfc3339, Text};
use crate::rpc::sources::{DiscardedSeen, PbftState, PeerView, Snapshot, Tip};
use bytes::Bytes;
use serde::Serialize;
use std::time::{Duration, SystemTime};
use tendermint_proto::google::protobuf::Timestamp;
use tercet_consensus::view::View;

/// The CometBFT version that the interfaces are compatible with, by which clients choose their dialect.
pub const COMPATIBLE_VERSION: &str = "0.38.25";
/// CometBFT's protocol version between peers.
const P2P_PROTOCOL: u64 = 8;
/// CometBFT's block protocol version.
const BLOCK_PROTOCOL: u64 = 11;
/// The channel list of a CometBFT 0.38 node.
const CHANNELS: &str = "40202122233038606100";

/// Reply of `status`. `tercet_version` is ours; clients ignore a field that they do not know.
#[derive(Serialize)]
pub(crate) struct StatusReply<'a> {
    node_info: NodeInfo<'a>,
    sync_info: SyncInfo,
    validator_info: ValidatorInfo,
    tercet_version: &'static str,
}

#[derive(Serialize)]
struct NodeInfo<'a> {
    protocol_version: ProtocolVersion,
    id: &'a str,
    listen_addr: &'a str,
    network: &'a str,
    version: &'a str,
    channels: &'static str,
    moniker: &'a str,
    other: Other<'a>,
}

#[derive(Serialize)]
struct ProtocolVersion {
    p2p: Text<u64>,
    block: Text<u64>,
    app: Text<u64>,
}

impl ProtocolVersion {
    fn new(app: u64) -> ProtocolVersion {
        ProtocolVersion { p2p: Text(P2P_PROTOCOL), block: Text(BLOCK_PROTOCOL), app: Text(app) }
    }
}

#[derive(Serialize)]
struct Other<'a> {
    tx_index: &'static str,
    rpc_address: &'a str,
}

#[derive(Serialize)]
struct SyncInfo {
    latest_block_hash: Hex<Vec<u8>>,
    latest_app_hash: Hex<Vec<u8>>,
    latest_block_height: Text<u64>,
    latest_block_time: Rfc3339,
    earliest_block_hash: Hex<Vec<u8>>,
    earliest_app_hash: Hex<Vec<u8>>,
    earliest_block_height: Text<u64>,
    earliest_block_time: Rfc3339,
    catching_up: bool,
}

#[derive(Serialize)]
struct ValidatorInfo {
    address: Hex<Vec<u8>>,
    pub_key: PubKey,
    voting_power: Text<u64>,
}

impl<'a> From<&'a Snapshot> for StatusReply<'a> {
    fn from(snapshot: &'a Snapshot) -> StatusReply<'a> {
        let node = &snapshot.node;
        StatusReply {
            node_info: NodeInfo {
                protocol_version: ProtocolVersion::new(snapshot.app_version),
                id: &node.id,
                listen_addr: &node.listen_addr,
                network: &node.chain_id,
                version: COMPATIBLE_VERSION,
                channels: CHANNELS,
                moniker: &node.moniker,
                other: Other {
                    tx_index: if node.tx_index { "on" } else { "off" },
                    rpc_address: &node.rpc_address,
                },
            },
            sync_info: sync_info(snapshot),
            validator_info: ValidatorInfo {
                address: Hex(snapshot.key.address().as_bytes().to_vec()),
                pub_key: (&snapshot.key).into(),
                voting_power: Text(snapshot.power),
            },
            tercet_version: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn sync_info(snapshot: &Snapshot) -> SyncInfo {
    // Without a block, CometBFT gives heights of 0 and the time 0 of Unix.
    let epoch = Rfc3339(Some(Timestamp { seconds: 0, nanos: 0 }));
    let hash =
        |tip: &Option<Tip>| Hex(tip.as_ref().map_or(vec![], |tip| tip.hash.as_bytes().to_vec()));
    let app_hash = |tip: &Option<Tip>| Hex(tip.as_ref().map_or(vec![], |tip| tip.app_hash.clone()));
    let height = |tip: &Option<Tip>| Text(tip.as_ref().map_or(0, |tip| tip.height.value()));
    let time = |tip: &Option<Tip>| tip.as_ref().map_or(epoch, |tip| tip.time.into());
    let (latest, earliest) = (&snapshot.latest, &snapshot.earliest);
    SyncInfo {
        latest_block_hash: hash(latest),
        latest_app_hash: app_hash(latest),
        latest_block_height: height(latest),
        latest_block_time: time(latest),
        earliest_block_hash: hash(earliest),
        earliest_app_hash: app_hash(earliest),
        earliest_block_height: height(earliest),
        earliest_block_time: time(earliest),
        catching_up: snapshot.catching_up,
    }
}

/// Reply of `net_info`.
#[derive(Serialize)]
pub(crate) struct NetInfoReply<'a> {
    listening: bool,
    listeners: [&'static str; 1],
    n_peers: Text<usize>,
    peers: Vec<Peer<'a>>,
}

#[derive(Serialize)]
struct Peer<'a> {
    node_info: NodeInfo<'a>,
    is_outbound: bool,
    connection_status: ConnectionStatus,
    remote_ip: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConnectionStatus {
    duration: Text<u128>,
    send_monitor: Monitor,
    recv_monitor: Monitor,
    channels: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Monitor {
    start: Rfc3339,
    bytes: Text<u64>,
    samples: Text<u64>,
    inst_rate: Text<u64>,
    cur_rate: Text<u64>,
    avg_rate: Text<u64>,
    peak_rate: Text<u64>,
    bytes_rem: Text<u64>,
    duration: Text<u128>,
    idle: Text<u128>,
    time_rem: Text<u64>,
    progress: u32,
    active: bool,
}

impl Monitor {
    fn new(age: Duration, idle: Duration, bytes: u64) -> Monitor {
        let start = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let since = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nanos = i32::try_from(since.subsec_nanos()).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
        Monitor {
            start: Rfc3339(Some(Timestamp { seconds, nanos })),
            bytes: Text(bytes),
            samples: Text(0),
            inst_rate: Text(0),
            cur_rate: Text(0),
            avg_rate: Text(bytes / age.as_secs().max(1)),
            peak_rate: Text(0),
            bytes_rem: Text(0),
            duration: Text(age.as_nanos()),
            idle: Text(idle.as_nanos()),
            time_rem: Text(0),
            progress: 0,
            active: true,
        }
    }
}

impl<'a> NetInfoReply<'a> {
    /// The reply for these peers, all on the chain that `snapshot` is of.
    pub(crate) fn new(listening: bool, snapshot: &'a Snapshot, peers: &'a [PeerView]) -> Self {
        let peer = |peer: &'a PeerView| Peer {
            node_info: NodeInfo {
                protocol_version: ProtocolVersion::new(snapshot.app_version),
                id: &peer.id,
                listen_addr: &peer.listen_addr,
                network: &snapshot.node.chain_id,
                version: &peer.version,
                channels: CHANNELS,
                moniker: &peer.moniker,
                other: Other { tx_index: "off", rpc_address: &peer.rpc_address },
            },
            is_outbound: peer.outbound,
            connection_status: ConnectionStatus {
                duration: Text(peer.age.as_nanos()),
                send_monitor: Monitor::new(peer.age, peer.idle, peer.sent_bytes),
                recv_monitor: Monitor::new(peer.age, peer.idle, peer.received_bytes),
                channels: [],
            },
            remote_ip: peer.remote_ip.to_string(),
        };
        NetInfoReply {
            listening,
            listeners: ["Listener(@)"],
            n_peers: Text(peers.len()),
            peers: peers.iter().map(peer).collect(),
        }
    }
}

/// Reply of `unconfirmed_txs` and, without transactions, of `num_unconfirmed_txs`.
#[derive(Serialize)]
pub(crate) struct UnconfirmedReply {
    pub(crate) n_txs: Text<usize>,
    pub(crate) total: Text<usize>,
    pub(crate) total_bytes: Text<u64>,
    pub(crate) txs: Option<Vec<Base64Text<Bytes>>>,
}

/// Reply of `pbft_state`, a route of ours.
#[derive(Serialize)]
pub(crate) struct PbftReply {
    height: Text<u64>,
    view: u32,
    primary: Option<Hex<Vec<u8>>>,
    promise: Option<u32>,
    start_view: u32,
    prepared: Option<Prepared>,
    hold: Option<&'static str>,
    /// Seconds ahead of the others; none where they agree.
    clock_suspect: Option<Text<i64>>,
    view_changes: Text<u64>,
    total_power: Text<u64>,
    f: Text<u64>,
    quorum: Text<u64>,
    timeout_ms: u128,
    validators: Vec<Seen>,
    discarded: Vec<Discarded>,
}

#[derive(Serialize)]
struct Discarded {
    reason: &'static str,
    class: Option<&'static str>,
    peer: Option<String>,
    count: Text<u64>,
}

impl From<DiscardedSeen> for Discarded {
    fn from(seen: DiscardedSeen) -> Discarded {
        let DiscardedSeen { reason, class, peer, count } = seen;
        Discarded { reason, class, peer, count: Text(count) }
    }
}

#[derive(Serialize)]
struct Prepared {
    view: u32,
    block_hash: Hex<Vec<u8>>,
}

#[derive(Serialize)]
struct Seen {
    address: Hex<Vec<u8>>,
    power: Text<u64>,
    connected: bool,
}

impl PbftReply {
    pub(crate) fn new(state: &PbftState, discarded: Vec<DiscardedSeen>) -> PbftReply {
        PbftReply {
            height: Text(state.height.value()),
            view: state.view.number(),
            primary: state.primary.map(|primary| Hex(primary.as_bytes().to_vec())),
            promise: state.promise.map(View::number),
            start_view: state.start_view.number(),
            prepared: state.prepared.map(|(view, hash)| Prepared {
                view: view.number(),
                block_hash: Hex(hash.as_bytes().to_vec()),
            }),
            hold: state.hold,
            clock_suspect: state.clock_off_secs.map(Text),
            view_changes: Text(state.view_changes),
            total_power: Text(state.total_power),
            f: Text(state.f),
            quorum: Text(state.quorum),
            timeout_ms: state.timeout.as_millis(),
            validators: state
                .validators
                .iter()
                .map(|seen| Seen {
                    address: Hex(seen.address.as_bytes().to_vec()),
                    power: Text(seen.power),
                    connected: seen.connected,
                })
                .collect(),
            discarded: discarded.into_iter().map(Discarded::from).collect(),
        }
    }
}
