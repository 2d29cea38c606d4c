//! From configuration, genesis and key files to [`Settings`].

use super::{ChainSettings, MetricsSettings, NetworkSettings, RpcSettings, Settings};
use crate::engine::pace::PaceSettings;
use crate::engine::work::WorkSettings;
use crate::execution::{State, updates};
use crate::mempool::{self, pool};
use crate::network::{NodeId, PeerAddress, Transport};
use crate::probe::Probe;
use crate::rpc::{self, Cors};
use anyhow::Context as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;
use tercet_abci::remote::Protocol;
use tercet_config::{
    Config, Genesis, Home, Indexer, InstrumentationConfig, Listen, MempoolKind, NodeKey, P2pConfig,
    ValidatorKey,
};
use tercet_consensus::key::PublicKey;
use tercet_consensus::validators::Validators;

impl Settings {
    /// The settings of the node in `home` with this configuration.
    ///
    /// # Errors
    /// Where a file is missing or does not say what it must; one line with the remedy.
    pub fn of(home: &Home, config: &Config) -> anyhow::Result<Settings> {
        let genesis = Genesis::read(&home.genesis_file(config))?;
        for key in &genesis.ignored {
            tracing::warn!("genesis.json: the unknown key {key:?} does nothing");
        }
        let node_key = NodeKey::read(&home.node_key_file(config))?;
        let validator_key = ValidatorKey::read(&home.validator_key_file(config))?;
        let consensus = &config.consensus;
        Ok(Settings {
            data: home.data_dir(config),
            sign_state: home.sign_state_file(config),
            moniker: config.moniker.clone(),
            node_secret: *node_key.secret(),
            validator_secret: validator_key.secret(),
            app: tercet_abci::Named {
                proxy_app: config.proxy_app.to_string(),
                data_dir: home.data_dir(config),
                snapshot_interval: config.kvstore_snapshot_interval,
                optimistic: config.optimistic_execution,
                block_delay: config.kvstore_block_delay,
            },
            app_calls: tercet_abci::remote::Settings {
                protocol: match config.abci {
                    tercet_config::AbciProtocol::Socket => Protocol::Socket,
                    tercet_config::AbciProtocol::Grpc => Protocol::Grpc,
                },
                call_warn: Some(config.abci_call_warn)
                    .filter(|after| !after.is_zero())
                    .unwrap_or(Duration::MAX),
                call_max: Some(config.abci_call_timeout).filter(|most| !most.is_zero()),
                exit_on_disconnect: config.abci_exit_on_disconnect,
            },
            network: network(&config.p2p)?,
            mempool: mempool(config),
            pace: PaceSettings {
                initial: consensus.view_change_timeout,
                floor: consensus.view_change_timeout_floor,
                ceiling: consensus.view_change_timeout_ceiling,
                grace: consensus.commit_grace,
            },
            disconnect_grace: consensus.disconnect_grace,
            work: WorkSettings {
                empty_block_interval: consensus.empty_block_interval(),
                proof_block_delay: consensus.proof_block_delay,
                min_block_interval: genesis.tercet.min_block_interval,
                initial_height: genesis.initial_height,
                term: genesis.tercet.primary_term,
            },
            rpc: rpc(home, config),
            is_indexed: config.tx_index.indexer == Indexer::Kv,
            metrics: metrics(&config.instrumentation)?,
            chain: chain(genesis, &validator_key)?,
            probe: Probe::default(),
        })
    }
}

fn chain(genesis: Genesis, own: &ValidatorKey) -> anyhow::Result<ChainSettings> {
    let genesis_hash = genesis.hash();
    let mut members = Vec::with_capacity(genesis.validators.len());
    for validator in &genesis.validators {
        let key = PublicKey::try_from(&validator.public_key).with_context(|| {
            format!("genesis: the key of validator {:?} is no point of its curve", validator.name)
        })?;
        members.push((key, validator.power, validator.name.clone()));
    }
    let names_validators = !members.is_empty();
    let set = match names_validators {
        true => Validators::new(members.iter().map(|(key, power, _)| (*key, *power))),
        // InitChain has to name them; until then a set stands there, as no state is without one.
        false => Validators::new(PublicKey::try_from(&own.public()).ok().map(|key| (key, 1))),
    };
    let set = Arc::new(set.context("genesis: validators")?);
    let state = State {
        chain_id: genesis.chain_id.clone(),
        initial_height: genesis.initial_height,
        last_height: None,
        last_block_id: None,
        last_block_time: genesis.time,
        last_validators: None,
        validators: set.clone(),
        next_validators: set,
        params: genesis.params.clone(),
        app_hash: genesis.app_hash.clone(),
        last_results_hash: Some(updates::results_hash(&[])),
        app_version: genesis.params.version.as_ref().map_or(0, |version| version.app),
        evidence_floor: 0,
    };
    let app_state =
        genesis.app_state.as_ref().map_or_else(Vec::new, |raw| raw.get().as_bytes().to_vec());
    let shown = rpc::sources::Genesis {
        time: genesis.time,
        chain_id: genesis.chain_id,
        initial_height: genesis.initial_height,
        params: genesis.params,
        validators: members,
        app_hash: genesis.app_hash,
        app_state: genesis.app_state,
        tercet: genesis.tercet_raw,
    };
    let term = genesis.tercet.primary_term;
    Ok(ChainSettings {
        genesis: state,
        names_validators,
        app_state: app_state.into(),
        genesis_hash,
        term,
        shown,
    })
}

