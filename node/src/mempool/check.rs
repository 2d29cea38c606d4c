//! What the owner asks the application: whether new transactions may be taken, and those that wait may stay. Where the connection breaks,
//! nothing is asked before the application is where the chain is.
//!
//! One call is under way at a time, and the owner does not wait for it. After a block what waits in the pool is rechecked before anything
//! new is checked, so that a new transaction meets the state that those before it lead to.

use super::caller::{Answer, Call};
use super::owner::Owner;
use super::pool::{Entry, TxHash};
use super::{HOLD_MAX, Intake, Reply, Tx};
use crate::network::PeerId;
use crate::rpc::sources::PoolError;
use bytes::Bytes;
use crossbeam_channel::{Sender, TryRecvError};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{CheckTxType, RequestCheckTx, ResponseCheckTx};
use tercet_abci::AppError;
use tercet_consensus::block::SealedBlock;
use tokio::sync::OwnedSemaphorePermit;

/// How many transactions are looked at, known ones too, before the engine's questions are looked at again.
const LOOK_MAX: usize = 1_024;
/// How many transactions the application is asked about at a time: as many as take about [`CALL_TIME`], as its next Commit may wait for
/// them, and at most [`CHECK_MAX`].
pub(super) const CHECK_MAX: usize = 256;
const CALL_TIME: Duration = Duration::from_millis(4);
/// How many it is asked about at first.
pub(super) const CHECK_BEGIN: usize = 16;
/// How long new transactions wait for rechecks. Where blocks come faster than the pool is rechecked, they take turns from then on.
const RECHECK_FIRST_MAX: Duration = Duration::from_secs(1);
const AWAY: &str = "the connection to the application broke, and it is not back yet: send the transaction again later";
const NO_ANSWER: &str = "the application gave fewer answers than it was asked for";

/// A transaction that the application is asked about.
pub(super) struct Asked {
    tx: Tx,
    from: Option<PeerId>,
    reply: Option<Reply>,
    /// A block has taken it meanwhile.
    committed: bool,
    /// Its room in the queue, where it holds one of its own.
    _room: Option<OwnedSemaphorePermit>,
}

/// A peer's frame that is looked at; it holds its room until all of it is.
pub(super) struct Frame {
    peer: PeerId,
    txs: std::vec::IntoIter<Tx>,
    _room: OwnedSemaphorePermit,
}

/// What the application is asked about.
enum Question {
    New(Vec<Asked>),
    Again(Vec<TxHash>),
    /// To be there again.
    Back,
}

/// A call that the application has not answered yet.
pub(super) struct UnderWay {
    question: Question,
    since: Instant,
    /// Of the last executed block when it began.
    height: Height,
}

impl UnderWay {
    pub(super) fn is_new(&self) -> bool {
        matches!(self.question, Question::New(_))
    }

    /// Until when a Commit waits for it; not at all where the application is asked nothing.
    pub(super) fn awaited_until(&self) -> Option<Instant> {
        (!matches!(self.question, Question::Back)).then(|| self.since + HOLD_MAX)
    }
}

/// What is left to recheck.
#[derive(Default)]
pub(super) struct Recheck {
    /// The positions in the pool.
    pub(super) left: std::ops::Range<u64>,
    /// Whether to begin anew after it, as another block was executed meanwhile.
    again: bool,
    /// Since when new transactions wait for it.
    since: Option<Instant>,
    /// Whether the last call was of it.
    was_last: bool,
}

impl Recheck {
    /// Whether new transactions have waited for long enough.
    fn is_behind(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > RECHECK_FIRST_MAX)
    }
}

impl Owner {
    /// Asks the application about what comes next, where it is there and asked nothing; false where nothing was to do.
    pub(super) fn ask(&mut self) -> bool {
        if self.is_lost() {
            return self.ask_new();
        }
        if self.held || self.under_way.is_some() {
            return false;
        }
        let new_first = self.recheck.is_behind() && self.recheck.was_last;
        (!new_first && self.ask_again()) || self.ask_new() || self.ask_again()
    }

    /// Nobody asks the application before it is back; what comes is refused.
    pub(super) fn is_lost(&self) -> bool {
        let returns = |call: &UnderWay| matches!(call.question, Question::Back);
        self.away.is_some() || self.under_way.as_ref().is_some_and(returns)
    }

