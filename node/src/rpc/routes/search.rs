//! The index: `tx`, `tx_search`, `block_search` (CometBFT `rpc/core/tx.go`, `rpc/core/blocks.go`, `state/txindex/kv/kv.go`,
//! `state/indexer/block/kv/kv.go`).
//!
//! In searches, beyond subscriptions, all conditions but those on heights are met within one event; `=` compares texts; in ranges the
//! whole value is the number.

use super::super::json::block::BlockReply;
use super::super::json::search::{BlockSearchReply, Proof, TxReply, TxSearchReply};
use super::super::json::{Hex, Text};
use super::super::params::Args;
use super::super::server::Api;
use super::proof::tx_proof;
use super::{Answer, page, per_page};
use crate::events::query::{Condition, Decimal, Order, QUERY_BYTES_MAX, Query, Test, date, time};
use crate::events::{BLOCK_HEIGHT_KEY, TX_HASH_KEY, TX_HEIGHT_KEY};
use crate::store::index::{Accepts, Found, Index, Scope, Search, TxAt};
use prost::Message as _;
use std::sync::Arc;
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tercet_consensus::block::SealedBlock;

/// The most bytes of blocks, or of transactions with their results, in a page that has more than one.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// The most bytes of blocks that are read for one.
const READ_BYTES_MAX: usize = 128 << 20;

fn too_large() -> String {
    "the page is too large: ask for a smaller per_page".to_owned()
}

/// How a page is asked for.
struct Page {
    descending: bool,
    number: Option<i64>,
    size: usize,
}

impl Page {
    fn new(args: &Args, at: usize, descending: bool) -> Result<Page, String> {
        let descending = match args.text(at + 2) {
            "" => descending,
            "asc" => false,
            "desc" => true,
            _ => return Err("expected order_by to be either `asc` or `desc` or empty".to_owned()),
        };
        Ok(Page { descending, number: args.int(at), size: per_page(args.int(at + 1)) })
    }

    /// How many finds come before it.
    fn skip(&self) -> usize {
        let before = self.number.unwrap_or(1).saturating_sub(1);
        usize::try_from(before).unwrap_or(0).saturating_mul(self.size)
    }
}

pub(super) fn tx(api: &Api, args: &Args) -> Result<Answer, String> {
    let index = index(api, "transaction")?;
    let hash = args.bytes(0);
    let found = match <[u8; 32]>::try_from(&hash[..]) {
        Ok(hash) => index.tx(&hash).map_err(|error| error.to_string())?,
        Err(_) if hash.is_empty() => return Err("transaction hash cannot be empty".to_owned()),
        Err(_) => None,
    };
    let reply = match found {
        Some(found) => Records::new(api, args.is_true(1)).reply((found.height, found.index))?,
        None => None,
    };
    let reply = reply.ok_or_else(|| format!("tx ({}) not found", hex::encode_upper(&hash)))?;
    // Never cacheable: a later block may hold it again.
    Answer::new(&reply)
}

pub(super) fn tx_search(api: &Api, args: &Args) -> Result<Answer, String> {
    let index = index(api, "transaction")?;
    let text = args.text(0);
    if text.len() > QUERY_BYTES_MAX {
        return Err("maximum query length exceeded".to_owned());
    }
    let query = Query::parse(text).map_err(|error| error.to_string())?;
    let asked = Page::new(args, 2, false)?;
    let found = match query.conditions.iter().find(|one| one.tag == TX_HASH_KEY) {
        Some(condition) => {
            let found = by_hash(&index, condition)?;
            let places: Vec<_> = found.iter().map(|at| (at.height, at.index)).collect();
            Found { total: places.len(), places }
        }
        None => searched(&index, Scope::Txs, (&query, &asked))?,
    };
    let total = found.total;
    page(asked.number, asked.size, total)?;
    let mut records = Records::new(api, args.is_true(1));
    let txs = found.places.into_iter().map(|place| records.reply(place));
    let txs = txs.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    Answer::new(&TxSearchReply { txs, total_count: Text(total) })
}

pub(super) fn block_search(api: &Api, args: &Args) -> Result<Answer, String> {
    let index = index(api, "block")?;
    let text = args.text(0);
    if text.len() > QUERY_BYTES_MAX {
        return Err("maximum query length exceeded".to_owned());
    }
    let query = Query::parse(text).map_err(|error| error.to_string())?;
    let asked = Page::new(args, 1, true)?;
    let found = searched(&index, Scope::Blocks, (&query, &asked))?;
    page(asked.number, asked.size, found.total)?;
    let (mut blocks, mut bytes): (Vec<BlockReply>, usize) = (Vec::new(), 0);
    for (height, _) in found.places {
        if let Some(block) = api.sources.blocks.block(height)? {
            bytes += block.bytes().len();
            if bytes > PAGE_BYTES_MAX && !blocks.is_empty() {
                return Err(too_large());
            }
            blocks.push(Some(&*block).into());
        }
    }
    Answer::new(&BlockSearchReply { blocks, total_count: Text(found.total) })
}

