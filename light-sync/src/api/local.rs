//! Answers from the store alone.

use super::call::Params;
use super::error::ApiError;
use super::{Answer, Api, shapes};
use serde_json::{Value, json};
use tercet_light_core::commit::BlockId;
use tercet_light_core::header::{Header, Height};
use tercet_light_core::planner::Condition;

/// The most headers of one `blockchain` (CometBFT `rpc/core/blocks.go`).
const METAS_MAX: u64 = 20;

impl Api {
    pub(super) fn header(&self, params: &Params) -> Result<Answer, ApiError> {
        let header = self.trusted_header(self.height(params, 0)?)?;
        Ok(json!({ "header": shapes::header(&header) }).into())
    }

    pub(super) fn header_by_hash(&self, params: &Params) -> Result<Answer, ApiError> {
        let header = self.trusted_header(self.height_by_hash(params)?)?;
        Ok(json!({ "header": shapes::header(&header) }).into())
    }

    pub(super) fn height_by_hash(&self, params: &Params) -> Result<Height, ApiError> {
        let hash = params.hash("hash")?;
        let unknown = || ApiError::Refused(format!("no trusted block has the hash {hash}"));
        self.reader.height(hash)?.ok_or_else(unknown)
    }

    /// From the highest down, as CometBFT has it. No header says how many bytes and transactions its block has: -1.
    pub(super) fn blockchain(&self, params: &Params) -> Result<Answer, ApiError> {
        let trusted = self.trusted()?;
        let high = params.height("maxHeight")?.unwrap_or(trusted).min(trusted);
        let low = params.height("minHeight")?.unwrap_or(1);
        let low = low.max(high.saturating_sub(METAS_MAX - 1)).max(1);
        if low > high {
            return Err(ApiError::Refused(format!(
                "min height {low} can't be greater than max height {high}"
            )));
        }
        let mut metas = vec![];
        for height in (low..=high).rev() {
            let header = self.trusted_header(height)?;
            metas.push(json!({
                "block_id": self.block_id(&header)?,
                "block_size": "-1",
                "header": shapes::header(&header),
                "num_txs": "-1",
            }));
        }
        Ok(json!({ "last_height": trusted.to_string(), "block_metas": metas }).into())
    }

    /// The id of a block, with its parts where the header above or a kept commit names them.
    pub(super) fn block_id(&self, header: &Header) -> Result<Value, ApiError> {
        let height = header.height();
        let hash = header.hash();
        if height < self.trusted()?
            && let Some(next) = self.reader.header(height + 1)?
        {
            return Ok(next.last_block_id().map_or(Value::Null, |id| shapes::block_id(&id)));
        }
        let kept = self.reader.commit(height)?.map(|commit| commit.block_id);
        let kept = kept.filter(|id| id.hash == hash);
        Ok(shapes::block_id(&kept.unwrap_or(BlockId { hash, parts: 0, parts_hash: None })))
    }

    /// In the shape of a node's status. This is no node, so who it is stands there as zeros.
    pub(super) fn status(&self) -> Result<Answer, ApiError> {
        let latest = self.trusted_header(self.trusted()?)?;
        let first = self.reader.lowest()?.map(|height| self.reader.header(height)).transpose()?;
        let first = first.flatten().unwrap_or_else(|| latest.clone());
        let condition = self.progress.borrow().status.condition;
        let nobody = "0".repeat(40);
        let key = json!({ "type": "tendermint/PubKeyEd25519", "value": shapes::base64(&[0; 32]) });
        Ok(json!({
            "node_info": {
                "protocol_version": { "p2p": "8", "block": "11", "app": "0" },
                "id": nobody,
                "listen_addr": "",
                "network": self.root.chain_id,
                "version": concat!("tercet-light-", env!("CARGO_PKG_VERSION")),
                "channels": "",
                "moniker": "tercet light",
                "other": { "tx_index": "off", "rpc_address": "" },
            },
            "sync_info": {
                "latest_block_hash": latest.hash().to_string(),
                "latest_app_hash": shapes::upper(latest.app_hash()),
                "latest_block_height": latest.height().to_string(),
                "latest_block_time": shapes::show(&latest.time().to_tendermint()),
                "earliest_block_hash": first.hash().to_string(),
                "earliest_app_hash": shapes::upper(first.app_hash()),
                "earliest_block_height": first.height().to_string(),
                "earliest_block_time": shapes::show(&first.time().to_tendermint()),
                "catching_up": condition != Condition::Synced,
            },
            "validator_info": { "address": nobody, "pub_key": key, "voting_power": "0" },
            "light_client_info": self.light_status(),
        })
        .into())
    }

    /// What is trusted and why not more.
    pub(super) fn light_status(&self) -> Value {
        let progress = self.progress.borrow();
        let status = &progress.status;
        let point = |point: Option<tercet_light_core::planner::Point>| {
            let shown = |point: tercet_light_core::planner::Point| json!({ "height": point.height.to_string(), "hash": point.hash.to_string() });
            point.map_or(Value::Null, shown)
        };
        let refused = |(name, fault): &(String, tercet_light_core::planner::Fault)| json!({ "provider": name, "why": fault.to_string() });
        json!({
            "condition": format!("{:?}", status.condition),
            "root": { "height": self.root.height.to_string(), "hash": self.root.hash.to_string() },
            "verified": point(status.verified),
            "trusted": point(status.trusted),
            "missing_headers": status.missing.to_string(),
            "refused": progress.refused.iter().map(refused).collect::<Vec<_>>(),
        })
    }
}
