//! `compare-app`: the same transactions, one a block, through CometBFT and Tercet, with CometBFT's key-value store and Tercet's. The
//! application hash after each, what CheckTx and FinalizeBlock answered and the validator updates must be the same everywhere.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::layout::{App, Layout};
use crate::rpc::{COMMIT_TIMEOUT, Rpc, RpcError};
use crate::state::Net;
use crate::table::say;
use crate::up::{self, Up};

const NOTES: &str = "\
Needs CometBFT 0.38's programs, which Go 1.22 or later builds:
  go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.17
  go install github.com/cometbft/cometbft/abci/cmd/abci-cli@v0.38.17
They are looked for in PATH and in the folder where `go install` puts them. Exit code 1 where anything differs.";

/// Arguments of `compare-app`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct CompareArgs {
    /// CometBFT's node.
    #[arg(long, value_name = "FILE")]
    cometbft: Option<PathBuf>,
    /// CometBFT's key-value store.
    #[arg(long, value_name = "FILE")]
    abci_cli: Option<PathBuf>,
    /// First port of the networks.
    #[arg(long, default_value_t = 31_400)]
    base_port: u16,
    /// Sets of random keys and values besides the list.
    #[arg(long, default_value_t = 10)]
    sets: u32,
    /// The node program (default: `tercet` beside this one; `tercet-abci` is looked for there too).
    #[arg(long)]
    pub(crate) node_binary: Option<PathBuf>,
}

/// A node with an application.
struct Setup {
    name: &'static str,
    node: PathBuf,
    cometbft: bool,
    app_command: Option<String>,
}

/// What is compared after a transaction, as the node answers it.
type Answers = Vec<Value>;

/// Runs all setups one after the other and compares them.
pub(crate) async fn run(args: CompareArgs, tercet: PathBuf) -> anyhow::Result<ExitCode> {
    let cometbft = find("cometbft", "cmd/cometbft@v0.38.17", args.cometbft.as_deref())?;
    let abci_cli = find("abci-cli", "abci/cmd/abci-cli@v0.38.17", args.abci_cli.as_deref())?;
    let tercet_abci = tercet.with_file_name("tercet-abci");
    ensure!(tercet_abci.exists(), "no {}: build it with `make build`", tercet_abci.display());
    let served = |program: &Path| {
        let program = program.display();
        Some(format!("exec {program} kvstore --address unix://{{socket}} --persist {{home}}/app"))
    };
    let setup = |name, node: &Path, app_command| Setup {
        name,
        cometbft: node == cometbft,
        node: node.to_owned(),
        app_command,
    };
    let setups = [
        setup("CometBFT with abci-cli kvstore", &cometbft, served(&abci_cli)),
        setup("Tercet with abci-cli kvstore", &tercet, served(&abci_cli)),
        setup("Tercet with the kvstore in the node", &tercet, None),
        setup("CometBFT with tercet-abci kvstore", &cometbft, served(&tercet_abci)),
    ];
    let txs = transactions(args.sets);
    let mut seen: Vec<(&str, Answers)> = Vec::new();
    for setup in &setups {
        let answers = in_folder(setup, &txs, args.base_port).await;
        let answers = answers.with_context(|| setup.name.to_owned())?;
        let blocks = answers.iter().filter(|answer| !answer["block"].is_null()).count();
        say(&format!("{}: {} transactions, {blocks} in blocks", setup.name, txs.len()));
        seen.push((setup.name, answers));
    }
    let found = differences(&txs, &seen);
    for line in &found {
        say(&format!("DIFFERS {line}"));
    }
    if let Some(hash) = seen.first().and_then(|(_, answers)| last_hash(answers)) {
        say(&format!("application hash after the last: {hash}"));
    }
    match found.is_empty() {
        true => {
            say(
                "the same everywhere: CheckTx, results, events, validator updates, application hashes, final state",
            );
            Ok(ExitCode::SUCCESS)
        }
        false => Ok(ExitCode::FAILURE),
    }
}

/// A program of CometBFT: as named, or in `PATH`, or where `go install` puts it. `package` is its path with a version.
pub(crate) fn find(name: &str, package: &str, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(std::env::var_os("GOBIN").map(PathBuf::from));
    folders.extend(std::env::var_os("GOPATH").map(|path| PathBuf::from(path).join("bin")));
    folders.extend(std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin")));
    let found = match named {
        Some(named) => Some(named.to_owned()),
        None => folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()),
    };
    let found = found.and_then(|path| path.canonicalize().ok());
    found.with_context(|| {
        format!(
            "no {name}: `go install github.com/cometbft/cometbft/{package}` builds it (Go 1.22 or later), or name it with \
             --{name}"
        )
    })
}

/// What is sent: sets, changes of validators, and what the application refuses. Left out is a key of a wrong length, such as
/// `val=ed25519!!5`: the store of CometBFT takes it and answers with a validator that is none, and no node of either kind goes on.
fn transactions(sets: u32) -> Vec<String> {
    let key = |number: u8| {
        let seed: [u8; 32] = Sha256::digest([number]).into();
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        STANDARD.encode(key.verifying_key().as_bytes())
    };
    let validator = |number, power: &str| format!("val=ed25519!{}!{power}", key(number));
    let mut txs: Vec<String> = [
        "a=1",
        "b=2",
        "a=3",
        "key with spaces=and a value",
        "ключ=значение",
        "a=1",
        "0=0",
        // Refused by CheckTx.
        "nothing",
        "=",
        "=x",
        "x=",
        "a=b=c",
        "a:b=c",
        "val=",
        "val=nothing",
        "val=ed25519!%!5",
    ]
    .map(str::to_owned)
    .into();
    txs.push(format!("long={}", "x".repeat(10_000)));
    txs.extend([validator(1, "many"), validator(1, "-1"), format!("val={}!1", key(1))]);
    txs.extend([validator(1, "1"), validator(2, "2"), validator(1, "3"), validator(2, "0")]);
    txs.extend((0..sets).map(|number| {
        let hash = Sha256::digest(number.to_be_bytes());
        format!("set{number}={}", hex::encode(hash))
    }));
    txs.push(validator(1, "0"));
    txs.push("last=one".to_owned());
    txs
}

