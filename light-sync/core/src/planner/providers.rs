//! The providers: whom to ask next, how much at once, and who is not asked any more.

use super::request::{Claim, Failure, Fault, ProviderId};
use crate::header::Height;
use crate::options::TrustRoot;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The most providers.
pub const PROVIDERS_MAX: usize = 64;
/// The most requests that wait for one provider.
pub const WINDOW_MAX: usize = 8;
/// How many comparisons more may wait for one provider, so that they never wait behind headers: a witness is heard in time.
const COMPARISONS_MAX: usize = 16;
/// The longest back-off.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// The first back-off.
const BACK_OFF: Duration = Duration::from_millis(250);

/// What a provider is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Headers, blocks and comparisons.
    Provider,
    /// Comparisons alone.
    Witness,
}

#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) role: Role,
    pub(super) refused: Option<Fault>,
    pub(super) claim: Option<Claim>,
    /// Whether its claim contradicts the local clock.
    pub(super) off_clock: bool,
    /// Whether it has to show a chain of its own: meanwhile it is asked for nothing else.
    pub(super) disputed: bool,
    /// When to ask for its status.
    pub(super) status_at: Time,
    /// How often it claimed a height that it then did not have.
    overclaims: u32,
    busy: usize,
    window: usize,
    failures: u32,
    not_before: Time,
    used: u64,
}

/// Whom to choose from.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice<'a> {
    /// The height that it has to have, by what it says.
    pub(super) height: Option<Height>,
    /// Who not.
    pub(super) not: Option<&'a BTreeSet<ProviderId>>,
}

#[derive(Debug, Default)]
pub(super) struct Providers {
    all: BTreeMap<ProviderId, Provider>,
    used: u64,
}

impl Providers {
    pub(super) fn add(&mut self, id: ProviderId, role: Role) -> bool {
        if self.all.len() >= PROVIDERS_MAX || self.all.contains_key(&id) {
            return false;
        }
        let provider = Provider {
            role,
            refused: None,
            claim: None,
            off_clock: false,
            disputed: false,
            status_at: Time::MIN,
            overclaims: 0,
            busy: 0,
            window: 2,
            failures: 0,
            not_before: Time::MIN,
            used: 0,
        };
        self.all.insert(id, provider);
        true
    }

    pub(super) fn remove(&mut self, id: ProviderId) {
        self.all.remove(&id);
    }

