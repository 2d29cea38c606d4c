//! The keys that mean something here: their names, fields and explanations. The template, the operator's table, flags and
//! variables all follow from this one table.

use crate::config::Config;
use crate::value::{Raw, Setting};

/// A key that means something here.
pub(crate) struct Key {
    /// The name with its section: `rpc.laddr`.
    pub(crate) path: &'static str,
    /// What values look like.
    pub(crate) kind: fn() -> &'static str,
    /// What it is for, with its unit.
    pub(crate) doc: &'static str,
    /// Sets the field.
    pub(crate) set: fn(&mut Config, &Raw) -> Result<(), String>,
    /// The field as TOML.
    pub(crate) show: fn(&Config) -> String,
}

impl Key {
    /// The section, empty for the keys above all sections, and the name in it.
    pub(crate) fn parts(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').unwrap_or(("", self.path))
    }
}

fn kind_of<T: Setting>(_: fn(&Config) -> &T) -> &'static str {
    T::KIND
}

macro_rules! key {
    ($path:literal, $($field:ident).+, $doc:literal) => {
        Key {
            path: $path,
            kind: || kind_of(|config| &config.$($field).+),
            doc: $doc,
            set: |config, raw| {
                config.$($field).+ = Setting::read(raw)?;
                Ok(())
            },
            show: |config| config.$($field).+.write(),
        }
    };
}

/// The sections with a heading each, in the order of the file.
pub(crate) const SECTIONS: [(&str, &str); 7] = [
    ("", "The node"),
    ("rpc", "The RPC server"),
    ("p2p", "Peers"),
    ("mempool", "Transactions that wait"),
    ("consensus", "Consensus"),
    ("tx_index", "The index of transactions and blocks"),
    ("instrumentation", "What operators look at"),
];

