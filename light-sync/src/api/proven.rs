//! Answers of nodes, each checked against trusted headers before it is given. What is given is built from what was checked.

use super::call::Params;
use super::error::ApiError;
use super::shapes::{self, BlockAnswer, ParamsAnswer, QueryAnswer, ResultsAnswer, TxAnswer};
use super::{Answer, Api};
use crate::provider::Provider as _;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use tendermint_proto::v0_38::abci::ExecTxResult;
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::validators::Validators;
use tercet_light_core::block::UntrustedBlock;
use tercet_light_core::commit::Commit;
use tercet_light_core::content::{self, check_last_commit};
use tercet_light_core::hash::Hash;
use tercet_light_core::header::{Header, Height};
use tercet_light_core::planner::{Answer as Reply, What};
use tercet_light_core::proofs::{KeyPath, verify_query};
use tercet_light_core::tree::Inclusion;
use tercet_light_core::verify::{Signatures, verify_commits};

/// The most validators of a page (CometBFT `rpc/core/env.go`, `maxPerPage`), and how many where nobody says.
const PAGE_MAX: usize = 100;
const PAGE: usize = 30;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Every signature of the commit, each by the validator in whose place it stands. Some milliseconds with 100 validators.
fn check_signatures(
    header: &Header,
    commit: &Commit,
    validators: &Arc<Validators>,
) -> Result<(), String> {
    let block = UntrustedBlock {
        header: header.clone(),
        commit: commit.clone(),
        validators: Arc::clone(validators),
        next_validators: None,
    };
    let block = block.bind().map_err(text)?;
    let verdict = verify_commits(&[block], Signatures::All).pop();
    verdict.unwrap_or(Ok(())).map_err(text)
}

impl Api {
    pub(super) async fn commit(&self, params: &Params) -> Result<Answer, ApiError> {
        let header = self.trusted_header(self.height(params, 0)?)?;
        let held = self.upstream.hold().await?;
        let commit = self.checked_commit(&header).await?;
        let value = json!({
            "signed_header": { "header": shapes::header(&header), "commit": shapes::show(&commit.to_proto()) },
            "canonical": header.height() < self.trusted()?,
        });
        Ok(Answer { value, held: Some(held) })
    }

    /// The commit for a trusted header, from the store or from a node.
    async fn checked_commit(&self, header: &Header) -> Result<Commit, ApiError> {
        let height = header.height();
        let validators = self.set(header).await?;
        // Of a kept one only as many signatures were checked as it needed.
        if let Some(commit) = self.reader.commit(height)?
            && check_signatures(header, &commit, &validators).is_ok()
        {
            return Ok(commit);
        }
        let above = match height < self.trusted()? {
            true => self.reader.header(height + 1)?,
            false => None,
        };
        let mut last = "there is nobody to ask".to_owned();
        for provider in self.upstream.turn() {
            let what = What::Commits { low: height, high: height };
            let Ok(Reply::Commits(commits)) = provider.ask(&what, what.bytes_max()).await else {
                last = format!("{} has none", provider.shown_name());
                continue;
            };
            let Some(commit) = commits.into_iter().next() else { continue };
            let fits = above
                .as_ref()
                .map_or(Ok(()), |above| check_last_commit(above, Some(&commit)).map_err(text));
            let checked = fits.and_then(|()| check_signatures(header, &commit, &validators));
            match checked {
                Ok(()) => return Ok(commit),
                Err(why) => last = format!("that of {} is refused: {why}", provider.shown_name()),
            }
        }
        Err(ApiError::Refused(format!("no commit for height {height}: {last}")))
    }

    /// The validators of a trusted header.
    async fn set(&self, header: &Header) -> Result<Arc<Validators>, ApiError> {
        let (height, hash) = (header.height(), header.validators_hash());
        if let Some(set) = self.reader.set(hash)? {
            return Ok(set);
        }
        for provider in self.upstream.turn() {
            let what = What::Validators(height);
            if let Ok(Reply::Validators(set)) = provider.ask(&what, what.bytes_max()).await
                && Hash::from_tendermint(set.hash()) == Some(hash)
            {
                return Ok(set);
            }
        }
        Err(ApiError::Refused(format!("nobody has the validators of height {height}")))
    }

