//! The homes of a network: configuration, genesis and keys of every node, in CometBFT's layout.

mod home;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::application;
use crate::proxy;
use crate::state::Node;
use home::Keys;

/// Most nodes of a network on one machine.
const NODES_MAX: usize = 100;
/// Ports between one node and the next.
const PORT_STEP: u16 = 10;
/// Power of a validator where none is given.
const POWER: u64 = 10;

/// `priv_validator_state.json` of a validator that has signed nothing yet.
const NOTHING_SIGNED: &str = "{\"height\": \"0\", \"round\": 0, \"step\": 0}\n";

/// How nodes are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// TCP with Noise and Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

/// The application in every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum App {
    /// The key-value store of CometBFT, in memory.
    Kvstore,
    /// The same, kept on disk.
    PersistentKvstore,
}

/// What to lay out.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The network's folder.
    pub(crate) dir: PathBuf,
    /// How many validators.
    pub(crate) validators: usize,
    /// Their powers; empty: all the same.
    pub(crate) powers: Vec<u64>,
    /// Full nodes besides.
    pub(crate) full_nodes: usize,
    /// First port.
    pub(crate) base_port: u16,
    /// How nodes are connected.
    pub(crate) transport: Transport,
    /// The application.
    pub(crate) app: App,
    /// The command that runs the application of a node as a process of its own, in place of `app`.
    pub(crate) app_command: Option<String>,
    /// `key=value` for config.toml.
    pub(crate) settings: Vec<String>,
    /// `key=value` for genesis.json.
    pub(crate) genesis_settings: Vec<String>,
    /// Validators 0 and 1 are connected only to the first full node.
    pub(crate) sentry: bool,
    /// Nodes dial each other at the ports of a proxy.
    pub(crate) proxied: bool,
    /// The nodes are CometBFT's: their homes have the files that it does not make by itself.
    pub(crate) cometbft: bool,
}

impl Layout {
    /// So many validators of equal power, with the key-value store on disk.
    pub(crate) fn plain(dir: &Path, validators: usize, base_port: u16) -> Layout {
        Layout {
            dir: dir.to_owned(),
            validators,
            powers: Vec::new(),
            full_nodes: 0,
            base_port,
            transport: Transport::Tcp,
            app: App::PersistentKvstore,
            app_command: None,
            settings: Vec::new(),
            genesis_settings: Vec::new(),
            sentry: false,
            proxied: false,
            cometbft: false,
        }
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.validators + self.full_nodes
    }

    /// Whether node `a` has node `b` among its peers.
    fn dials(&self, a: usize, b: usize) -> bool {
        let hidden = |node: usize| self.sentry && node < 2;
        let sentry = self.validators;
        a != b && (!hidden(a) || b == sentry) && (!hidden(b) || a == sentry)
    }

    /// Where `node` dials `peer`.
    fn address(&self, node: &Node, peer: &Node) -> Option<String> {
        if !self.proxied {
            return Some(peer.p2p.clone());
        }
        let (_, port) = node.p2p.rsplit_once(':')?;
        let port = proxy::port(port.parse().ok()?, peer.index)?;
        let (id, _) = peer.p2p.split_once('@')?;
        Some(format!("{id}@127.0.0.1:{port}"))
    }

    fn power(&self, index: usize) -> Option<u64> {
        match self.powers.is_empty() {
            true => Some(POWER),
            false => self.powers.get(index).copied(),
        }
    }

    fn port(&self, index: usize, offset: u16) -> Result<u16, LayoutError> {
        let step = u16::try_from(index).ok().and_then(|index| index.checked_mul(PORT_STEP));
        step.and_then(|step| self.base_port.checked_add(step)?.checked_add(offset))
            .ok_or_else(|| LayoutError::Setting("--base-port leaves too few ports".to_owned()))
    }
}

/// Why homes cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    /// What is asked for makes no sense.
    #[error("{0}")]
    Setting(String),
    /// A file cannot be written.
    #[error("cannot write {0}")]
    Io(String, #[source] io::Error),
}

