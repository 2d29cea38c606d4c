//! The homes as other tools would read them.

use std::fs;

use serde_json::Value;

use super::*;

fn layout(dir: &Path) -> Layout {
    Layout {
        powers: vec![4, 3, 2, 1],
        full_nodes: 1,
        settings: vec![
            "consensus.create_empty_blocks=false".to_owned(),
            "log_level=debug".to_owned(),
        ],
        genesis_settings: vec!["tercet.min_block_interval=100ms".to_owned()],
        ..Layout::plain(dir, 4, 30_000)
    }
}

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

fn peers_of(node: &Node) -> Vec<String> {
    let config = fs::read_to_string(node.home.join("config/config.toml")).expect("config");
    let line = config.lines().find_map(|line| line.strip_prefix("persistent_peers = \""));
    let peers = line.and_then(|line| line.strip_suffix('"')).expect("peers").to_owned();
    peers.split(',').map(str::to_owned).collect()
}

#[test]
fn every_home_has_its_files_and_one_genesis_has_the_powers() {
    let dir = tempfile::tempdir().expect("folder");
    let nodes = lay_out(&layout(dir.path())).expect("laid out");
    assert_eq!(nodes.len(), 5);
    let mut genesis_files = Vec::new();
    for node in &nodes {
        let config = node.home.join("config");
        assert!(node.home.join("data").is_dir());
        genesis_files.push(fs::read(config.join("genesis.json")).expect("genesis"));
        let key = json(&config.join("priv_validator_key.json"));
        if let Some(address) = &node.validator {
            assert_eq!(key["address"].as_str(), Some(address.as_str()));
        }
        let node_key: tendermint_key::NodeKey =
            serde_json::from_value(json(&config.join("node_key.json"))).expect("node key");
        assert!(node.p2p.starts_with(&format!("{}@127.0.0.1:", node_key.id())));
    }
    assert!(genesis_files.windows(2).all(|two| two[0] == two[1]));
    let genesis: Value = serde_json::from_slice(&genesis_files[0]).expect("genesis");
    assert_eq!(genesis["tercet"]["min_block_interval"], "100ms");
    let validators: Vec<tendermint::validator::Info> =
        serde_json::from_value(genesis["validators"].clone()).expect("validators");
    let powers: Vec<u64> = validators.iter().map(|info| info.power.value()).collect();
    assert_eq!(powers, [4, 3, 2, 1]);
    for (info, node) in validators.iter().zip(&nodes) {
        assert_eq!(Some(info.address.to_string()), node.validator);
    }
}

/// A node key as another implementation reads it.
mod tendermint_key {
    use serde::Deserialize;
    use tendermint::private_key::PrivateKey;

    #[derive(Deserialize)]
    pub(super) struct NodeKey {
        priv_key: PrivateKey,
    }

    impl NodeKey {
        pub(super) fn id(&self) -> String {
            let public = self.priv_key.public_key().ed25519().expect("an ed25519 key");
            tendermint::node::Id::from(public).to_string()
        }
    }
}

#[test]
fn every_node_lists_all_others_and_the_settings() {
    let dir = tempfile::tempdir().expect("folder");
    let nodes = lay_out(&layout(dir.path())).expect("laid out");
    for node in &nodes {
        let others: Vec<String> =
            nodes.iter().filter(|n| n.index != node.index).map(|n| n.p2p.clone()).collect();
        assert_eq!(peers_of(node), others);
        let config = fs::read_to_string(node.home.join("config/config.toml")).expect("config");
        assert!(config.contains("proxy_app = \"persistent_kvstore\""));
        assert!(config.contains("[consensus]\ncreate_empty_blocks = false"));
        assert!(config.contains("log_level = \"debug\""));
        assert!(config.contains(&format!("laddr = \"tcp://{}\"", node.rpc)));
    }
    assert_eq!(nodes[2].rpc, "127.0.0.1:30021");
}

#[test]
fn with_a_command_each_node_has_the_socket_of_its_own_application() {
    let dir = tempfile::tempdir().expect("folder");
    let command = Some("app --address unix://{socket}".to_owned());
    let nodes = lay_out(&Layout { app_command: command, ..layout(dir.path()) }).expect("laid out");
    for node in &nodes {
        let config = fs::read_to_string(node.home.join("config/config.toml")).expect("config");
        let socket = format!("proxy_app = \"unix://{}/app.sock\"", node.home.display());
        assert!(config.contains(&socket), "{config}");
    }
}

#[test]
fn only_homes_of_cometbft_have_its_signing_state() {
    for cometbft in [false, true] {
        let dir = tempfile::tempdir().expect("folder");
        let nodes = lay_out(&Layout { cometbft, ..layout(dir.path()) }).expect("laid out");
        let state = nodes[0].home.join("data/priv_validator_state.json");
        assert_eq!(state.exists(), cometbft);
        assert!(!cometbft || json(&state)["height"] == "0");
    }
}

#[test]
fn behind_a_proxy_nobody_lists_where_another_listens() {
    let dir = tempfile::tempdir().expect("folder");
    let nodes = lay_out(&Layout { proxied: true, ..layout(dir.path()) }).expect("laid out");
    let ports = |node: &Node| -> Vec<String> {
        let port = |peer: String| peer.rsplit_once(':').expect("an address").1.to_owned();
        peers_of(node).into_iter().map(port).collect()
    };
    assert_eq!(ports(&nodes[0]), ["30003", "30004", "30005", "30006"]);
    assert_eq!(ports(&nodes[4]), ["30042", "30043", "30044", "30045"]);
    let id = |address: &str| address.split_once('@').expect("an id").0.to_owned();
    assert_eq!(id(&peers_of(&nodes[4])[1]), id(&nodes[1].p2p));
    for wrong in [
        Layout { full_nodes: 5, proxied: true, ..layout(dir.path()) },
        Layout { transport: Transport::Quic, proxied: true, ..layout(dir.path()) },
    ] {
        assert!(matches!(lay_out(&wrong), Err(LayoutError::Setting(_))));
    }
}

#[test]
fn behind_a_sentry_two_validators_know_only_the_full_node() {
    let dir = tempfile::tempdir().expect("folder");
    let layout = Layout { sentry: true, ..layout(dir.path()) };
    let nodes = lay_out(&layout).expect("laid out");
    assert_eq!(peers_of(&nodes[0]), [nodes[4].p2p.clone()]);
    assert_eq!(peers_of(&nodes[1]), [nodes[4].p2p.clone()]);
    assert_eq!(peers_of(&nodes[2]), [nodes[3].p2p.clone(), nodes[4].p2p.clone()]);
    assert_eq!(peers_of(&nodes[4]).len(), 4);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    let good = layout(dir.path());
    for wrong in [
        Layout { validators: 0, ..good.clone() },
        Layout { app_command: Some("no socket".to_owned()), ..good.clone() },
        Layout { powers: vec![1, 2], ..good.clone() },
        Layout { powers: vec![1, 2, 3, 0], ..good.clone() },
        Layout { sentry: true, full_nodes: 0, ..good.clone() },
        Layout { base_port: 65_530, ..good.clone() },
        Layout { full_nodes: 1_000, ..good.clone() },
        Layout { settings: vec!["nonsense".to_owned()], ..good.clone() },
        Layout { genesis_settings: vec!["chain_id.x=1".to_owned()], ..good.clone() },
    ] {
        assert!(matches!(lay_out(&wrong), Err(LayoutError::Setting(_))), "{wrong:?}");
    }
}
