//! Peers as configuration names them. The network gives them their meaning; here only their form is checked, so that the
//! error names the key.

use std::fmt;
use std::str::FromStr;

/// How many hexadecimal digits a node id has.
const NODE_ID_DIGITS: usize = 40;

/// CometBFT's node id: 40 hexadecimal digits, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeIdText(String);

/// A peer to dial: `id@host:port` (with or without `tcp://`) or a multiaddr.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerText(String);

/// Not a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerTextError {
    /// No node id.
    #[error("{0:?} is no node id: 40 hexadecimal digits, as `tercet show-node-id` prints them")]
    NodeId(String),
    /// No address.
    #[error(
        "{0:?} is no peer: write \"id@host:port\" or a multiaddr such as \"/ip4/10.0.0.1/tcp/26656\""
    )]
    Peer(String),
}

impl NodeIdText {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PeerText {
    /// The address as it was written, without `tcp://`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeIdText {
    type Err = PeerTextError;

    fn from_str(text: &str) -> Result<NodeIdText, PeerTextError> {
        let digits = text.len() == NODE_ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits {
            return Err(PeerTextError::NodeId(text.to_owned()));
        }
        Ok(NodeIdText(text.to_ascii_lowercase()))
    }
}

impl FromStr for PeerText {
    type Err = PeerTextError;

    fn from_str(text: &str) -> Result<PeerText, PeerTextError> {
        if text.starts_with('/') && text.split('/').count() > 2 {
            return Ok(PeerText(text.to_owned()));
        }
        let wrong = || PeerTextError::Peer(text.to_owned());
        let plain = text.strip_prefix("tcp://").unwrap_or(text);
        let (id, place) = plain.split_once('@').ok_or_else(wrong)?;
        id.parse::<NodeIdText>()?;
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        match port.parse::<u16>() {
            Ok(port) if port > 0 && !host.is_empty() => Ok(PeerText(plain.to_owned())),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cometbft_peers_and_multiaddrs_are_peers() {
        let id = "70d834561f91613153e4a873f01a2cbbf1b9678d";
        let peer: PeerText = format!("tcp://{id}@1.2.3.4:26656").parse().expect("a peer");
        assert_eq!(peer.as_str(), format!("{id}@1.2.3.4:26656"));
        assert!("/dns/a.example.com/udp/1/quic-v1".parse::<PeerText>().is_ok());
    }

    #[test]
    fn what_is_no_peer_says_what_is() {
        let id = "70d834561f91613153e4a873f01a2cbbf1b9678d";
        for text in [
            "1.2.3.4:26656",
            "abc@host:1",
            "/ip4",
            &format!("{id}@host"),
            &format!("{id}@:1"),
            &format!("{id}@h:0"),
        ] {
            assert!(text.parse::<PeerText>().is_err(), "{text}");
        }
        assert!("xyz".parse::<NodeIdText>().is_err());
    }
}
