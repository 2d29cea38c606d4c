//! What events tell (CometBFT `types/events.go`), and the envelope in which subscriptions get it.

use super::abci::{BlockEvent, ParamUpdates, TxResult, ValidatorUpdate, list};
use super::block::{Block, BlockId, Header};
use super::chain::PubKey;
use super::evidence::Evidence;
use super::{Base64, Hex, Rfc3339, Text, append, is_zero};
use crate::events::query::Keys;
use crate::events::{Data, Event, Executed, Where};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tendermint_proto::v0_38::abci as pb;
use tercet_consensus::message::{Phase, SignedVote};

/// What a subscription gets.
#[derive(Serialize)]
pub(crate) struct EventReply<'a> {
    /// As the client wrote it.
    pub(crate) query: &'a str,
    pub(crate) data: &'a RawValue,
    pub(crate) events: &'a Keys,
}

/// The data of an event with its type, rendered once however many have subscribed.
pub(crate) fn data(event: &Event) -> Bytes {
    let render = || {
        let mut out = Vec::new();
        append(&mut out, &Typed::from(&event.data)).expect("events always serialize");
        Bytes::from(out)
    };
    event.json.get_or_init(render).clone()
}

#[derive(Serialize)]
#[serde(tag = "type", content = "value")]
enum Typed {
    #[serde(rename = "tendermint/event/NewBlock")]
    Block(Box<NewBlock>),
    #[serde(rename = "tendermint/event/NewBlockHeader")]
    Header { header: Box<Header> },
    #[serde(rename = "tendermint/event/NewBlockEvents")]
    BlockEvents(BlockEvents),
    #[serde(rename = "tendermint/event/NewEvidence")]
    Evidence { height: Text<u64>, evidence: Option<Box<Evidence>> },
    #[serde(rename = "tendermint/event/Tx")]
    Tx {
        #[serde(rename = "TxResult")]
        result: Option<Tx>,
    },
    #[serde(rename = "tendermint/event/ValidatorSetUpdates")]
    Validators { validator_updates: Vec<Validator> },
    #[serde(rename = "tendermint/event/RoundState")]
    Round(RoundState),
    #[serde(rename = "tendermint/event/NewRound")]
    NewRound {
        #[serde(flatten)]
        at: RoundState,
        proposer: Proposer,
    },
    #[serde(rename = "tendermint/event/CompleteProposal")]
    Proposal {
        #[serde(flatten)]
        at: RoundState,
        block_id: BlockId,
    },
    #[serde(rename = "tendermint/event/Vote")]
    Vote {
        #[serde(rename = "Vote")]
        vote: Box<Vote>,
    },
}

impl From<&Data> for Typed {
    fn from(data: &Data) -> Typed {
        match data {
            Data::Block(executed) => Typed::Block(Box::new((&**executed).into())),
            Data::Header(executed) => {
                Typed::Header { header: Box::new(executed.block.header().clone().into()) }
            }
            Data::BlockEvents(executed) => Typed::BlockEvents((&**executed).into()),
            Data::Evidence(height, evidence) => Typed::Evidence {
                height: Text(height.value()),
                evidence: Evidence::new((**evidence).clone()).map(Box::new),
            },
            Data::Tx(executed, index) => Typed::Tx { result: Tx::new(executed, *index) },
            Data::Validators(_, updates) => Typed::Validators {
                validator_updates: updates.iter().filter_map(Validator::new).collect(),
            },
            Data::Round(at) => Typed::Round((*at).into()),
            Data::NewRound(at, address, index) => Typed::NewRound {
                at: (*at).into(),
                proposer: Proposer { address: Hex(address.as_bytes().to_vec()), index: *index },
            },
            Data::Proposal(at, id) => Typed::Proposal { at: (*at).into(), block_id: (*id).into() },
            Data::Vote(vote) => Typed::Vote { vote: Box::new((&**vote).into()) },
        }
    }
}

#[derive(Serialize)]
struct NewBlock {
    block: Block,
    block_id: BlockId,
    result_finalize_block: Finalized,
}

impl From<&Executed> for NewBlock {
    fn from(executed: &Executed) -> NewBlock {
        NewBlock {
            block: (&*executed.block).into(),
            block_id: executed.block.id().into(),
            result_finalize_block: executed.results().clone().into(),
        }
    }
}

/// The answer to a block; Go leaves out what is empty, but for the updates.
#[derive(Serialize)]
struct Finalized {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<BlockEvent>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tx_results: Vec<TxResult>,
    validator_updates: Vec<ValidatorUpdate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consensus_param_updates: Option<ParamUpdates>,
    #[serde(skip_serializing_if = "no_bytes")]
    app_hash: Base64<Bytes>,
}

fn no_bytes(bytes: &Base64<Bytes>) -> bool {
    bytes.0.is_empty()
}

fn is_no_code(code: &u32) -> bool {
    *code == 0
}