fn metrics(config: &InstrumentationConfig) -> anyhow::Result<Option<MetricsSettings>> {
    if !config.prometheus {
        return Ok(None);
    }
    let address = config.prometheus_listen_addr.host_port();
    let key = "instrumentation.prometheus_listen_addr must be a TCP address, such as \":26660\"";
    Ok(Some(MetricsSettings {
        address: address.context(key)?,
        connections_max: config.max_open_connections,
        namespace: config.namespace.clone(),
    }))
}

fn network(p2p: &P2pConfig) -> anyhow::Result<NetworkSettings> {
    let peers = |list: &[tercet_config::PeerText], key: &str| {
        let address = |peer: &tercet_config::PeerText| {
            peer.as_str().parse::<PeerAddress>().with_context(|| format!("p2p.{key}"))
        };
        list.iter().map(address).collect::<anyhow::Result<Vec<_>>>()
    };
    let ids = |list: &[tercet_config::NodeIdText], key: &str| {
        let id = |id: &tercet_config::NodeIdText| {
            id.as_str()
                .parse::<NodeId>()
                .map_err(|_| anyhow::anyhow!("p2p.{key}: {} is no node id", id.as_str()))
        };
        list.iter().map(id).collect::<anyhow::Result<Vec<_>>>()
    };
    let mut persistent = peers(&p2p.persistent_peers, "persistent_peers")?;
    persistent.extend(peers(&p2p.seeds, "seeds")?);
    let external = (!p2p.external_address.is_empty()).then(|| p2p.external_address.clone());
    Ok(NetworkSettings {
        listen: resolve(&p2p.laddr)?,
        external,
        transport: match p2p.transport {
            tercet_config::Transport::Tcp => Transport::Tcp,
            tercet_config::Transport::Quic => Transport::Quic,
        },
        persistent,
        unconditional: ids(&p2p.unconditional_peer_ids, "unconditional_peer_ids")?,
        private: ids(&p2p.private_peer_ids, "private_peer_ids")?,
        peer_exchange: p2p.pex,
        inbound_max: p2p.max_num_inbound_peers,
        outbound_max: p2p.max_num_outbound_peers,
        dial_timeout: p2p.dial_timeout,
        handshake_timeout: p2p.handshake_timeout,
        per_ip_max: if p2p.allow_duplicate_ip {
            usize::MAX
        } else {
            crate::network::Limits::default().per_ip
        },
    })
}

fn resolve(laddr: &Listen) -> anyhow::Result<SocketAddr> {
    let address =
        laddr.host_port().with_context(|| format!("p2p.laddr: {laddr} is no TCP address"))?;
    let mut found = address.to_socket_addrs().with_context(|| format!("p2p.laddr: {laddr}"))?;
    found.next().with_context(|| format!("p2p.laddr: {laddr} has no address"))
}

fn mempool(config: &Config) -> mempool::Settings {
    let mempool = &config.mempool;
    mempool::Settings {
        limits: pool::Limits {
            count_max: mempool.size,
            bytes_max: mempool.max_txs_bytes,
            tx_bytes_max: mempool.max_tx_bytes,
            cache_max: mempool.cache_size,
        },
        recheck: mempool.recheck,
        broadcast: mempool.broadcast,
        keep_invalid: mempool.keep_invalid_txs_in_cache,
        batch_max: config.consensus.max_batch_size,
        nop: mempool.kind == MempoolKind::Nop,
        life: mempool::Life { blocks: mempool.ttl_num_blocks, time: mempool.ttl_duration },
    }
}

fn rpc(home: &Home, config: &Config) -> RpcSettings {
    let tls = home.tls_files(config);
    let config = &config.rpc;
    RpcSettings {
        laddr: config.laddr.as_ref().map(ToString::to_string),
        tls,
        grpc_laddr: config.grpc_laddr.as_ref().map(ToString::to_string),
        grpc_connections_max: config.grpc_max_open_connections,
        limits: rpc::Limits {
            max_open_connections: config.max_open_connections,
            max_subscription_clients: config.max_subscription_clients,
            max_subscriptions_per_client: config.max_subscriptions_per_client,
            subscription_buffer_size: config.subscription_buffer_size,
            websocket_write_buffer_size: config.websocket_write_buffer_size,
            close_on_slow_client: config.close_on_slow_client,
            has_unsafe: config.has_unsafe,
            ui: config.ui,
            max_body_bytes: config.max_body_bytes,
            max_header_bytes: config.max_header_bytes,
            max_request_batch_size: config.max_request_batch_size,
            requests_per_second: config.requests_per_second,
            requests_burst: config.requests_burst,
            timeout_broadcast_tx_commit: config.timeout_broadcast_tx_commit,
            cors: Cors {
                origins: config.cors_allowed_origins.clone(),
                methods: config.cors_allowed_methods.clone(),
                headers: config.cors_allowed_headers.clone(),
            },
            ..rpc::Limits::default()
        },
    }
}
