//! `testnet.json`: which nodes a network has, where they are and which process each one is.
//!
//! Every command finds the network by it, so changes are made under a lock and appear at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Name of the file in the network's folder.
const FILE: &str = "testnet.json";
/// Name of the lock beside it.
const LOCK: &str = "testnet.lock";

/// Why the description of a network cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// There is no network in the folder.
    #[error("no network in {0}: start one with `tercet-testnet up --dir {0}`, or name its --dir")]
    Missing(String),
    /// The file or its lock cannot be read or written.
    #[error("{0}")]
    Io(String, #[source] io::Error),
    /// The file is not what this tool writes.
    #[error("{0} is damaged: stop the nodes by hand and remove it")]
    Damaged(String, #[source] serde_json::Error),
    /// There is no node with that index.
    #[error("there is no node {index}: the network has nodes 0 to {last}")]
    NoSuchNode {
        /// What was asked for.
        index: usize,
        /// The highest index.
        last: usize,
    },
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Its number, from 0; validators come first.
    pub(crate) index: usize,
    /// Its process, where it has been started.
    pub(crate) pid: Option<u32>,
    /// Its home folder, absolute.
    pub(crate) home: PathBuf,
    /// `host:port` of its RPC.
    pub(crate) rpc: String,
    /// `id@host:port` of its peer-to-peer address.
    pub(crate) p2p: String,
    /// Validator address in upper-case hex; none for a full node.
    pub(crate) validator: Option<String>,
    /// Why it is down on purpose or paused, where a command did that.
    #[serde(default)]
    pub(crate) down: Option<String>,
    /// The process that keeps its application running, where the network has an `app_command`.
    #[serde(default)]
    pub(crate) keeper: Option<u32>,
}

impl Node {
    /// How the node is called in messages.
    pub(crate) fn name(&self) -> String {
        format!("node{}", self.index)
    }

    /// Where its output goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("log.txt")
    }
}

/// A network on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Net {
    /// The node program.
    pub(crate) binary: PathBuf,
    /// Whether the nodes dial each other through a proxy.
    #[serde(default)]
    pub(crate) proxied: bool,
    /// The command that runs the application of a node, where it is not in the node.
    #[serde(default)]
    pub(crate) app_command: Option<String>,
    /// All nodes, by index.
    pub(crate) nodes: Vec<Node>,
}

impl Net {
    /// Where each node's output goes, with its name.
    pub(crate) fn logs(&self) -> Vec<(String, PathBuf)> {
        self.nodes.iter().map(|node| (node.name(), node.log())).collect()
    }

    /// Whether there is a network in `dir`.
    pub(crate) fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Reads the network in `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| StateError::Damaged(path.display().to_string(), error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StateError::Missing(dir.display().to_string()))
            }
            Err(error) => Err(StateError::Io(path.display().to_string(), error)),
        }
    }

    /// Writes the network into `dir`, in one step.
    pub(crate) fn store(&self, dir: &Path) -> Result<(), StateError> {
        let path = dir.join(FILE);
        let io = |error| StateError::Io(path.display().to_string(), error);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| StateError::Damaged(path.display().to_string(), error))?;
        let fresh = dir.join(format!("{FILE}.new"));
        fs::write(&fresh, text).map_err(io)?;
        fs::rename(&fresh, &path).map_err(io)
    }

    /// Changes the network in `dir` while no other command does.
    pub(crate) fn update<T>(
        dir: &Path,
        change: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, StateError> {
        let path = dir.join(LOCK);
        let io = |error| StateError::Io(path.display().to_string(), error);
        let file = File::create(&path).map_err(io)?;
        let _lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| io(io::Error::from(errno)))?;
        let mut net = Self::load(dir)?;
        let result = change(&mut net);
        net.store(dir)?;
        Ok(result)
    }

    /// Node number `index`.
    pub(crate) fn node(&self, index: usize) -> Result<&Node, StateError> {
        let last = self.nodes.len().saturating_sub(1);
        self.nodes.get(index).ok_or(StateError::NoSuchNode { index, last })
    }

    /// RPC addresses of all nodes.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.rpc.clone()).collect()
    }

    /// The validators.
    pub(crate) fn validators(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.validator.is_some())
    }

    /// How the validator with `address` is called: its node's name, or the address.
    pub(crate) fn name_of(&self, address: &str) -> String {
        let mut validators = self.validators();
        let node = validators.find(|node| node.validator.as_deref() == Some(address));
        node.map_or_else(|| address.to_owned(), Node::name)
    }
}

/// Notes the process of node `index`, or why it is down.
pub(crate) fn note(
    dir: &Path,
    index: usize,
    pid: Option<u32>,
    down: Option<&str>,
) -> Result<(), StateError> {
    Net::update(dir, |net| {
        if let Some(node) = net.nodes.get_mut(index) {
            node.pid = pid;
            node.down = down.map(str::to_owned);
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A network of four validators at `endpoints`, for tests.
    pub(crate) fn net(endpoints: &[String]) -> Net {
        let nodes = endpoints.iter().enumerate().map(|(index, rpc)| Node {
            index,
            pid: None,
            home: PathBuf::from(format!("/nowhere/node{index}")),
            rpc: rpc.clone(),
            p2p: String::new(),
            validator: Some(format!("A{index}")),
            down: None,
            keeper: None,
        });
        let binary = PathBuf::from("tercet");
        Net { binary, proxied: false, app_command: None, nodes: nodes.collect() }
    }

    #[test]
    fn a_network_is_found_again_with_its_changes() {
        let dir = tempfile::tempdir().expect("folder");
        assert!(matches!(Net::load(dir.path()), Err(StateError::Missing(_))));
        let endpoints = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        net(&endpoints).store(dir.path()).expect("stored");
        note(dir.path(), 1, Some(77), Some("paused")).expect("noted");
        let found = Net::load(dir.path()).expect("loaded");
        assert_eq!(found.node(1).expect("node").pid, Some(77));
        assert_eq!(found.node(1).expect("node").down.as_deref(), Some("paused"));
        assert_eq!(found.node(0).expect("node").pid, None);
        assert!(matches!(found.node(2), Err(StateError::NoSuchNode { index: 2, last: 1 })));
        assert_eq!(found.name_of("A1"), "node1");
        assert_eq!(found.name_of("FF"), "FF");
    }
}
