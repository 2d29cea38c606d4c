//! The stored chain: blocks, headers, commits, results, validators and parameters by height.

use super::super::json::Text;
use super::super::json::abci::BlockResults;
use super::super::json::block::{
    BlockReply, BlockchainReply, CommitReply, HeaderReply, SignedHeader,
};
use super::super::json::chain::{ParamsReply, ValidatorEntry, ValidatorsReply};
use super::super::params::Args;
use super::super::replies::Room;
use super::super::server::Api;
use super::{Answer, page, per_page};
use bytes::Bytes;
use tendermint::Hash;
use tendermint::block::Height;

/// The most headers that `blockchain` answers.
const METAS_MAX: u64 = 20;

/// The highest stored height, 0 without a block.
fn head(api: &Api) -> u64 {
    api.sources.blocks.height().map_or(0, |height| height.value())
}

/// The height that the client asks for, checked against what there is; none where it asks for none.
fn asked(api: &Api, args: &Args, head: u64) -> Result<Option<Height>, String> {
    let Some(asked) = args.int(0) else { return Ok(None) };
    let number = u64::try_from(asked).ok().filter(|number| *number > 0);
    let Some(number) = number else {
        return Err(format!("height must be greater than 0, but got {asked}"));
    };
    if number > head {
        return Err(format!(
            "height {number} must be less than or equal to the current blockchain height {head}"
        ));
    }
    check_base(api, number)?;
    height(number).map(Some)
}

/// Blocks below the lowest stored are not available.
fn check_base(api: &Api, number: u64) -> Result<(), String> {
    let base = api.sources.blocks.base().map_or(0, |base| base.value());
    if number < base {
        return Err(format!("height {number} is not available, lowest height is {base}"));
    }
    Ok(())
}

/// What was found at a height; where there is nothing, it may have been pruned since it was asked for.
fn still_there<T>(api: &Api, at: Height, found: Option<T>) -> Result<Option<T>, String> {
    if found.is_none() {
        check_base(api, at.value())?;
    }
    Ok(found)
}

/// The height that the client asks for or the highest stored one; none where there is no block.
fn asked_or_head(api: &Api, args: &Args) -> Result<Option<Height>, String> {
    Ok(asked(api, args, head(api))?.or_else(|| api.sources.blocks.height()))
}

fn height(number: u64) -> Result<Height, String> {
    Height::try_from(number).map_err(|error| error.to_string())
}

fn hash(bytes: &Bytes) -> Option<Hash> {
    <[u8; 32]>::try_from(&bytes[..]).ok().map(Hash::Sha256)
}

fn is_given(args: &Args) -> bool {
    args.int(0).is_some()
}

pub(super) fn block(api: &Api, args: &Args) -> Result<Answer, String> {
    let block = match asked_or_head(api, args)? {
        Some(height) => still_there(api, height, api.sources.blocks.block(height)?)?,
        None => None,
    };
    let cacheable = is_given(args) && block.is_some();
    Ok(Answer::new(&BlockReply::from(block.as_deref()))?.cacheable(cacheable))
}

pub(super) fn block_by_hash(api: &Api, args: &Args) -> Result<Answer, String> {
    let block = match height_of(api, &args.bytes(0))? {
        Some(height) => api.sources.blocks.block(height)?,
        None => None,
    };
    Ok(Answer::new(&BlockReply::from(block.as_deref()))?.cacheable(block.is_some()))
}

fn height_of(api: &Api, bytes: &Bytes) -> Result<Option<Height>, String> {
    match hash(bytes) {
        Some(hash) => api.sources.blocks.height_of(&hash),
        None => Ok(None),
    }
}

pub(super) fn header(api: &Api, args: &Args) -> Result<Answer, String> {
    let at = asked_or_head(api, args)?;
    Ok(header_at(api, at)?.cacheable(is_given(args)))
}

pub(super) fn header_by_hash(api: &Api, args: &Args) -> Result<Answer, String> {
    let at = height_of(api, &args.bytes(0))?;
    Ok(header_at(api, at)?.cacheable(at.is_some()))
}

fn header_at(api: &Api, at: Option<Height>) -> Result<Answer, String> {
    let meta = match at {
        Some(height) => still_there(api, height, api.sources.blocks.meta(height)?)?,
        None => None,
    };
    Answer::new(&HeaderReply { header: meta.map(|meta| meta.header.into()) })
}

