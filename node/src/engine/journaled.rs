//! The replica and its journal, both private: the only way to step. So "sent before durable" cannot be written anywhere else.

use super::EngineError;
use super::outside::{Records, Watermark};
use super::signer::Signer;
use bytes::Bytes;
use std::collections::VecDeque;
use tendermint::Time;
use tendermint::block::Height;
use tercet_consensus::message::{Message, SignRequest, Vote};
use tercet_consensus::record::Record;
use tercet_consensus::replica::{Action, Input, Replica};

/// Signing is reserved in steps of so many heights.
pub const RESERVATION_HEIGHTS: u64 = 64;

/// A replica whose records are durable before its messages leave.
pub struct Journaled {
    replica: Replica,
    journal: Box<dyn Records>,
    signer: Option<Box<dyn Signer>>,
    chain_id: String,
    /// `priv_validator_state.json`.
    watermark: Box<dyn Watermark>,
    /// Signing is allowed up to this height without another reservation.
    reserved: Option<Height>,
    /// The highest height of which the journal had records at the start; none once the replica has been there.
    restore_upto: Option<Height>,
}

/// What a [`Journaled`] is made of.
pub struct Parts {
    /// The replica, at the height to go on with.
    pub replica: Replica,
    /// Its journal.
    pub journal: Box<dyn Records>,
    /// The validator key; none for a full node.
    pub signer: Option<Box<dyn Signer>>,
    /// The chain.
    pub chain_id: String,
    /// `priv_validator_state.json`.
    pub watermark: Box<dyn Watermark>,
}

impl Journaled {
    /// Replica and journal, from now on inseparable.
    #[must_use]
    pub fn new(parts: Parts) -> Journaled {
        let Parts { replica, journal, signer, chain_id, watermark } = parts;
        let reserved = journal.reserved();
        Journaled { replica, journal, signer, chain_id, watermark, reserved, restore_upto: None }
    }

    /// The replica, to look at.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Replays the durable records of the replica's height: at the start, and at each height after it of which the journal has some.
    /// The replica is held meanwhile, so it asks for nothing to be signed; the caller lets it go when [`Journaled::is_restoring`] says so.
    ///
    /// # Errors
    /// Where the journal cannot be read, or the disk fails.
    pub fn restore(&mut self, now: Time) -> Result<Vec<Action>, EngineError> {
        let height = self.replica.height();
        self.restore_upto = self.journal.last_height().map_err(EngineError::Journal)?;
        let mut inputs = vec![Input::Hold(true)];
        let records = self.journal.records(height).map_err(EngineError::Journal)?;
        inputs.extend(records.into_iter().map(Input::Restored));
        let mut actions = self.step(inputs, now, &mut |_| {})?;
        actions.retain(|action| matches!(action, Action::Decide(_) | Action::Alarm(_)));
        Ok(actions)
    }

