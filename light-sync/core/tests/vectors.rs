//! The model-based cases of tendermint-rs (`light-client/tests/support/model_based/single_step`), which `TERCET_VECTORS` names.
#![allow(missing_docs, clippy::unwrap_used)]

use serde::Deserialize;
use std::time::Duration;
use tendermint::block::signed_header::SignedHeader;
use tendermint_light_client_verifier::types::ValidatorSet;
use tercet_light_core::block::{BoundBlock, TrustedBlock, UntrustedBlock};
use tercet_light_core::commit::Commit;
use tercet_light_core::header::Header;
use tercet_light_core::options::{Options, TrustLevel};
use tercet_light_core::time::Time;
use tercet_light_core::verify::{Invalid, Refusal, Verdict, verify};

#[derive(Deserialize)]
struct Case {
    initial: Initial,
    input: Vec<Input>,
}

#[derive(Deserialize)]
struct Initial {
    signed_header: SignedHeader,
    next_validator_set: ValidatorSet,
    #[serde(with = "tendermint::serializers::from_str")]
    trusting_period: u64,
    now: tendermint::Time,
}

#[derive(Deserialize)]
struct Input {
    block: Block,
    now: tendermint::Time,
    verdict: String,
}

#[derive(Deserialize)]
struct Block {
    signed_header: SignedHeader,
    validator_set: ValidatorSet,
    next_validator_set: ValidatorSet,
}

/// SHA-256 of nothing, which is the hash of a set without validators. The model has such a set behind its last block; as a type
/// there is none here, so it is given as not known.
const EMPTY: &str = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";

fn bind(block: &Block) -> Result<BoundBlock, Invalid> {
    let header = Header::from_tendermint(&block.signed_header.header).unwrap();
    let set = |set: &ValidatorSet| {
        UntrustedBlock::validators(set.validators()).map_err(|_| Invalid::ValidatorsHash)
    };
    let no_next = block.next_validator_set.validators().is_empty();
    assert!(!no_next || header.next_validators_hash().to_string() == EMPTY);
    UntrustedBlock {
        header,
        commit: Commit::from_tendermint(&block.signed_header.commit).unwrap(),
        validators: set(&block.validator_set)?,
        next_validators: (!no_next).then(|| set(&block.next_validator_set)).transpose()?,
    }
    .bind()
}

/// The first block is trusted as it is: cases give its next validators alone.
fn root(initial: &Initial) -> TrustedBlock {
    TrustedBlock::assume(
        Header::from_tendermint(&initial.signed_header.header).unwrap(),
        Commit::from_tendermint(&initial.signed_header.commit).unwrap(),
        UntrustedBlock::validators(initial.next_validator_set.validators()).unwrap(),
    )
    .unwrap()
}

fn run(case: &Case) {
    let options = Options {
        trust_level: TrustLevel::ONE_THIRD,
        trusting_period: Duration::from_nanos(case.initial.trusting_period),
        clock_drift: Duration::from_secs(1),
    };
    let mut trusted = root(&case.initial);
    assert!(Time::from(case.initial.now) > trusted.header().time());
    for input in &case.input {
        let now = Time::from(input.now);
        let block = bind(&input.block);
        let verdict = match &block {
            Ok(block) => verify(&trusted, block, &options, now),
            Err(invalid) => Verdict::Invalid(*invalid),
        };
        let name = match verdict {
            Verdict::Success => "SUCCESS",
            Verdict::NotEnoughTrust(_) => "NOT_ENOUGH_TRUST",
            Verdict::Invalid(_) => "INVALID",
        };
        assert_eq!(name, input.verdict, "{verdict:?}");
        match block.map(|block| trusted.extend(block, &options, now)) {
            Ok(Ok(block)) => trusted = block,
            Ok(Err(Refusal::Invalid(Invalid::NextValidatorsHash))) | Err(_) => {}
            Ok(Err(refusal)) => assert_ne!(verdict, Verdict::Success, "{refusal}"),
        }
    }
}

#[test]
fn the_verdicts_are_those_of_the_model() {
    let Some(folder) = std::env::var_os("TERCET_VECTORS") else {
        println!("skipped: TERCET_VECTORS is not set");
        return;
    };
    let mut cases = 0;
    for file in std::fs::read_dir(std::path::Path::new(&folder).join("light_client")).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        run(&serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap());
        cases += 1;
    }
    assert!(cases >= 20, "only {cases} cases were found");
}
