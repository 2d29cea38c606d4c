//! What the owner asks the application: whether new transactions may be taken, and those that wait may stay. Where the connection breaks,
//! nothing is asked before the application is where the chain is.

use super::owner::Owner;
use super::pool::Entry;
use super::{Reply, Tx};
use crate::network::PeerId;
use crate::rpc::sources::PoolError;
use bytes::Bytes;
use crossbeam_channel::TryRecvError;
use std::time::{Duration, Instant};
use tendermint_proto::v0_38::abci::{CheckTxType, RequestCheckTx, ResponseCheckTx};
use tercet_abci::AppError;

/// How many transactions the application is asked about at a time.
const CHECK_MAX: usize = 256;
const AWAY: &str = "the connection to the application broke, and it is not back yet: send the transaction again later";
const NO_ANSWER: &str = "the application gave fewer answers than it was asked for";
/// How many transactions are rechecked at a time: as many as take about [`RECHECK_TIME`], as the primary's next block may wait for them.
pub(super) const RECHECK_MIN: usize = 16;
const RECHECK_TIME: Duration = Duration::from_millis(1);

/// A transaction that the application is asked about.
pub(super) struct Asked {
    pub(super) tx: Tx,
    pub(super) from: Option<PeerId>,
    pub(super) reply: Option<Reply>,
}

impl Owner {
    /// Has a transaction checked that may be.
    pub(super) fn admit(&mut self, asked: Asked) {
        let (hash, size) = (asked.tx.hash, asked.tx.bytes.len());
        let admitted = if self.away.is_some() {
            Err(PoolError::Unavailable(AWAY.to_owned()))
        } else if size > self.block_bytes_max {
            Err(PoolError::TooLarge { max: self.block_bytes_max, size })
        } else {
            self.pool.admit(hash, size)
        };
        match admitted {
            Ok(()) => self.asked.push(asked),
            Err(error) => {
                self.counters.counted.refused(&error);
                self.replies.extend(asked.reply.map(|reply| (reply, Err(error))));
            }
        }
        if self.asked.len() >= CHECK_MAX {
            self.check_asked();
        }
    }

    /// Asks the application about all that were admitted.
    pub(super) fn check_asked(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        if asked.is_empty() {
            return;
        }
        let answers = self.ask(asked.iter().map(|asked| asked.tx.bytes.clone()), CheckTxType::New);
        let mut answers = answers.map(Vec::into_iter);
        for Asked { tx, from, reply } in asked {
            let answer = match &mut answers {
                Ok(answers) => {
                    answers.next().ok_or_else(|| PoolError::Unavailable(NO_ANSWER.into()))
                }
                Err(error) => Err(error.clone()),
            };
            let hash = tx.hash;
            let taken = match answer {
                Ok(answer) => self.accept(tx, from, answer),
                Err(error) => {
                    self.pool.forget(&hash);
                    Err(error)
                }
            };
            self.replies.extend(reply.map(|reply| (reply, taken)));
        }
    }

    /// Takes a transaction with what the application says of it.
    fn accept(
        &mut self,
        tx: Tx,
        from: Option<PeerId>,
        answer: ResponseCheckTx,
    ) -> Result<ResponseCheckTx, PoolError> {
        let Tx { bytes: tx, hash } = tx;
        let wants_too_much = self.gas_max >= 0 && answer.gas_wanted > self.gas_max;
        if answer.code != 0 || wants_too_much {
            self.counters.counted.failed();
            if !self.parts.settings.keep_invalid {
                self.pool.forget(&hash);
            }
            return if answer.code != 0 {
                Ok(answer)
            } else {
                Err(too_much_gas(answer.gas_wanted, self.gas_max))
            };
        }
        let now = Instant::now();
        let added = self.pool.add(Entry {
            tx: tx.clone(),
            hash,
            gas: answer.gas_wanted,
            height: self.height,
            since: now,
            sent: now,
            left_out: 0,
            suspected: false,
            aged: false,
        });
        if let Err(error) = added {
            self.counters.counted.refused(&error);
            self.pool.forget(&hash);
            return Err(error);
        }
        self.counters.counted.taken(tx.len());
        if self.parts.settings.broadcast {
            self.fresh_count += 1;
            self.fresh_bytes += tx.len();
            self.fresh.entry(from).or_default().push(tx);
        }
        Ok(answer)
    }

