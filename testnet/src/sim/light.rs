//! S10: the chain of a run, verified by `tendermint-light-client-verifier`, which shares no code with this project: from each height to
//! the next, and over random distances.

use super::application::Stored;
use super::keys::Simulated;
use super::rng::Rng;
use std::time::Duration;
use tendermint::block::signed_header::SignedHeader;
use tendermint::validator::Set;
use tendermint_light_client_verifier::operations::{
    ProdCommitValidator, ProvidedVotingPowerCalculator,
};
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::predicates::VerificationPredicates;
use tendermint_light_client_verifier::types::{
    TrustThreshold, TrustedBlockState, UntrustedBlockState,
};
use tendermint_light_client_verifier::{PredicateVerifier, ProdVerifier, Verdict, Verifier};

/// The predicates as they are provided, with the project's SHA-256.
#[derive(Clone, Copy, Debug, Default)]
struct Predicates;

impl VerificationPredicates for Predicates {
    type Sha256 = tendermint::crypto::default::Sha256;
}

type SimulatedVerifier =
    PredicateVerifier<Predicates, ProvidedVotingPowerCalculator<Simulated>, ProdCommitValidator>;

struct Light {
    signed: SignedHeader,
    validators: Set,
    next: Set,
}

/// Verifies a chain.
///
/// # Panics
/// Where the verifier refuses it.
pub(crate) fn verify(chain: &[Stored], real: bool, rng: &mut Rng) {
    if real {
        steps(&ProdVerifier::default(), chain, rng);
    } else {
        let calculator = ProvidedVotingPowerCalculator::<Simulated>::default();
        steps(&SimulatedVerifier::new(Predicates, calculator, ProdCommitValidator), chain, rng);
    }
}

fn steps(verifier: &impl Verifier, chain: &[Stored], rng: &mut Rng) {
    let lights: Vec<Light> = chain.iter().map(light).collect();
    for (trusted, next) in lights.iter().zip(lights.iter().skip(1)) {
        let verdict = step(verifier, trusted, next);
        assert_eq!(verdict, Verdict::Success, "S10: to height {}", next.signed.header.height);
    }
    for _ in 0..2 {
        let (from, to) = (rng.index(lights.len()), rng.index(lights.len()));
        if let (Some(trusted), Some(next)) = (lights.get(from), lights.get(to))
            && from < to
        {
            let verdict = step(verifier, trusted, next);
            let good = matches!(verdict, Verdict::Success | Verdict::NotEnoughTrust(_));
            assert!(good, "S10: from {from} to {to}: {verdict:?}");
        }
    }
}

fn step(verifier: &impl Verifier, trusted: &Light, next: &Light) -> Verdict {
    let header = &trusted.signed.header;
    let trusted_state = TrustedBlockState {
        chain_id: &header.chain_id,
        header_time: header.time,
        height: header.height,
        next_validators: &trusted.next,
        next_validators_hash: header.next_validators_hash,
    };
    let untrusted = UntrustedBlockState {
        signed_header: &next.signed,
        validators: &next.validators,
        next_validators: Some(&next.next),
    };
    let options = Options {
        trust_threshold: TrustThreshold::ONE_THIRD,
        trusting_period: Duration::from_secs(100 * 365 * 24 * 3_600),
        clock_drift: Duration::from_secs(600),
    };
    verifier.verify_update_header(untrusted, trusted_state, &options, next.signed.header.time)
}

fn light(stored: &Stored) -> Light {
    let state = &stored.applied.state;
    let set = |validators: &tercet_consensus::validators::Validators| {
        Set::without_proposer(validators.to_tendermint())
    };
    let current = state.last_validators.as_ref().expect("the set of an executed block");
    let header = stored.block.header().clone();
    let signed = SignedHeader::new(header, stored.commit.to_tendermint());
    Light {
        signed: signed.expect("header and commit of one block"),
        validators: set(current),
        next: set(&state.validators),
    }
}
