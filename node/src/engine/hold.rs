//! Why nothing is signed, for the moment or for long. Source: docs/protocol.md §8.
//!
//! Data may be older than the key's use: restored from a copy, or one of two copies. What this key signed at a height that is not
//! decided is held by the peers, so after a restart nothing is signed before they were heard about the height where the chain is now:
//! each STATUS says whose votes its sender holds. A claim alone stops nobody; the signature itself, which comes with the answer to
//! STATUS, proves that the data is stale. So does an entry of a decided block's commit, for what nobody shows any more: where the heights
//! go by fast, and where the other copy goes on signing.

use super::journaled::{RESERVATION_HEIGHTS, step_of};
use super::run::Engine;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tendermint::block::Height;
use tercet_consensus::key::Address;
use tercet_consensus::message::{Certificate, Decided, PrePrepare, Vote};
use tercet_consensus::replica::{Input, Replica, VOTE_VIEWS_MAX};
use tercet_consensus::status::{Bitmap, Status};
use tercet_consensus::validators::ValidatorIndex;
use tercet_consensus::view::View;

/// Why nothing is signed.
#[derive(Debug)]
pub struct Hold {
    restart: Option<Restart>,
    /// Sign nothing up to this height: the data is stale.
    pub stale_until: Option<Height>,
    /// Another node has the key.
    pub key_elsewhere: bool,
    /// The journal has records of later heights.
    pub restoring: bool,
    /// Decided blocks are coming in.
    pub ingesting: bool,
    /// They prolong the wait after a restart.
    pub following: bool,
    /// Since when peers have decided no more than this replica, but for the height that it is at.
    caught_up: Option<Instant>,
    /// What the replica was told last.
    pub told: bool,
    /// While it is held: the highest height at which it may have signed something.
    signed_upto: Option<Height>,
    /// The height of each validator's first STATUS, until this replica signs.
    first: BTreeMap<Address, Height>,
    /// [`Hold::started_at`], once it signs.
    started_at: Option<Height>,
}

/// After a restart, until peers were heard.
#[derive(Debug)]
struct Restart {
    /// When it ends all the same.
    until: Instant,
    heard: BTreeMap<Address, Heard>,
}

/// What a validator told since the start.
#[derive(Debug)]
struct Heard {
    /// The height of its first STATUS. What this key signed before the start was signed no later than at the height after it.
    first: Height,
    /// Its last STATUS.
    last: Status,
}

impl Hold {
    /// After a start: until peers were heard or `until` has passed.
    #[must_use]
    pub fn new(until: Instant, stale_until: Option<Height>) -> Hold {
        Hold {
            restart: Some(Restart { until, heard: BTreeMap::new() }),
            stale_until,
            key_elsewhere: false,
            restoring: false,
            ingesting: false,
            following: false,
            caught_up: None,
            told: false,
            signed_upto: None,
            first: BTreeMap::new(),
            started_at: None,
        }
    }

    /// Notes what the replica is told; `signed_upto` is the highest height at which it may have signed something so far.
    fn tell(&mut self, hold: bool, signed_upto: Height, replica: &Replica, me: Option<Address>) {
        self.told = hold;
        self.signed_upto = hold.then(|| self.signed_upto.unwrap_or(signed_upto));
        if !hold {
            self.started_at = self.started_at(replica, me);
            self.first.clear();
        }
    }

    /// A validator's STATUS. Who is no validator of the replica's height is not heard: anyone can prove to have a key, and the wait may
    /// be long.
    pub fn hear(&mut self, validator: Address, status: &Status, replica: &Replica) {
        let is_member = |address: &Address| replica.validators().index_of(address).is_some();
        if !is_member(&validator) {
            return;
        }
        if self.started_at.is_none() {
            self.first.retain(|address, _| is_member(address));
            self.first.entry(validator).or_insert(status.height);
        }
        let Some(restart) = &mut self.restart else { return };
        restart.heard.retain(|address, _| is_member(address));
        let new = || Heard { first: status.height, last: status.clone() };
        restart.heard.entry(validator).or_insert_with(new).last = status.clone();
    }

