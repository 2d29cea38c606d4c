//! The RPC, put together.

use super::{Settings, Shared};
use crate::engine::run::Snapshot;
use crate::events::{Bus, Follow, FollowParts, Tell};
use crate::evidence::Evidence;
use crate::execution::State;
use crate::mempool::Mempool;
use crate::network;
use crate::rpc::sources::{NodeInfo, Sources};
use crate::rpc::{COMPATIBLE_VERSION, GrpcServer, Server, Tls, Waiters};
use crate::sources::{App, Fault, Status, StatusParts};
use crate::store::index::Index;
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Where clients hear of what happens.
pub(super) struct Heard {
    pub(super) bus: Bus,
    pub(super) index: Option<Index>,
    pub(super) waiters: Waiters,
}

impl Shared<'_> {
    /// What comes after the executor: the index, and events; those of the engine by what is returned second.
    pub(super) fn follow(
        &self,
        heard: &Heard,
        state: &State,
    ) -> std::io::Result<(Follow, Tell, JoinHandle<()>)> {
        let (tell, told) = Tell::new(&heard.bus);
        let (chain, bus, index) = (self.chain.clone(), heard.bus.clone(), heard.index.clone());
        let parts = FollowParts { chain, index, bus, told };
        let (follow, mut follower) = Follow::new(parts, state.last_height);
        let thread = self.ends.spawn("follow", move || {
            follower.run();
            None
        })?;
        Ok((follow, tell, thread))
    }

    pub(super) fn sources(
        &self,
        query: App,
        (mempool, evidence): (&Mempool, &Evidence),
        heard: Heard,
        engine: Arc<ArcSwap<Snapshot>>,
    ) -> Sources {
        let Heard { bus, index, waiters } = heard;
        let (node, chain) = (Arc::new(node_info(self.settings)), self.chain.clone());
        let fault = Fault::default();
        let audit = self.audit.clone();
        let status = StatusParts { node, key: self.public, chain, engine, fault, audit };
        Sources {
            blocks: Arc::new(self.chain.clone()),
            pool: Arc::new(mempool.clone()),
            evidence: Arc::new(evidence.clone()),
            app: Arc::new(query),
            net: Arc::new(self.network.clone()),
            status: Arc::new(Status::new(status)),
            bus,
            index,
            waiters,
            genesis: Arc::new(self.settings.chain.shown.clone()),
        }
    }
}

pub(super) fn node_info(settings: &Settings) -> NodeInfo {
    let id =
        network::peer_id(settings.node_secret).and_then(|peer| network::NodeId::of_peer(&peer));
    let net = &settings.network;
    NodeInfo {
        id: id.map(|id| id.to_string()).unwrap_or_default(),
        listen_addr: net.external.clone().unwrap_or_else(|| format!("tcp://{}", net.listen)),
        chain_id: settings.chain.id().to_owned(),
        moniker: settings.moniker.clone(),
        rpc_address: settings.rpc.laddr.clone().unwrap_or_default(),
        tx_index: settings.is_indexed,
    }
}

/// Where clients come in.
pub(super) struct Doors {
    pub(super) stop: CancellationToken,
    pub(super) rpc: Option<SocketAddr>,
    pub(super) grpc: Option<SocketAddr>,
}

pub(super) fn start_rpc(
    settings: &Settings,
    sources: Sources,
    runtime: &Runtime,
) -> anyhow::Result<Doors> {
    let mut doors = Doors { stop: CancellationToken::new(), rpc: None, grpc: None };
    let wanted = &settings.rpc;
    let Some(laddr) = &wanted.laddr else {
        anyhow::ensure!(wanted.grpc_laddr.is_none(), "rpc.grpc_laddr needs rpc.laddr too");
        return Ok(doors);
    };
    let tls = wanted.tls.as_ref().map(|(cert, key)| Tls::read(cert, key)).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "tcp" };
    let server = runtime.block_on(Server::bind(laddr, sources, wanted.limits.clone()))?.over(tls);
    doors.rpc = server.local_addr();
    let shown = doors.rpc.map_or_else(|| laddr.clone(), |address| format!("{scheme}://{address}"));
    tracing::info!(laddr = shown, compatible = COMPATIBLE_VERSION, "rpc");
    if let Some(laddr) = &wanted.grpc_laddr {
        let bound = GrpcServer::bind(laddr, wanted.grpc_connections_max, &server);
        let grpc = runtime.block_on(bound)?;
        doors.grpc = grpc.local_addr();
        tracing::info!(%laddr, "rpc over gRPC");
        runtime.spawn(grpc.run(doors.stop.clone()));
    }
    runtime.spawn(server.run(doors.stop.clone()));
    Ok(doors)
}
