//! The consensus parameters of a genesis. Source: CometBFT `types/params.go`.

use super::BLOCK_BYTES_MAX;
use super::document::Int;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint::consensus::params::{AbciParams, ValidatorParams, VersionParams};
use tendermint::public_key::Algorithm;

/// `consensus_params` of the file. What is left out is zero, as in Go, and refused where zero is.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    block: Block,
    evidence: Evidence,
    validator: Validator,
    version: Version,
    abci: Abci,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Block {
    max_bytes: Int,
    max_gas: Int,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Evidence {
    max_age_num_blocks: Int,
    max_age_duration: Int,
    max_bytes: Int,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Validator {
    pub_key_types: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Version {
    #[serde(alias = "app_version")]
    app: Int,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Abci {
    vote_extensions_enable_height: Int,
}

/// CometBFT's `DefaultConsensusParams`.
pub(super) fn default() -> Params {
    Params {
        block: tendermint::block::Size {
            max_bytes: 22_020_096,
            max_gas: -1,
            time_iota_ms: tendermint::block::Size::default_time_iota_ms(),
        },
        evidence: tendermint::evidence::Params {
            max_age_num_blocks: 100_000,
            max_age_duration: tendermint::evidence::Duration(Duration::from_secs(48 * 3_600)),
            max_bytes: 1 << 20,
        },
        validator: ValidatorParams { pub_key_types: vec![Algorithm::Ed25519] },
        version: Some(VersionParams { app: 0 }),
        abci: AbciParams { vote_extensions_enable_height: None },
    }
}

/// CometBFT's name of a type of key.
pub(super) fn key_type(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ed25519 => "ed25519",
        Algorithm::Secp256k1 => "secp256k1",
    }
}

impl Document {
    /// Checks what CometBFT's `ValidateBasic` checks.
    pub(super) fn check(&self) -> Result<Params, String> {
        let evidence = self.evidence()?;
        let max_bytes = self.block_bytes()?;
        if self.evidence.max_bytes.0.unsigned_abs() > max_bytes.min(BLOCK_BYTES_MAX) {
            let (evidence, block) = (self.evidence.max_bytes.0, self.block.max_bytes.0);
            return Err(wrong(&format!(
                "evidence.max_bytes {evidence} is above block.max_bytes {block}"
            )));
        }
        let max_gas = self.block.max_gas.0;
        if max_gas < -1 {
            return Err(wrong(&format!("block.max_gas must be -1 or more, and is {max_gas}")));
        }
        let app = self.version.app.0;
        let app = u64::try_from(app).map_err(|_| wrong(&format!("version.app is {app}")))?;
        let begin = self.abci.vote_extensions_enable_height.0;
        let begin = u64::try_from(begin)
            .map_err(|_| wrong(&format!("abci.vote_extensions_enable_height is {begin}")))?;
        let mut params = default();
        params.abci.vote_extensions_enable_height =
            Height::try_from(begin).ok().filter(|begin| begin.value() > 0);
        params.block.max_bytes = max_bytes;
        params.block.max_gas = max_gas;
        params.evidence = evidence;
        params.validator.pub_key_types = self.key_types()?;
        params.version = Some(VersionParams { app });
        Ok(params)
    }

    fn block_bytes(&self) -> Result<u64, String> {
        match self.block.max_bytes.0 {
            -1 => Ok(u64::MAX),
            bytes => u64::try_from(bytes)
                .ok()
                .filter(|bytes| (1..=BLOCK_BYTES_MAX).contains(bytes))
                .ok_or_else(|| {
                    wrong(&format!(
                        "block.max_bytes must be -1 or from 1 to {BLOCK_BYTES_MAX}, and is {bytes}"
                    ))
                }),
        }
    }

    fn evidence(&self) -> Result<tendermint::evidence::Params, String> {
        let positive = |name: &str, value: i64| match u64::try_from(value) {
            Ok(value) if value > 0 => Ok(value),
            _ => Err(wrong(&format!("evidence.{name} must be above 0, and is {value}"))),
        };
        let evidence = &self.evidence;
        let age = positive("max_age_duration", evidence.max_age_duration.0)?;
        if evidence.max_bytes.0 < 0 {
            let bytes = evidence.max_bytes.0;
            return Err(wrong(&format!("evidence.max_bytes must be 0 or more, and is {bytes}")));
        }
        Ok(tendermint::evidence::Params {
            max_age_num_blocks: positive("max_age_num_blocks", evidence.max_age_num_blocks.0)?,
            max_age_duration: tendermint::evidence::Duration(Duration::from_nanos(age)),
            max_bytes: evidence.max_bytes.0,
        })
    }

    fn key_types(&self) -> Result<Vec<Algorithm>, String> {
        let kinds = &self.validator.pub_key_types;
        if kinds.is_empty() {
            return Err(wrong("validator.pub_key_types is empty; write [\"ed25519\"]"));
        }
        let known = |kind: &String| match kind.as_str() {
            "ed25519" => Ok(Algorithm::Ed25519),
            "secp256k1" => Ok(Algorithm::Secp256k1),
            other => Err(wrong(&format!(
                "validator.pub_key_types: {other:?} is not supported, only \"ed25519\" and \"secp256k1\" are"
            ))),
        };
        kinds.iter().map(known).collect()
    }
}

impl From<&Params> for Document {
    fn from(params: &Params) -> Document {
        let int = |value: u64| Int(value.cast_signed());
        let nanos = params.evidence.max_age_duration.0.as_nanos();
        let extensions = params.abci.vote_extensions_enable_height;
        let kinds = params.validator.pub_key_types.iter();
        Document {
            block: Block {
                max_bytes: int(params.block.max_bytes),
                max_gas: Int(params.block.max_gas),
            },
            evidence: Evidence {
                max_age_num_blocks: int(params.evidence.max_age_num_blocks),
                max_age_duration: Int(i64::try_from(nanos).unwrap_or(i64::MAX)),
                max_bytes: Int(params.evidence.max_bytes),
            },
            validator: Validator {
                pub_key_types: kinds.map(|kind| key_type(*kind).to_owned()).collect(),
            },
            version: Version { app: int(params.version.as_ref().map_or(0, |v| v.app)) },
            abci: Abci {
                vote_extensions_enable_height: int(extensions.map_or(0, |height| height.value())),
            },
        }
    }
}

fn wrong(reason: &str) -> String {
    format!("consensus_params.{reason}")
}