    pub(super) async fn validators(&self, params: &Params) -> Result<Answer, ApiError> {
        let header = self.trusted_header(self.height(params, 0)?)?;
        let set = self.set(&header).await?;
        let (page, size) = (params.page("page", 1)?, params.page("per_page", PAGE)?.min(PAGE_MAX));
        let list = set.list();
        let pages = list.len().div_ceil(size).max(1);
        if page > pages {
            return Err(ApiError::Refused(format!(
                "page should be within [1, {pages}] range, given {page}"
            )));
        }
        let part: Vec<Value> =
            list.iter().skip((page - 1) * size).take(size).map(shapes::validator).collect();
        Ok(json!({
            "block_height": header.height().to_string(),
            "count": part.len().to_string(),
            "total": list.len().to_string(),
            "validators": part,
        })
        .into())
    }

    pub(super) async fn block(&self, params: &Params) -> Result<Answer, ApiError> {
        self.block_at(self.height(params, 0)?).await
    }

    pub(super) async fn block_by_hash(&self, params: &Params) -> Result<Answer, ApiError> {
        self.block_at(self.height_by_hash(params)?).await
    }

    async fn block_at(&self, height: Height) -> Result<Answer, ApiError> {
        let header = self.trusted_header(height)?;
        let held = self.upstream.hold().await?;
        // A hash covers the entries of the last commit; its signatures cover its round too.
        let below = match header.last_block() {
            Some(_) => {
                let below = self.trusted_header(height - 1)?;
                let set = self.set(&below).await?;
                Some((below, set))
            }
            None => None,
        };
        let check = |raw: &RawValue| {
            let (block, last) = check_block(&header, shapes::read::<BlockAnswer>(raw)?.block)?;
            if let (Some((below, set)), Some(last)) = (&below, &last) {
                check_signatures(below, last, set).map_err(|why| format!("last commit: {why}"))?;
            }
            Ok(shapes::block(&block))
        };
        let params = json!({ "height": height.to_string() });
        let shown = self.upstream.ask("block", &params, check).await?;
        let value = json!({ "block_id": self.block_id(&header)?, "block": shown });
        Ok(Answer { value, held: Some(held) })
    }

    pub(super) async fn block_results(&self, params: &Params) -> Result<Answer, ApiError> {
        let height = self.height(params, 1)?;
        let held = self.upstream.hold().await?;
        let results = self.results(height).await?;
        let next = self.trusted_header(height + 1)?;
        let shown: Vec<Value> = results.iter().map(shapes::tx_result).collect();
        let value = json!({
            "height": height.to_string(),
            "txs_results": if shown.is_empty() { Value::Null } else { shown.into() },
            "finalize_block_events": null,
            "validator_updates": null,
            "consensus_param_updates": null,
            "app_hash": shapes::base64(next.app_hash()),
        });
        Ok(Answer { value, held: Some(held) })
    }

    /// The results of a block, by the header above it.
    async fn results(&self, height: Height) -> Result<Vec<ExecTxResult>, ApiError> {
        let next = self.trusted_header(height + 1)?;
        let check = |raw: &RawValue| {
            let answer: ResultsAnswer = shapes::read(raw)?;
            let results = answer.txs_results.unwrap_or_default().into_iter();
            let results = results.map(shapes::TxResult::read).collect::<Result<Vec<_>, _>>()?;
            content::check_results(&next, &results).map_err(text)?;
            Ok(results)
        };
        let params = json!({ "height": height.to_string() });
        self.upstream.ask("block_results", &params, check).await
    }

