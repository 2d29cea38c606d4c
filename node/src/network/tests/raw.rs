//! Raw streams to a node: what no correct peer sends can be written to them.

use futures::{AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::swarm::{Config, Stream, Swarm, SwarmEvent};
use std::net::SocketAddr;
use tokio::sync::mpsc;

use super::support::soon;
use crate::network::behaviour::{Behaviour, ConnectionReport, Event};
use crate::network::limits::Gate;
use crate::network::*;

/// A peer that is connected, with all streams of both directions.
pub(crate) struct Raw {
    pub(crate) peer: PeerId,
    pub(crate) inbound: Vec<Stream>,
    outbound: Vec<(Class, Stream)>,
    hello: HelloContent,
}

impl Raw {
    /// Connects to the node that listens there, with the identity and the hello of `settings`.
    pub(crate) async fn connect(listen: SocketAddr, settings: Settings) -> Raw {
        let keys = Keypair::ed25519_from_bytes(settings.secret).unwrap();
        let transport = transport::build(&keys, Transport::Tcp, &settings.timeouts).unwrap();
        let gate = Gate::new(settings.limits, HashSet::new());
        let peer = keys.public().to_peer_id();
        let swarm_config = Config::with_tokio_executor();
        let mut swarm = Swarm::new(transport, Behaviour::new(gate), peer, swarm_config);
        swarm.dial(address::multiaddr(listen, Transport::Tcp)).unwrap();
        let (opened, mut streams) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                if let SwarmEvent::Behaviour(ConnectionReport {
                    event: Event::Opened { class, outbound, stream },
                    ..
                }) = swarm.select_next_some().await
                {
                    let _ = opened.send((class, outbound, stream));
                }
            }
        });
        let hello = settings.hello;
        let mut raw = Raw { peer, inbound: Vec::new(), outbound: Vec::new(), hello };
        while raw.inbound.len() < Class::COUNT || raw.outbound.len() < Class::COUNT {
            let (class, outbound, stream) = soon(streams.recv()).await.unwrap();
            if outbound {
                raw.outbound.push((class, stream));
            } else {
                raw.inbound.push(stream);
            }
        }
        raw
    }

    /// What it writes on.
    pub(crate) fn stream(&mut self, wanted: Class) -> &mut Stream {
        let found = self.outbound.iter_mut().find(|(class, _)| *class == wanted);
        &mut found.expect("all classes are open").1
    }

    /// Writes bytes as they are.
    pub(crate) async fn write(&mut self, class: Class, bytes: &[u8]) {
        let stream = self.stream(class);
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
    }

    /// Writes a frame with its length.
    pub(crate) async fn write_frame(&mut self, class: Class, frame: &[u8]) {
        let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        self.write(class, &bytes).await;
    }

    /// Says hello as a correct peer does.
    pub(crate) async fn say_hello(&mut self) {
        let hello = self.hello.encode(Vec::new());
        self.write_frame(Class::Consensus, &hello).await;
    }
}
