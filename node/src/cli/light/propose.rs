//! `light root`: a header to begin with, for those who have none.

use crate::cli::say;
use anyhow::{Context as _, bail};
use std::sync::Arc;
use tercet_light_sync::provider::{Endpoint, Provider, RpcProvider};
use tercet_light_sync::root::{Proposal, propose};

/// Asks all, tells what they say, and is an error where they do not agree.
pub(super) fn root(endpoints: &[Endpoint], height: Option<u64>) -> anyhow::Result<()> {
    let provider =
        |endpoint: &Endpoint| Arc::new(RpcProvider::new(endpoint.clone())) as Arc<dyn Provider>;
    let providers: Vec<_> = endpoints.iter().map(provider).collect();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    tell(&runtime.block_on(propose(&providers, height)))
}

fn tell(proposal: &Proposal) -> anyhow::Result<()> {
    for (name, why) in &proposal.silent {
        say(&format!("{name} says nothing that could be used: {why}"))?;
    }
    let height = proposal.height;
    for (opinion, by) in &proposal.opinions {
        say(&format!(
            "chain {}, height {height}: {} ({})",
            opinion.chain_id,
            opinion.hash,
            by.join(", ")
        ))?;
    }
    let Some(agreed) = proposal.agreed() else {
        match proposal.opinions.len() {
            0 => bail!("nobody has shown a block: name other nodes with --provider"),
            1 => bail!("one node alone is no comparison: name more with --provider"),
            _ => bail!(
                "the nodes do not agree at height {height}: do not begin from any of these; ask somebody you trust"
            ),
        }
    };
    say(
        "This is trust on first use: whoever controls all of these nodes, or your way to them, decides what you will trust.",
    )?;
    say(
        "Compare the hash with one from elsewhere, as a block explorer or a validator you know. Then:",
    )?;
    say(&format!(
        "tercet light --chain-id {} --trust-height {height} --trust-hash {}",
        agreed.chain_id, agreed.hash
    ))
}
