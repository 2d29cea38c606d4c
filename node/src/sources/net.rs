//! The network.

use crate::network::{Dial, Network, PeerAddress, PeerInfo};
use crate::rpc::COMPATIBLE_VERSION;
use crate::rpc::sources::{DialHow, Net, PeerView};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

impl Net for Network {
    fn peers(&self) -> Vec<PeerView> {
        let now = SystemTime::now();
        Network::peers(self).iter().map(|info| view(info, now)).collect()
    }

    fn peer_count(&self) -> usize {
        Network::peers(self).len()
    }

    /// The network does not start where it cannot listen.
    fn listening(&self) -> bool {
        true
    }

    fn dial(&self, peers: &[String], how: DialHow) -> Result<(), String> {
        let parsed = peers.iter().map(|peer| {
            let parsed = peer.parse::<PeerAddress>();
            parsed.map_err(|_| format!("address ({peer}) does not contain ID, or is no address"))
        });
        let peers = parsed.collect::<Result<Vec<_>, _>>()?;
        let DialHow { persistent, unconditional, private } = how;
        let taken = Network::dial(self, Dial { peers, persistent, unconditional, private });
        if taken { Ok(()) } else { Err("too many peers are to be dialled already".to_owned()) }
    }
}

fn view(info: &PeerInfo, now: SystemTime) -> PeerView {
    PeerView {
        id: info.node_id.to_string(),
        listen_addr: url(&info.hello.listen_address),
        // All nodes of a chain speak one dialect; a peer's hello tells the version of its software.
        version: COMPATIBLE_VERSION.to_owned(),
        moniker: info.hello.moniker.clone(),
        rpc_address: url(&info.hello.rpc_address),
        outbound: info.outbound,
        remote_ip: info.remote_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        age: now.duration_since(info.connected_since).unwrap_or_default(),
        idle: Duration::ZERO,
        sent_bytes: info.traffic.sent_bytes_total(),
        received_bytes: info.traffic.received_bytes_total(),
    }
}

/// `tcp://host:port` for `host:port`; nothing for nothing.
fn url(address: &str) -> String {
    if address.is_empty() { String::new() } else { format!("tcp://{address}") }
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn addresses_become_urls() {
        assert_eq!(url("1.2.3.4:26656"), "tcp://1.2.3.4:26656");
        assert_eq!(url(""), "");
    }
}
