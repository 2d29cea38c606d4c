//! Names and places of peers: the CometBFT node id, `id@host:port`, multiaddrs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use libp2p::identity::PublicKey;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use sha2::{Digest, Sha256};

use super::Transport;

/// A CometBFT node id: the first 20 bytes of the SHA-256 of the node's ed25519 public key
/// (CometBFT `p2p/key.go`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 20]);

impl NodeId {
    /// The node id of an ed25519 public key.
    #[must_use]
    pub fn of_key(key: &[u8; 32]) -> Self {
        let mut id = [0; 20];
        id.copy_from_slice(&Sha256::digest(key)[..20]);
        Self(id)
    }

    /// The node id of a peer; none if its key is not ed25519.
    #[must_use]
    pub fn of_peer(peer: &PeerId) -> Option<Self> {
        public_key(peer).map(|key| Self::of_key(&key))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut id = [0; 20];
        hex::decode_to_slice(text, &mut id).map_err(|_| AddressError::NodeId(text.to_owned()))?;
        Ok(Self(id))
    }
}

/// The ed25519 public key that stands in a peer id (an identity multihash); none for other keys.
#[must_use]
pub fn public_key(peer: &PeerId) -> Option<[u8; 32]> {
    let multihash = peer.as_ref();
    if multihash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    key.try_into_ed25519().ok().map(|key| key.to_bytes())
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not 40 hexadecimal digits.
    #[error("node id {0:?} is not 40 hexadecimal digits")]
    NodeId(String),
    /// Neither `id@host:port` nor a multiaddr.
    #[error("peer address {0:?} is neither id@host:port nor a multiaddr")]
    Syntax(String),
    /// A multiaddr with parts that this node cannot dial.
    #[error("peer address {0} is not /ip4|ip6|dns/…/tcp|udp/port[/quic-v1][/p2p/id]")]
    Unsupported(Multiaddr),
    /// A TCP address on a QUIC node or the reverse.
    #[error("peer address {0} is for the other transport: this node runs on {1}")]
    OtherTransport(Multiaddr, Transport),
}

/// Where to find a peer and how to know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// CometBFT's `id@host:port`; the id is checked against the key after the handshake.
    NodeId {
        /// Who must answer.
        id: NodeId,
        /// An IP address or a DNS name.
        host: String,
        /// TCP or UDP, by the node's transport.
        port: u16,
    },
    /// A libp2p multiaddr, with or without `/p2p/<peer id>`.
    Multiaddr(Multiaddr),
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let syntax = || AddressError::Syntax(text.to_owned());
        if text.starts_with('/') {
            return text.parse().map(Self::Multiaddr).map_err(|_| syntax());
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        let (id, place) = text.split_once('@').ok_or_else(syntax)?;
        let (host, port) = place.rsplit_once(':').ok_or_else(syntax)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(syntax());
        }
        let port = port.parse().map_err(|_| syntax())?;
        Ok(Self::NodeId { id: id.parse()?, host: host.to_owned(), port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeId { id, host, port } if host.contains(':') => {
                write!(f, "{id}@[{host}]:{port}")
            }
            Self::NodeId { id, host, port } => write!(f, "{id}@{host}:{port}"),
            Self::Multiaddr(address) => write!(f, "{address}"),
        }
    }
}

