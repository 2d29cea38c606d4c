//! What is done with a store while no syncer runs on it.

use crate::cli::say;
use anyhow::bail;
use serde_json::json;
use std::path::Path;
use tercet_light_core::hash::Hash;
use tercet_light_sync::store::{Checked, Resolved, Store, Summary, summary};

/// `light status`.
pub(super) fn status(folder: &Path) -> anyhow::Result<()> {
    let Summary { root, verified, confirmed, lowest, beginning, missing, anchors, fork } =
        summary(folder)?;
    let trusted = match (&fork, &confirmed) {
        (Some(fork), Some((height, _))) => Some(fork.common.min(*height)),
        (None, Some((height, _))) => Some(*height),
        (_, None) => None,
    };
    say(&serde_json::to_string_pretty(&json!({
        "chain_id": root.chain_id,
        "root": { "height": root.height.to_string(), "hash": root.hash.to_string() },
        "trusted_height": trusted.map(|height| height.to_string()),
        "confirmed_by": confirmed.map(|(_, by)| by),
        "verified": verified.map(|(height, hash, how)| json!({
            "height": height.to_string(), "hash": hash.to_string(), "how": how,
        })),
        "lowest_height": lowest.map(|height| height.to_string()),
        "first_height_of_chain": beginning.map(|height| height.to_string()),
        "missing_headers": missing.to_string(),
        "anchors": anchors.to_string(),
        "fork": fork.map(|fork| json!({
            "attack": fork.attack,
            "common_height": fork.common.to_string(),
            "height": fork.height.to_string(),
        })),
    }))?)
}

/// `light verify-db`.
pub(super) fn verify(folder: &Path, repair: bool) -> anyhow::Result<()> {
    let Checked { headers, anchors, damages, lost, moved } = Store::verify(folder, repair)?;
    for (what, height) in &damages {
        say(&format!("damaged: {what} at height {height}"))?;
    }
    say(&format!("{headers} headers and {anchors} anchors are good"))?;
    match moved {
        _ if damages.is_empty() => Ok(()),
        Some(old) => say(&format!(
            "{lost} headers will be fetched again by the next tercet light; what was there before is in {}",
            old.display()
        )),
        None => bail!("{} values are damaged: repair without --check-only", damages.len()),
    }
}

/// `light resolve`.
pub(super) fn resolve(folder: &Path, height: u64, hash: Hash) -> anyhow::Result<()> {
    match Store::resolve(folder, height, hash)? {
        Resolved::Ours => say("the chain that is kept is the true one; nothing was removed"),
        Resolved::Theirs(kept) => say(&format!(
            "what was kept above height {kept} was false, or not linked to that block, and is removed"
        )),
    }?;
    say("now start tercet light again, without the providers that served the false chain")
}
