//! Searches: conditions that are all met within one event, as CometBFT's `kv` indexer matches them (`match_events` of versions before),
//! at a cost that is bounded.
//!
//! The list of the rarest `=` leads, or else the list of all values of a tag, from the lowest to the highest height that the query leaves;
//! for each place in it the other conditions are looked up. Only the places of the page are kept.

use super::place::{self, Place, Prefix, Spot, has_prefix, is_prefix};
use super::{Family, Index, Span};
use crate::store::StoreError;
use rocksdb::{DBRawIterator, ReadOptions};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};
use tendermint::block::Height;

/// How long a search may take.
const SEARCH_MAX: Duration = Duration::from_millis(1_500);
/// After how many steps the clock is looked at.
const STEPS: u32 = 64;
/// How far lists are counted to find the shortest.
const PROBE_MAX: usize = 1_024;
/// The most places that a page can ask for.
pub const PAGE_MAX: usize = 100;

/// What is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Transactions by their events.
    Txs,
    /// Blocks by the events of the block as a whole.
    Blocks,
}

impl Scope {
    pub(super) fn byte(self) -> u8 {
        match self {
            Scope::Txs => b't',
            Scope::Blocks => b'b',
        }
    }
}

/// Whether a value is what is asked for.
pub type Accepts<'a> = Box<dyn Fn(&str) -> bool + 'a>;

/// What to search for.
pub struct Search<'a> {
    /// What is searched.
    pub scope: Scope,
    /// The lowest height, and the highest.
    pub heights: (u64, u64),
    /// Which heights between, where not all.
    pub height_accepts: Option<Accepts<'a>>,
    /// Tags with the value that they have.
    pub is: Vec<(&'a str, &'a str)>,
    /// Tags with what one of their values must be.
    pub has: Vec<(&'a str, Accepts<'a>)>,
    /// Whether the last come first.
    pub descending: bool,
    /// How many to pass over.
    pub skip: usize,
    /// How many to keep, at most [`PAGE_MAX`].
    pub take: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The page: heights, and for transactions the index in the block.
    pub places: Vec<(Height, u32)>,
    /// How many there are in all.
    pub total: usize,
}

/// Why a search gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// It took too long.
    #[error(
        "the search would take longer than {SEARCH_MAX:?}: narrow it with bounds of {0}, or with a condition `key = 'value'` that few meet"
    )]
    TooCostly(&'static str),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A search under way.
struct Run<'a> {
    index: &'a Index,
    search: &'a Search<'a>,
    span: Span,
    until: Instant,
    steps: u32,
    found: Found,
    last: Option<(u64, u32)>,
    /// What the block of the last look has, by what keys begin with.
    looked: HashMap<Prefix, Looked>,
}

/// The postings of one block. What they take is used again for those of the next.
#[derive(Default)]
struct Looked {
    height: Option<u64>,
    bytes: Vec<u8>,
    /// Spots, in order, and where in it their values are; empty for `is`.
    values: Vec<(Spot, Range<usize>)>,
}

impl Looked {
    fn read(&mut self, family: Family, height: u64, bytes: &[u8]) {
        self.height = Some(height);
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.values.clear();
        if matches!(family, Family::Has) {
            self.values.extend(place::ranges(bytes));
        }
    }

    /// The values of a spot.
    fn values_at(&self, spot: Spot) -> impl Iterator<Item = &[u8]> {
        let from = self.values.partition_point(|(at, _)| *at < spot);
        let of_spot = self.values.iter().skip(from).take_while(move |(at, _)| *at == spot);
        of_spot.filter_map(|(_, range)| self.bytes.get(range.clone()))
    }
}

impl Index {
    /// Searches.
    ///
    /// # Errors
    /// Where it takes too long or the disk fails.
    pub fn search(&self, search: &Search<'_>) -> Result<Found, SearchError> {
        self.search_within(search, SEARCH_MAX)
    }

    /// [`Index::search`] with another limit. Where heights were pruned meanwhile, what was counted may be half of what was there and half
    /// of what is left: it is searched again.
    pub(super) fn search_within(
        &self,
        search: &Search<'_>,
        limit: Duration,
    ) -> Result<Found, SearchError> {
        let until = Instant::now() + limit;
        loop {
            let Some(span) = self.span() else { return Ok(Found::default()) };
            let found = self.search_in(span, search, until)?;
            if self.span().is_some_and(|now| now.base == span.base) {
                return Ok(found);
            }
        }
    }

    /// Searches what is indexed.
    pub(super) fn search_in(
        &self,
        span: Span,
        search: &Search<'_>,
        until: Instant,
    ) -> Result<Found, SearchError> {
        let span = Span {
            base: span.base.max(search.heights.0),
            next: span.next.min(search.heights.1.saturating_add(1)),
        };
        if span.base >= span.next {
            return Ok(Found::default());
        }
        let (last, looked, found) = (None, HashMap::new(), Found::default());
        let mut run = Run { index: self, search, span, until, steps: 0, found, last, looked };
        if !search.is.is_empty() {
            run.by_value()?;
        } else if let Some((tag, accepts)) = search.has.first() {
            run.by_tag(tag, accepts)?;
        } else if search.height_accepts.is_some() {
            run.by_height()?;
        } else {
            run.by_count()?;
        }
        Ok(run.found)
    }
}

