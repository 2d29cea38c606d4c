//! The hello: the first frame on the consensus stream, in both directions, before anything else
//! is delivered. It binds the peer to a chain (chain id and genesis hash), a range of protocol
//! versions and, for a validator, its consensus key.

use libp2p::PeerId;
use prost::Message;

/// Longest hello, in bytes.
pub(super) const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Longest text in a hello, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// Most addresses of other peers in a hello.
pub(super) const KNOWN_PEERS_MAX: usize = 64;
/// First bytes of what a hello signature covers.
const DOMAIN: &[u8] = b"\0tercet/hello/1";

/// The most bytes of a consensus key: a compressed point of secp256k1.
const KEY_BYTES_MAX: usize = 33;

/// Checks a signature: key, message, signature. The key may be no key.
pub type VerifySignature = dyn Fn(&[u8], &[u8], &[u8; 64]) -> bool + Send + Sync;

/// A validator's consensus key and its signature over [`sign_bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorProof {
    /// The consensus key.
    pub key: Vec<u8>,
    /// The signature by that key.
    pub signature: [u8; 64],
}

/// What this node says of itself.
#[derive(Debug, Clone)]
pub struct HelloContent {
    /// Oldest protocol version that this node speaks.
    pub version_min: u32,
    /// Newest protocol version that this node speaks.
    pub version_max: u32,
    /// Hash of the genesis, which must be equal on both sides.
    pub genesis_hash: [u8; 32],
    /// The chain id, which must be equal on both sides.
    pub chain_id: String,
    /// For a validator, the proof of its key.
    pub validator: Option<ValidatorProof>,
    /// Name of the node for people.
    pub moniker: String,
    /// `host:port` where this node accepts peers; empty if it does not.
    pub listen_address: String,
    /// `host:port` of the RPC server; empty if there is none.
    pub rpc_address: String,
    /// Version of the software.
    pub software_version: String,
}

/// What a peer said, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The newest protocol version that both sides speak.
    pub version: u32,
    /// The peer's consensus key; the signature by it was verified.
    pub validator: Option<Vec<u8>>,
    /// Name of the node for people; printable.
    pub moniker: String,
    /// `host:port` where the peer says it accepts peers.
    pub listen_address: String,
    /// `host:port` of the peer's RPC server.
    pub rpc_address: String,
    /// Version of the peer's software.
    pub software_version: String,
    pub(super) known_peers: Vec<String>,
}

/// Why a hello was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a hello at all, or one with impossible fields.
    #[error("its hello is malformed: {0}")]
    Malformed(&'static str),
    /// Another chain id.
    #[error("it is of chain {theirs:?}, this node of {ours:?}")]
    ChainId {
        /// Ours.
        ours: String,
        /// The peer's.
        theirs: String,
    },
    /// The same chain id from another genesis.
    #[error("its genesis hash is {theirs}, ours {ours}: one of the genesis files is another")]
    Genesis {
        /// Ours, in hex.
        ours: String,
        /// The peer's, in hex.
        theirs: String,
    },
    /// No protocol version in common.
    #[error("it speaks protocol {theirs_min} to {theirs_max}, this node {ours_min} to {ours_max}")]
    Version {
        /// Our oldest.
        ours_min: u32,
        /// Our newest.
        ours_max: u32,
        /// The peer's oldest.
        theirs_min: u32,
        /// The peer's newest.
        theirs_max: u32,
    },
    /// The signature does not prove the consensus key.
    #[error("it claims a consensus key that it cannot prove")]
    Signature,
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    version_min: u32,
    #[prost(uint32, tag = "2")]
    version_max: u32,
    #[prost(bytes = "vec", tag = "3")]
    genesis_hash: Vec<u8>,
    #[prost(string, tag = "4")]
    chain_id: String,
    #[prost(bytes = "vec", tag = "5")]
    validator_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    validator_signature: Vec<u8>,
    #[prost(string, tag = "7")]
    moniker: String,
    #[prost(string, tag = "8")]
    listen_address: String,
    #[prost(string, tag = "9")]
    rpc_address: String,
    #[prost(string, tag = "10")]
    software_version: String,
    #[prost(string, repeated, tag = "11")]
    known_peers: Vec<String>,
}

/// What the signature in a hello covers: the domain, then the chain id and the peer id, each
/// behind its length as a varint.
#[must_use]
pub fn sign_bytes(chain_id: &str, peer: &PeerId) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    for part in [chain_id.as_bytes(), &peer.to_bytes()] {
        prost::encoding::encode_varint(part.len() as u64, &mut bytes);
        bytes.extend_from_slice(part);
    }
    bytes
}

impl HelloContent {
    /// Our hello as bytes, with the addresses of other peers.
    pub(super) fn encode(&self, known_peers: Vec<String>) -> Vec<u8> {
        Wire {
            version_min: self.version_min,
            version_max: self.version_max,
            genesis_hash: self.genesis_hash.to_vec(),
            chain_id: self.chain_id.clone(),
            validator_key: self.validator.as_ref().map_or(Vec::new(), |v| v.key.clone()),
            validator_signature: self
                .validator
                .as_ref()
                .map_or(Vec::new(), |v| v.signature.to_vec()),
            moniker: self.moniker.clone(),
            listen_address: self.listen_address.clone(),
            rpc_address: self.rpc_address.clone(),
            software_version: self.software_version.clone(),
            known_peers,
        }
        .encode_to_vec()
    }

