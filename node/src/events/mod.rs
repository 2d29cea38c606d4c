//! What happens on this node, for those who listen: CometBFT's events with their composite keys (its `types/events.go` and
//! `types/event_bus.go`), and the [`Bus`] that takes them to subscriptions.
//!
//! Nothing here is on the way of consensus: the executor and the engine leave what happened in bounded queues and go on; a thread of
//! its own makes events of it ([`Follow`]), and only of the kinds that somebody listens to. PBFT has views for rounds, PREPARE for
//! prevote and COMMIT for precommit.

pub mod bus;
mod consensus;
mod followed;
pub mod query;

pub use bus::{Bus, End, Subscription};
pub use consensus::{Step, Tell, VoteSeen, Where};
pub use followed::{Follow, FollowParts, Follower, stored};

use crate::store::Applied;
use bytes::Bytes;
use prost::Message as _;
use query::Keys;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tendermint::block::Height;
use tendermint_proto::v0_38::abci::{self as pb, ResponseFinalizeBlock, ValidatorUpdate};
use tendermint_proto::v0_38::types::Evidence;
use tercet_consensus::block::{BlockId, SealedBlock};
use tercet_consensus::key::Address;
use tercet_consensus::message::SignedVote;

/// The key of an event's kind.
pub const EVENT_KEY: &str = "tm.event";
/// The key of a transaction's hash, in upper-case hexadecimal.
pub const TX_HASH_KEY: &str = "tx.hash";
/// The key of a transaction's height.
pub const TX_HEIGHT_KEY: &str = "tx.height";
/// The key of a block's height, in searches.
pub const BLOCK_HEIGHT_KEY: &str = "block.height";

/// How much larger than its parts an event is, with the JSON that is made of it.
const JSON_FACTOR: usize = 4;
/// What an event weighs beside its parts.
const EVENT_BYTES: usize = 1_024;

/// The kinds of events, by CometBFT's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are CometBFT's")]
pub enum Kind {
    NewBlock,
    NewBlockHeader,
    NewBlockEvents,
    NewEvidence,
    Tx,
    ValidatorSetUpdates,
    CompleteProposal,
    Lock,
    NewRound,
    NewRoundStep,
    Polka,
    Relock,
    TimeoutPropose,
    TimeoutWait,
    Unlock,
    ValidBlock,
    Vote,
}

impl Kind {
    /// All kinds: those of blocks, in the order in which a block has them, then those of consensus.
    pub const ALL: [Kind; 17] = [
        Kind::NewBlock,
        Kind::NewBlockHeader,
        Kind::NewBlockEvents,
        Kind::NewEvidence,
        Kind::Tx,
        Kind::ValidatorSetUpdates,
        Kind::CompleteProposal,
        Kind::Lock,
        Kind::NewRound,
        Kind::NewRoundStep,
        Kind::Polka,
        Kind::Relock,
        Kind::TimeoutPropose,
        Kind::TimeoutWait,
        Kind::Unlock,
        Kind::ValidBlock,
        Kind::Vote,
    ];

    /// CometBFT's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::NewBlock => "NewBlock",
            Kind::NewBlockHeader => "NewBlockHeader",
            Kind::NewBlockEvents => "NewBlockEvents",
            Kind::NewEvidence => "NewEvidence",
            Kind::Tx => "Tx",
            Kind::ValidatorSetUpdates => "ValidatorSetUpdates",
            Kind::CompleteProposal => "CompleteProposal",
            Kind::Lock => "Lock",
            Kind::NewRound => "NewRound",
            Kind::NewRoundStep => "NewRoundStep",
            Kind::Polka => "Polka",
            Kind::Relock => "Relock",
            Kind::TimeoutPropose => "TimeoutPropose",
            Kind::TimeoutWait => "TimeoutWait",
            Kind::Unlock => "Unlock",
            Kind::ValidBlock => "ValidBlock",
            Kind::Vote => "Vote",
        }
    }

    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    /// All of them.
    #[must_use]
    pub fn all() -> Kinds {
        Kind::ALL.into_iter().fold(Kinds::default(), Kinds::with)
    }

    /// This set and one more.
    #[must_use]
    pub fn with(self, kind: Kind) -> Kinds {
        Kinds(self.0 | kind.bit())
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// The kinds that can meet a query: those that its conditions on [`EVENT_KEY`] leave.
    #[must_use]
    pub fn of(query: &query::Query) -> Kinds {
        let on_kind = |condition: &&query::Condition| condition.tag == EVENT_KEY;
        let meets = |kind: &Kind| {
            query.conditions.iter().filter(on_kind).all(|one| one.test.accepts(kind.name()))
        };
        Kind::ALL.into_iter().filter(meets).fold(Kinds::default(), Kinds::with)
    }
}

