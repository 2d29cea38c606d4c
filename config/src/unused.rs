//! CometBFT's keys that mean nothing here. They are read, so that its files work as they are, and give a warning where
//! somebody may expect an effect.

use crate::value::Raw;

/// A key of CometBFT without meaning here.
pub(crate) struct Unused {
    /// The name with its section.
    pub(crate) path: &'static str,
    /// Values that need no warning: CometBFT's default, and whatever describes what Tercet does anyway.
    quiet: &'static [&'static str],
    /// What to do, or what is so instead.
    instead: &'static str,
}

const fn unused(
    path: &'static str,
    quiet: &'static [&'static str],
    instead: &'static str,
) -> Unused {
    Unused { path, quiet, instead }
}

const TIMEOUT: &str = "PBFT has one timeout: consensus.view_change_timeout";
const SYNC: &str = "there is no state sync yet; blocks are fetched from peers";
const FLOW: &str = "flow control is libp2p's";

/// Keys of CometBFT 0.38 (and the few that 0.34 to 0.40 have beside them). Source: CometBFT `config/config.go` and `toml.go`.
#[rustfmt::skip]
pub(crate) const UNUSED: &[Unused] = &[
    unused("db_backend", &["goleveldb", "rocksdb"], "the database is RocksDB"),
    unused("filter_peers", &["false"], "the application is not asked about peers"),
    unused("event_bus_buffer_capacity", &["0"], "publishing waits for nobody; see rpc.experimental_subscription_buffer_size"),
    unused("block_sync", &["true"], "blocks are always fetched"),
    unused("fast_sync", &["true"], "blocks are always fetched"),
    unused("rpc.pprof_laddr", &["", "localhost:6060"], "pprof is Go's"),
    unused("p2p.upnp", &["false"], "forward the port yourself"),
    unused("p2p.addr_book_file", &["config/addrbook.json"], "addresses are kept in memory"),
    unused("p2p.addr_book_strict", &["true", "false"], "private addresses are always allowed"),
    unused("p2p.persistent_peers_max_dial_period", &["0", "0s"], "the pause between attempts is bounded already"),
    unused("p2p.flush_throttle_timeout", &["100ms", "10ms"], "nothing waits to be flushed"),
    unused("p2p.max_packet_msg_payload_size", &["1024"], FLOW),
    unused("p2p.send_rate", &["5120000"], FLOW),
    unused("p2p.recv_rate", &["5120000"], FLOW),
    unused("p2p.seed_mode", &["false"], "a node cannot be only a seed"),
    unused("p2p.test_dial_fail", &["false"], "it is CometBFT's own test"),
    unused("p2p.test_fuzz", &["false"], "it is CometBFT's own test"),
    unused("mempool.version", &["", "v0"], "there is one mempool"),
    unused("mempool.recheck_timeout", &["1s"], "rechecks are not waited for"),
    unused("mempool.wal_dir", &[""], "the mempool is not on disk"),
    unused("mempool.max_batch_bytes", &["0"], "CometBFT does not use it either"),
    unused("mempool.experimental_max_gossip_connections_to_persistent_peers", &["0"], "transactions go to all peers"),
    unused("mempool.experimental_max_gossip_connections_to_non_persistent_peers", &["0"], "transactions go to all peers"),
    unused("mempool.seen_cache_size", &["100000"], "see mempool.cache_size"),
    unused("mempool.reap_interval", &["500ms"], "the primary takes what there is"),
    unused("mempool.check_tx_retry_delay", &["5s"], "a full mempool refuses at once"),
    unused("statesync.enable", &["false"], SYNC),
    unused("statesync.rpc_servers", &[""], SYNC),
    unused("statesync.trust_height", &["0"], SYNC),
    unused("statesync.trust_hash", &[""], SYNC),
    unused("statesync.trust_period", &["168h"], SYNC),
    unused("statesync.discovery_time", &["15s"], SYNC),
    unused("statesync.temp_dir", &[""], SYNC),
    unused("statesync.chunk_request_timeout", &["10s"], SYNC),
    unused("statesync.chunk_fetchers", &["4"], SYNC),
    unused("statesync.max_snapshot_chunks", &["100000"], SYNC),
    unused("blocksync.version", &["v0"], "blocks are always fetched in one way"),
    unused("blocksync.adaptive_sync", &["false"], "blocks are always fetched in one way"),
    unused("fastsync.version", &["v0"], "blocks are always fetched in one way"),
    unused("consensus.wal_file", &["data/cs.wal/wal"], "the journal is in db_dir"),
    unused("consensus.timeout_propose", &["3s"], TIMEOUT),
    unused("consensus.timeout_propose_delta", &["500ms"], TIMEOUT),
    unused("consensus.timeout_prevote", &["1s"], TIMEOUT),
    unused("consensus.timeout_prevote_delta", &["500ms"], TIMEOUT),
    unused("consensus.timeout_precommit", &["1s"], TIMEOUT),
    unused("consensus.timeout_precommit_delta", &["500ms"], TIMEOUT),
    unused("consensus.timeout_commit", &["1s", "0s"], "the pace of the chain is min_block_interval in the genesis"),
    unused("consensus.double_sign_check_height", &["0"], "the journal guards against double signing"),
    unused("consensus.skip_timeout_commit", &["false", "true"], "there is no timeout to skip"),
    unused("consensus.peer_gossip_sleep_duration", &["100ms"], "messages leave at once"),
    unused("consensus.peer_gossip_intraloop_sleep_duration", &["0s"], "messages leave at once"),
    unused("consensus.peer_query_maj23_sleep_duration", &["2s"], "messages leave at once"),
    unused("storage.discard_abci_responses", &["false"], "results are kept"),
    unused("storage.experimental_db_key_layout", &["v1"], "the database is RocksDB"),
    unused("storage.compact", &["false"], "RocksDB compacts by itself"),
    unused("storage.compaction_interval", &["1000"], "RocksDB compacts by itself"),
    unused("tx_index.psql-conn", &[""], "transactions are indexed in the node, not in PostgreSQL"),
];

/// Keys of CometBFT with any value: nothing follows from them.
pub(crate) const SILENT: &[&str] = &["version", "home"];

/// Whole tables of CometBFT 0.39 and later: one warning for each that a file has.
pub(crate) const TABLES: &[(&str, &str)] = &[
    ("p2p.libp2p", "peers speak libp2p here in any case; see p2p.transport"),
    ("p2p.test_fuzz_config", "it is CometBFT's own test"),
    ("grpc", "the gRPC of CometBFT 0.38 is at rpc.grpc_laddr"),
    ("storage.pruning", "nothing is pruned by configuration"),
];

impl Unused {
    /// Whether its values are `true` and `false`.
    pub(crate) fn is_switch(&self) -> bool {
        self.quiet.iter().any(|quiet| matches!(*quiet, "true" | "false"))
    }

    /// What to say about this value; nothing where it changes nothing.
    pub(crate) fn warning(&self, raw: &Raw) -> Option<String> {
        if self.quiet.iter().any(|quiet| Raw::Text((*quiet).to_owned()).same(raw)) {
            return None;
        }
        let (path, instead) = (self.path, self.instead);
        Some(format!("{path} = {} has no effect in Tercet: {instead}", raw.shown()))
    }
}