fn index(api: &Api, what: &str) -> Result<Index, String> {
    api.sources.index.clone().ok_or_else(|| format!("{what} indexing is disabled"))
}

/// The transaction that a condition on its hash names; others do not count then.
fn by_hash(index: &Index, condition: &Condition) -> Result<Option<TxAt>, String> {
    let text = match &condition.test {
        Test::Exists => "",
        Test::Contains(text) | Test::Is(text) => text,
        Test::Number(_, _, text) | Test::Date(_, _, text) | Test::Time(_, _, text) => text,
    };
    let hash = hex::decode(text)
        .map_err(|error| format!("error during searching for a hash in the query: {error}"))?;
    match <[u8; 32]>::try_from(&hash[..]) {
        Ok(hash) => index.tx(&hash).map_err(|error| error.to_string()),
        Err(_) if hash.is_empty() => {
            Err("error while retrieving the result: transaction hash cannot be empty".to_owned())
        }
        Err(_) => Ok(None),
    }
}

fn searched(index: &Index, scope: Scope, (query, asked): (&Query, &Page)) -> Result<Found, String> {
    let mut search = search(scope, query);
    search.descending = asked.descending;
    search.skip = asked.skip();
    search.take = asked.size;
    index.search(&search).map_err(|error| error.to_string())
}

/// A query as the index searches.
fn search(scope: Scope, query: &Query) -> Search<'_> {
    let height_key = match scope {
        Scope::Txs => TX_HEIGHT_KEY,
        Scope::Blocks => BLOCK_HEIGHT_KEY,
    };
    let (on_height, others): (Vec<&Condition>, Vec<&Condition>) =
        query.conditions.iter().partition(|condition| condition.tag == height_key);
    let mut heights = (0, u64::MAX);
    let mut filters: Vec<Accepts<'_>> = Vec::new();
    for condition in on_height {
        match bounds(&condition.test) {
            Some((low, high)) => heights = (heights.0.max(low), heights.1.min(high)),
            None => filters.push(accepts(&condition.test)),
        }
    }
    let mut is = Vec::new();
    let mut has: Vec<(&str, Vec<Accepts<'_>>)> = Vec::new();
    for Condition { tag, test } in others {
        match (text(test), has.iter_mut().find(|(other, _)| other == tag)) {
            (Some(text), _) => is.push((tag.as_str(), text)),
            // Ranges of one tag are met by one value.
            (None, Some((_, all))) if is_range(test) => all.push(accepts(test)),
            (None, _) => has.push((tag, vec![accepts(test)])),
        }
    }
    let height_accepts = (!filters.is_empty()).then(|| all(filters));
    let has = has.into_iter().map(|(tag, list)| (tag, all(list))).collect();
    Search { scope, heights, height_accepts, is, has, descending: false, skip: 0, take: 0 }
}

/// What meets all of them.
fn all(all: Vec<Accepts<'_>>) -> Accepts<'_> {
    Box::new(move |value| all.iter().all(|accepts| accepts(value)))
}

/// The text that a value must be.
fn text(test: &Test) -> Option<&str> {
    match test {
        Test::Is(text)
        | Test::Number(Order::Equal, _, text)
        | Test::Date(Order::Equal, _, text)
        | Test::Time(Order::Equal, _, text) => Some(text),
        _ => None,
    }
}

fn is_range(test: &Test) -> bool {
    matches!(test, Test::Number(..) | Test::Date(..) | Test::Time(..))
}

/// Whether an indexed value meets a condition.
fn accepts(test: &Test) -> Accepts<'_> {
    match test {
        Test::Number(order, number, _) => Box::new(|value: &str| {
            Decimal::whole(value.trim()).is_some_and(|value| order.holds(&value, number))
        }),
        Test::Date(order, day, _) => {
            Box::new(|value: &str| date(value.trim()).is_ok_and(|value| order.holds(&value, day)))
        }
        Test::Time(order, at, _) => {
            Box::new(|value: &str| time(value.trim()).is_ok_and(|value| order.holds(&value, at)))
        }
        other => Box::new(|value: &str| other.accepts(value)),
    }
}

