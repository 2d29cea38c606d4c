//! What the engine is made of, and what it asks of the pool.

use super::heights::Sets;
use super::journaled::Journaled;
use super::outside::{Blocks, CatchUp, Outbox};
use super::pace::Pace;
use super::snapshot::Snapshot;
use super::work::WorkSettings;
use crate::audit::Audit;
use crate::events::Tell;
use crate::execution::Job;
use crate::mempool::RelayMap;
use crate::network::PeerId;
use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use std::sync::Arc;
use tendermint::block::Height;
use tercet_consensus::message::SignedVote;

/// What the engine is made of.
pub struct Parts {
    /// Replica and journal.
    pub core: Journaled,
    /// Validator sets by height.
    pub sets: Sets,
    /// The chain database, for heights that were decided.
    pub chain: Box<dyn Blocks>,
    /// The network.
    pub network: Box<dyn Outbox>,
    /// Jobs for the application's thread.
    pub jobs: Sender<Job>,
    /// The pool of transactions.
    pub pool: Arc<dyn Pool>,
    /// Who catches up when peers are ahead.
    pub sync: Box<dyn CatchUp>,
    /// What was thrown away.
    pub audit: Audit,
    /// Who makes evidence of two votes.
    pub evidence: Witness,
    /// T.
    pub pace: Pace,
    /// When a block is due.
    pub work: WorkSettings,
    /// Sign nothing up to this height: the data is stale.
    pub stale_until: Option<Height>,
    /// To whom transactions of peers are passed on, for the mempool.
    pub relay: RelayMap,
    /// Who is told what the replica does.
    pub tell: Tell,
    /// Where others read the engine's state.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

/// Hears of two votes of one validator, of one phase, for one height and view.
pub type Witness = Box<dyn Fn((SignedVote, SignedVote)) + Send>;

/// Where the primary is, for whoever has transactions for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primary {
    /// This node.
    Here,
    /// A connected peer.
    Peer(PeerId),
    /// Not directly connected: whoever is passes transactions on.
    Elsewhere,
}

/// What the engine asks of the pool.
pub trait Pool: Send + Sync {
    /// Whether a transaction waits that is worth a block.
    fn has_work(&self) -> bool;
    /// How many do, as far as the pool counts them.
    fn waiting(&self) -> usize {
        usize::from(self.has_work())
    }
    /// Where the primary is: transactions go straight there.
    fn primary(&self, primary: Primary);
    /// Whether the primary should be suspected, because it left a transaction out of several blocks with room for it; once a
    /// transaction.
    fn suspects(&self) -> bool;
}
