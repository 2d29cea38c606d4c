//! The text of `genesis.json`: reading and checking it, and writing it.

use super::{
    CHAIN_ID_BYTES_MAX, ChainParams, Genesis, GenesisValidator, INITIAL_HEIGHT_MAX,
    TOTAL_POWER_MAX, VALIDATORS_MAX, params,
};
use crate::duration::{format_duration, parse_duration};
use crate::validator_secret::{public_of, typed_public};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use tendermint::block::Height;
use tendermint::consensus::Params;
use tendermint::public_key::Algorithm;
use tendermint::{Time, account};

/// Go's zero time: what a file without a time would have.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// The longest term of a primary: what is longer is a slip.
const PRIMARY_TERM_MAX: u64 = 1_000_000;
/// The longest pause between blocks, in seconds.
const MIN_BLOCK_INTERVAL_SECS_MAX: u64 = 3_600;

/// A 64-bit integer, which CometBFT writes as a string, and people as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Int(pub(super) i64);

impl Serialize for Int {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Int, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i64),
            Text(String),
        }
        let wrong = "a number is not a whole one of at most 63 bits, such as \"5\"";
        match Either::deserialize(deserializer).map_err(|_| D::Error::custom(wrong))? {
            Either::Number(number) => Ok(Int(number)),
            Either::Text(text) => text.parse().map(Int).map_err(|_| D::Error::custom(wrong)),
        }
    }
}

/// The file as it stands.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    genesis_time: Option<String>,
    #[serde(default)]
    chain_id: String,
    #[serde(default)]
    initial_height: Int,
    #[serde(default)]
    consensus_params: Option<params::Document>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validators: Option<Vec<Validator>>,
    #[serde(default)]
    app_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app_state: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tercet: Option<Box<RawValue>>,
    #[serde(skip)]
    ignored: Vec<String>,
}

/// The top-level keys.
const KEYS: [&str; 8] = [
    "genesis_time",
    "chain_id",
    "initial_height",
    "consensus_params",
    "validators",
    "app_hash",
    "app_state",
    "tercet",
];

#[derive(Serialize, Deserialize)]
struct Validator {
    #[serde(default)]
    address: String,
    pub_key: PublicKey,
    power: Int,
    #[serde(default)]
    name: String,
}

#[derive(Serialize, Deserialize)]
struct PublicKey {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tercet {
    primary_term: Option<Int>,
    min_block_interval: Option<String>,
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Document, String> {
        let wrong =
            |error: serde_json::Error| format!("not a genesis in CometBFT's format: {error}");
        let mut document: Document = serde_json::from_str(text).map_err(wrong)?;
        let all: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(wrong)?;
        document.ignored = all.into_keys().filter(|key| !KEYS.contains(&key.as_str())).collect();
        Ok(document)
    }
}

impl TryFrom<Document> for Genesis {
    type Error = String;