/// All of them, in the order of the file.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key!("proxy_app", proxy_app, "The application: inside the node kvstore, persistent_kvstore (the same, synced at each block) or noop; in another process tcp://HOST:PORT or unix://PATH."),
    key!("abci", abci, "How an application in another process is spoken to: socket or grpc."),
    key!("abci_call_warn", abci_call_warn, "After how long a call that an application in another process has not answered is told in the log; then after twice as long, and so on; \"0s\": never."),
    key!("abci_call_timeout", abci_call_timeout, "After how long the node leaves over it; \"0s\": never, as a block may take long."),
    key!("abci_exit_on_disconnect", abci_exit_on_disconnect, "true: a broken connection to the application ends the node, as it ends CometBFT; false: it is made again, and what the application lacks is replayed."),
    key!("kvstore_snapshot_interval", kvstore_snapshot_interval, "Every how many heights the kvstore inside the node makes a snapshot of itself, of which the last 10 are kept; 0: never."),
    key!("kvstore_block_delay", kvstore_block_delay, "How long the kvstore inside the node takes longer than it needs for a block: to try a chain with a slow application."),
    key!("optimistic_execution", optimistic_execution, "Whether an application inside the node that can execute a block while it is being voted on does so, and throws the work away where another is decided. The kvstore can."),
    key!("moniker", moniker, "A name for people."),
    key!("db_dir", db_dir, "Folder of the databases."),
    key!("log_level", log_level, "What is logged: trace, debug, info, warn, error or none, for all or by module (\"p2p:debug,*:info\")."),
    key!("log_format", log_format, "How it is logged: plain for people, json for machines."),
    key!("genesis_file", genesis_file, "The chain: the same file on every node."),
    key!("priv_validator_key_file", priv_validator_key_file, "The key that votes. It may exist in one running node only."),
    key!("priv_validator_state_file", priv_validator_state_file, "Up to which height signing is reserved. Never copy it, never restore it."),
    key!("priv_validator_laddr", priv_validator_laddr, "Must stay empty: remote signers are not supported yet."),
    key!("node_key_file", node_key_file, "The key that peers know the node by."),

    key!("rpc.laddr", rpc.laddr, "Where the RPC listens; \"\" turns it off. Keep it on this machine, or behind a proxy."),
    key!("rpc.cors_allowed_origins", rpc.cors_allowed_origins, "Web origins that browsers may call from; [\"*\"] for all, [] for none."),
    key!("rpc.cors_allowed_methods", rpc.cors_allowed_methods, "Methods that they may use."),
    key!("rpc.cors_allowed_headers", rpc.cors_allowed_headers, "Headers that they may send."),
    key!("rpc.max_open_connections", rpc.max_open_connections, "Connections at a time; 0 is no limit."),
    key!("rpc.ui", rpc.ui, "Whether there is a page for people at /ui, which shows what the RPC tells anyway."),
    key!("rpc.unsafe", rpc.has_unsafe, "Whether clients may dial peers and empty the mempool (dial_seeds, dial_peers, unsafe_flush_mempool)."),
    key!("rpc.max_subscription_clients", rpc.max_subscription_clients, "Clients that subscribe to events at a time, and as many that wait for a commit."),
    key!("rpc.max_subscriptions_per_client", rpc.max_subscriptions_per_client, "Subscriptions of one client."),
    key!("rpc.experimental_subscription_buffer_size", rpc.subscription_buffer_size, "Events of a subscription that wait to be read, 100 or more; then it ends, and its client is told."),
    key!("rpc.experimental_websocket_write_buffer_size", rpc.websocket_write_buffer_size, "Replies and events of a WebSocket that wait to be written, no fewer than the key before says."),
    key!("rpc.experimental_close_on_slow_client", rpc.close_on_slow_client, "Whether a WebSocket whose client does not read is closed, and not its subscription alone ended."),
    key!("rpc.timeout_broadcast_tx_commit", rpc.timeout_broadcast_tx_commit, "How long broadcast_tx_commit waits for the block."),
    key!("rpc.max_request_batch_size", rpc.max_request_batch_size, "Requests in one JSON-RPC batch; 0 is no limit."),
    key!("rpc.max_body_bytes", rpc.max_body_bytes, "Bytes of a request's body."),
    key!("rpc.max_header_bytes", rpc.max_header_bytes, "Bytes of a request's head."),
    key!("rpc.requests_per_second", rpc.requests_per_second, "Requests a second of one address, each call of a batch counted; more are refused with 429 and Retry-After. 0 is no limit."),
    key!("rpc.requests_burst", rpc.requests_burst, "Requests of one address that may come at once; 0: as many as in a second."),
    key!("rpc.tls_cert_file", rpc.tls_cert_file, "The certificate (PEM, with those of its issuers) of an RPC over TLS, absolute or from the folder config; \"\": plain HTTP. Read at the start."),
    key!("rpc.tls_key_file", rpc.tls_key_file, "Its private key (PEM). Both files, or none."),
    key!("rpc.grpc_laddr", rpc.grpc_laddr, "Where CometBFT's gRPC BroadcastAPI (Ping, BroadcastTx) listens; \"\" turns it off."),
    key!("rpc.grpc_max_open_connections", rpc.grpc_max_open_connections, "Connections to it at a time; 0 is no limit."),

    key!("p2p.laddr", p2p.laddr, "Where peers connect (UDP where transport is quic)."),
    key!("p2p.external_address", p2p.external_address, "host:port that peers are told to dial; \"\": the address that they see."),
    key!("p2p.transport", p2p.transport, "What carries the bytes: tcp or quic. The same on all nodes of a chain."),
    key!("p2p.seeds", p2p.seeds, "Peers to learn other addresses from."),
    key!("p2p.persistent_peers", p2p.persistent_peers, "Peers to stay connected to: id@host:port (`tercet show-node-id`) or multiaddrs."),
    key!("p2p.max_num_inbound_peers", p2p.max_num_inbound_peers, "Connections that peers open to this node, validators and persistent peers not counted."),
    key!("p2p.max_num_outbound_peers", p2p.max_num_outbound_peers, "Connections to peers that are not persistent."),
    key!("p2p.unconditional_peer_ids", p2p.unconditional_peer_ids, "Nodes that the limits do not count."),
    key!("p2p.private_peer_ids", p2p.private_peer_ids, "Nodes whose addresses are not told to others."),
    key!("p2p.pex", p2p.pex, "Whether addresses are exchanged with peers. false for a validator behind sentry nodes."),
    key!("p2p.allow_duplicate_ip", p2p.allow_duplicate_ip, "true: any number of connections from one IP address; false: a few."),
    key!("p2p.handshake_timeout", p2p.handshake_timeout, "How long a connection may take to be encrypted."),
    key!("p2p.dial_timeout", p2p.dial_timeout, "How long a connection may take to be made."),

    key!("mempool.type", mempool.kind, "Who keeps transactions that wait: flood (the node) or nop (the application alone, which adds its own in PrepareProposal; clients are refused)."),
    key!("mempool.recheck", mempool.recheck, "Whether the application checks waiting transactions again after each block."),
    key!("mempool.broadcast", mempool.broadcast, "Whether transactions are passed on to peers."),
    key!("mempool.size", mempool.size, "Transactions that may wait."),
    key!("mempool.max_txs_bytes", mempool.max_txs_bytes, "Bytes of all transactions that wait."),
    key!("mempool.cache_size", mempool.cache_size, "Transactions remembered so as not to be checked twice; 0 remembers none."),
    key!("mempool.keep-invalid-txs-in-cache", mempool.keep_invalid_txs_in_cache, "Whether refused transactions are remembered too. true where what is invalid once stays so."),
    key!("mempool.max_tx_bytes", mempool.max_tx_bytes, "Bytes of one transaction."),
    key!("mempool.ttl-duration", mempool.ttl_duration, "How long a transaction may wait before it is dropped; \"0s\": for ever."),
    key!("mempool.ttl-num-blocks", mempool.ttl_num_blocks, "For how many blocks it may wait; 0: for ever."),

    key!("consensus.view_change_timeout", consensus.view_change_timeout, "How long a primary may do nothing before it is replaced, until the node has measured the network."),
    key!("consensus.view_change_timeout_floor", consensus.view_change_timeout_floor, "The shortest timeout that measuring leads to."),
    key!("consensus.view_change_timeout_ceiling", consensus.view_change_timeout_ceiling, "The longest timeout that measuring leads to."),
    key!("consensus.max_batch_size", consensus.max_batch_size, "Transactions in a block that this node proposes, beside the genesis limit in bytes."),
    key!("consensus.commit_grace", consensus.commit_grace, "How long this node, as primary, waits for the last commits before it proposes the next block."),
    key!("consensus.disconnect_grace", consensus.disconnect_grace, "How long a lost connection to the primary may take to come back before the primary counts as down."),
    key!("consensus.proof_block_delay", consensus.proof_block_delay, "After how long a changed application hash gets the block whose header proves it."),
    key!("consensus.create_empty_blocks", consensus.create_empty_blocks, "Whether there are blocks without transactions; those that prove an application hash come in any case."),
    key!("consensus.create_empty_blocks_interval", consensus.create_empty_blocks_interval, "Time between them; \"0s\": one a second."),

    key!("tx_index.indexer", tx_index.indexer, "Where transactions and blocks are indexed for tx, tx_search and block_search: kv (in the node) or null (nowhere)."),

    key!("instrumentation.prometheus", instrumentation.prometheus, "Whether metrics for Prometheus are served, at /metrics of a port of their own."),
    key!("instrumentation.prometheus_listen_addr", instrumentation.prometheus_listen_addr, "Where."),
    key!("instrumentation.max_open_connections", instrumentation.max_open_connections, "Connections to it at a time; 0 is no limit."),
    key!("instrumentation.namespace", instrumentation.namespace, "What the names of those metrics begin with that CometBFT has too."),
    key!("instrumentation.audit_log", instrumentation.audit_log, "File for discarded messages (who sent what, and why it was dropped); \"\": the log."),
];

/// The key with this name; `-` and `_` are the same.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| same_name(key.path, path))
}

/// Whether two names differ in nothing but `-` and `_`: flags and variables spell them as they like.
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .all(|(a, b)| a == b || (a == b'-' && b == b'_') || (a == b'_' && b == b'-'))
}
