//! `tercet tx send`.

use super::client::{self, Node};
use super::say;
use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Flags of `tx`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Tx {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send a transaction, and wait until it is in a block.
    #[command(after_help = "\
  tercet tx send \"name=alice\"                 the key-value store sets name
  tercet tx send 0x6e616d653d616c696365       the same, in hexadecimal
  tercet tx send \"name=bob\" --mode sync       wait only until the node has accepted it
The exit code is 0 where the transaction was accepted, and 1 where it was refused.")]
    Send {
        /// The transaction: text, or hexadecimal after 0x.
        tx: String,
        /// How long to wait.
        #[arg(long, default_value = "commit")]
        mode: Mode,
        /// Print the node's answer as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: Node,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Until it is in a block.
    Commit,
    /// Until the application has checked it.
    Sync,
    /// Not at all.
    Async,
}

impl Tx {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let Action::Send { tx, mode, json, node } = &self.action;
        let method = match mode {
            Mode::Commit => "broadcast_tx_commit",
            Mode::Sync => "broadcast_tx_sync",
            Mode::Async => "broadcast_tx_async",
        };
        let params = json!({ "tx": client::base64(&client::bytes(tx)?) });
        let reply = node.call(method, &params)?;
        if *json {
            say(&serde_json::to_string_pretty(&reply)?)?;
            return Ok(if refusal(*mode, &reply).is_some() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            });
        }
        if let Some(refusal) = refusal(*mode, &reply) {
            bail!(refusal);
        }
        say(&accepted(*mode, &reply))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Why the application refused; nothing where it did not.
fn refusal(mode: Mode, reply: &Value) -> Option<String> {
    let refused = |result: &Value, when: &str| {
        let code = result.get("code").and_then(Value::as_u64).unwrap_or(0);
        let log = result.get("log").and_then(Value::as_str).unwrap_or_default();
        let separator = if log.is_empty() { "" } else { ": " };
        (code != 0).then(|| format!("refused {when}, code {code}{separator}{log}"))
    };
    if mode != Mode::Commit {
        return refused(reply, "by the application's check");
    }
    let part = |name: &str| reply.get(name).unwrap_or(&Value::Null);
    refused(part("check_tx"), "by the application's check")
        .or_else(|| refused(part("tx_result"), "in the block"))
}

fn accepted(mode: Mode, reply: &Value) -> String {
    let text = |name: &str| reply.get(name).and_then(Value::as_str).unwrap_or_default();
    let hash = text("hash");
    match mode {
        Mode::Commit => format!("committed at height {}, hash {hash}", text("height")),
        Mode::Sync => format!("accepted, hash {hash}"),
        Mode::Async => format!("sent, hash {hash}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_where_and_why() {
        let check =
            json!({ "check_tx": { "code": 2, "log": "bad form" }, "tx_result": { "code": 0 } });
        let expected = "refused by the application's check, code 2: bad form";
        assert_eq!(refusal(Mode::Commit, &check).as_deref(), Some(expected));
        let block = json!({ "check_tx": { "code": 0 }, "tx_result": { "code": 5, "log": "" } });
        assert_eq!(refusal(Mode::Commit, &block).as_deref(), Some("refused in the block, code 5"));
        assert!(refusal(Mode::Sync, &json!({ "code": 1 })).is_some());
    }

    #[test]
    fn an_accepted_transaction_shows_height_and_hash() {
        let reply = json!({ "check_tx": { "code": 0 }, "tx_result": { "code": 0 }, "hash": "AB", "height": "7" });
        assert_eq!(refusal(Mode::Commit, &reply), None);
        assert_eq!(accepted(Mode::Commit, &reply), "committed at height 7, hash AB");
        assert_eq!(accepted(Mode::Sync, &reply), "accepted, hash AB");
    }
}
