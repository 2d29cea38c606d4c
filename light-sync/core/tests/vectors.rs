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
use tercet_light_core::verify::{Invalid, Refusal};

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

/// A set without validators does not exist here, and makes a block invalid as upstream has it.
fn bind(block: &Block) -> Result<BoundBlock, Refusal> {
    let set = |set: &ValidatorSet, invalid| {
        UntrustedBlock::validators(set.validators()).map_err(|_| Refusal::Invalid(invalid))
    };
    let block = UntrustedBlock {
        header: Header::from_tendermint(&block.signed_header.header).unwrap(),
        commit: Commit::from_tendermint(&block.signed_header.commit).unwrap(),
        validators: set(&block.validator_set, Invalid::ValidatorsHash)?,
        next_validators: Some(set(&block.next_validator_set, Invalid::NextValidatorsHash)?),
    };
    Ok(block.bind()?)
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
        let extended = bind(&input.block)
            .and_then(|block| trusted.extend(block, &options, Time::from(input.now)));
        let verdict = match &extended {
            Ok(_) => "SUCCESS",
            Err(Refusal::NotEnoughTrust(_)) => "NOT_ENOUGH_TRUST",
            Err(Refusal::Invalid(Invalid::Expired)) => "FAILED_TRUSTING_PERIOD",
            Err(Refusal::Invalid(_)) => "INVALID",
        };
        let wanted = input.verdict.as_str();
        let expired = wanted == "INVALID" && verdict == "FAILED_TRUSTING_PERIOD";
        assert!(verdict == wanted || expired, "{verdict} instead of {wanted}: {extended:?}");
        if let Ok(block) = extended {
            trusted = block;
        }
    }
}

#[test]
fn the_verdicts_are_those_of_the_model() {
    let Some(folder) = std::env::var_os("TERCET_VECTORS") else {
        println!("TERCET_VECTORS is not set: the cases of the light client are not checked");
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