/// Writes the homes of all nodes.
pub(crate) fn lay_out(layout: &Layout) -> Result<Vec<Node>, LayoutError> {
    check(layout)?;
    create(&layout.dir)?;
    let dir = layout.dir.canonicalize();
    let dir = dir.map_err(|e| LayoutError::Io(layout.dir.display().to_string(), e))?;
    let mut nodes = Vec::new();
    let mut keys = Vec::new();
    for index in 0..layout.nodes() {
        let node_keys = Keys::generate();
        let validator = (index < layout.validators).then(|| node_keys.address());
        nodes.push(Node {
            index,
            pid: None,
            home: dir.join(format!("node{index}")),
            rpc: format!("127.0.0.1:{}", layout.port(index, 1)?),
            p2p: format!("{}@127.0.0.1:{}", node_keys.node_id(), layout.port(index, 0)?),
            validator,
            down: None,
            keeper: None,
        });
        keys.push(node_keys);
    }
    if let Some(command) = &layout.app_command {
        let homes: Vec<PathBuf> = nodes.iter().map(|node| node.home.clone()).collect();
        application::check(command, &homes)?;
    }
    let genesis = home::genesis(layout, &keys)?;
    for (node, keys) in nodes.iter().zip(&keys) {
        let peers = nodes.iter().filter(|peer| layout.dials(node.index, peer.index));
        let peers = peers.map(|peer| layout.address(node, peer));
        let peers = peers.collect::<Option<Vec<String>>>().unwrap_or_default();
        let config = home::config(layout, node, &peers)?;
        create(&node.home.join("config"))?;
        create(&node.home.join("data"))?;
        if layout.cometbft {
            // Without it CometBFT refuses a home that has a validator key.
            secret(&node.home.join("data/priv_validator_state.json"), NOTHING_SIGNED)?;
        }
        let config_dir = node.home.join("config");
        write(&config_dir.join("config.toml"), &config)?;
        write(&config_dir.join("genesis.json"), &home::pretty(&genesis))?;
        secret(&config_dir.join("node_key.json"), &home::pretty(&keys.node_key()))?;
        secret(
            &config_dir.join("priv_validator_key.json"),
            &home::pretty(&keys.priv_validator_key()),
        )?;
    }
    Ok(nodes)
}

fn check(layout: &Layout) -> Result<(), LayoutError> {
    let wrong = |text: String| Err(LayoutError::Setting(text));
    if layout.validators == 0 {
        return wrong("--validators must be at least 1".to_owned());
    }
    if layout.nodes() > NODES_MAX {
        return wrong(format!("at most {NODES_MAX} nodes fit on one machine"));
    }
    if layout.proxied && (layout.nodes() > proxy::NODES_MAX || layout.transport == Transport::Quic)
    {
        return wrong(format!("--proxied is for TCP and up to {} nodes", proxy::NODES_MAX));
    }
    if !layout.powers.is_empty() && layout.powers.len() != layout.validators {
        let (powers, validators) = (layout.powers.len(), layout.validators);
        return wrong(format!("--powers has {powers} values for {validators} validators"));
    }
    if layout.powers.contains(&0) {
        return wrong("--powers must be above 0".to_owned());
    }
    if layout.sentry && (layout.full_nodes == 0 || layout.validators < 2) {
        return wrong("--sentry needs two validators and --full-nodes 1 or more".to_owned());
    }
    Ok(())
}

fn create(dir: &Path) -> Result<(), LayoutError> {
    fs::create_dir_all(dir).map_err(|e| LayoutError::Io(dir.display().to_string(), e))
}

fn write(path: &Path, text: &str) -> Result<(), LayoutError> {
    fs::write(path, text).map_err(|e| LayoutError::Io(path.display().to_string(), e))
}

/// Writes a file that only its owner may read.
fn secret(path: &Path, text: &str) -> Result<(), LayoutError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| LayoutError::Io(path.display().to_string(), e))
}
