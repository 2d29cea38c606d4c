//! Packets that the kernel drops or changes: rules of nftables for the peers' ports of a network on the loopback.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::NotHere;
use super::lab::Lab;

/// Rules that stand until this is dropped.
pub(super) struct Netfilter {
    table: String,
}

impl Netfilter {
    /// What is done to every packet between the peers' ports of the lab's network.
    pub(super) fn start(lab: &Lab, what: &str) -> anyhow::Result<Self> {
        let net = lab.net()?;
        let ports: Vec<&str> =
            net.nodes.iter().filter_map(|node| Some(node.p2p.rsplit_once(':')?.1)).collect();
        let (ports, table) = (ports.join(","), format!("tercet_faults_{}", std::process::id()));
        let rules = format!(
            "table inet {table} {{\n chain c {{\n  type filter hook input priority 0;\n  \
             iif lo tcp dport {{ {ports} }} {what}\n  iif lo tcp sport {{ {ports} }} {what}\n }}\n}}\n"
        );
        run(&["-f", "-"], &rules)?;
        Ok(Self { table })
    }
}

impl Drop for Netfilter {
    fn drop(&mut self) {
        let _ = run(&["delete", "table", "inet", &self.table], "");
    }
}

fn run(arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut command = Command::new("nft");
    command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|_| NotHere::Needs("nft (nftables)".to_owned()))?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("not permitted") {
        return Err(NotHere::Needs("root, for nft".to_owned()).into());
    }
    ensure!(output.status.success(), "nft: {said}");
    Ok(())
}