    /// Asks the application. Where the connection breaks, what it was asked about is not asked again: it may be what it died of.
    fn ask(
        &mut self,
        txs: impl Iterator<Item = Bytes>,
        kind: CheckTxType,
    ) -> Result<Vec<ResponseCheckTx>, PoolError> {
        let requests = txs.map(|tx| RequestCheckTx { tx, r#type: kind.into() }).collect();
        self.parts.app.check_txs(requests).map_err(|error| {
            if error.is_lost() {
                tracing::warn!("{error}; no transactions are taken until it is back");
                self.away = Some((self.parts.revive)());
            } else {
                self.fail(&error);
            }
            PoolError::Unavailable(error.to_string())
        })
    }

    fn fail(&mut self, error: &AppError) {
        self.failed = true;
        (self.parts.failed)(error.to_string());
    }

    /// Goes on where the application is back.
    pub(super) fn look_for_application(&mut self) {
        if self.away.as_ref().is_some_and(|away| away.try_recv() != Err(TryRecvError::Empty)) {
            self.back();
        }
    }

    /// The application is back, perhaps with less than it knew: it is asked about all that wait here.
    pub(super) fn back(&mut self) {
        self.away = None;
        match self.parts.app.reconnect() {
            Ok(()) => self.recheck = 0..self.pool.end(),
            Err(error) => self.fail(&error),
        }
    }

    /// Rechecks a few transactions; false where none was left to recheck.
    pub(super) fn recheck_some(&mut self) -> bool {
        if self.recheck.is_empty() || self.away.is_some() {
            return false;
        }
        let started = Instant::now();
        let (page, next) = self.pool.page(self.recheck.clone(), self.recheck_chunk);
        self.recheck.start = next.unwrap_or(self.recheck.end);
        let is_full = page.len() == self.recheck_chunk;
        if page.is_empty() {
            return self.end_of_recheck();
        }
        let txs = page.iter().map(|(_, tx)| tx.clone());
        let Ok(answers) = self.ask(txs, CheckTxType::Recheck) else { return false };
        self.counters.counted.rechecked(page.len());
        for ((hash, _), _) in page.iter().zip(answers).filter(|(_, answer)| answer.code != 0) {
            if let Some(entry) = self.pool.remove(hash) {
                self.age.left(&entry);
                self.counters.counted.evicted();
            }
            if !self.parts.settings.keep_invalid {
                self.pool.forget(hash);
            }
        }
        self.recheck_chunk = next_chunk(self.recheck_chunk, is_full, started.elapsed());
        self.end_of_recheck()
    }

    /// Begins anew where another block was executed meanwhile; true where there was something to recheck.
    fn end_of_recheck(&mut self) -> bool {
        if self.recheck.is_empty() && std::mem::take(&mut self.recheck_again) {
            self.recheck = 0..self.pool.end();
        }
        true
    }
}

/// How many transactions to recheck at a time where so many took so long; fewer than that say nothing of how fast the application is.
fn next_chunk(chunk: usize, is_full: bool, took: Duration) -> usize {
    let next = if took < RECHECK_TIME / 2 {
        if is_full { chunk * 2 } else { chunk }
    } else if took > RECHECK_TIME * 2 {
        chunk / 2
    } else {
        chunk
    };
    next.clamp(RECHECK_MIN, CHECK_MAX)
}

/// In CometBFT's words (`mempool.PostCheckMaxGas`).
fn too_much_gas(wanted: i64, max: i64) -> PoolError {
    PoolError::Unavailable(format!("gas wanted {wanted} is greater than max gas {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_rechecked_at_a_time_as_take_a_millisecond() {
        let mut chunk = RECHECK_MIN;
        for _ in 0..10 {
            assert_eq!(next_chunk(chunk, false, Duration::ZERO), chunk, "a few say nothing");
            chunk = next_chunk(chunk, true, Duration::from_micros(100));
        }
        assert_eq!(chunk, CHECK_MAX);
        assert_eq!(next_chunk(chunk, true, RECHECK_TIME), chunk);
        for _ in 0..10 {
            chunk = next_chunk(chunk, false, Duration::from_millis(50));
        }
        assert_eq!(chunk, RECHECK_MIN);
    }
}
