//! Bad networks in user space: a TCP proxy between every two nodes, whose rules can be changed while it runs.
//!
//! Node I dials node J at a port of the proxy, and the proxy dials J. A rule is about the bytes from one node to another, whoever dialled. What TCP
//! hides from a process (loss, doubling, reordering) is not there to be seen: a lost packet is a delay of what follows, as it would be.
//! Two things differ from a real network. What was held back arrives at once after a cut, where TCP would wait for its next
//! repetition. And a node whose process is dead still accepts connections, which then close, where its port would refuse them.

mod pipe;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::state::{Net, StateError};

/// Most nodes: so many ports a node are left for the proxy.
pub(crate) const NODES_MAX: usize = 8;
/// The first of them, counted from the node's own.
const FIRST_PORT: u16 = 2;
/// Name of the file in the network's folder that holds the rules.
const FILE: &str = "links.json";
/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What is done to bytes on their way from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Flow {
    /// Nothing arrives; connections stay open.
    pub(crate) cut: bool,
    /// Least and most milliseconds that bytes are under way.
    pub(crate) delay_ms: (u64, u64),
    /// Most bytes a second; 0: as many as there are.
    pub(crate) bytes_per_second: u32,
    /// Dials are refused.
    pub(crate) refuse: bool,
    /// Connections that were made before this are reset; in milliseconds since 1970.
    pub(crate) reset_before: u64,
}

/// The rules of all flows; what is not named passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rules(Vec<(usize, usize, Flow)>);

impl Rules {
    /// The rule for bytes from `from` to `to`.
    pub(crate) fn flow(&self, from: usize, to: usize) -> Flow {
        let found = self.0.iter().find(|(a, b, _)| (*a, *b) == (from, to));
        found.map_or(Flow::default(), |(_, _, flow)| *flow)
    }

    /// Changes the rules from every node in `from` to every other in `to`.
    pub(crate) fn on(&mut self, from: &[usize], to: &[usize], change: impl Fn(&mut Flow)) {
        for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))) {
            if a == b {
                continue;
            }
            let mut flow = self.flow(a, b);
            change(&mut flow);
            self.0.retain(|(x, y, _)| (*x, *y) != (a, b));
            self.0.push((a, b, flow));
        }
    }

    /// The same in both directions.
    pub(crate) fn between(&mut self, a: &[usize], b: &[usize], change: impl Fn(&mut Flow)) {
        self.on(a, b, &change);
        self.on(b, a, &change);
    }

    /// Writes the rules into the folder of a network whose proxy follows them.
    pub(crate) fn store(&self, dir: &Path) -> Result<(), StateError> {
        let path = dir.join(FILE);
        let io = |error| StateError::Io(path.display().to_string(), error);
        let text = serde_json::to_vec(self).map_err(|error| io(error.into()))?;
        let fresh = dir.join(format!("{FILE}.new"));
        std::fs::write(&fresh, text).map_err(io)?;
        std::fs::rename(&fresh, &path).map_err(io)
    }
}

/// Now, as in [`Flow::reset_before`].
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Where a node that listens on `port` dials node `to`.
pub(crate) fn port(port: u16, to: usize) -> Option<u16> {
    port.checked_add(FIRST_PORT)?.checked_add(u16::try_from(to).ok()?)
}

/// A proxy at work, on a thread of its own. It ends when this is dropped.
pub(crate) struct Proxy {
    rules: watch::Sender<Rules>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy between nodes that listen on these ports of 127.0.0.1.
    ///
    /// # Errors
    /// Where a port is taken.
    pub(crate) fn start(ports: &[u16]) -> io::Result<Self> {
        let (rules, watched) = watch::channel(Rules::default());
        let mut links = Vec::new();
        for (from, listens) in ports.iter().enumerate() {
            for (to, target) in ports.iter().enumerate().filter(|(to, _)| *to != from) {
                let at = port(*listens, to).ok_or(io::ErrorKind::AddrNotAvailable)?;
                let at = SocketAddr::from((Ipv4Addr::LOCALHOST, at));
                let target = SocketAddr::from((Ipv4Addr::LOCALHOST, *target));
                let listener = TcpListener::bind(at)?;
                listener.set_nonblocking(true)?;
                let link = pipe::Link { from, to, at, target, rules: watched.clone() };
                links.push((link, listener));
            }
        }
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            runtime.block_on(async {
                for (link, listener) in links {
                    tokio::spawn(link.serve(listener));
                }
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(work)?;
        Ok(Self { rules, stop: Some(stop), thread: Some(thread) })
    }

    /// A proxy for a network.
    ///
    /// # Errors
    /// Where a port is taken.
    pub(crate) fn of(net: &Net) -> io::Result<Self> {
        let port = |address: &str| address.rsplit_once(':')?.1.parse().ok();
        let ports: Option<Vec<u16>> = net.nodes.iter().map(|node| port(&node.p2p)).collect();
        Self::start(&ports.ok_or(io::ErrorKind::InvalidInput)?)
    }

    /// Changes the rules, for connections that there are and those to come.
    pub(crate) fn set(&self, rules: Rules) {
        self.rules.send_if_modified(|old| {
            let changed = *old != rules;
            *old = rules;
            changed
        });
    }

    /// Follows the rules in the folder of a network, for as long as it is asked to. Nothing is cut in the beginning.
    pub(crate) async fn follow(&self, dir: &Path) {
        let path = dir.join(FILE);
        let _ = std::fs::remove_file(&path);
        loop {
            let text = std::fs::read(&path).unwrap_or_default();
            // Nothing, or nothing that is understood: the rules stay.
            if let Ok(rules) = serde_json::from_slice(&text) {
                self.set(rules);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