impl<'a> Run<'a> {
    /// The shortest list of places with a value leads.
    fn by_value(&mut self) -> Result<(), SearchError> {
        let (scope, is) = (self.search.scope, &self.search.is);
        let lists: Vec<Prefix> =
            is.iter().map(|(tag, value)| is_prefix(scope, tag, value)).collect();
        let mut shortest = (usize::MAX, 0);
        for (number, prefix) in lists.iter().enumerate() {
            let mut list = self.list(Family::Is, prefix);
            let mut count = 0;
            while count < shortest.0.min(PROBE_MAX) && self.step(&mut list)?.is_some() {
                count += 1;
            }
            if count < shortest.0 {
                shortest = (count, number);
            }
        }
        let Some(lead) = lists.get(shortest.1) else { return Ok(()) };
        let mut list = self.list(Family::Is, lead);
        while let Some((place, _)) = self.step(&mut list)? {
            let mut met = true;
            for (number, prefix) in lists.iter().enumerate() {
                met = met && (number == shortest.1 || self.is_at(prefix, place)?);
            }
            if met && self.has_all(place, 0)? {
                self.keep(place);
            }
        }
        Ok(())
    }

    /// All values of a tag are gone through.
    fn by_tag(&mut self, tag: &str, accepts: &dyn Fn(&str) -> bool) -> Result<(), SearchError> {
        let prefix = has_prefix(self.search.scope, tag);
        let mut list = self.list(Family::Has, &prefix);
        while let Some((place, at)) = self.step(&mut list)? {
            let fits = std::str::from_utf8(list.value(at)).is_ok_and(accepts);
            if fits && self.has_all(place, 1)? {
                self.keep(place);
            }
        }
        Ok(())
    }

    /// Whether a value is at a place.
    fn is_at(&mut self, prefix: &Prefix, place: Place) -> Result<bool, SearchError> {
        self.count()?;
        let looked = self.look(Family::Is, prefix, place.height)?;
        let at = |spot: &[u8]| place::spots(spot).next();
        let spots = looked.bytes.as_chunks::<8>().0;
        Ok(spots.binary_search_by_key(&Some(place.spot), |spot| at(spot)).is_ok())
    }