    pub(super) async fn consensus_params(&self, params: &Params) -> Result<Answer, ApiError> {
        let header = self.trusted_header(self.height(params, 0)?)?;
        let height = header.height().to_string();
        let check = |raw: &RawValue| {
            let block = shapes::read::<ParamsAnswer>(raw)?.consensus_params.block;
            let number = |text: &str| text.parse::<i64>().map_err(text_of_number);
            let (bytes, gas) = (number(&block.max_bytes)?, number(&block.max_gas)?);
            content::check_params(&header, bytes, gas).map_err(text)?;
            Ok(json!({ "max_bytes": bytes.to_string(), "max_gas": gas.to_string() }))
        };
        let asked = json!({ "height": height });
        let block = self.upstream.ask("consensus_params", &asked, check).await?;
        Ok(json!({ "block_height": height, "consensus_params": { "block": block } }).into())
    }

    pub(super) async fn tx(&self, params: &Params) -> Result<Answer, ApiError> {
        self.tx_by_hash(params.hash("hash")?).await
    }

    pub(super) async fn tx_by_hash(&self, hash: Hash) -> Result<Answer, ApiError> {
        let held = self.upstream.hold().await?;
        let asked = json!({ "hash": shapes::base64(hash.as_bytes()), "prove": true });
        let check = |raw: &RawValue| self.check_tx(hash, shapes::read(raw)?);
        let (height, tx, proof) = self.upstream.ask("tx", &asked, check).await?;
        let results = self.results(height).await?;
        let header = self.trusted_header(height)?;
        let index = proof.index;
        let result = usize::try_from(index).ok().and_then(|index| results.get(index));
        let missing = || ApiError::Refused(format!("height {height} has no result {index}"));
        let value = json!({
            "hash": hash.to_string(),
            "height": height.to_string(),
            "index": index,
            "tx_result": shapes::tx_result(result.ok_or_else(missing)?),
            "tx": shapes::base64(&tx),
            "proof": {
                "root_hash": header.data_hash().map_or(String::new(), |root| root.to_string()),
                "data": shapes::base64(&tx),
                "proof": shapes::show(&proof),
            },
        });
        Ok(Answer { value, held: Some(held) })
    }

    /// The transaction stands in a trusted block, of which the next one is trusted too.
    fn check_tx(
        &self,
        hash: Hash,
        answer: TxAnswer,
    ) -> Result<(Height, Vec<u8>, tendermint_proto::v0_38::crypto::Proof), String> {
        let tx = shapes::from_base64(&answer.tx)?;
        if content::tx_hash(&tx) != hash {
            return Err("it is another transaction".to_owned());
        }
        let height: Height = answer.height.parse().map_err(text_of_number)?;
        let header = self.trusted_header(height).map_err(|error| error.line())?;
        let proof = Inclusion::from_proto(&answer.proof.proof).map_err(text)?;
        content::check_tx(&header, &tx, &proof).map_err(text)?;
        if height >= self.trusted().map_err(|error| error.line())? {
            return Err(format!(
                "its result is proven by the header of {}, which is not trusted yet",
                height + 1
            ));
        }
        Ok((height, tx, answer.proof.proof))
    }

    pub(super) async fn abci_query(&self, params: &Params) -> Result<Answer, ApiError> {
        let path = params.text("path")?.unwrap_or_default();
        let key = params.hex("data")?;
        let keys =
            KeyPath::new(&path, &key).map_err(|error| ApiError::Refused(error.to_string()))?;
        // The latest state that a trusted header names.
        let height = self.height(params, 1)?;
        let next = self.trusted_header(height + 1)?;
        let held = self.upstream.hold().await?;
        let asked = json!({
            "path": path, "data": hex::encode(&key), "height": height.to_string(), "prove": true,
        });
        let check = |raw: &RawValue| check_query(&next, &keys, &key, shapes::read(raw)?);
        let value = self.upstream.ask("abci_query", &asked, check).await?;
        Ok(Answer { value, held: Some(held) })
    }
}

fn text_of_number(_: std::num::ParseIntError) -> String {
    "it is malformed (number)".to_owned()
}

