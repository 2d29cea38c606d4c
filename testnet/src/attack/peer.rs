//! Who attacks: any number of identities that know the chain, with or without the key of a validator.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, bail};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;
use tendermint::block::Height;
use tercet_config::{Genesis, ValidatorKey, ValidatorSecret};
use tercet_consensus::key::{Address, PublicKey};
use tercet_consensus::validators::{ValidatorIndex, Validators};
use tercet_node::network::raw::Raw;
use tercet_node::network::{
    ClassLimits, HelloContent, Limits, Settings, Timeouts, Transport, ValidatorProof,
    hello_sign_bytes, peer_id,
};

use super::Kind;
use crate::rpc::Rpc;
use crate::state::{Net, Node};

/// What an attacker knows.
#[derive(Clone)]
pub(super) struct Attacker {
    /// Where the victim listens for peers.
    pub(super) listen: SocketAddr,
    /// The same of the other validators.
    others: Vec<SocketAddr>,
    /// The chain.
    pub(super) chain_id: String,
    genesis_hash: [u8; 32],
    /// The validators of the genesis.
    pub(super) validators: Arc<Validators>,
    /// The index in the network of the validator whose key he has, and the key.
    key_of: usize,
    key: SigningKey,
    /// The victim's RPC.
    pub(super) rpc: String,
    /// How many addresses he has, and how many connections he has made from them, in turn.
    addresses: u16,
    connections: Arc<AtomicU16>,
}

impl Attacker {
    /// Of `net`, on the node with this index. The key is that of the last validator that is not the victim.
    pub(super) fn new(net: &Net, victim: usize, addresses: u16) -> anyhow::Result<Attacker> {
        let node = net.node(victim)?;
        let genesis = Genesis::read(&node.home.join("config/genesis.json"))?;
        let last = net.validators().filter(|other| other.index != victim).last();
        let last = last.context("there is no other validator")?;
        let key: PathBuf = last.home.join("config/priv_validator_key.json");
        let listen = |node: &Node| -> anyhow::Result<SocketAddr> {
            Ok(node.p2p.split_once('@').context("a node's address")?.1.parse()?)
        };
        let others = net.validators().filter(|other| other.index != victim);
        let members = genesis.validators.iter().filter_map(|validator| {
            Some((PublicKey::try_from(&validator.public_key).ok()?, validator.power))
        });
        Ok(Attacker {
            listen: listen(node)?,
            others: others.map(listen).collect::<anyhow::Result<_>>()?,
            chain_id: genesis.chain_id.clone(),
            genesis_hash: genesis.hash(),
            validators: Arc::new(Validators::new(members)?),
            key_of: last.index,
            key: match ValidatorKey::read(&key)?.secret() {
                ValidatorSecret::Ed25519(key) => key,
                ValidatorSecret::Secp256k1(_) => bail!("the attacker signs with ed25519 keys only"),
            },
            rpc: node.rpc.clone(),
            addresses: addresses.max(1),
            connections: Arc::default(),
        })
    }

    /// The validator that this kind of attack takes the place of: it has to be down, or it would meet its own signatures.
    pub(super) fn replaced(&self, kind: Kind) -> Option<usize> {
        matches!(kind, Kind::FutureFlood | Kind::Equivocation).then_some(self.key_of)
    }

    /// A connection of a new identity that has said hello.
    pub(super) async fn connect(&self, as_validator: bool) -> std::io::Result<Raw> {
        let mut raw = self.connect_silently(as_validator).await?;
        raw.say_hello().await?;
        Ok(raw)
    }

    /// A connection of a new identity that has said nothing.
    pub(super) async fn connect_silently(&self, as_validator: bool) -> std::io::Result<Raw> {
        let secret: [u8; 32] = rand::random();
        let peer = peer_id(secret).ok_or(std::io::ErrorKind::InvalidInput)?;
        let proof = as_validator.then(|| ValidatorProof {
            key: self.key.verifying_key().to_bytes().to_vec(),
            signature: self.key.sign(&hello_sign_bytes(&self.chain_id, &peer)).to_bytes(),
        });
        Raw::connect(self.listen, self.settings(secret, proof)).await
    }

    /// Where the next connection comes from: none of the validators is there.
    pub(super) fn source(&self) -> IpAddr {
        let turn = self.connections.fetch_add(1, Ordering::Relaxed) % self.addresses;
        let [high, low] = turn.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, 2, high, low))
    }

    /// The same attacker, on each of the other validators.
    pub(super) fn on_others(&self) -> impl Iterator<Item = Attacker> + '_ {
        self.others.iter().map(|listen| Attacker { listen: *listen, ..self.clone() })
    }

    /// The same attacker with so many addresses.
    pub(super) fn with_addresses(&self, addresses: u16) -> Attacker {
        let connections = Arc::new(AtomicU16::new(0));
        Attacker { addresses, connections, ..self.clone() }
    }

    fn settings(&self, secret: [u8; 32], validator: Option<ValidatorProof>) -> Settings {
        Settings {
            secret,
            listen: SocketAddr::new(self.source(), 0),
            transport: Transport::Tcp,
            persistent: Vec::new(),
            unconditional: Default::default(),
            private: Default::default(),
            peer_exchange: false,
            limits: Limits::default(),
            classes: ClassLimits::default(),
            timeouts: Timeouts::default(),
            hello: HelloContent {
                version_min: 1,
                version_max: 1,
                genesis_hash: self.genesis_hash,
                chain_id: self.chain_id.clone(),
                validator,
                moniker: "attacker".to_owned(),
                listen_address: String::new(),
                rpc_address: String::new(),
                software_version: String::new(),
            },
            verify: Arc::new(|_, _, _| true),
            knows_validator: Arc::new(|_| true),
        }
    }

    /// Where the victim answers clients.
    pub(super) fn rpc(&self) -> &str {
        &self.rpc
    }

    /// The height that the victim decides.
    pub(super) async fn height(&self) -> anyhow::Result<Height> {
        let mut rpc = Rpc::new(&self.rpc);
        let state: crate::rpc::PbftState = rpc.call("pbft_state", json!({})).await?;
        Ok(Height::try_from(state.height)?)
    }

    /// The validator whose key he has, as the chain knows it.
    pub(super) fn member(&self) -> anyhow::Result<(ValidatorIndex, Address)> {
        let key = PublicKey::ed25519(self.key.verifying_key().as_bytes()).context("the key")?;
        let address = key.address();
        let index = self.validators.index_of(&address).context("no validator of the genesis")?;
        Ok((index, address))
    }

    /// A signature by that key.
    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(bytes).to_bytes()
    }

    /// The same attacker's secret for a connection below the streams.
    pub(super) fn secret() -> [u8; 32] {
        rand::random()
    }
}