    /// Where the chain was when this process started: more than a third of the power of the others was there or above, so one that is
    /// correct was. What this key signed before the start it signed no later than at the height after it. None before they were heard.
    fn started_at(&self, replica: &Replica, me: Option<Address>) -> Option<Height> {
        let others = || replica.validators().list().iter().filter(|v| Some(v.address) != me);
        let power = |at_least: Height| {
            let there = others().filter(|v| self.first.get(&v.address) >= Some(&at_least));
            there.map(|validator| validator.power).fold(0, u64::saturating_add)
        };
        let total = others().map(|validator| validator.power).fold(0, u64::saturating_add);
        let heights = self.first.values().copied();
        self.started_at.or_else(|| heights.filter(|height| power(*height) > total / 3).max())
    }

    /// When the wait after a restart ends by the clock.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.restart.as_ref().map(|restart| restart.until)
    }

    /// A full node signs nothing anyway.
    pub fn nobody_waits(&mut self) {
        self.restart = None;
    }

    /// Notes whether decided blocks are `coming` in, and whether peers are ahead by more than the height that is being decided.
    ///
    /// Blocks that still come in once it has caught up hold it for `timeout` more: meanwhile it hears what this key signs elsewhere. Not for
    /// longer: a validator that a faulty one keeps a height behind, block by block, would never vote again.
    pub fn follow(&mut self, coming: bool, behind: bool, now: Instant, timeout: Duration) {
        self.caught_up = if behind { None } else { self.caught_up.or(Some(now)) };
        let settled = self.caught_up.is_some_and(|since| now >= since + timeout);
        self.following = coming && !settled;
    }

    /// Ends the wait after a restart where peers were heard or its time has passed; blocks that come in prolong it by `timeout`.
    pub fn end_restart(
        &mut self,
        now: Instant,
        timeout: Duration,
        replica: &Replica,
        me: Option<Address>,
    ) {
        let Some(restart) = &mut self.restart else { return };
        if self.following {
            restart.until = restart.until.max(now + timeout);
        }
        if now >= restart.until || restart.heard_enough(replica, me) {
            self.restart = None;
        }
    }

    /// Why nothing is signed, in words.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        if self.key_elsewhere {
            Some("another node holds this validator key")
        } else if self.stale_until.is_some() {
            Some("the data is older than the key's use")
        } else if self.restoring {
            Some("replaying the journal")
        } else if self.ingesting {
            Some("catching up")
        } else if self.restart.is_some() {
            Some("restarted: waiting to hear from peers")
        } else {
            None
        }
    }
}

impl Restart {
    /// More than a third of the power of the others told enough, or there is no other.
    fn heard_enough(&self, replica: &Replica, me: Option<Address>) -> bool {
        let mine = me.and_then(|me| replica.validators().index_of(&me));
        let own = replica.status([]);
        let told = |heard: &Heard| {
            let passed = heard.first.increment() < own.height;
            let shows = heard.last.height == own.height
                && mine.is_some_and(|mine| shows_more(&heard.last, &own, mine));
            passed || (heard.last.height <= own.height && !shows)
        };
        let others = replica.validators().list().iter().filter(|v| Some(v.address) != me);
        let (mut total, mut enough) = (0u64, 0u64);
        for validator in others {
            total = total.saturating_add(validator.power);
            if self.heard.get(&validator.address).is_some_and(told) {
                enough = enough.saturating_add(validator.power);
            }
        }
        total == 0 || enough > total / 3
    }
}

/// Whether `theirs` shows a signature of `mine` at this height that `own` lacks.
fn shows_more(theirs: &Status, own: &Status, mine: ValidatorIndex) -> bool {
    let more = |theirs: &[(View, Bitmap)], own: &[(View, Bitmap)]| {
        let has = |all: &[(View, Bitmap)], view| {
            all.iter().any(|(other, votes)| *other == view && votes.has(mine))
        };
        theirs.iter().any(|(view, votes)| votes.has(mine) && !has(own, *view))
    };
    let asked = |status: &Status| {
        status.view_changes.iter().find(|(index, _)| *index == mine).map(|(_, view)| *view)
    };
    more(&theirs.prepares, &own.prepares)
        || more(&theirs.commits, &own.commits)
        || asked(theirs) > asked(own)
}