/// A host to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// An address in the one form that the dialler uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) expected: Option<NodeId>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Place {
    /// Checks that `address` can be dialled over `transport`.
    pub(super) fn new(address: &PeerAddress, transport: Transport) -> Result<Self, AddressError> {
        match address {
            PeerAddress::NodeId { id, host, port } => {
                let host = host.parse().map_or_else(|_| Host::Name(host.clone()), Host::Ip);
                Ok(Self { host, port: *port, expected: Some(*id) })
            }
            PeerAddress::Multiaddr(address) => Self::of_multiaddr(address, transport),
        }
    }

    fn of_multiaddr(address: &Multiaddr, transport: Transport) -> Result<Self, AddressError> {
        let unsupported = || AddressError::Unsupported(address.clone());
        let mut parts = address.iter();
        let host = match parts.next().ok_or_else(unsupported)? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                Host::Name(name.into_owned())
            }
            _ => return Err(unsupported()),
        };
        let (port, kind) = match parts.next().ok_or_else(unsupported)? {
            Protocol::Tcp(port) => (port, Transport::Tcp),
            Protocol::Udp(port) => (port, Transport::Quic),
            _ => return Err(unsupported()),
        };
        if kind != transport {
            return Err(AddressError::OtherTransport(address.clone(), transport));
        }
        let mut rest = parts.filter(|part| !matches!(part, Protocol::QuicV1));
        let expected = match rest.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(NodeId::of_peer(&peer).ok_or_else(unsupported)?),
            Some(_) => return Err(unsupported()),
        };
        if rest.next().is_some() {
            return Err(unsupported());
        }
        Ok(Self { host, port, expected })
    }
}

/// The multiaddr that `transport` listens on or dials for a socket address.
pub(super) fn multiaddr(socket: SocketAddr, transport: Transport) -> Multiaddr {
    let base = Multiaddr::from(socket.ip());
    match transport {
        Transport::Tcp => base.with(Protocol::Tcp(socket.port())),
        Transport::Quic => base.with(Protocol::Udp(socket.port())).with(Protocol::QuicV1),
    }
}

/// The IP address and port at the start of a multiaddr.
pub(super) fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Where a peer that connected from `remote` says it listens: its port at the address that we
/// saw, so that nobody can point us at a third party.
pub(super) fn listening(said: &str, remote: &Multiaddr) -> Option<SocketAddr> {
    let said = said.strip_prefix("tcp://").unwrap_or(said);
    let port: u16 = said.rsplit_once(':')?.1.parse().ok()?;
    (port != 0).then_some(SocketAddr::new(socket(remote)?.ip(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cometbft_address_reads_and_prints_the_same() {
        let text = "f9baeaa15fedf5e1ef7448dd60f46c01f1a9e9c4@10.0.0.7:26656";
        let address: PeerAddress = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
        let place = Place::new(&address, Transport::Quic).unwrap();
        assert_eq!(place.host, Host::Ip("10.0.0.7".parse().unwrap()));
        assert_eq!(place.port, 26656);
    }

    #[test]
    fn an_ipv6_address_keeps_its_brackets() {
        let text = "f9baeaa15fedf5e1ef7448dd60f46c01f1a9e9c4@[::1]:26656";
        assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), text);
    }

    #[test]
    fn bad_addresses_name_what_is_wrong() {
        for text in ["", "host:1", "zz@host:1", "@", "f9@h:1", "/ip4/1.2.3", "id@:1"] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text}");
        }
        let tcp: PeerAddress = "/ip4/1.2.3.4/tcp/5".parse().unwrap();
        let error = Place::new(&tcp, Transport::Quic).unwrap_err();
        assert!(matches!(error, AddressError::OtherTransport(..)), "{error}");
        let odd: PeerAddress = "/memory/5".parse().unwrap();
        assert!(Place::new(&odd, Transport::Tcp).is_err());
    }

    #[test]
    fn a_peer_id_carries_its_node_id() {
        let keys = libp2p::identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let key = keys.public().try_into_ed25519().unwrap().to_bytes();
        let peer = keys.public().to_peer_id();
        assert_eq!(NodeId::of_peer(&peer), Some(NodeId::of_key(&key)));
        let address = format!("/dns4/example.org/tcp/26656/p2p/{peer}").parse().unwrap();
        let place = Place::new(&PeerAddress::Multiaddr(address), Transport::Tcp).unwrap();
        assert_eq!(place.expected, NodeId::of_peer(&peer));
        assert_eq!(place.host, Host::Name("example.org".to_owned()));
    }

    #[test]
    fn a_peer_cannot_point_us_at_a_third_party() {
        let remote = "/ip4/10.1.1.1/tcp/40000".parse().unwrap();
        let place = listening("tcp://8.8.8.8:26656", &remote);
        assert_eq!(place, Some("10.1.1.1:26656".parse().unwrap()));
    }
}