impl From<pb::ResponseFinalizeBlock> for Finalized {
    fn from(results: pb::ResponseFinalizeBlock) -> Finalized {
        let updates = results.validator_updates.into_iter();
        Finalized {
            events: list(results.events).unwrap_or_default(),
            tx_results: list(results.tx_results).unwrap_or_default(),
            validator_updates: updates.map(ValidatorUpdate::from).collect(),
            consensus_param_updates: results.consensus_param_updates.map(ParamUpdates::from),
            app_hash: Base64(results.app_hash),
        }
    }
}

#[derive(Serialize)]
struct BlockEvents {
    height: Text<u64>,
    events: Option<Vec<BlockEvent>>,
    num_txs: Text<usize>,
}

impl From<&Executed> for BlockEvents {
    fn from(executed: &Executed) -> BlockEvents {
        BlockEvents {
            height: Text(executed.height().value()),
            events: list(executed.results().events.clone()),
            num_txs: Text(executed.block.txs().len()),
        }
    }
}

/// A transaction with its result; Go leaves out what is empty.
#[derive(Serialize)]
struct Tx {
    height: Text<u64>,
    #[serde(skip_serializing_if = "is_no_code")]
    index: u32,
    #[serde(skip_serializing_if = "no_bytes")]
    tx: Base64<Bytes>,
    result: Outcome,
}

#[derive(Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "is_no_code")]
    code: u32,
    #[serde(skip_serializing_if = "no_bytes")]
    data: Base64<Bytes>,
    #[serde(skip_serializing_if = "String::is_empty")]
    log: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    info: String,
    #[serde(skip_serializing_if = "is_zero")]
    gas_wanted: Text<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    gas_used: Text<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<BlockEvent>,
    #[serde(skip_serializing_if = "String::is_empty")]
    codespace: String,
}

impl Tx {
    fn new(executed: &Executed, index: usize) -> Option<Tx> {
        let tx = executed.block.txs().get(index)?.clone();
        let result = executed.results().tx_results.get(index)?.clone();
        Some(Tx {
            height: Text(executed.height().value()),
            index: u32::try_from(index).ok()?,
            tx: Base64(tx),
            result: Outcome {
                code: result.code,
                data: Base64(result.data),
                log: result.log,
                info: result.info,
                gas_wanted: Text(result.gas_wanted),
                gas_used: Text(result.gas_used),
                events: list(result.events).unwrap_or_default(),
                codespace: result.codespace,
            },
        })
    }
}

#[derive(Serialize)]
struct Validator {
    address: Hex<Vec<u8>>,
    pub_key: Option<PubKey>,
    voting_power: Text<i64>,
    proposer_priority: Text<i64>,
}

impl Validator {
    fn new(update: &pb::ValidatorUpdate) -> Option<Validator> {
        let key = update.pub_key.clone()?;
        let address = tendermint::PublicKey::try_from(key.clone()).ok()?;
        let address = tendermint::account::Id::from(address);
        Some(Validator {
            address: Hex(address.as_bytes().to_vec()),
            pub_key: PubKey::new(key),
            voting_power: Text(update.power),
            proposer_priority: Text(0),
        })
    }
}

/// Where the replica is: its view as a round.
#[derive(Serialize)]
struct RoundState {
    height: Text<u64>,
    round: u32,
    step: &'static str,
}

impl From<Where> for RoundState {
    fn from(at: Where) -> RoundState {
        RoundState {
            height: Text(at.height.value()),
            round: at.view.number(),
            step: at.step.name(),
        }
    }
}

#[derive(Serialize)]
struct Proposer {
    address: Hex<Vec<u8>>,
    index: u32,
}

/// A vote: PREPARE as prevote, COMMIT as precommit.
#[derive(Serialize)]
struct Vote {
    r#type: u8,
    height: Text<u64>,
    round: u32,
    block_id: BlockId,
    timestamp: Rfc3339,
    validator_address: Hex<Vec<u8>>,
    validator_index: u32,
    signature: Base64<Vec<u8>>,
    extension: Base64<Bytes>,
    extension_signature: Base64<Vec<u8>>,
}

impl From<&SignedVote> for Vote {
    fn from(signed: &SignedVote) -> Vote {
        let vote = &signed.message;
        let extension = vote.extension.as_ref();
        let signature = extension.map(|extension| extension.signature.0.to_vec());
        Vote {
            r#type: match vote.phase {
                Phase::Prepare => 1,
                Phase::Commit => 2,
            },
            height: Text(vote.height.value()),
            round: vote.view.number(),
            block_id: vote.block_id.into(),
            timestamp: vote.time.into(),
            validator_address: Hex(vote.validator.as_bytes().to_vec()),
            validator_index: vote.index,
            signature: Base64(signed.signature.0.to_vec()),
            extension: Base64(
                extension.map(|extension| extension.data.clone()).unwrap_or_default(),
            ),
            extension_signature: Base64(signature.unwrap_or_default()),
        }
    }
}
