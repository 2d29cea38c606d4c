//! `tercet query`.

use super::client::{self, Node};
use super::say;
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Flags of `query`.
#[derive(Debug, Args)]
#[command(after_help = "\
  tercet query name
  tercet query 0x6e616d65 --json       the whole answer
The exit code is 1 where the application does not have the key.")]
pub(super) struct Query {
    /// The key: text, or hexadecimal after 0x.
    key: String,
    /// The application's path for the query.
    #[arg(long, default_value = "")]
    path: String,
    /// At which height; 0 is the latest.
    #[arg(long, default_value_t = 0)]
    height: u64,
    /// Print the node's answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Node,
}

impl Query {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let params = json!({
            "path": self.path,
            "data": hex::encode(client::bytes(&self.key)?),
            "height": self.height.to_string(),
            "prove": false,
        });
        let reply = self.node.call("abci_query", &params)?;
        let response = reply.get("response").cloned().unwrap_or_default();
        let value = value(&self.key, &response);
        if self.json {
            say(&serde_json::to_string_pretty(&response)?)?;
            return Ok(if value.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        say(&value?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The value in the answer.
fn value(key: &str, response: &Value) -> anyhow::Result<String> {
    let text = |name: &str| response.get(name).and_then(Value::as_str);
    let log = text("log").unwrap_or_default();
    let code = response.get("code").and_then(Value::as_u64).unwrap_or(0);
    if code != 0 {
        bail!("the application refuses the query, code {code}: {log}");
    }
    match text("value") {
        Some(value) => Ok(client::readable(value)),
        None if log.is_empty() => bail!("{key}: no value"),
        None => bail!("{key}: {log}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_text_where_they_are_text() {
        let response = |value: &str| json!({ "code": 0, "log": "exists", "value": value });
        assert_eq!(value("k", &response("YWxpY2U=")).expect("a value"), "alice");
        assert_eq!(value("k", &response("AP8=")).expect("a value"), "0x00ff");
        assert_eq!(value("k", &response("Cg==")).expect("a value"), "0x0a");
    }

    #[test]
    fn a_missing_key_is_an_error_in_the_applications_words() {
        let missing = json!({ "code": 0, "log": "does not exist", "value": null });
        assert_eq!(value("k", &missing).expect_err("none").to_string(), "k: does not exist");
        let refused = json!({ "code": 3, "log": "no such path" });
        assert!(value("k", &refused).expect_err("none").to_string().contains("code 3"));
    }
}
