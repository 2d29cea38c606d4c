//! The VIEW-CHANGEs of one height, and the J that they make.

use super::ByValidator;
use crate::block::BlockId;
use crate::message::{Justification, PreparedClaim, Verified, ViewChangeMessage};
use crate::validators::{ValidatorIndex, Validators};
use crate::view::View;

/// The highest VIEW-CHANGE of each sender, mine included. What follows from their powers is kept up to date as they arrive.
#[derive(Clone, Debug, Default)]
pub(super) struct ViewChanges {
    highest: ByValidator<Verified<ViewChangeMessage>>,
    /// For the view that I am primary of: the VIEW-CHANGEs whose senders have asked for more since. A quorum that was seen stays one.
    outgrown: ByValidator<Verified<ViewChangeMessage>>,
    blocking: Option<View>,
    quorum: Option<View>,
}

impl ViewChanges {
    /// Keeps `message`, which is higher than what its sender sent before. `mine`: the view that I am primary of.
    pub(super) fn add(
        &mut self,
        message: Verified<ViewChangeMessage>,
        mine: Option<View>,
        validators: &Validators,
    ) {
        self.outgrown.retain(|_, old| Some(old.signed.message.view) == mine);
        let index = message.signed.message.index;
        if let Some(old) = self.highest.insert(index, message)
            && Some(old.signed.message.view) == mine
        {
            self.outgrown.insert(index, old);
        }
        self.blocking = self.find_blocking(validators);
        self.quorum = self.blocking.filter(|view| {
            let exact = self.highest.iter().filter(|(_, m)| m.signed.message.view == *view);
            validators.is_quorum(validators.power_of(exact.map(|(index, _)| *index)))
        });
    }

    fn find_blocking(&self, validators: &Validators) -> Option<View> {
        let views = self.highest.iter().map(|(index, m)| (m.signed.message.view, *index));
        let mut by_view: Vec<(View, ValidatorIndex)> = views.collect();
        by_view.sort_unstable_by(|a, b| b.cmp(a));
        let mut power = 0u64;
        by_view.into_iter().find_map(|(view, index)| {
            power = power.saturating_add(validators.power_at(index));
            validators.is_blocking(power).then_some(view)
        })
    }

    /// The largest u for which blocking power has highest VIEW-CHANGE >= u.
    pub(super) fn blocking_view(&self) -> Option<View> {
        self.blocking
    }

    /// The view for which a quorum of senders has its highest VIEW-CHANGE, exactly. Above it there is less than blocking power, so it
    /// can only be the blocking view, and there is at most one.
    pub(super) fn view_with_quorum(&self) -> Option<View> {
        self.quorum
    }

    /// The view of the highest VIEW-CHANGE of `index`.
    pub(super) fn view_of(&self, index: ValidatorIndex) -> Option<View> {
        self.highest.get(&index).map(|message| message.signed.message.view)
    }

    /// The highest of each sender.
    pub(super) fn all(
        &self,
    ) -> impl Iterator<Item = (&ValidatorIndex, &Verified<ViewChangeMessage>)> {
        self.highest.iter()
    }

    /// How many are kept.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn kept(&self) -> usize {
        self.highest.len() + self.outgrown.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.highest.is_empty()
    }

    /// The power of the senders whose highest VIEW-CHANGE is for `view` or later.
    pub(super) fn power_asking_for(&self, view: View, validators: &Validators) -> u64 {
        let asking = self.highest.iter().filter(|(_, m)| m.signed.message.view >= view);
        validators.power_of(asking.map(|(index, _)| *index))
    }

    /// The blocks that their senders have prepared; each is proven by its certificate.
    pub(super) fn claims(&self) -> impl Iterator<Item = PreparedClaim> + '_ {
        self.highest.values().filter_map(|message| message.signed.message.prepared)
    }

    /// J for `view`: all its VIEW-CHANGEs, or as many as still are a quorum after leaving out those that claim a block which is
    /// missing here. Claims of one view name one block, or an alarm was raised.
    pub(super) fn justification(
        &self,
        view: View,
        validators: &Validators,
        is_here: impl Fn(&BlockId) -> bool,
    ) -> Option<Justification> {
        let mut chosen: ByValidator<&ViewChangeMessage> = ByValidator::new();
        for (index, message) in self.outgrown.iter().chain(&self.highest) {
            if message.signed.message.view == view {
                chosen.insert(*index, message);
            }
        }
        while validators.is_quorum(validators.power_of(chosen.keys().copied())) {
            let claims = chosen.values().filter_map(|m| Some((m.signed.message.prepared?, *m)));
            let highest = claims.max_by_key(|(claim, _)| claim.view);
            let certificate = highest.and_then(|(_, message)| message.certificate.clone());
            match highest {
                Some((claim, _)) if !is_here(&claim.block_id) => {
                    chosen.retain(|_, message| message.signed.message.prepared != Some(claim));
                }
                _ => {
                    let view_changes = chosen.values().map(|m| m.signed.clone()).collect();
                    return Some(Justification { view_changes, certificate });
                }
            }
        }
        None
    }
}