    fn call(&mut self, question: Question, txs: Vec<Bytes>, kind: CheckTxType) {
        let request = |tx| RequestCheckTx { tx, r#type: kind.into() };
        let call = match question {
            Question::Back => Call::Reconnect,
            _ => Call::Check(txs.into_iter().map(request).collect()),
        };
        // None is under way, so there is room; where the thread is gone, so are its answers.
        drop(self.caller.calls.send(call));
        self.under_way = Some(UnderWay { question, since: Instant::now(), height: self.height });
    }

    /// Asks about what has come and may be checked; false where nothing has come.
    fn ask_new(&mut self) -> bool {
        let (mut looked, mut asked) = (0, Vec::new());
        while looked < LOOK_MAX
            && asked.len() < self.new_chunk
            && let Some(offered) = self.next_offered()
        {
            looked += 1;
            asked.extend(self.admit(offered));
        }
        if !asked.is_empty() {
            self.recheck.was_last = false;
            let txs = asked.iter().map(|asked| asked.tx.bytes.clone()).collect();
            self.call(Question::New(asked), txs, CheckTxType::New);
        }
        looked > 0
    }

    /// The next transaction that clients and peers sent.
    fn next_offered(&mut self) -> Option<Asked> {
        loop {
            if let Some(frame) = &mut self.frame {
                if let Some(tx) = frame.txs.next() {
                    // A peer's transaction that is known or refused is no fault of the peer: it cannot know.
                    let from = Some(frame.peer);
                    return Some(Asked { tx, from, reply: None, committed: false, _room: None });
                }
                self.frame = None;
            }
            let intake = self.offered.take().or_else(|| self.queues.intake.try_recv().ok())?;
            if let Some(asked) = self.open(intake) {
                return Some(asked);
            }
        }
    }

    /// A client's transaction, or none where it is a frame, which is looked at next.
    fn open(&mut self, intake: Intake) -> Option<Asked> {
        match intake {
            Intake::Client { tx, reply, room } => {
                Some(Asked { tx, from: None, reply, committed: false, _room: Some(room) })
            }
            Intake::Peer { peer, txs, room } => {
                self.frame = Some(Frame { peer, txs: txs.into_iter(), _room: room });
                None
            }
        }
    }

    /// A transaction where it may be checked.
    fn admit(&mut self, asked: Asked) -> Option<Asked> {
        let (hash, size) = (asked.tx.hash, asked.tx.bytes.len());
        let admitted = if self.is_lost() {
            Err(PoolError::Unavailable(AWAY.to_owned()))
        } else if size > self.block_bytes_max {
            Err(PoolError::TooLarge { max: self.block_bytes_max, size })
        } else {
            self.pool.admit(hash, size)
        };
        let Err(error) = admitted else { return Some(asked) };
        self.counters.counted.refused(&error);
        self.replies.extend(asked.reply.map(|reply| (reply, Err(error))));
        None
    }

    /// Takes the answer of the application, where it is there.
    pub(super) fn hear(&mut self) {
        match self.caller.answers.try_recv() {
            Ok(answer) => self.settle(answer),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => self.end_without_caller(),
        }
    }

    pub(super) fn end_without_caller(&mut self) {
        self.failed = true;
        (self.parts.failed)("the thread that calls CheckTx has ended".to_owned());
    }

    /// The application has answered what it was asked.
    pub(super) fn settle(&mut self, Answer { result, took }: Answer) {
        let Some(UnderWay { question, height, .. }) = self.under_way.take() else { return };
        match (question, result) {
            (Question::New(asked), result) => {
                self.new_chunk = next_chunk(self.new_chunk, asked.len(), took);
                let result = result.map_err(|error| self.unanswered(&error));
                self.checked(asked, result, height);
            }
            (Question::Again(hashes), Ok(answers)) => {
                self.recheck_chunk = next_chunk(self.recheck_chunk, hashes.len(), took);
                self.rechecked(&hashes, answers);
            }
            (Question::Again(_), Err(error)) => drop(self.unanswered(&error)),
            (Question::Back, Ok(_)) => self.begin_recheck(),
            (Question::Back, Err(error)) => self.fail(&error),
        }
        self.let_commit();
    }

    /// Where the connection breaks, what the application was asked about is not asked again: it may be what it died of.
    fn unanswered(&mut self, error: &AppError) -> PoolError {
        if error.is_lost() {
            tracing::warn!("{error}; no transactions are taken until it is back");
            self.away = Some((self.parts.revive)());
        } else {
            self.fail(error);
        }
        PoolError::Unavailable(error.to_string())
    }

    /// What came of new transactions that were asked about at `height`.
    fn checked(
        &mut self,
        asked: Vec<Asked>,
        answers: Result<Vec<ResponseCheckTx>, PoolError>,
        height: Height,
    ) {
        let first = self.pool.end();
        let mut answers = answers.map(Vec::into_iter);
        for Asked { tx, from, reply, committed, _room } in asked {
            let answer = match &mut answers {
                Ok(answers) => {
                    answers.next().ok_or_else(|| PoolError::Unavailable(NO_ANSWER.into()))
                }
                Err(error) => Err(error.clone()),
            };
            let hash = tx.hash;
            let taken = match answer {
                answer if committed => answer,
                Ok(answer) => self.accept(tx, from, answer),
                Err(error) => {
                    self.pool.forget(&hash);
                    Err(error)
                }
            };
            self.replies.extend(reply.map(|reply| (reply, taken)));
        }
        if height != self.height && self.parts.settings.recheck {
            // A block was committed meanwhile: these were checked against a state that is gone.
            let from = if self.recheck.left.is_empty() { first } else { self.recheck.left.start };
            self.recheck.left = from..self.pool.end();
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

    /// Of what the application is being asked about, this block has taken some: it comes into the pool no more.
    pub(super) fn mark_committed(&mut self, block: &SealedBlock) {
        if let Some(UnderWay { question: Question::New(asked), .. }) = &mut self.under_way {
            let hashes: HashSet<&TxHash> = block.tx_hashes().iter().collect();
            for asked in asked.iter_mut().filter(|asked| hashes.contains(&asked.tx.hash)) {
                asked.committed = true;
            }
        }
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

    /// The application is back, perhaps with less than it knew: once it is connected it is asked about all that wait here.
    pub(super) fn back(&mut self) {
        self.away = None;
        self.call(Question::Back, Vec::new(), CheckTxType::New);
    }

    /// A block was executed: all that wait are rechecked, from the first. Where that never ends before the next block, those behind have
    /// their turn first.
    pub(super) fn recheck_after_block(&mut self) {
        if self.recheck.is_behind() {
            self.recheck.again = true;
        } else {
            self.begin_recheck();
        }
    }

    fn begin_recheck(&mut self) {
        self.recheck.left = 0..self.pool.end();
        self.recheck.again = false;
        self.recheck.since.get_or_insert_with(Instant::now);
    }

    /// Asks about a few that wait; false where none is left to recheck.
    fn ask_again(&mut self) -> bool {
        while !self.recheck.left.is_empty() {
            let (page, next) = self.pool.page(self.recheck.left.clone(), self.recheck_chunk);
            self.recheck.left.start = next.unwrap_or(self.recheck.left.end);
            if page.is_empty() {
                self.end_of_recheck();
                continue;
            }
            self.recheck.was_last = true;
            let (hashes, txs) = page.into_iter().unzip();
            self.call(Question::Again(hashes), txs, CheckTxType::Recheck);
            return true;
        }
        false
    }

    /// What came of some that wait.
    fn rechecked(&mut self, hashes: &[TxHash], answers: Vec<ResponseCheckTx>) {
        self.counters.counted.rechecked(hashes.len());
        for (hash, _) in hashes.iter().zip(answers).filter(|(_, answer)| answer.code != 0) {
            if let Some(entry) = self.pool.remove(hash) {
                self.age.left(&entry);
                self.counters.counted.evicted();
            }
            if !self.parts.settings.keep_invalid {
                self.pool.forget(hash);
            }
        }
        if self.recheck.left.is_empty() {
            self.end_of_recheck();
        }
    }

    /// Begins anew where another block was executed meanwhile.
    fn end_of_recheck(&mut self) {
        if self.recheck.again {
            self.begin_recheck();
        } else {
            self.recheck.since = None;
        }
    }

    /// The application is about to commit a block: it is asked nothing from here on, and `reply` is told once it has answered what it is
    /// being asked.
    pub(super) fn hold(&mut self, reply: Sender<()>) {
        self.held = true;
        self.commits = Some(reply);
        self.let_commit();
    }

    /// Tells who has the application commit a block to go on, where nothing is under way or it has been for too long.
    pub(super) fn let_commit(&mut self) {
        let until = self.under_way.as_ref().and_then(UnderWay::awaited_until);
        let late = until.is_some_and(|until| Instant::now() >= until);
        if until.is_some() && !late {
            return;
        }
        let Some(commits) = self.commits.take() else { return };
        if late && let Some(before) = self.late_lines.line((), Instant::now()) {
            tracing::warn!(
                before,
                "the application has not answered CheckTx within {} ms: Commit no longer waits for it, and what it answers may be about the \
                 state before; see to the application",
                HOLD_MAX.as_millis()
            );
        }
        // Who waits has ended where this fails.
        let _ = commits.send(());
    }
}

/// How many transactions to ask about at a time where `asked` took so long; fewer than `chunk` say nothing of how fast the application is.
fn next_chunk(chunk: usize, asked: usize, took: Duration) -> usize {
    let next = if took < CALL_TIME / 2 {
        if asked == chunk { chunk * 2 } else { chunk }
    } else if took > CALL_TIME * 2 {
        chunk / 2
    } else {
        chunk
    };
    next.clamp(1, CHECK_MAX)
}

/// In CometBFT's words (`mempool.PostCheckMaxGas`).
fn too_much_gas(wanted: i64, max: i64) -> PoolError {
    PoolError::Unavailable(format!("gas wanted {wanted} is greater than max gas {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_asked_about_at_a_time_as_take_four_milliseconds() {
        let mut chunk = CHECK_BEGIN;
        for _ in 0..10 {
            assert_eq!(next_chunk(chunk, chunk - 1, Duration::ZERO), chunk, "a few say nothing");
            chunk = next_chunk(chunk, chunk, Duration::from_micros(100));
        }
        assert_eq!(chunk, CHECK_MAX);
        assert_eq!(next_chunk(chunk, chunk, CALL_TIME), chunk);
        for _ in 0..10 {
            chunk = next_chunk(chunk, 1, Duration::from_millis(50));
        }
        assert_eq!(chunk, 1);
        assert_eq!(next_chunk(chunk, 1, Duration::ZERO), 2);
    }
}