async fn in_folder(setup: &Setup, txs: &[String], base_port: u16) -> anyhow::Result<Answers> {
    let dir = std::env::temp_dir().join(format!("tercet-compare-app-{}", std::process::id()));
    let layout = Layout {
        powers: vec![100],
        app: App::Kvstore,
        app_command: setup.app_command.clone(),
        settings: match setup.cometbft {
            true => vec!["consensus.timeout_commit=\"50ms\"".to_owned()],
            false => Vec::new(),
        },
        cometbft: setup.cometbft,
        ..Layout::plain(&dir, 1, base_port)
    };
    let binary = setup.node.clone();
    let up = Up { layout, binary, reset: true, detach: true, demo_txs: 0, duration: None };
    let result = async {
        up::run(&up).await?;
        all(&Net::load(&dir)?, txs).await
    };
    let result = result.await;
    if Net::exists(&dir) {
        up::stop_network(&dir).await?;
    }
    if dir.exists() {
        std::fs::remove_dir_all(&dir)
            .with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    result
}

/// Sends all, one after the other; what came of each, and at the end of what is stored.
async fn all(net: &Net, txs: &[String]) -> anyhow::Result<Answers> {
    let mut rpc = Rpc::new(&net.node(0)?.rpc).patient(COMMIT_TIMEOUT);
    let mut answers = Vec::new();
    for tx in txs {
        answers.push(one(&mut rpc, tx).await.with_context(|| format!("transaction {tx:?}"))?);
    }
    let mut stored = Vec::new();
    for tx in txs {
        let key = tx.split('=').next().unwrap_or_default();
        let params = json!({"path": "", "data": hex::encode(key), "prove": false});
        let answer: Value = rpc.call("abci_query", params).await?;
        let response = &answer["response"];
        stored.push(json!([key, response["value"], response["log"], response["code"]]));
    }
    answers.push(json!({"block": null, "stored": stored}));
    Ok(answers)
}

async fn one(rpc: &mut Rpc, tx: &str) -> anyhow::Result<Value> {
    let done: Result<Value, RpcError> =
        rpc.call("broadcast_tx_commit", json!({"tx": STANDARD.encode(tx)})).await;
    let done = match done {
        Ok(done) => done,
        Err(RpcError::Refused { text, .. }) => {
            return Ok(json!({"block": null, "refused": text}));
        }
        Err(error) => return Err(error.into()),
    };
    if done["check_tx"]["code"] != json!(0) {
        return Ok(json!({"block": null, "check_tx": done["check_tx"]}));
    }
    let results: Value = rpc.call("block_results", json!({"height": done["height"]})).await?;
    if results["txs_results"].as_array().map(Vec::len) != Some(1) {
        bail!("its block has other transactions too: {results}");
    }
    Ok(json!({
        "check_tx": done["check_tx"],
        "block": {
            "tx_result": done["tx_result"],
            "txs_results": results["txs_results"],
            "validator_updates": results["validator_updates"],
            "consensus_param_updates": results["consensus_param_updates"],
            "finalize_block_events": results["finalize_block_events"],
            "app_hash": results["app_hash"],
        },
    }))
}

fn last_hash(answers: &[Value]) -> Option<String> {
    answers.iter().rev().find_map(|a| a["block"]["app_hash"].as_str().map(str::to_owned))
}

/// What differs from the first, a line each.
fn differences(txs: &[String], seen: &[(&str, Answers)]) -> Vec<String> {
    let Some(((first, expected), others)) = seen.split_first() else { return Vec::new() };
    let mut lines = Vec::new();
    for (name, answers) in others {
        for (index, (right, answer)) in expected.iter().zip(answers).enumerate() {
            if right != answer {
                let tx = txs.get(index).map_or("the final state", String::as_str);
                let tx: String = tx.chars().take(60).collect();
                lines.push(format!("{tx:?}: {first}: {right}; {name}: {answer}"));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_sets_refusals_and_changes_of_validators() {
        let txs = transactions(2);
        assert!(txs.iter().any(|tx| tx.starts_with("set1=")));
        assert_eq!(
            txs.iter().filter(|tx| tx.starts_with("val=ed25519!") && tx.ends_with("=!0")).count(),
            2
        );
        assert_eq!(transactions(2), txs);
    }

    #[test]
    fn what_differs_is_told_with_its_transaction() {
        let txs = ["a=1".to_owned()];
        let seen = |hash: &str| vec![json!({"block": {"app_hash": hash}}), json!({"stored": []})];
        let all = [("one", seen("A")), ("two", seen("A")), ("three", seen("B"))];
        let lines = differences(&txs, &all);
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].starts_with("\"a=1\": one: ") && lines[0].contains("three: "),
            "{lines:?}"
        );
        assert_eq!(last_hash(&all[2].1).as_deref(), Some("B"));
    }

    #[test]
    fn a_program_that_is_missing_is_told_with_the_way_to_build_it() {
        let missing = Path::new("/nowhere/cometbft");
        let error = find("cometbft", "cmd/cometbft@v0.38.1", Some(missing))
            .expect_err("missing")
            .to_string();
        let build = "`go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.1`";
        assert!(error.contains(build), "{error}");
    }
}
