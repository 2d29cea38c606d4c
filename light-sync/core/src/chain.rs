//! Runs of headers. [`LinkedRun`]: each header names the hash of the one below, which says nothing yet about whose headers they
//! are. [`TrustedRun`]: its top is named by a header that is trusted, so all of it is what the validators signed, without any
//! signature.
//!
//! A trusted header fixes everything below it, because finding another header with the hash that it names means finding a collision
//! of SHA-256. So whoever sent a run that does not fit has lied, or got it from somebody who did: there is no other explanation.

use crate::hash::Hash;
use crate::header::{Header, Height};
use crate::time::Time;
use bytes::Bytes;

/// The most headers of one run.
pub const RUN_HEADERS_MAX: usize = 512;

/// Headers of consecutive heights in ascending order, at least one, linked among themselves.
#[derive(Clone, Debug)]
pub struct LinkedRun {
    headers: Vec<Header>,
    hashes: Vec<Hash>,
}

/// A linked run below a trusted header.
#[derive(Clone, Debug)]
pub struct TrustedRun {
    run: LinkedRun,
}

/// Which headers were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// The chain.
    pub chain_id: String,
    /// The lowest height.
    pub low: Height,
    /// The highest height; an answer may hold fewer headers, but these from this height down.
    pub high: Height,
}

/// What is wrong with a run, and at which height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// There are no headers, or more than asked for.
    #[error("a run of another length than asked for")]
    Length,
    /// These are no bytes of a header.
    #[error("the header of height {0} is malformed")]
    Malformed(Height),
    /// The header is of another height or chain.
    #[error("not the header of height {0} that was asked for")]
    Other(Height),
    /// The header above does not name it, or names other validators, or is not later.
    #[error("the header of height {0} does not follow on the one below")]
    Unlinked(Height),
}

impl LinkedRun {
    /// Reads and links the answer to `request`: headers in ascending order, of which the last is the highest that was asked for.
    ///
    /// This is where the work is; it needs nothing but its arguments, so that callers may do it in whichever thread they like.
    ///
    /// # Errors
    /// See [`RunError`]: whoever sent this is not to be believed.
    pub fn link(request: &RunRequest, answer: Vec<Bytes>) -> Result<LinkedRun, RunError> {
        let asked = request.high.checked_sub(request.low).map_or(0, |more| more.saturating_add(1));
        let count = answer.len();
        if count == 0 || count as u64 > asked || count > RUN_HEADERS_MAX {
            return Err(RunError::Length);
        }
        let lowest = request.high - (count as u64 - 1);
        let mut run =
            LinkedRun { headers: Vec::with_capacity(count), hashes: Vec::with_capacity(count) };
        for (height, raw) in (lowest..).zip(answer) {
            let header = Header::decode(raw).map_err(|_| RunError::Malformed(height))?;
            if header.height() != height || header.chain_id() != request.chain_id.as_bytes() {
                return Err(RunError::Other(height));
            }
            run.push(header)?;
        }
        Ok(run)
    }

    fn push(&mut self, header: Header) -> Result<(), RunError> {
        if let (Some(below), Some(hash)) = (self.headers.last(), self.hashes.last())
            && !Edge::of(&header).names(below, *hash)
        {
            return Err(RunError::Unlinked(header.height()));
        }
        self.hashes.push(header.hash());
        self.headers.push(header);
        Ok(())
    }

    /// Makes it trusted, where `above` names its top.
    ///
    /// # Errors
    /// The run itself, where it is not what was signed.
    pub fn attach(self, above: &Edge) -> Result<TrustedRun, LinkedRun> {
        let fits = match (self.headers.last(), self.hashes.last()) {
            (Some(top), Some(hash)) => above.names(top, *hash),
            _ => false,
        };
        if fits { Ok(TrustedRun { run: self }) } else { Err(self) }
    }

    /// Whether it is an answer to a request for these heights.
    pub(crate) fn answers(&self, chain_id: &[u8], low: Height, high: Height) -> bool {
        let of_chain = |header: &Header| header.chain_id() == chain_id;
        self.high() == high && self.low() >= low && self.headers.iter().all(of_chain)
    }

    /// Its lowest height.
    #[must_use]
    pub fn low(&self) -> Height {
        self.headers.first().map_or(0, Header::height)
    }

    /// Its highest height.
    #[must_use]
    pub fn high(&self) -> Height {
        self.headers.last().map_or(0, Header::height)
    }
}

impl TrustedRun {
    /// The headers in ascending order.
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        &self.run.headers
    }

    /// Their hashes.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.run.hashes
    }

    /// Its lowest height.
    #[must_use]
    pub fn low(&self) -> Height {
        self.run.low()
    }

    /// Its highest height.
    #[must_use]
    pub fn high(&self) -> Height {
        self.run.high()
    }

    /// What its lowest header says about the one below.
    #[must_use]
    pub fn edge(&self) -> Edge {
        Edge::of(self.run.headers.first().expect("a run has a header"))
    }
}

/// What a trusted header says about the header below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    height: Height,
    time: Time,
    last_block: Option<Hash>,
    validators_hash: Hash,
    last_commit: Option<Hash>,
}

impl Edge {
    pub(crate) fn of(header: &Header) -> Edge {
        Edge {
            height: header.height(),
            time: header.time(),
            last_block: header.last_block(),
            validators_hash: header.validators_hash(),
            last_commit: header.last_commit_hash(),
        }
    }

    /// The hash of the commit of the block below.
    pub(crate) fn last_commit(&self) -> Option<Hash> {
        self.last_commit
    }

    /// What the lowest header that is kept says about the one below. Callers take it from what was a [`TrustedRun`] or a trusted
    /// block and has been kept since; `hash` is what they kept it under.
    #[must_use]
    pub fn restore(header: &Header, hash: Hash) -> Option<Edge> {
        (header.hash() == hash).then(|| Edge::of(header))
    }

    /// The height of the header that says it.
    #[must_use]
    pub fn height(&self) -> Height {
        self.height
    }

    /// Whether nothing is below: the first block of the chain.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.last_block.is_none()
    }

    /// Whether the header below has this hash.
    #[must_use]
    pub fn names_hash(&self, hash: Hash) -> bool {
        self.last_block == Some(hash)
    }

    /// Whether `below`, whose hash is `hash`, is the header below. Height, time and validators follow from the hash on a chain
    /// whose validators are correct; checked all the same, they are what a sequential verification would check.
    fn names(&self, below: &Header, hash: Hash) -> bool {
        self.last_block == Some(hash)
            && below.height() + 1 == self.height
            && below.time() < self.time
            && below.next_validators_hash() == self.validators_hash
    }
}