impl Engine {
    /// A valid signature of this key that the journal lacks: the data is stale, or another node has the key.
    pub(super) fn note_foreign(&mut self, input: &Input, inputs: &mut Vec<Input>) {
        let (replica, height) = (self.parts.core.replica(), self.height());
        let Some(me) = self.me else { return };
        let primary = |height: Height, view: View| {
            let info = self.parts.sets.at(height)?;
            info.validators.at(info.schedule.primary(height, view)).map(|v| v.address)
        };
        let here = replica.is_validator()
            && shows_foreign(input, replica, me, |view| primary(height, view));
        if here || shows_later(input, self.parts.core.signed_upto(), me, primary) {
            self.hold_now(inputs);
            self.note_stale(height);
        }
    }

    /// Another node has the key where the commit of a decided block, or the one before, holds an entry of this key that was made after the
    /// start of this process, and not by it. One from before may be of an earlier life of this node, which is over.
    pub(super) fn note_foreign_commits(&mut self, decided: &Decided) {
        let (Some(me), Some((start, upto))) = (self.me, self.signed_upto()) else { return };
        let replica = self.parts.core.replica();
        let commits = [decided.block.last_commit(), Some(&decided.commit)];
        let signed = commits.into_iter().flatten().filter(|commit| {
            let mut entries = commit.present().filter_map(|index| commit.vote(index));
            let own = entries.find(|(vote, _)| vote.validator == me);
            own.is_some_and(|(vote, _)| {
                vote.height > upto || (vote.height > start && is_foreign_vote(&vote, replica, me))
            })
        });
        if let Some(height) = signed.map(|commit| commit.height).max() {
            self.note_stale(height.max(self.height()));
        }
    }

    /// The heights above which what this key signed was signed after the start, and by another node. None where the first is not known yet.
    fn signed_upto(&self) -> Option<(Height, Height)> {
        let start = self.hold.started_at(self.parts.core.replica(), self.me)?.increment();
        let signed = self.hold.signed_upto.unwrap_or_else(|| self.parts.core.signed_upto());
        Some((start, signed.max(start)))
    }

    /// A foreign signature was seen at `height`: nothing is signed before the chain is a reservation past it. It is told on disk as well,
    /// because after a restart the peers may show it no more.
    fn note_stale(&mut self, height: Height) {
        // In whole steps, so that a copy that goes on signing costs one sync a step.
        let until = step_of(height).1.saturating_add(RESERVATION_HEIGHTS);
        let until = Height::try_from(until).unwrap_or(height);
        if self.hold.stale_until.is_some_and(|stale| stale >= until) {
            return;
        }
        tracing::error!(
            %height, %until,
            "a peer shows a signature of this validator that its journal lacks: signing nothing until the chain has passed it"
        );
        self.hold.stale_until = Some(until);
        if let Err(error) = self.parts.core.mark_stale(until) {
            self.failure = Some(error);
        }
    }

    /// Holds the replica before the rest of this batch.
    pub(super) fn hold_now(&mut self, inputs: &mut Vec<Input>) {
        if !self.hold.told {
            inputs.push(Input::Hold(true));
        }
        self.tell_hold(true);
    }

    /// Notes what the replica is told.
    pub(super) fn tell_hold(&mut self, hold: bool) {
        let core = &self.parts.core;
        self.hold.tell(hold, core.signed_upto(), core.replica(), self.me);
    }

    pub(super) fn update_hold(&mut self, inputs: &mut Vec<Input>) {
        let now = self.now.instant;
        let timeout = self.parts.pace.timeout();
        let coming = self.parts.sync.ingesting_until().is_some_and(|until| now < until);
        self.hold.follow(coming, self.parts.sync.is_behind(), now, timeout);
        self.hold.ingesting = self.hold.following || !self.ahead.is_empty();
        let replica = self.parts.core.replica();
        self.hold.end_restart(now, timeout, replica, self.me);
        if self.hold.stale_until.is_some_and(|until| self.height() > until) {
            self.hold.stale_until = None;
            tracing::info!("the chain has passed the signing reservation: signing again");
        }
        self.hold.restoring = self.parts.core.is_restoring();
        let hold = self.hold.reason().is_some();
        if hold != self.hold.told {
            self.tell_hold(hold);
            inputs.push(Input::Hold(hold));
        }
    }
}