/// The lowest and the highest height that meet a condition; none where they are not all between.
fn bounds(test: &Test) -> Option<(u64, u64)> {
    const NONE: (u64, u64) = (u64::MAX, 0);
    let (order, text) = match test {
        Test::Exists => return Some((0, u64::MAX)),
        Test::Number(order, _, text) => (*order, text),
        Test::Is(text) => (Order::Equal, text),
        _ => return None,
    };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let Ok(number) = text.parse::<u64>() else {
        // Larger than any height.
        return Some(match order {
            Order::Less | Order::AtMost => (0, u64::MAX),
            Order::Equal | Order::Greater | Order::AtLeast => NONE,
        });
    };
    Some(match order {
        Order::Equal => (number, number),
        Order::Less => number.checked_sub(1).map_or(NONE, |high| (0, high)),
        Order::AtMost => (0, number),
        Order::Greater => number.checked_add(1).map_or(NONE, |low| (low, u64::MAX)),
        Order::AtLeast => (number, u64::MAX),
    })
}

/// What is read of the chain for one call, with the last block at hand: neighbours stand together.
struct Records<'a> {
    api: &'a Api,
    proves: bool,
    last: Option<(Arc<SealedBlock>, ResponseFinalizeBlock)>,
    read_bytes: usize,
    page_bytes: usize,
}

impl<'a> Records<'a> {
    fn new(api: &'a Api, proves: bool) -> Records<'a> {
        Records { api, proves, last: None, read_bytes: 0, page_bytes: 0 }
    }

    /// The transaction at a place; none where its block was pruned meanwhile.
    fn reply(&mut self, (height, number): (Height, u32)) -> Result<Option<TxReply>, String> {
        let is_last = |(block, _): &(Arc<SealedBlock>, _)| block.header().height == height;
        if !self.last.as_ref().is_some_and(is_last) {
            let blocks = &self.api.sources.blocks;
            if self.read_bytes > READ_BYTES_MAX {
                return Err(too_large());
            }
            self.last = blocks.block(height)?.zip(blocks.results(height)?);
            self.read_bytes += self.last.as_ref().map_or(0, |(block, _)| block.bytes().len());
        }
        let Some((block, results)) = &self.last else { return Ok(None) };
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let found = block.txs().get(at).zip(block.tx_hashes().get(at));
        let Some(((tx, hash), result)) = found.zip(results.tx_results.get(at)) else {
            return Ok(None);
        };
        let bytes = tx.len() + result.encoded_len();
        if self.page_bytes > 0 && self.page_bytes + bytes > PAGE_BYTES_MAX {
            return Err(too_large());
        }
        self.page_bytes += bytes;
        let proof = if self.proves { tx_proof(block.tx_hashes(), at) } else { None };
        Ok(Some(TxReply {
            hash: Hex(hash.to_vec()),
            height: Text(i64::from(height)),
            index: number,
            tx_result: result.clone().into(),
            tx: tx.clone().into(),
            proof: proof.map(|proof| Proof::new(proof, tx.clone())),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (u64, u64, bool, usize, usize) {
        let query = Query::parse(text).unwrap();
        let search = search(Scope::Txs, &query);
        let filtered = search.height_accepts.is_some();
        (search.heights.0, search.heights.1, filtered, search.is.len(), search.has.len())
    }

    #[test]
    fn conditions_on_heights_become_bounds() {
        for (text, bounds) in [
            ("tx.height = 5", (5, 5, false, 0, 0)),
            ("tx.height = '5'", (5, 5, false, 0, 0)),
            ("tx.height > 5 AND tx.height <= 9", (6, 9, false, 0, 0)),
            ("tx.height < 0", (u64::MAX, 0, false, 0, 0)),
            ("tx.height >= 99999999999999999999", (u64::MAX, 0, false, 0, 0)),
            ("tx.height < 99999999999999999999 AND a.b = 'c'", (0, u64::MAX, false, 1, 0)),
            ("tx.height > 5.5", (0, u64::MAX, true, 0, 0)),
            ("tx.height EXISTS", (0, u64::MAX, false, 0, 0)),
            ("block.height > 5", (0, u64::MAX, false, 0, 1)),
            ("a.b > 5 AND a.b < 9 AND a.c = 8 AND a.c CONTAINS 'x'", (0, u64::MAX, false, 1, 2)),
            ("a.b CONTAINS 'x' AND a.b CONTAINS 'y'", (0, u64::MAX, false, 0, 2)),
        ] {
            assert_eq!(parsed(text), bounds, "{text}");
        }
    }
}
