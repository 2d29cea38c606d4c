//! Whole nodes with the key-value store, in this process.
#![allow(dead_code, unreachable_pub)]

use super::ports;
use tempfile::TempDir;
use tendermint::Time;
use tendermint_rpc::client::CompatMode;
use tendermint_rpc::{Client, HttpClient};
use tercet_abci::grammar::Grammar;
use tercet_abci::remote::Stop;
use tercet_config::{Config, GenesisValidator, Home, Listen, NodeKey, ValidatorKey};
use tercet_node::node::{Node, Settings};

pub(crate) const CHAIN: &str = "rpc-client-test";

/// Nodes in this process, each with a home as `tercet init` makes it.
pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    pub(crate) homes: Vec<(Home, Config)>,
    _folder: TempDir,
}

impl Net {
    /// Starts validators of power 10, connected all to all.
    pub(crate) fn start(count: usize) -> Net {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = free_ports(count);
        let mut homes: Vec<(Home, Config)> = Vec::new();
        let mut ids = Vec::new();
        let mut validators = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let mut config = Config { moniker: format!("node{index}"), ..Config::default() };
            config.rpc.laddr = Some(Listen::tcp("127.0.0.1", 0));
            config.p2p.laddr = Listen::tcp("127.0.0.1", *port);
            let home = Home::new(folder.path().join(format!("node{index}")));
            home.ensure(&config).expect("folders");
            let key = NodeKey::read_or_create(&home.node_key_file(&config)).expect("a key");
            ids.push(key.id());
            let key = ValidatorKey::generate(Default::default()).expect("a key");
            key.create(&home.validator_key_file(&config)).expect("written");
            tercet_config::SignState::default()
                .save(&home.sign_state_file(&config))
                .expect("written");
            let name = config.moniker.clone();
            validators.push(GenesisValidator { public_key: key.public(), power: 10, name });
            homes.push((home, config));
        }
        let genesis = tercet_config::Genesis::new(CHAIN, Time::now(), validators);
        let mut nodes = Vec::new();
        for (index, (home, config)) in homes.iter_mut().enumerate() {
            let peers = ids.iter().zip(&ports).enumerate().filter(|(peer, _)| *peer != index);
            let peer = |(_, (id, port))| format!("{id}@127.0.0.1:{port}").parse().expect("a peer");
            config.p2p.persistent_peers = peers.map(peer).collect();
            genesis.create(&home.genesis_file(config)).expect("written");
            let settings = Settings::of(home, config).expect("a good home");
            let (named, grammar) = (settings.app.clone(), Grammar::default());
            let (stop, calls) = (Stop::default(), settings.app_calls.clone());
            let app = || Ok(grammar.watch(tercet_abci::open(&named, &calls, &stop)?));
            nodes.push(Node::start(settings, &stop, app).expect("the node starts"));
        }
        Net { nodes, homes, _folder: folder }
    }

    /// Stops a node, changes what it left, and starts it again.
    pub(crate) fn restart(&mut self, index: usize, change: impl FnOnce(&std::path::Path)) {
        self.nodes.remove(index).stop();
        let (home, config) = &self.homes[index];
        let settings = Settings::of(home, config).expect("a good home");
        change(&settings.data);
        let (named, grammar) = (settings.app.clone(), Grammar::default());
        let (stop, calls) = (Stop::default(), settings.app_calls.clone());
        let app = || Ok(grammar.watch(tercet_abci::open(&named, &calls, &stop)?));
        self.nodes.insert(index, Node::start(settings, &stop, app).expect("the node starts"));
    }

    /// A client of a node, in the dialect that the node's version asks for.
    pub(crate) async fn client(&self, index: usize) -> HttpClient {
        let address = self.nodes[index].rpc_address().expect("a port");
        let mut client = HttpClient::new(format!("http://{address}").as_str()).expect("a client");
        let status = client.status().await.expect("a status");
        let dialect = CompatMode::from_version(status.node_info.version).expect("a known version");
        client.set_compat_mode(dialect);
        client
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.nodes.drain(..).for_each(Node::stop);
    }
}

pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    (0..count).map(|_| ports::free_port()).collect()
}

/// Runs a test on a runtime of its own, because nodes block where they stop.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
}