    pub(super) fn get(&self, id: ProviderId) -> Option<&Provider> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ProviderId) -> Option<&mut Provider> {
        self.all.get_mut(&id)
    }

    /// Those that are not refused.
    pub(super) fn good(&self) -> impl Iterator<Item = (ProviderId, &Provider)> {
        self.all.iter().filter(|(_, p)| p.refused.is_none()).map(|(id, p)| (*id, p))
    }

    /// Why each refused one is.
    pub(super) fn refused(&self) -> impl Iterator<Item = (ProviderId, &Fault)> {
        self.all.iter().filter_map(|(id, p)| p.refused.as_ref().map(|fault| (*id, fault)))
    }

    /// Whether it can be asked now.
    pub(super) fn is_ready(&self, id: ProviderId, now: Time) -> bool {
        let ready = |p: &Provider| p.refused.is_none() && p.not_before <= now && p.busy < p.window;
        self.all.get(&id).is_some_and(ready)
    }

    /// Whether it can be asked for a comparison now.
    pub(super) fn is_ready_to_compare(&self, id: ProviderId, now: Time) -> bool {
        let ready = |p: &Provider| {
            p.refused.is_none() && p.not_before <= now && p.busy < p.window + COMPARISONS_MAX
        };
        self.all.get(&id).is_some_and(ready)
    }

    /// Who to ask now: of those who can be asked the one with the fewest requests and failures, and in turns.
    pub(super) fn pick(&self, choice: &Choice<'_>, now: Time) -> Option<ProviderId> {
        let has = |p: &Provider| match (choice.height, &p.claim) {
            (Some(height), Some(claim)) => (claim.first..=claim.last).contains(&height),
            (Some(_), None) => false,
            (None, _) => true,
        };
        self.all
            .iter()
            .filter(|(id, _)| self.is_ready(**id, now))
            .filter(|(id, _)| choice.not.is_none_or(|not| !not.contains(id)))
            .filter(|(_, p)| !p.disputed && p.role == Role::Provider)
            .filter(|(_, p)| has(p))
            .min_by_key(|(id, p)| (p.busy, p.failures, p.used, **id))
            .map(|(id, _)| *id)
    }

    pub(super) fn asked(&mut self, id: ProviderId) {
        self.used += 1;
        if let Some(provider) = self.all.get_mut(&id) {
            provider.busy += 1;
            provider.used = self.used;
        }
    }

    pub(super) fn answered(&mut self, id: ProviderId) {
        if let Some(provider) = self.all.get_mut(&id) {
            provider.busy = provider.busy.saturating_sub(1);
            provider.failures = 0;
            provider.window = (provider.window + 1).min(WINDOW_MAX);
        }
    }

    /// A request that is over without an answer that can be used.
    pub(super) fn failed(&mut self, id: ProviderId, failure: &Failure, now: Time) {
        let Some(provider) = self.all.get_mut(&id) else { return };
        provider.busy = provider.busy.saturating_sub(1);
        match failure {
            // It has answered, just not what was hoped for.
            Failure::NotYet | Failure::Gone | Failure::Malformed(_) => {}
            Failure::Busy(wait) => {
                provider.window = (provider.window / 2).max(1);
                provider.not_before = now.after((*wait).clamp(BACK_OFF, BACK_OFF_MAX));
            }
            Failure::Unavailable => {
                provider.window = (provider.window / 2).max(1);
                provider.not_before = now.after(back_off(provider.failures));
                provider.failures = provider.failures.saturating_add(1);
            }
        }
    }

    /// It is left alone for the longest back-off.
    pub(super) fn rest(&mut self, id: ProviderId, now: Time) {
        if let Some(provider) = self.all.get_mut(&id) {
            provider.not_before = now.after(BACK_OFF_MAX);
        }
    }

    /// Takes what a provider says about itself; false where it is of another chain.
    pub(super) fn claimed(&mut self, id: ProviderId, claim: Claim, root: &TrustRoot) -> bool {
        let other_genesis = match (&claim.genesis_hash, &root.genesis_hash) {
            (Some(theirs), Some(ours)) => theirs != ours,
            _ => false,
        };
        if claim.chain_id != root.chain_id || other_genesis {
            return false;
        }
        if let Some(provider) = self.all.get_mut(&id) {
            let is_range =
                |claim: &Claim| claim.first <= claim.last && i64::try_from(claim.last).is_ok();
            provider.claim = Some(claim).filter(is_range);
        }
        true
    }

    /// It claimed a height that it does not have: what it says counts for nothing until it is asked again, ever later.
    pub(super) fn overclaimed(&mut self, id: ProviderId, now: Time) {
        if let Some(provider) = self.all.get_mut(&id) {
            provider.claim = None;
            provider.status_at = now.after(back_off(provider.overclaims + 1));
            provider.overclaims = provider.overclaims.saturating_add(1);
        }
    }

    /// The highest height that two say they have; that one says it has, where there is only one.
    pub(super) fn attested(&self) -> Option<Height> {
        let claims = self.good().filter_map(|(_, p)| p.claim.as_ref());
        let mut heights: Vec<Height> = claims.map(|claim| claim.last).collect();
        heights.sort_unstable_by(|a, b| b.cmp(a));
        heights.get(1).or(heights.first()).copied()
    }
}

/// A quarter of a second, doubled with each failure, at most a minute.
fn back_off(failures: u32) -> Duration {
    BACK_OFF.saturating_mul(2u32.saturating_pow(failures.min(16))).min(BACK_OFF_MAX)
}