/// What the application answered to a block: as it came, or read from the store.
#[derive(Debug)]
enum Results {
    Applied(Arc<Applied>),
    Stored(Box<ResponseFinalizeBlock>),
}

/// An executed block, shared by all events about it.
#[derive(Debug)]
pub struct Executed {
    /// The block.
    pub block: Arc<SealedBlock>,
    results: Results,
    /// Counted from the first event about it that is kept on, until the last of them is gone.
    share: OnceLock<Share>,
}

/// Bytes that somebody keeps.
#[derive(Debug)]
struct Share {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Executed {
    /// A block that was just executed.
    #[must_use]
    pub fn new(block: Arc<SealedBlock>, applied: Arc<Applied>) -> Executed {
        Executed { block, results: Results::Applied(applied), share: OnceLock::new() }
    }

    /// A block from the store.
    #[must_use]
    pub fn stored(block: Arc<SealedBlock>, results: ResponseFinalizeBlock) -> Executed {
        Executed { block, results: Results::Stored(Box::new(results)), share: OnceLock::new() }
    }

    /// About how many bytes block and results have.
    pub(crate) fn bytes(&self) -> usize {
        self.block.bytes().len() + self.results().encoded_len()
    }

    /// What the application answered.
    #[must_use]
    pub fn results(&self) -> &ResponseFinalizeBlock {
        match &self.results {
            Results::Applied(applied) => &applied.results,
            Results::Stored(results) => results,
        }
    }

    /// Its height.
    #[must_use]
    pub fn height(&self) -> Height {
        self.block.header().height
    }
}

/// What an event tells.
#[derive(Debug)]
pub enum Data {
    /// A block with all results.
    Block(Arc<Executed>),
    /// Its header.
    Header(Arc<Executed>),
    /// The events of the block as a whole.
    BlockEvents(Arc<Executed>),
    /// Evidence in a block.
    Evidence(Height, Box<Evidence>),
    /// The transaction at this index.
    Tx(Arc<Executed>, usize),
    /// Validators that the application changed at a height.
    Validators(Height, Vec<ValidatorUpdate>),
    /// Where the replica stands.
    Round(Where),
    /// The same at the beginning of a view, with its primary and the primary's index.
    NewRound(Where, Address, u32),
    /// The same with the block that is proposed.
    Proposal(Where, BlockId),
    /// A vote.
    Vote(Box<SignedVote>),
}

/// One event.
#[derive(Debug)]
pub struct Event {
    /// Its kind.
    pub kind: Kind,
    /// What it tells.
    pub data: Data,
    /// Its composite keys.
    pub keys: Keys,
    /// The data as JSON, once somebody has needed it.
    pub json: OnceLock<Bytes>,
}

impl Event {
    /// An event without keys of its own.
    #[must_use]
    pub fn new(kind: Kind, data: Data) -> Event {
        Event::keyed(kind, data, Keys::new())
    }

    fn keyed(kind: Kind, data: Data, mut keys: Keys) -> Event {
        keys.entry(EVENT_KEY.to_owned()).or_default().push(kind.name().to_owned());
        Event { kind, data, keys, json: OnceLock::new() }
    }

    /// The height of the block that it is about; none for events of consensus.
    #[must_use]
    pub fn block_height(&self) -> Option<Height> {
        match &self.data {
            Data::Block(executed)
            | Data::Header(executed)
            | Data::BlockEvents(executed)
            | Data::Tx(executed, _) => Some(executed.height()),
            Data::Evidence(height, _) | Data::Validators(height, _) => Some(*height),
            Data::Round(_) | Data::NewRound(..) | Data::Proposal(..) | Data::Vote(_) => None,
        }
    }

