//! Anchors: the root, and what is verified from it by skipping.

use super::ascent::{Ascent, Step};
use super::audits::AUDITS_MAX;
use super::desk::Job;
use super::providers::Choice;
use super::request::{Answer, Failure, Fault, ProviderId, What};
use super::{Event, Planner};
use crate::block::{BoundBlock, TrustedBlock, UntrustedBlock};
use crate::header::Height;
use crate::time::Time;
use crate::verify::{Invalid, Signatures, is_expired, verify_commits};
use std::collections::{BTreeMap, BTreeSet};

/// The most anchors that are kept here: the first, and the latest. Disputes look for the last block that both sides share among
/// them.
pub const ANCHORS_MAX: usize = 64;

/// A verified block, and who sent it.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    pub(super) block: TrustedBlock,
    pub(super) source: Option<ProviderId>,
}

#[derive(Debug, Default)]
pub(super) struct Anchors {
    /// By height; the first one is the root, or the lowest that was restored.
    pub(super) all: BTreeMap<Height, Anchor>,
    /// The highest that is confirmed.
    pub(super) confirmed: Option<Height>,
    ascent: Ascent,
    /// Who has been asked for the block that is needed now, in vain.
    tried: BTreeSet<ProviderId>,
    /// Whose root was another one.
    others: BTreeSet<ProviderId>,
}

impl Anchors {
    pub(super) fn top(&self) -> Option<&Anchor> {
        self.all.values().next_back()
    }

    /// Whether somebody answered for the root, and everybody who did has another one.
    pub(super) fn is_root_refuted(&self) -> bool {
        self.all.is_empty() && !self.others.is_empty()
    }

    /// Forgets all but the first and the latest.
    fn prune(&mut self) {
        while self.all.len() > ANCHORS_MAX {
            let second = self.all.keys().nth(1).copied();
            second.and_then(|height| self.all.remove(&height));
        }
    }
}

impl Planner {
    /// Whether trust may be extended now.
    pub(super) fn may_extend(&self) -> bool {
        !self.clock_suspect && self.unconfirmed() < AUDITS_MAX && !self.is_top_expired()
    }

    pub(super) fn is_top_expired(&self) -> bool {
        let time = |anchor: &Anchor| anchor.block.header().time();
        let expired = |time: Time| is_expired(time, &self.config.options, self.now);
        self.anchors.top().map(time).is_some_and(expired)
    }

    pub(super) fn plan_root(&mut self) {
        if !self.anchors.all.is_empty() || self.desk.is_waiting(Job::Root) || self.clock_suspect {
            return;
        }
        let height = self.config.root.height;
        if let Some(provider) = self.pick_untried(height) {
            self.ask(provider, What::Block(Some(height)), Job::Root);
        }
    }

    /// Somebody who says to have the block and has not been asked in vain; everybody again when all have been.
    fn pick_untried(&mut self, height: Height) -> Option<ProviderId> {
        let choice = Choice { height: Some(height), not: Some(&self.anchors.tried) };
        let found = self.providers.pick(&choice, self.now);
        if found.is_none() {
            let can = |p: &super::providers::Provider| p.role == super::Role::Provider;
            let mut good = self.providers.good().filter(|(_, p)| can(p));
            let all_tried = good.all(|(id, _)| self.anchors.tried.contains(&id));
            if all_tried {
                self.anchors.tried.clear();
            }
        }
        found
    }

    pub(super) fn on_root(&mut self, provider: ProviderId, response: Result<Answer, Failure>) {
        self.anchors.tried.insert(provider);
        let Ok(Answer::Block(block)) = response else { return };
        match self.check_root(*block) {
            Ok(block) => {
                self.anchors.tried.clear();
                self.add_anchor(block, Some(provider));
            }
            Err(fault) => {
                if matches!(fault, Fault::OtherRoot(_)) {
                    self.anchors.others.insert(provider);
                }
                self.refuse(provider, fault);
            }
        }
    }

    /// The root is the block with the trusted hash, of the trusted chain, that its own validators have signed.
    fn check_root(&self, block: UntrustedBlock) -> Result<TrustedBlock, Fault> {
        let root = &self.config.root;
        if block.header.hash() != root.hash || block.header.height() != root.height {
            return Err(Fault::OtherRoot(root.height));
        }
        if block.header.chain_id() != root.chain_id.as_bytes() {
            return Err(Fault::OtherChain);
        }
        let block = block.bind()?;
        verify_commits(std::slice::from_ref(&block), Signatures::Quorum)
            .into_iter()
            .collect::<Result<(), Invalid>>()?;
        Ok(TrustedBlock::new(block)?)
    }

