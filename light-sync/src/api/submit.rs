//! What is passed on to nodes: transactions, evidence, and, under `/unsafe`, everything else.

use super::call::{Call, Params};
use super::error::ApiError;
use super::shapes::{self, base64};
use super::upstream::ANSWER_BYTES_MAX;
use super::{Answer, Api, UNPROVEN};
use crate::provider::CallError;
use serde::Deserialize;
use serde_json::{Value, json};
use tercet_light_core::content::tx_hash;
use tercet_light_core::header::Height;

#[derive(Deserialize)]
struct Committed {
    check_tx: Value,
    height: String,
}

impl Api {
    /// To one node; the hash is ours.
    pub(super) async fn pass_tx(&self, method: &str, params: &Params) -> Result<Answer, ApiError> {
        let tx = params.bytes("tx")?;
        let asked = json!({ "tx": base64(&tx) });
        let mut value: Value = self.upstream.ask(method, &asked, shapes::read::<Value>).await?;
        if let Some(hash) = value.get_mut("hash") {
            *hash = tx_hash(&tx).to_string().into();
        }
        Ok(value.into())
    }

    /// The word of a node that it is in a block is not enough: it is given once that is proven.
    pub(super) async fn broadcast_tx_commit(&self, params: &Params) -> Result<Answer, ApiError> {
        let tx = params.bytes("tx")?;
        let hash = tx_hash(&tx);
        let asked = json!({ "tx": base64(&tx) });
        let read = |raw: &serde_json::value::RawValue| shapes::read::<Committed>(raw);
        let said = self.upstream.ask("broadcast_tx_commit", &asked, read).await?;
        let height: Height = said.height.parse().unwrap_or(0);
        if height == 0 {
            return Ok(json!({
                "check_tx": said.check_tx, "tx_result": {}, "hash": hash.to_string(), "height": "0",
            })
            .into());
        }
        self.wait_trusted(height.saturating_add(1)).await?;
        let Answer { value: proven, held } = self.tx_by_hash(hash).await?;
        let value = json!({
            "check_tx": said.check_tx,
            "tx_result": proven.get("tx_result"),
            "hash": hash.to_string(),
            "height": proven.get("height"),
        });
        Ok(Answer { value, held })
    }

    /// To all nodes, because some may not be on the side of the truth; one that takes it is enough.
    pub(super) async fn broadcast_evidence(&self, params: &Params) -> Result<Answer, ApiError> {
        let asked = params.to_json()?;
        let (mut taken, mut last) = (None, None);
        for provider in self.upstream.turn() {
            match provider.result("broadcast_evidence", &asked, ANSWER_BYTES_MAX).await {
                Ok(result) => taken = shapes::read::<Value>(&result).ok().or(taken),
                Err(CallError::Node { message, data }) => {
                    last = Some(ApiError::Node { message, data });
                }
                Err(CallError::Failed(_)) => {}
            }
        }
        let nobody = || ApiError::Refused("nobody took the evidence".to_owned());
        taken.map(Answer::from).ok_or_else(|| last.unwrap_or_else(nobody))
    }

    /// As a node gives it.
    pub(super) async fn unproven(&self, call: &Call) -> Result<Answer, ApiError> {
        let is_ours = super::ROUTES.iter().any(|(name, _)| *name == call.method);
        if !is_ours && !UNPROVEN.contains(&call.method.as_str()) {
            return Err(ApiError::NoMethod);
        }
        let asked = call.params.to_json()?;
        let held = self.upstream.hold().await?;
        let ask = self.upstream.ask(&call.method, &asked, shapes::read::<Value>);
        let value = tokio::time::timeout(super::ANSWER_TIMEOUT, ask).await;
        let value = value.unwrap_or_else(|_| {
            Err(ApiError::Refused(format!("{}: no answer in time", call.method)))
        })?;
        Ok(Answer { value, held: Some(held) })
    }
}