pub(super) fn commit(api: &Api, args: &Args) -> Result<Answer, String> {
    let Some(height) = asked_or_head(api, args)? else {
        return Ok(Answer { json: b"null".to_vec(), cacheable: false, room: Room::default() });
    };
    let blocks = &api.sources.blocks;
    let Some(meta) = still_there(api, height, blocks.meta(height)?)? else {
        return Ok(Answer { json: b"null".to_vec(), cacheable: false, room: Room::default() });
    };
    // The commit of the highest block stands in no block yet: another node may have seen other signatures.
    let canonical =
        if height.value() < head(api) { blocks.canonical_commit(height)? } else { None };
    let is_canonical = canonical.is_some();
    let commit = match canonical {
        Some(commit) => Some(commit),
        None => blocks.seen_commit(height)?,
    };
    let reply = CommitReply {
        signed_header: SignedHeader {
            header: Some(meta.header.into()),
            commit: commit.as_ref().map(Into::into),
        },
        canonical: is_canonical,
    };
    Ok(Answer::new(&reply)?.cacheable(is_given(args) && is_canonical))
}

pub(super) fn blockchain(api: &Api, args: &Args) -> Result<Answer, String> {
    let (min, max) = (args.int(0).unwrap_or(0), args.int(1).unwrap_or(0));
    let (Ok(min), Ok(max)) = (u64::try_from(min), u64::try_from(max)) else {
        return Err("heights must be non-negative".to_owned());
    };
    let head = head(api);
    let base = api.sources.blocks.base().map_or(0, |base| base.value());
    let is_fixed = max > 0 && max <= head && min > 0;
    let max = if max == 0 { head } else { max.min(head) };
    let min = min.max(1).max(base).max((max + 1).saturating_sub(METAS_MAX));
    if min > max {
        return Err(format!("min height {min} can't be greater than max height {max}"));
    }
    let mut block_metas = Vec::new();
    for number in (min..=max).rev() {
        if let Some(meta) = api.sources.blocks.meta(height(number)?)? {
            block_metas.push(meta.into());
        }
    }
    let reply = BlockchainReply { last_height: Text(head), block_metas };
    Ok(Answer::new(&reply)?.cacheable(is_fixed))
}

pub(super) fn block_results(api: &Api, args: &Args) -> Result<Answer, String> {
    let applied = api.sources.status.snapshot()?.latest.as_ref().map(|tip| tip.height);
    // Without a height: the highest block that is applied, not one that is only stored.
    let at = asked(api, args, head(api))?.or(applied).or_else(|| api.sources.blocks.height());
    let number = at.map_or(0, |height| height.value());
    let results = match at {
        Some(height) => still_there(api, height, api.sources.blocks.results(height)?)?,
        None => None,
    };
    let results = results.ok_or_else(|| format!("could not find results for height #{number}"))?;
    Ok(Answer::new(&BlockResults::new(number, results))?.cacheable(is_given(args)))
}

/// The height behind the highest applied block, for which validators and parameters are known too.
fn next(api: &Api) -> Result<u64, String> {
    let snapshot = api.sources.status.snapshot()?;
    let applied = snapshot.latest.as_ref().map_or(0, |tip| tip.height.value());
    Ok(applied.saturating_add(1).max(api.sources.genesis.initial_height.value()))
}

fn asked_or_next(api: &Api, args: &Args) -> Result<Height, String> {
    let next = next(api)?;
    match asked(api, args, next)? {
        Some(height) => Ok(height),
        None => height(next),
    }
}

pub(super) fn validators(api: &Api, args: &Args) -> Result<Answer, String> {
    let height = asked_or_next(api, args)?;
    let set = still_there(api, height, api.sources.blocks.validators(height)?)?;
    let set = set.ok_or_else(|| format!("could not find validator set for height #{height}"))?;
    let per_page = per_page(args.int(2));
    let page = page(args.int(1), per_page, set.count())?;
    let members = set.list().iter().skip((page - 1) * per_page).take(per_page);
    let validators: Vec<ValidatorEntry> = members.map(Into::into).collect();
    let reply = ValidatorsReply {
        block_height: Text(height.value()),
        count: Text(validators.len()),
        validators,
        total: Text(set.count()),
    };
    Ok(Answer::new(&reply)?.cacheable(is_given(args)))
}

pub(super) fn consensus_params(api: &Api, args: &Args) -> Result<Answer, String> {
    let height = asked_or_next(api, args)?;
    let params = still_there(api, height, api.sources.blocks.params(height)?)?;
    let params =
        params.ok_or_else(|| format!("could not find consensus params for height #{height}"))?;
    let reply =
        ParamsReply { block_height: Text(height.value()), consensus_params: (&params).into() };
    Ok(Answer::new(&reply)?.cacheable(is_given(args)))
}