    /// Adds the highest anchor: it will be compared, and what is below it filled.
    pub(super) fn add_anchor(&mut self, block: TrustedBlock, source: Option<ProviderId>) {
        let below = self.anchors.top().map(|anchor| anchor.block.clone());
        self.desk.tell(Event::Anchor(Box::new(block.clone()), source));
        self.open_audit(&block, source);
        self.commits.know(block.validators());
        self.commits.know(block.next_validators());
        self.anchors.all.insert(block.height(), Anchor { block: block.clone(), source });
        self.open_segment(&block, below.as_ref());
        self.anchors.prune();
    }

    /// The height to go for: what is needed first, or what two providers say they have.
    fn goal(&self, top: Height) -> Option<Height> {
        if let Some(height) = self.anchors.ascent.need() {
            return Some(height);
        }
        self.providers.attested().filter(|height| *height > top)
    }

    pub(super) fn plan_ascent(&mut self) {
        if self.may_extend()
            && !self.anchors.ascent.is_idle()
            && self.anchors.ascent.need().is_none()
        {
            self.climb();
        }
        let Some(top) = self.anchors.top().map(|anchor| anchor.block.height()) else { return };
        if !self.may_extend() {
            return;
        }
        let Some(height) = self.goal(top) else { return };
        if self.desk.is_waiting(Job::Ascent(height)) {
            return;
        }
        match self.pick_untried(height) {
            Some(provider) => self.ask(provider, What::Block(Some(height)), Job::Ascent(height)),
            None => self.give_up_goal(height),
        }
    }

    /// Nobody has what is needed. Those who can be asked have been: what waits for it is forgotten, and who sent that counts less.
    fn give_up_goal(&mut self, height: Height) {
        let now = self.now;
        let says = |p: &super::providers::Provider| {
            p.claim.as_ref().is_some_and(|claim| (claim.first..=claim.last).contains(&height))
        };
        let may_come =
            self.providers.good().any(|(_, p)| p.role == super::Role::Provider && says(p));
        if may_come || self.anchors.ascent.is_idle() {
            return;
        }
        let senders: Vec<ProviderId> = self.anchors.ascent.senders().collect();
        senders.into_iter().for_each(|sender| self.providers.overclaimed(sender, now));
        self.anchors.ascent.clear();
        self.anchors.tried.clear();
    }

    pub(super) fn on_ascent(
        &mut self,
        provider: ProviderId,
        height: Height,
        response: Result<Answer, Failure>,
    ) {
        match response {
            Ok(Answer::Block(block)) => match self.bind(*block, Some(height)) {
                Ok(block) => {
                    self.anchors.tried.clear();
                    self.anchors.ascent.offer(block, provider);
                    self.climb();
                }
                Err(fault) => self.refuse(provider, fault),
            },
            // It said that it has this height.
            Err(Failure::NotYet | Failure::Gone) => self.providers.overclaimed(provider, self.now),
            _ => drop(self.anchors.tried.insert(provider)),
        }
    }

    /// Checks that a block is the one that was asked for and that its parts belong together.
    pub(super) fn bind(
        &self,
        block: UntrustedBlock,
        height: Option<Height>,
    ) -> Result<BoundBlock, Fault> {
        if height.is_some_and(|height| block.header.height() != height) {
            return Err(Fault::NotAsked);
        }
        if block.header.chain_id() != self.config.root.chain_id.as_bytes() {
            return Err(Fault::OtherChain);
        }
        let block = block.bind()?;
        if block.next_validators().is_none() {
            return Err(Invalid::NextValidatorsHash.into());
        }
        Ok(block)
    }

    /// Verifies what waits, as far as it goes.
    fn climb(&mut self) {
        let options = self.config.options;
        while let Some(top) = self.anchors.top().map(|anchor| anchor.block.clone()) {
            match self.anchors.ascent.step(&top, &options, self.now) {
                Step::Extended(block, source) => self.add_anchor(*block, Some(source)),
                // The block contradicts the anchor, and not itself.
                Step::Refuse(
                    provider,
                    invalid @ (Invalid::NextValidatorsHash | Invalid::TimeOrder),
                ) => {
                    self.open_dispute(provider, top.height(), invalid.into());
                }
                Step::Refuse(provider, invalid) => self.refuse(provider, invalid.into()),
                Step::Future(provider) => self.providers.overclaimed(provider, self.now),
                Step::Idle | Step::Need | Step::Expired => return,
            }
            if self.fork.is_some() || !self.may_extend() {
                return;
            }
        }
    }
}
