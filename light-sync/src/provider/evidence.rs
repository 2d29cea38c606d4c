//! Evidence in CometBFT's JSON (`types/evidence.go`; Go's names where it has no tags).

use crate::shapes;
use serde_json::{Value, json};
use tercet_consensus::validators::Validator;
use tercet_light_core::evidence::AttackEvidence;

/// The arguments of `broadcast_evidence`.
#[must_use]
pub fn evidence_params(evidence: &AttackEvidence) -> Value {
    let block = &evidence.conflicting;
    let list: Vec<Value> = block.validators().list().iter().map(shapes::validator).collect();
    let is_proposer = |v: &&Validator| v.address.as_bytes() == block.header().proposer();
    let all = block.validators().list();
    let proposer = all.iter().find(is_proposer).or(all.first()).map(shapes::validator);
    let byzantine: Vec<Value> = evidence.byzantine.iter().map(shapes::validator).collect();
    json!({ "evidence": {
        "type": "tendermint/LightClientAttackEvidence",
        "value": {
            "ConflictingBlock": {
                "signed_header": {
                    "header": shapes::header(block.header()),
                    "commit": shapes::show(&block.commit().to_proto()),
                },
                "validator_set": { "validators": list, "proposer": proposer },
            },
            "CommonHeight": evidence.common_height.to_string(),
            "ByzantineValidators": byzantine,
            "TotalVotingPower": evidence.total_power.to_string(),
            "Timestamp": shapes::show(&evidence.time.to_tendermint()),
        },
    } })
}
