//! The checklist for J, the justification of a NEW-VIEW. Source: docs/protocol.md §6; the numbers are its numbers.
//!
//! Points 2 (view against mine) and the *fresh* case (my lock, the block's last commit) depend on the receiver and stand with the
//! replica's rules; points 9 and 10 (bytes, sizes) with the decoder.

use crate::message::{Justification, Proposal};
use crate::verify::{Context, Reject, SignatureCheck};
use std::collections::BTreeSet;

/// Everything about J that needs no signature, so that it costs little to refuse.
pub(crate) fn check_form(
    proposal: &Proposal,
    justification: Option<&Justification>,
    context: &Context<'_>,
) -> Result<(), Reject> {
    let Some(justification) = justification else {
        return match proposal.prepared_view {
            None => Ok(()),
            Some(_) => Err(Reject::Justification("a bound proposal needs a certificate")),
        };
    };
    check_view_changes(proposal, justification, context)?;
    check_binding(proposal, justification)
}

/// 3. Every VIEW-CHANGE: height exactly h, view exactly v', signer in V(h), no duplicate signer, prepared view below v'.
/// 4. Power of distinct signers > 2W/3.
fn check_view_changes(
    proposal: &Proposal,
    justification: &Justification,
    context: &Context<'_>,
) -> Result<(), Reject> {
    if justification.view_changes.len() > context.validators.count() {
        return Err(Reject::TooLarge);
    }
    let mut signers = BTreeSet::new();
    for signed in &justification.view_changes {
        let message = &signed.message;
        if message.height != proposal.height {
            return Err(Reject::Justification("a VIEW-CHANGE of another height"));
        }
        if message.view != proposal.view {
            return Err(Reject::Justification("a VIEW-CHANGE for another view"));
        }
        if context.validators.at(message.index).is_none_or(|v| v.address != message.validator) {
            return Err(Reject::UnknownValidator);
        }
        if !signers.insert(message.index) {
            return Err(Reject::Justification("a validator's VIEW-CHANGE stands twice"));
        }
        if message.prepared.is_some_and(|claim| claim.view >= message.view) {
            return Err(Reject::Justification("a VIEW-CHANGE prepared in no earlier view"));
        }
    }
    if !context.validators.is_quorum(context.validators.power_of(signers)) {
        return Err(Reject::NoQuorum);
    }
    Ok(())
}

/// 5. The highest prepared view is chosen; two block ids at that view make this J invalid.
/// 6. The certificate is for exactly (h, v_p, b).
/// 7. Block id = b, pol_round = v_p.
/// 8. Free only if **all** are none.
fn check_binding(proposal: &Proposal, justification: &Justification) -> Result<(), Reject> {
    let claims = || justification.view_changes.iter().filter_map(|signed| signed.message.prepared);
    let Some(highest) = claims().map(|claim| claim.view).max() else {
        return match (&justification.certificate, proposal.prepared_view) {
            (None, None) => Ok(()),
            _ => Err(Reject::Justification("bound, though no one has prepared")),
        };
    };
    let blocks: BTreeSet<_> =
        claims().filter(|claim| claim.view == highest).map(|claim| claim.block_id).collect();
    let bound = match (blocks.len(), blocks.first()) {
        (1, Some(block_id)) => *block_id,
        _ => return Err(Reject::Justification("two blocks at the highest prepared view")),
    };
    let Some(certificate) = &justification.certificate else {
        return Err(Reject::Justification("free, though someone has prepared"));
    };
    if (certificate.height, certificate.view, certificate.block_id)
        != (proposal.height, highest, bound)
    {
        return Err(Reject::Justification(
            "the certificate is not that of the highest prepared view",
        ));
    }
    if proposal.block_id != bound || proposal.prepared_view != Some(highest) {
        return Err(Reject::Justification("not the block that the certificate binds"));
    }
    Ok(())
}

/// The signatures of 3 and 6.
pub(crate) fn check_signatures(
    justification: &Justification,
    context: &Context<'_>,
    check: &impl SignatureCheck,
) -> Result<(), Reject> {
    if let Some(certificate) = &justification.certificate {
        context.certificate(certificate, check)?;
    }
    for signed in &justification.view_changes {
        context.verify_view_change(signed, check)?;
    }
    Ok(())
}