/// The block of a header, and the commit for the block before.
fn check_block(header: &Header, block: pb::Block) -> Result<(pb::Block, Option<Commit>), String> {
    use prost::Message as _;
    let given = block.header.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
    let given = Header::decode(given.into()).map_err(text)?;
    if given.hash() != header.hash() {
        return Err("it is another block".to_owned());
    }
    let none = (pb::Data::default(), pb::EvidenceList::default());
    content::check_data(header, &block.data.as_ref().unwrap_or(&none.0).txs).map_err(text)?;
    content::check_evidence(header, block.evidence.as_ref().unwrap_or(&none.1)).map_err(text)?;
    let last = block.last_commit.as_ref();
    let is_first = header.last_block().is_none();
    let last = last.filter(|commit| !is_first || !commit.signatures.is_empty());
    let commit = last.map(Commit::from_proto).transpose().map_err(text)?;
    check_last_commit(header, commit.as_ref()).map_err(text)?;
    let shown = pb::Header::decode(header.bytes().clone()).map_err(text)?;
    let last_commit = commit.as_ref().map_or(block.last_commit, |commit| Some(commit.to_proto()));
    let (data, evidence) =
        (Some(block.data.unwrap_or(none.0)), Some(block.evidence.unwrap_or(none.1)));
    Ok((pb::Block { header: Some(shown), data, evidence, last_commit }, commit))
}

/// The state that `next` names has this value at these keys, or none.
fn check_query(
    next: &Header,
    keys: &KeyPath,
    key: &[u8],
    answer: QueryAnswer,
) -> Result<Value, String> {
    let response = answer.response;
    if response.code != 0 {
        let (code, log) = (response.code, response.log.lines().next().unwrap_or_default());
        return Err(format!("the application answered with code {code}: {log}"));
    }
    let height = next.height() - 1;
    if response.height.as_deref() != Some(height.to_string().as_str()) {
        return Err("it is of another height".to_owned());
    }
    let given = shapes::from_base64(&response.key.unwrap_or_default())?;
    if !given.is_empty() && given != key {
        return Err("it is for another key".to_owned());
    }
    let value = shapes::from_base64(&response.value.unwrap_or_default())?;
    let ops = response.proof_ops.and_then(|ops| ops.ops).unwrap_or_default();
    if ops.is_empty() {
        return Err("it has no proof".to_owned());
    }
    let ops = ops.into_iter().map(shapes::ProofOp::read).collect::<Result<Vec<_>, _>>()?;
    let shown = (!value.is_empty()).then_some(value.as_slice());
    verify_query(next.app_hash(), keys, shown, &ops).map_err(text)?;
    Ok(json!({ "response": {
        "code": 0, "log": "", "info": "",
        "index": response.index.filter(|index| index.parse::<i64>().is_ok()).unwrap_or("0".to_owned()),
        "key": shapes::base64(key),
        "value": shown.map_or(Value::Null, |value| shapes::base64(value).into()),
        "proofOps": shapes::proof_ops(&ops),
        "height": height.to_string(),
        "codespace": response.codespace,
    } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Reply {
        result: Box<RawValue>,
    }

    /// A block of CometBFT's is checked, and given as it was.
    #[test]
    fn a_block_of_cometbft_comes_out_as_it_went_in() {
        let Some(folder) = std::env::var_os("TERCET_VECTORS") else {
            eprintln!("NOT TESTED: TERCET_VECTORS is not set, so CometBFT's replies are not there");
            return;
        };
        for name in ["block_at_height_1.json", "block_at_height_10.json"] {
            let path = std::path::Path::new(&folder).join("rpc/incoming").join(name);
            let reply: Reply = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let given: Value = serde_json::from_str(reply.result.get()).unwrap();
            let block = shapes::read::<BlockAnswer>(&reply.result).unwrap().block;
            let header = block.header.as_ref().map(prost::Message::encode_to_vec).unwrap();
            let header = Header::decode(header.into()).unwrap();
            assert_eq!(given["block_id"]["hash"], header.hash().to_string());
            let (block, _) = check_block(&header, block).unwrap();
            assert_eq!(shapes::block(&block), given["block"], "{name}");
        }
    }
}