    /// Whether the journal has records of heights that the replica has not reached yet.
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        self.restore_upto.is_some_and(|upto| self.replica.height() < upto)
    }

    /// The highest height at which this key may have signed something that the journal knows of.
    #[must_use]
    pub fn signed_upto(&self) -> Height {
        self.restore_upto.map_or(self.replica.height(), |upto| upto.max(self.replica.height()))
    }

    /// Steps through `inputs`, signs what is to be signed (`now` is the time of COMMITs), makes every record durable with one sync, and only then returns what may
    /// leave. `early` gets, before the sync, what does not leave the machine and the bodies of blocks, which bind nobody; but not what the
    /// application is asked after a decision.
    ///
    /// # Errors
    /// Where the disk fails; then nothing of this batch may leave, and the process ends.
    pub fn step(
        &mut self,
        inputs: Vec<Input>,
        now: Time,
        early: &mut dyn FnMut(Action),
    ) -> Result<Vec<Action>, EngineError> {
        let mut queue = VecDeque::from(inputs);
        let mut records = Vec::new();
        let (mut late, mut decided) = (Vec::new(), false);
        while let Some(input) = queue.pop_front() {
            for action in self.replica.step(input) {
                match action {
                    Action::Persist(record) => records.push(record),
                    // The application extends it first: [`Journaled::extend`] signs it.
                    Action::Sign(SignRequest::Vote { extend: true, .. }) => {
                        self.reserve()?;
                        late.push(action);
                    }
                    Action::Sign(request) => {
                        self.reserve()?;
                        let signed = self
                            .signer
                            .as_mut()
                            .and_then(|signer| signer.sign(&self.chain_id, request, now));
                        queue.extend(signed.map(Input::Signed));
                    }
                    // The application executes a decided block before it is asked about the next height: behind a decision what it is
                    // asked stays there.
                    Action::Propose { .. } | Action::Validate(_) | Action::VerifyExtension(_)
                        if !decided =>
                    {
                        early(action);
                    }
                    Action::Arm { .. } | Action::Note(_) | Action::Broadcast(Message::Block(_)) => {
                        early(action);
                    }
                    _ => {
                        decided |= matches!(action, Action::Decide(_));
                        late.push(action);
                    }
                }
            }
        }
        self.persist(&records)?;
        Ok(late)
    }

    /// Signs the COMMIT that the replica asked for, with the extension that the application gave it.
    pub fn extend(&mut self, vote: Vote, data: Bytes, now: Time) -> Option<Input> {
        let signer = self.signer.as_mut()?;
        signer.extend(&self.chain_id, vote, data, now).map(Input::Signed)
    }

    /// Forgets the records below `height`. The chain database holds those heights durably.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn prune_below(&mut self, height: Height) -> Result<(), EngineError> {
        self.journal.prune_below(height).map_err(EngineError::Journal)
    }

    fn persist(&mut self, records: &[Record]) -> Result<(), EngineError> {
        if records.is_empty() {
            return Ok(());
        }
        self.journal.append(records).map_err(EngineError::Journal)
    }

    /// Before the first signature at a height above the reservation: reserve up to [`RESERVATION_HEIGHTS`] more, first in the journal,
    /// then in `priv_validator_state.json`, each synced.
    fn reserve(&mut self) -> Result<(), EngineError> {
        let height = self.replica.height();
        if self.reserved.is_some_and(|reserved| height <= reserved) {
            return Ok(());
        }
        let (begin, upto) = step_of(height);
        // Where signing begins again after many heights, the file follows up to where the step begins, so that it is never more than
        // one step behind. A crash in between leaves it ahead, of heights that the chain has passed.
        self.raise_file(begin)?;
        let reserved =
            Height::try_from(upto).map_err(|error| EngineError::Reservation(error.to_string()))?;
        self.journal.reserve(reserved).map_err(EngineError::Journal)?;
        self.raise_file(upto)?;
        self.reserved = Some(reserved);
        Ok(())
    }

    /// Notes on disk that nothing may be signed up to `until`: the file is then ahead of the journal, also for the next start.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn mark_stale(&mut self, until: Height) -> Result<(), EngineError> {
        self.raise_file(until.value())
    }

    /// Raises the reservation in the file; never lowers it.
    fn raise_file(&mut self, upto: u64) -> Result<(), EngineError> {
        match self.watermark.load()? {
            Some(height) if height >= upto => Ok(()),
            _ => self.watermark.save(upto),
        }
    }
}

/// The step of reservations that holds `height`: above the first, up to the second.
pub(super) fn step_of(height: Height) -> (u64, u64) {
    let upto = height.value().div_ceil(RESERVATION_HEIGHTS).saturating_mul(RESERVATION_HEIGHTS);
    (upto.saturating_sub(RESERVATION_HEIGHTS), upto)
}

/// What the reservations on disk say at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Journal and file agree, or the file lacks the last step of an interrupted write.
    Sound,
    /// The data is older than the key's use, or not this key's: sign nothing up to this height.
    Stale(Height),
}

/// Compares the journal's reservation with the file's. A file one reservation behind its journal is an interrupted write; on any other
/// difference the data is stale.
///
/// | journal | file | |
/// |---|---|---|
/// | none | none or 0 | a fresh home |
/// | R | R | sound |
/// | R | R less at most one step, 0 included | an interrupted write |
/// | R | further behind | the file is of an older moment: stale |
/// | R | none | the file is lost, and with it what would tell an old journal: stale |
/// | none or R | above | the journal is lost or of an older moment: stale |
///
/// Where both are of the same older moment nothing here tells; what peers show of this key does.
#[must_use]
pub fn compare(journal: Option<Height>, file: Option<Height>) -> Reservation {
    let value = |height: Option<Height>| height.map_or(0, |height| height.value());
    let (journal_at, file_at) = (value(journal), value(file));
    let interrupted =
        file.is_some() && journal_at > file_at && journal_at - file_at <= RESERVATION_HEIGHTS;
    if journal_at == file_at || interrupted {
        return Reservation::Sound;
    }
    journal.max(file).map_or(Reservation::Sound, Reservation::Stale)
}

#[cfg(test)]
#[path = "journaled_tests.rs"]
mod tests;