/// Whether `input`, verified, shows a signature of `me` at the replica's height that the replica did not make: the data is stale, or
/// another node has the key. `primary` is the primary of a height and view.
///
/// What a replica forgets of its own is never taken for foreign: votes of views far back, proposals of views before its own.
#[must_use]
pub fn shows_foreign(
    input: &Input,
    replica: &Replica,
    me: Address,
    primary: impl Fn(View) -> Option<Address>,
) -> bool {
    if replica.is_decided() {
        return false;
    }
    match input {
        Input::Vote(vote) => is_foreign_vote(&vote.message, replica, me),
        Input::ViewChange(message) => {
            let change = &message.signed.message;
            let own = change.validator == me;
            (own && change.height == replica.height() && asks_for_more(change.view, replica, me))
                || message.certificate.as_ref().is_some_and(|c| has_foreign_vote(c, replica, me))
        }
        Input::PrePrepare(message) if message.height() == replica.height() => {
            let own = primary(message.view()) == Some(me);
            (own && is_foreign_proposal(message, replica)) || has_foreign_part(message, replica, me)
        }
        _ => false,
    }
}

/// Whether `input`, verified, shows a signature of `me` at a height above `upto`, the highest at which this journal signed: it is not
/// kept for later, when the replica could take it for its own.
fn shows_later(
    input: &Input,
    upto: Height,
    me: Address,
    primary: impl Fn(Height, View) -> Option<Address>,
) -> bool {
    let voted = |certificate: &Certificate| {
        certificate.votes.iter().any(|vote| vote.message.validator == me)
    };
    match input {
        Input::Vote(vote) => vote.message.height > upto && vote.message.validator == me,
        Input::ViewChange(message) => {
            let change = &message.signed.message;
            change.height > upto
                && (change.validator == me || message.certificate.as_ref().is_some_and(voted))
        }
        Input::PrePrepare(message) if message.height() > upto => {
            let part = message.justification.as_ref().is_some_and(|justification| {
                let mut changes = justification.view_changes.iter();
                changes.any(|signed| signed.message.validator == me)
                    || justification.certificate.as_ref().is_some_and(voted)
            });
            part || primary(message.height(), message.view()) == Some(me)
        }
        _ => false,
    }
}

fn is_foreign_vote(vote: &Vote, replica: &Replica, me: Address) -> bool {
    // Votes of views that lie far back are no longer kept.
    let oldest = u64::from(replica.view().number()).saturating_sub(VOTE_VIEWS_MAX as u64 - 1);
    vote.validator == me
        && vote.height == replica.height()
        && u64::from(vote.view.number()) >= oldest
        && !replica.has_vote(vote)
}

fn has_foreign_vote(certificate: &Certificate, replica: &Replica, me: Address) -> bool {
    certificate.votes.iter().any(|vote| is_foreign_vote(&vote.message, replica, me))
}

/// Whether `view` is above every view that this replica asked for.
fn asks_for_more(view: View, replica: &Replica, me: Address) -> bool {
    let mut own = replica.view_changes().map(|m| &m.signed.message).filter(|m| m.validator == me);
    own.all(|change| change.view < view)
}

fn is_foreign_proposal(message: &PrePrepare, replica: &Replica) -> bool {
    if message.view() != replica.view() {
        // A replica is never below the view of a proposal that it signed.
        return message.view() > replica.view();
    }
    let id = message.block_id();
    !replica.status([]).pre_prepares.contains(&id)
}

/// Whether the justification holds a VIEW-CHANGE or a PREPARE of this key that the replica did not make.
fn has_foreign_part(message: &PrePrepare, replica: &Replica, me: Address) -> bool {
    let Some(justification) = &message.justification else { return false };
    let changes = justification.view_changes.iter().map(|signed| &signed.message);
    let mut own = changes.filter(|change| change.validator == me);
    own.any(|change| asks_for_more(change.view, replica, me))
        || justification.certificate.as_ref().is_some_and(|c| has_foreign_vote(c, replica, me))
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
