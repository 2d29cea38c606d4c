//! What stands in the files of one home.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tendermint::crypto::ed25519::SigningKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{App, Layout, LayoutError, Transport};
use crate::application::Listens;
use crate::state::Node;

/// The two keys of a node: the one it is known by to peers, and the one it votes with.
pub(crate) struct Keys {
    node: Pair,
    validator: Pair,
}

/// An ed25519 key with its public half.
struct Pair {
    seed: [u8; 32],
    public: Vec<u8>,
}

impl Pair {
    fn generate() -> Self {
        let seed: [u8; 32] = rand::random();
        let key = SigningKey::try_from(seed.as_slice()).expect("any 32 bytes are an ed25519 seed");
        let public = key.verification_key().as_bytes().to_vec();
        Self { seed, public }
    }

    /// The first 20 bytes of the hash of the public key.
    fn address(&self) -> Vec<u8> {
        Sha256::digest(&self.public).iter().take(20).copied().collect()
    }

    /// Go's form of a private key: the seed, then the public key.
    fn private_key(&self) -> Value {
        let bytes = [self.seed.as_slice(), &self.public].concat();
        json!({"type": "tendermint/PrivKeyEd25519", "value": STANDARD.encode(bytes)})
    }

    fn public_key(&self) -> Value {
        json!({"type": "tendermint/PubKeyEd25519", "value": STANDARD.encode(&self.public)})
    }
}

impl Keys {
    /// Fresh keys.
    pub(crate) fn generate() -> Self {
        Self { node: Pair::generate(), validator: Pair::generate() }
    }

    /// How peers call the node: lower-case hex.
    pub(crate) fn node_id(&self) -> String {
        hex::encode(self.node.address())
    }

    /// How the validator is called: upper-case hex.
    pub(crate) fn address(&self) -> String {
        hex::encode_upper(self.validator.address())
    }

    /// `node_key.json`.
    pub(crate) fn node_key(&self) -> Value {
        json!({"priv_key": self.node.private_key()})
    }

    /// `priv_validator_key.json`.
    pub(crate) fn priv_validator_key(&self) -> Value {
        json!({
            "address": self.address(),
            "pub_key": self.validator.public_key(),
            "priv_key": self.validator.private_key(),
        })
    }
}

/// JSON as people read it.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// `genesis.json`, with what `--genesis-set` says.
pub(crate) fn genesis(layout: &Layout, keys: &[Keys]) -> Result<Value, LayoutError> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339);
    let now = now.map_err(|_| LayoutError::Setting("the clock shows no date".to_owned()))?;
    let validators = keys.iter().enumerate().take(layout.validators).map(|(index, keys)| {
        json!({
            "address": keys.address(),
            "pub_key": keys.validator.public_key(),
            "power": layout.power(index).unwrap_or_default().to_string(),
            "name": format!("node{index}"),
        })
    });
    let mut genesis = json!({
        "genesis_time": now,
        "chain_id": format!("testnet-{:06x}", rand::random::<u32>() & 0x00ff_ffff),
        "initial_height": "1",
        "consensus_params": {
            "block": {"max_bytes": "22020096", "max_gas": "-1"},
            "evidence": {
                "max_age_num_blocks": "100000",
                "max_age_duration": "172800000000000",
                "max_bytes": "1048576",
            },
            "validator": {"pub_key_types": ["ed25519"]},
            "version": {"app": "0"},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "validators": validators.collect::<Vec<_>>(),
        "app_hash": "",
    });
    for setting in &layout.genesis_settings {
        let (path, text) = split(setting, "--genesis-set")?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        let mut place = &mut genesis;
        for name in path.split('.') {
            let Value::Object(object) = place else {
                let text = format!("--genesis-set {setting}: {name} is inside a plain value");
                return Err(LayoutError::Setting(text));
            };
            place = object.entry(name).or_insert_with(|| json!({}));
        }
        *place = value;
    }
    Ok(genesis)
}

/// `config.toml`, with what `--set` says: only what differs from the defaults.
pub(crate) fn config(
    layout: &Layout,
    node: &Node,
    peers: &[String],
) -> Result<String, LayoutError> {
    let mut config = Config::default();
    let app = match (&layout.app_command, layout.app) {
        (Some(command), _) => Listens::of(node, command)
            .ok_or_else(|| LayoutError::Setting("--base-port leaves too few ports".to_owned()))?
            .proxy_app(),
        (None, App::Kvstore) => "kvstore".to_owned(),
        (None, App::PersistentKvstore) => "persistent_kvstore".to_owned(),
    };
    let port = node.p2p.rsplit_once(':').map_or("", |(_, port)| port);
    config.text("proxy_app", &app);
    config.text("moniker", &node.name());
    config.text("rpc.laddr", &format!("tcp://{}", node.rpc));
    config.text("p2p.laddr", &format!("tcp://127.0.0.1:{port}"));
    config.text("p2p.persistent_peers", &peers.join(","));
    config.put("p2p.addr_book_strict", "false");
    config.put("p2p.allow_duplicate_ip", "true");
    config.put("p2p.pex", "false");
    if layout.transport == Transport::Quic {
        config.text("p2p.transport", "quic");
    }
    for setting in &layout.settings {
        let (path, value) = split(setting, "--set")?;
        let bare = value.parse::<f64>().is_ok()
            || matches!(value, "true" | "false")
            || value.starts_with(['"', '\'', '[', '{']);
        if bare { config.put(path, value) } else { config.text(path, value) }
    }
    Ok(config.render())
}

fn split<'a>(setting: &'a str, flag: &str) -> Result<(&'a str, &'a str), LayoutError> {
    match setting.split_once('=') {
        Some((path, value)) if !path.is_empty() => Ok((path, value)),
        _ => Err(LayoutError::Setting(format!("{flag} {setting}: write key=value"))),
    }
}

/// Keys with their values as TOML, by section.
#[derive(Default)]
struct Config(BTreeMap<String, BTreeMap<String, String>>);

impl Config {
    fn put(&mut self, path: &str, value: &str) {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        self.0.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }

    fn text(&mut self, path: &str, value: &str) {
        // A JSON string is a TOML basic string.
        self.put(path, &Value::String(value.to_owned()).to_string());
    }

    fn render(&self) -> String {
        let mut out = String::new();
        for (section, keys) in &self.0 {
            if !section.is_empty() {
                out.push_str(&format!("\n[{section}]\n"));
            }
            for (key, value) in keys {
                out.push_str(&format!("{key} = {value}\n"));
            }
        }
        out
    }
}