    /// Reads and checks what `peer` said.
    pub(super) fn check(
        &self,
        bytes: &[u8],
        peer: &PeerId,
        verify: &VerifySignature,
    ) -> Result<Hello, HelloError> {
        let wire = Wire::decode(bytes).map_err(|_| HelloError::Malformed("not decodable"))?;
        check_texts(&wire)?;
        self.check_chain(&wire)?;
        let validator = self.check_validator(&wire, peer, verify)?;
        Ok(Hello {
            version: self.version_max.min(wire.version_max),
            validator,
            moniker: wire.moniker,
            listen_address: wire.listen_address,
            rpc_address: wire.rpc_address,
            software_version: wire.software_version,
            known_peers: wire.known_peers,
        })
    }

    fn check_chain(&self, wire: &Wire) -> Result<(), HelloError> {
        if wire.chain_id != self.chain_id {
            let (ours, theirs) = (self.chain_id.clone(), wire.chain_id.clone());
            return Err(HelloError::ChainId { ours, theirs });
        }
        if wire.genesis_hash.len() != 32 {
            return Err(HelloError::Malformed("genesis hash is not of 32 bytes"));
        }
        if wire.genesis_hash != self.genesis_hash {
            let (ours, theirs) = (hex::encode(self.genesis_hash), hex::encode(&wire.genesis_hash));
            return Err(HelloError::Genesis { ours, theirs });
        }
        if wire.version_max < self.version_min
            || wire.version_min > self.version_max
            || wire.version_min > wire.version_max
        {
            return Err(HelloError::Version {
                ours_min: self.version_min,
                ours_max: self.version_max,
                theirs_min: wire.version_min,
                theirs_max: wire.version_max,
            });
        }
        Ok(())
    }

    fn check_validator(
        &self,
        wire: &Wire,
        peer: &PeerId,
        verify: &VerifySignature,
    ) -> Result<Option<Vec<u8>>, HelloError> {
        if wire.validator_key.is_empty() && wire.validator_signature.is_empty() {
            return Ok(None);
        }
        let key = &wire.validator_key;
        let signature = wire.validator_signature.as_slice().try_into();
        let (true, Ok(signature)) = (key.len() <= KEY_BYTES_MAX, signature) else {
            return Err(HelloError::Malformed("validator key or signature of a wrong length"));
        };
        if verify(key, &sign_bytes(&self.chain_id, peer), &signature) {
            Ok(Some(key.clone()))
        } else {
            Err(HelloError::Signature)
        }
    }
}

fn check_texts(wire: &Wire) -> Result<(), HelloError> {
    if wire.known_peers.len() > KNOWN_PEERS_MAX {
        return Err(HelloError::Malformed("too many addresses"));
    }
    let named = [
        &wire.chain_id,
        &wire.moniker,
        &wire.listen_address,
        &wire.rpc_address,
        &wire.software_version,
    ];
    let texts = named.into_iter().chain(&wire.known_peers);
    for text in texts {
        if text.len() > TEXT_BYTES_MAX {
            return Err(HelloError::Malformed("text too long"));
        }
        if text.chars().any(char::is_control) {
            return Err(HelloError::Malformed("control character in a text"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> HelloContent {
        HelloContent {
            version_min: 1,
            version_max: 3,
            genesis_hash: [1; 32],
            chain_id: "chain".to_owned(),
            validator: Some(ValidatorProof { key: vec![2; 32], signature: [3; 64] }),
            moniker: "m".to_owned(),
            listen_address: "0.0.0.0:1".to_owned(),
            rpc_address: String::new(),
            software_version: "1".to_owned(),
        }
    }

    fn check(theirs: &HelloContent, valid: bool) -> Result<Hello, HelloError> {
        let peer = PeerId::random();
        let expected = sign_bytes("chain", &peer);
        let verify = move |key: &[u8], bytes: &[u8], signature: &[u8; 64]| {
            assert_eq!((key, bytes, signature), (&[2; 32][..], &expected[..], &[3; 64]));
            valid
        };
        content().check(&theirs.encode(Vec::new()), &peer, &verify)
    }

    #[test]
    fn a_hello_of_the_same_chain_is_accepted_with_the_newest_common_version() {
        let hello = check(&HelloContent { version_max: 2, ..content() }, true).unwrap();
        assert_eq!((hello.version, hello.validator), (2, Some(vec![2; 32])));
    }

    #[test]
    fn another_chain_genesis_or_version_or_an_unproved_key_is_refused() {
        let other = HelloContent { chain_id: "other".to_owned(), ..content() };
        assert!(matches!(check(&other, true), Err(HelloError::ChainId { .. })));
        let other = HelloContent { genesis_hash: [9; 32], ..content() };
        assert!(matches!(check(&other, true), Err(HelloError::Genesis { .. })));
        let other = HelloContent { version_min: 4, version_max: 5, ..content() };
        assert!(matches!(check(&other, true), Err(HelloError::Version { .. })));
        assert_eq!(check(&content(), false), Err(HelloError::Signature));
    }

    #[test]
    fn malformed_hellos_are_refused() {
        let long = HelloContent { moniker: "x".repeat(257), ..content() };
        assert!(matches!(check(&long, true), Err(HelloError::Malformed(_))));
        let forged = HelloContent { moniker: "a\nb".to_owned(), ..content() };
        assert!(matches!(check(&forged, true), Err(HelloError::Malformed(_))));
        let peer = PeerId::random();
        for bytes in [&b"\xff\xff\xff"[..], &[0; 40], &[0x22, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert!(content().check(bytes, &peer, &|_, _, _| true).is_err());
        }
    }

    #[test]
    fn the_signed_bytes_are_pinned() {
        let peer = PeerId::from_bytes(&[0, 2, 8, 1]).unwrap();
        let bytes = sign_bytes("ab", &peer);
        assert_eq!(hex::encode(bytes), "007465726365742f68656c6c6f2f310261620400020801");
    }
}