    /// Counts the block that it keeps, whichever part of it it tells of, once for all events about it.
    pub(crate) fn share(&self, held: &Arc<AtomicUsize>) {
        let (Data::Block(executed)
        | Data::Header(executed)
        | Data::BlockEvents(executed)
        | Data::Tx(executed, _)) = &self.data
        else {
            return;
        };
        executed.share.get_or_init(|| {
            let bytes = executed.bytes();
            held.fetch_add(bytes, Ordering::AcqRel);
            Share { bytes, held: Arc::clone(held) }
        });
    }

    /// About how many bytes it keeps in memory with its JSON, beside the block that it shares with others.
    pub(crate) fn weight(&self) -> usize {
        let parts = match &self.data {
            Data::Block(executed) => executed.bytes(),
            Data::BlockEvents(executed) => executed.results().encoded_len(),
            Data::Tx(executed, index) => {
                let tx = executed.block.txs().get(*index).map_or(0, Bytes::len);
                let result = executed.results().tx_results.get(*index);
                tx + result.map_or(0, pb::ExecTxResult::encoded_len)
            }
            Data::Evidence(_, evidence) => evidence.encoded_len(),
            _ => 0,
        };
        parts * JSON_FACTOR + EVENT_BYTES
    }
}

/// The keys of events of the application: `type.attribute`, whether indexed or not.
fn keys_of(events: &[pb::Event]) -> Keys {
    let mut keys = Keys::new();
    for event in events.iter().filter(|event| !event.r#type.is_empty()) {
        for attribute in event.attributes.iter().filter(|attribute| !attribute.key.is_empty()) {
            let key = format!("{}.{}", event.r#type, attribute.key);
            keys.entry(key).or_default().push(attribute.value.clone());
        }
    }
    keys
}

/// The events of an executed block, of the kinds that are wanted, each made when it is asked for, in the order of CometBFT's
/// `state/execution.go` `fireEvents`.
pub fn of_block(executed: &Arc<Executed>, wanted: Kinds) -> impl Iterator<Item = Event> {
    let results = executed.results();
    let whole = || Arc::clone(executed);
    let evidence = &executed.block.block().evidence.evidence;
    let evidence_of = move |piece: &Evidence| {
        let data = Data::Evidence(executed.height(), Box::new(piece.clone()));
        Event::new(Kind::NewEvidence, data)
    };
    let one = move |kind: Kind, make: &dyn Fn() -> Event| wanted.has(kind).then(make);
    let keys = || keys_of(&results.events);
    let block = one(Kind::NewBlock, &|| Event::keyed(Kind::NewBlock, Data::Block(whole()), keys()));
    let header =
        one(Kind::NewBlockHeader, &|| Event::new(Kind::NewBlockHeader, Data::Header(whole())));
    let events = one(Kind::NewBlockEvents, &|| {
        Event::keyed(Kind::NewBlockEvents, Data::BlockEvents(whole()), keys())
    });
    let updates = &results.validator_updates;
    let sets = (!updates.is_empty() && wanted.has(Kind::ValidatorSetUpdates)).then(|| {
        Event::new(Kind::ValidatorSetUpdates, Data::Validators(executed.height(), updates.clone()))
    });
    let txs = 0..if wanted.has(Kind::Tx) { executed.block.txs().len() } else { 0 };
    let pieces = evidence.iter().filter(move |_| wanted.has(Kind::NewEvidence)).map(evidence_of);
    let txs = txs.filter_map(|index| tx(executed, index));
    [block, header, events].into_iter().flatten().chain(pieces).chain(txs).chain(sets)
}

/// The event of a transaction; none where there is no result of it.
fn tx(executed: &Arc<Executed>, index: usize) -> Option<Event> {
    let result = executed.results().tx_results.get(index)?;
    let hash = executed.block.tx_hashes().get(index)?;
    let mut keys = keys_of(&result.events);
    keys.entry(TX_HASH_KEY.to_owned()).or_default().push(hex::encode_upper(hash));
    keys.entry(TX_HEIGHT_KEY.to_owned()).or_default().push(executed.height().to_string());
    Some(Event::keyed(Kind::Tx, Data::Tx(Arc::clone(executed), index), keys))
}

#[cfg(test)]
mod tests;
