//! Witnesses: every anchor is compared with every other provider. Only an equal hash is an agreement; no answer is none.

use super::desk::Job;
use super::request::{Answer, Failure, Fault, ProviderId, What};
use super::{Event, Planner};
use crate::block::TrustedBlock;
use crate::hash::Hash;
use crate::header::Height;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where so many anchors wait to be confirmed, no more are verified; and so many confirmed ones are still watched.
pub const AUDITS_MAX: usize = 32;
/// When to ask again who could not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// The comparison of one anchor.
#[derive(Debug)]
pub(super) struct Audit {
    hash: Hash,
    source: Option<ProviderId>,
    agree: BTreeSet<ProviderId>,
    /// Who could not answer, and when to ask again.
    again: BTreeMap<ProviderId, Time>,
    /// Who does not have this height yet. They are asked again even when it is confirmed: where the true chain never gets there, or
    /// late, the anchor is not of it.
    behind: BTreeSet<ProviderId>,
    since: Time,
    confirmed: bool,
}

impl Audit {
    pub(super) fn forget(&mut self, provider: ProviderId) {
        self.agree.remove(&provider);
        self.behind.remove(&provider);
    }
}

impl Planner {
    pub(super) fn open_audit(&mut self, block: &TrustedBlock, source: Option<ProviderId>) {
        let audit = Audit {
            hash: block.hash(),
            source,
            agree: BTreeSet::new(),
            again: BTreeMap::new(),
            behind: BTreeSet::new(),
            since: self.now,
            confirmed: false,
        };
        self.audits.insert(block.height(), audit);
    }

    pub(super) fn plan_audits(&mut self) {
        let now = self.now;
        let heights: Vec<Height> = self.audits.keys().copied().collect();
        for height in heights {
            let ids: Vec<ProviderId> = self.providers.good().map(|(id, _)| id).collect();
            for id in ids {
                if self.is_to_compare(height, id) && self.providers.is_ready_to_compare(id, now) {
                    self.ask(id, What::Header(height), Job::Audit(height));
                }
            }
            self.settle_audit(height);
        }
        self.prune_audits();
    }

    fn is_to_compare(&self, height: Height, id: ProviderId) -> bool {
        let Some(audit) = self.audits.get(&height) else { return false };
        let waits = match audit.again.get(&id) {
            Some(again) => (audit.confirmed && !audit.behind.contains(&id)) || *again > self.now,
            None => false,
        };
        let asked = |job| self.desk.is_asked(job, id);
        audit.source != Some(id)
            && !waits
            && !audit.agree.contains(&id)
            && !self.disputes.contains_key(&id)
            && !asked(Job::Audit(height))
            && !asked(Job::Latest(height))
    }

    /// Confirms an anchor with which enough agree, and forgets one about which nobody is left to ask.
    fn settle_audit(&mut self, height: Height) {
        let waiting =
            self.desk.is_waiting(Job::Audit(height)) || self.desk.is_waiting(Job::Latest(height));
        // Who contradicts an anchor contradicts all above it.
        let disputed = self.disputes.values().any(|dispute| dispute.height() <= height);
        let unheard = self.providers.good().any(|(id, _)| self.is_unheard(height, id));
        let Some(audit) = self.audits.get_mut(&height) else { return };
        let patient = (waiting || unheard) && self.now < audit.since.after(self.config.grace);
        if !audit.confirmed && audit.agree.len() >= self.config.witnesses && !patient && !disputed {
            audit.confirmed = true;
            let by = audit.agree.iter().copied().collect();
            self.anchors.confirmed = self.anchors.confirmed.max(Some(height));
            self.desk.tell(Event::Confirmed { height, hash: audit.hash, by });
        }
        if audit.confirmed && !waiting && !disputed && !unheard && audit.behind.is_empty() {
            self.audits.remove(&height);
        }
    }

    /// Whether a provider has not been compared at all, as one that was too busy.
    fn is_unheard(&self, height: Height, id: ProviderId) -> bool {
        self.audits.get(&height).is_some_and(|audit| {
            audit.source != Some(id)
                && !audit.agree.contains(&id)
                && !audit.again.contains_key(&id)
                && !self.disputes.contains_key(&id)
        })
    }

    /// How many anchors are not confirmed.
    pub(super) fn unconfirmed(&self) -> usize {
        self.audits.values().filter(|audit| !audit.confirmed).count()
    }

    /// Of confirmed anchors the latest are watched until those who are behind get there.
    fn prune_audits(&mut self) {
        let confirmed = self.audits.iter().filter(|(_, audit)| audit.confirmed);
        let heights: Vec<Height> = confirmed.map(|(height, _)| *height).collect();
        let over = heights.len().saturating_sub(AUDITS_MAX);
        heights.iter().take(over).for_each(|height| drop(self.audits.remove(height)));
    }

    pub(super) fn on_audit(
        &mut self,
        height: Height,
        provider: ProviderId,
        response: Result<Answer, Failure>,
    ) {
        let overdue = self.now >= self.overdue_since(height);
        let Some(audit) = self.audits.get_mut(&height) else { return };
        match &response {
            Ok(_) => drop(audit.behind.remove(&provider)),
            Err(Failure::NotYet) => drop(audit.behind.insert(provider)),
            Err(_) => {}
        }
        match response {
            Ok(Answer::Header(header)) => {
                if header.height() != height {
                    self.refuse(provider, Fault::NotAsked);
                } else if header.chain_id() != self.config.root.chain_id.as_bytes() {
                    self.refuse(provider, Fault::OtherChain);
                } else if header.hash() == audit.hash {
                    audit.agree.insert(provider);
                } else {
                    let root = height == self.config.root.height;
                    let fault =
                        if root { Fault::OtherRoot(height) } else { Fault::Unproven(height) };
                    self.open_dispute(provider, height, fault);
                }
            }
            Err(Failure::NotYet) if overdue => {
                self.ask(provider, What::Block(None), Job::Latest(height));
            }
            _ => drop(audit.again.insert(provider, self.now.after(AGAIN))),
        }
    }

    /// From when on a witness that does not have this height is suspicious: two drifts and a lag after it was verified.
    fn overdue_since(&self, height: Height) -> Time {
        let since = self.audits.get(&height).map_or(Time::MAX, |audit| audit.since);
        let drift = self.config.options.clock_drift;
        since.after(drift.saturating_mul(2)).after(self.config.block_lag)
    }

    /// The latest block of a witness that does not have an anchor's height. If its chain has passed the anchor's time below the
    /// anchor's height, one of the two is no chain: a forward lunatic attack.
    pub(super) fn on_latest(
        &mut self,
        height: Height,
        provider: ProviderId,
        response: Result<Answer, Failure>,
    ) {
        if let Some(audit) = self.audits.get_mut(&height) {
            audit.again.insert(provider, self.now.after(AGAIN));
        }
        let Ok(Answer::Block(block)) = response else { return };
        let Some(ours) = self.anchors.all.get(&height).map(|anchor| anchor.block.header().time())
        else {
            return;
        };
        match self.bind(*block, None) {
            Ok(theirs) if theirs.height() < height && theirs.header().time() >= ours => {
                self.open_forward_dispute(provider, height, theirs);
            }
            Ok(_) => {}
            Err(fault) => self.refuse(provider, fault),
        }
    }
}