    /// Whether the event at a place meets the conditions on tags, from the `from`th on.
    fn has_all(&mut self, place: Place, from: usize) -> Result<bool, SearchError> {
        let search = self.search;
        for (tag, accepts) in search.has.iter().skip(from) {
            self.count()?;
            let prefix = has_prefix(search.scope, tag);
            let looked = self.look(Family::Has, &prefix, place.height)?;
            let fits = |value: &[u8]| std::str::from_utf8(value).is_ok_and(accepts);
            if !looked.values_at(place.spot).any(fits) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The postings of a block; those of the last look are at hand.
    fn look(
        &mut self,
        family: Family,
        prefix: &Prefix,
        height: u64,
    ) -> Result<&Looked, SearchError> {
        let looked = self.looked.entry(*prefix).or_default();
        if looked.height != Some(height) {
            let found = self.index.get(family, &place::key(prefix, height))?;
            looked.read(family, height, found.as_deref().unwrap_or_default());
        }
        Ok(looked)
    }

    /// Every height is looked at: those that are accepted are kept with all that is in them.
    fn by_height(&mut self) -> Result<(), SearchError> {
        let all = self.span;
        let heights = all.base..all.next;
        let mut heights: Box<dyn Iterator<Item = u64>> = match self.search.descending {
            true => Box::new(heights.rev()),
            false => Box::new(heights),
        };
        let accepts = self.search.height_accepts.as_ref();
        for height in &mut heights {
            self.count()?;
            if !accepts.is_none_or(|accepts| accepts(&height.to_string())) {
                continue;
            }
            let txs = self.txs_of(height)?;
            for nth in 0..txs {
                let index = if self.search.descending { txs - 1 - nth } else { nth };
                self.take(height, index);
            }
        }
        Ok(())
    }

    /// How many places a height has.
    fn txs_of(&self, height: u64) -> Result<u32, StoreError> {
        if self.search.scope == Scope::Blocks {
            return Ok(1);
        }
        let before = self.index.count(height.saturating_sub(1))?;
        let count = self.index.count(height)?.saturating_sub(before);
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Only heights are asked for: what they hold is counted already.
    fn by_count(&mut self) -> Result<(), SearchError> {
        let Span { base, next } = self.span;
        let (total, before) = match self.search.scope {
            Scope::Blocks => (next - base, 0),
            Scope::Txs => {
                let before = self.index.count(base.saturating_sub(1))?;
                (self.index.count(next - 1)?.saturating_sub(before), before)
            }
        };
        self.found.total = usize::try_from(total).unwrap_or(usize::MAX);
        let left = self.found.total.saturating_sub(self.search.skip);
        let first = u64::try_from(self.search.skip).unwrap_or(u64::MAX);
        for nth in 0..u64::try_from(self.search.take.min(left)).unwrap_or(0) {
            let nth = first.saturating_add(nth);
            let nth = if self.search.descending { total - 1 - nth } else { nth };
            let (height, index) = match self.search.scope {
                Scope::Blocks => (base + nth, 0),
                Scope::Txs => self.tx_number(before + nth)?,
            };
            self.found.places.extend(Height::try_from(height).ok().map(|height| (height, index)));
        }
        Ok(())
    }

    /// Where the transaction is that so many come before: found by halves, as counts grow.
    fn tx_number(&self, number: u64) -> Result<(u64, u32), StoreError> {
        let (mut low, mut high) = (self.span.base, self.span.next - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.index.count(middle)? > number { high = middle } else { low = middle + 1 }
        }
        let before = self.index.count(low.saturating_sub(1))?;
        Ok((low, u32::try_from(number.saturating_sub(before)).unwrap_or(u32::MAX)))
    }

    fn list(&self, family: Family, prefix: &Prefix) -> List<'a> {
        let bound = |height: u64| place::key(prefix, height);
        let (from, to) = (bound(self.span.base), bound(self.span.next));
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let index = self.index;
        let entries = index.0.db.raw_iterator_cf_opt(index.family(family), options);
        let has_values = matches!(family, Family::Has);
        let (descending, begun, height) = (self.search.descending, false, 0);
        let (bytes, ready) = (Vec::new(), VecDeque::new());
        List { entries, begun, descending, has_values, height, bytes, ready }
    }

    /// The next entry of a list.
    fn step(&mut self, list: &mut List<'_>) -> Result<Option<(Place, Range<usize>)>, SearchError> {
        self.count()?;
        let entry = list.next();
        if entry.is_none() {
            self.index.checked(&list.entries)?;
        }
        Ok(entry)
    }

    /// Counts a step; now and then, whether there is time left.
    fn count(&mut self) -> Result<(), SearchError> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS) && Instant::now() > self.until {
            return Err(SearchError::TooCostly(match self.search.scope {
                Scope::Txs => "tx.height",
                Scope::Blocks => "block.height",
            }));
        }
        Ok(())
    }

    fn keep(&mut self, place: Place) {
        let accepts = self.search.height_accepts.as_ref();
        if accepts.is_none_or(|accepts| accepts(&place.height.to_string())) {
            self.take(place.height, place.spot.0);
        }
    }

    /// Counts a find once, and keeps it where it is on the page.
    fn take(&mut self, height: u64, index: u32) {
        if self.last.replace((height, index)) == Some((height, index)) {
            return;
        }
        let nth = self.found.total;
        self.found.total += 1;
        let kept = self.found.places.len();
        if nth >= self.search.skip && kept < self.search.take.min(PAGE_MAX) {
            self.found.places.extend(Height::try_from(height).ok().map(|height| (height, index)));
        }
    }
}

impl Index {
    fn checked(&self, entries: &DBRawIterator<'_>) -> Result<(), StoreError> {
        entries.status().map_err(|error| self.0.folder.failed(error))
    }
}

/// A list of places, in the order of the search.
struct List<'a> {
    entries: DBRawIterator<'a>,
    begun: bool,
    descending: bool,
    /// Whether values stand with the places.
    has_values: bool,
    /// Those of the block that was read last: its height, its bytes, and where in them values are.
    height: u64,
    bytes: Vec<u8>,
    ready: VecDeque<(Spot, Range<usize>)>,
}

impl List<'_> {
    /// The next place, and where its value is until the next call.
    fn next(&mut self) -> Option<(Place, Range<usize>)> {
        while self.ready.is_empty() {
            match (std::mem::replace(&mut self.begun, true), self.descending) {
                (false, false) => self.entries.seek_to_first(),
                (false, true) => self.entries.seek_to_last(),
                (true, false) => self.entries.next(),
                (true, true) => self.entries.prev(),
            }
            let (key, value) = self.entries.item()?;
            self.height = place::height_of(key)?;
            if self.has_values {
                self.bytes.clear();
                self.bytes.extend_from_slice(value);
                self.ready.extend(place::ranges(value));
            } else {
                self.ready.extend(place::spots(value).map(|spot| (spot, 0..0)));
            }
        }
        let next = match self.descending {
            true => self.ready.pop_back(),
            false => self.ready.pop_front(),
        };
        next.map(|(spot, value)| (Place { height: self.height, spot }, value))
    }

    fn value(&self, at: Range<usize>) -> &[u8] {
        self.bytes.get(at).unwrap_or_default()
    }
}