    fn try_from(document: Document) -> Result<Genesis, String> {
        let chain_id = document.chain_id;
        match chain_id.len() {
            0 => return Err("chain_id is missing".into()),
            bytes if bytes > CHAIN_ID_BYTES_MAX => {
                return Err(format!(
                    "chain_id has {bytes} bytes, and at most {CHAIN_ID_BYTES_MAX} are allowed"
                ));
            }
            _ => {}
        }
        let app_hash = document.app_hash.unwrap_or_default();
        let params = match document.consensus_params {
            None => params::default(),
            Some(params) => params.check()?,
        };
        let validators = validators(document.validators.unwrap_or_default())?;
        permitted(&validators, &params)?;
        Ok(Genesis {
            time: time(document.genesis_time.as_deref())?,
            chain_id,
            initial_height: initial_height(document.initial_height.0)?,
            params,
            validators,
            app_hash: hex::decode(&app_hash)
                .map_err(|_| format!("app_hash {app_hash:?} is not hexadecimal"))?,
            app_state: document.app_state,
            tercet: tercet(document.tercet.as_deref())?,
            tercet_raw: document.tercet,
            ignored: document.ignored,
        })
    }
}

fn time(text: Option<&str>) -> Result<Time, String> {
    let example = "write for example \"2026-01-31T12:00:00Z\", the same on every node";
    match text {
        None | Some("" | NO_TIME) => Err(format!("genesis_time is missing: {example}")),
        Some(text) => Time::parse_from_rfc3339(text)
            .map_err(|_| format!("genesis_time {text:?} is no time: {example}")),
    }
}

fn initial_height(height: i64) -> Result<Height, String> {
    // CometBFT takes 0 for 1.
    let height = if height == 0 { 1 } else { height };
    Height::try_from(height)
        .ok()
        .filter(|height| (1..=INITIAL_HEIGHT_MAX).contains(&height.value()))
        .ok_or_else(|| {
            format!("initial_height must be from 1 to {INITIAL_HEIGHT_MAX}, and is {height}")
        })
}

fn validators(documents: Vec<Validator>) -> Result<Vec<GenesisValidator>, String> {
    if documents.len() > VALIDATORS_MAX {
        return Err(format!(
            "{} validators, and at most {VALIDATORS_MAX} are allowed",
            documents.len()
        ));
    }
    let mut validators = Vec::with_capacity(documents.len());
    let mut known = HashSet::new();
    let mut total: u64 = 0;
    for (index, document) in documents.into_iter().enumerate() {
        let validator =
            validator(document).map_err(|reason| format!("validators[{index}]: {reason}"))?;
        let address = account::Id::from(validator.public_key);
        if !known.insert(address) {
            return Err(format!("validators[{index}]: {address} stands there twice"));
        }
        total = total.saturating_add(validator.power);
        if total > TOTAL_POWER_MAX {
            return Err(format!(
                "the validators have more voting power together than {TOTAL_POWER_MAX}"
            ));
        }
        validators.push(validator);
    }
    Ok(validators)
}

/// An update of a validator whose kind of key is not permitted stops the chain, one that punishes it too.
fn permitted(validators: &[GenesisValidator], params: &Params) -> Result<(), String> {
    for (index, validator) in validators.iter().enumerate() {
        let (kind, name) = match validator.public_key {
            tendermint::PublicKey::Secp256k1(_) => (Algorithm::Secp256k1, "secp256k1"),
            _ => (Algorithm::Ed25519, "ed25519"),
        };
        if !params.validator.pub_key_types.contains(&kind) {
            return Err(format!(
                "validators[{index}] has a key of {name}, which consensus_params.validator.pub_key_types does not permit: add {name:?} there"
            ));
        }
    }
    Ok(())
}

fn validator(document: Validator) -> Result<GenesisValidator, String> {
    let public_key = public_of(&document.pub_key.kind, &document.pub_key.value)?;
    let address = account::Id::from(public_key).to_string();
    if !document.address.is_empty() && !document.address.eq_ignore_ascii_case(&address) {
        return Err(format!(
            "address {} is not that of pub_key, which is {address}",
            document.address
        ));
    }
    match u64::try_from(document.power.0) {
        Ok(power) if power > 0 => Ok(GenesisValidator { public_key, power, name: document.name }),
        _ => Err(format!("power must be 1 or more, and is {}", document.power.0)),
    }
}

fn tercet(raw: Option<&RawValue>) -> Result<ChainParams, String> {
    let Some(raw) = raw else { return Ok(ChainParams::default()) };
    // Without this an array would pass for an object.
    if !raw.get().starts_with('{') {
        return Err("tercet must be an object".into());
    }
    let document: Tercet =
        serde_json::from_str(raw.get()).map_err(|error| format!("tercet: {error}"))?;
    let mut params = ChainParams::default();
    if let Some(Int(term)) = document.primary_term {
        params.primary_term = u64::try_from(term)
            .ok()
            .filter(|term| (1..=PRIMARY_TERM_MAX).contains(term))
            .ok_or_else(|| {
                format!("tercet.primary_term must be from 1 to {PRIMARY_TERM_MAX}, and is {term}")
            })?;
    }
    if let Some(text) = document.min_block_interval {
        let interval = parse_duration(&text);
        params.min_block_interval =
            interval.map_err(|error| format!("tercet.min_block_interval: {error}"))?;
        if params.min_block_interval.as_secs() >= MIN_BLOCK_INTERVAL_SECS_MAX {
            return Err(format!("tercet.min_block_interval must be below an hour, and is {text}"));
        }
    }
    Ok(params)
}

/// The text of a file with this genesis.
pub(super) fn write(genesis: &Genesis) -> String {
    let validator = |validator: &GenesisValidator| {
        let (kind, value) = typed_public(&validator.public_key);
        Validator {
            address: account::Id::from(validator.public_key).to_string(),
            pub_key: PublicKey { kind: kind.to_owned(), value },
            power: Int(validator.power.cast_signed()),
            name: validator.name.clone(),
        }
    };
    let tercet = Tercet {
        primary_term: Some(Int(genesis.tercet.primary_term.cast_signed())),
        min_block_interval: Some(format_duration(genesis.tercet.min_block_interval)),
    };
    let document = Document {
        genesis_time: Some(genesis.time.to_rfc3339()),
        chain_id: genesis.chain_id.clone(),
        initial_height: Int(genesis.initial_height.value().cast_signed()),
        consensus_params: Some((&genesis.params).into()),
        validators: Some(genesis.validators.iter().map(validator).collect()),
        app_hash: Some(hex::encode_upper(&genesis.app_hash)),
        app_state: genesis.app_state.clone(),
        tercet: genesis.tercet_raw.clone().or_else(|| {
            let text = serde_json::to_string_pretty(&tercet).ok()?;
            RawValue::from_string(text.replace('\n', "\n  ")).ok()
        }),
        ignored: Vec::new(),
    };
    let text = serde_json::to_string_pretty(&document);
    text.expect("a document without maps or floats has a text") + "\n"
}
