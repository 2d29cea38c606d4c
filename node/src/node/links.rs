//! The network's events, told to those who need them.

use crate::engine::Event;
use crate::network::{NetworkEvent, Occasional, PeerId};
use crossbeam_channel::Sender;
use std::time::Instant;
use tercet_consensus::key::{Address, PublicKey};
use tokio::sync::mpsc;

/// Tells the engine of peers that come and go. `me` is this node's validator address, which no peer may prove to have as well.
pub(super) async fn run(
    mut events: mpsc::Receiver<NetworkEvent>,
    engine: Sender<Event>,
    me: Option<Address>,
) {
    let mut lines = Occasional::default();
    while let Some(event) = events.recv().await {
        for event in translate(event, me, &mut lines) {
            let engine = engine.clone();
            // The engine's queue may be full for a moment; it fails only while the node is stopping.
            let _ = tokio::task::spawn_blocking(move || drop(engine.send(event))).await;
        }
    }
}

/// Anyone can connect and go as often as he likes: about those who prove no key, `lines` says whether there may be a line.
fn translate(event: NetworkEvent, me: Option<Address>, lines: &mut Occasional) -> Vec<Event> {
    match event {
        NetworkEvent::Listening(address) => {
            tracing::info!(%address, "accepting peers");
            Vec::new()
        }
        NetworkEvent::Connected(info) => {
            let key = info.validator().and_then(PublicKey::from_bytes);
            let validator = key.map(|key| key.address());
            let peer: PeerId = info.peer;
            let (node, remote, moniker) = (info.node_id, &info.remote, &info.hello.moniker);
            match validator {
                Some(validator) => {
                    tracing::info!(%node, %remote, %validator, "peer {moniker} connected");
                }
                None if lines.allows(Instant::now()) => {
                    tracing::info!(%node, %remote, "peer {moniker} connected");
                }
                None => tracing::debug!(%node, %remote, "peer {moniker} connected"),
            }
            if validator.is_some() && validator == me {
                vec![Event::KeyElsewhere { peer }, Event::PeerUp { peer, validator: None }]
            } else {
                vec![Event::PeerUp { peer, validator }]
            }
        }
        NetworkEvent::Disconnected { peer, node_id, reason } => {
            if lines.allows(Instant::now()) {
                tracing::info!(node = %node_id, reason, "peer disconnected");
            } else {
                tracing::debug!(node = %node_id, reason, "peer disconnected");
            }
            vec![Event::PeerDown { peer }]
        }
        NetworkEvent::Refused { peer } => vec![Event::PeerRefused { peer }],
        NetworkEvent::OwnIdentity { address } => {
            tracing::error!(%address, "the node there has this node's own identity (node_key.json): a copied home; stop one of the two");
            Vec::new()
        }
    }
}
