//! The state of consensus (CometBFT `consensus/types/round_state.go`, `height_vote_set.go`, `peer_round_state.go`).

use super::chain::ValidatorEntry;
use super::{Hex, Rfc3339, Text};
use crate::events::{Step, VoteSeen};
use crate::rpc::sources::{PbftState, PeerView};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tercet_consensus::commit::Commit;
use tercet_consensus::validators::Validators;

/// What is shown.
pub(crate) struct Seen {
    pub(crate) pbft: PbftState,
    pub(crate) validators: Option<Arc<Validators>>,
    pub(crate) last_validators: Option<Arc<Validators>>,
    /// The commit of the height before.
    pub(crate) last_commit: Option<Commit>,
}

/// What stands for a vote that is not there.
const NO_VOTE: &str = "nil-Vote";

impl Seen {
    fn step(&self) -> Step {
        self.pbft.round.step.unwrap_or(Step::Propose)
    }

    fn since(&self) -> Rfc3339 {
        self.pbft.round.since.map_or(Rfc3339(None), Rfc3339::from)
    }

    fn proposer(&self) -> Proposer {
        let set = self.validators.as_ref();
        let index = self.pbft.primary.zip(set).and_then(|(primary, set)| set.index_of(&primary));
        let address = self.pbft.primary.map_or(vec![], |primary| primary.as_bytes().to_vec());
        Proposer { address: Hex(address), index: index.unwrap_or(0) }
    }

    /// The votes of the view; those of the views before are not kept.
    fn votes(&self) -> [RoundVotes; 1] {
        let [prepares, commits] = &self.pbft.round.votes;
        let of = |votes: &[VoteSeen], phase| self.phase(votes, phase);
        let (prevotes, prevotes_bit_array) = of(prepares, Phase::PREVOTE);
        let (precommits, precommits_bit_array) = of(commits, Phase::PRECOMMIT);
        let round = self.pbft.view.number();
        [RoundVotes { round, prevotes, prevotes_bit_array, precommits, precommits_bit_array }]
    }

    fn phase(&self, votes: &[VoteSeen], phase: Phase) -> (Vec<String>, String) {
        let count = self.validators.as_ref().map_or(0, |set| set.count());
        let mut texts = vec![NO_VOTE.to_owned(); count];
        let (height, view) = (self.pbft.height.value(), self.pbft.view.number());
        for vote in votes {
            let index = usize::try_from(vote.index).unwrap_or(usize::MAX);
            if let Some(text) = texts.get_mut(index) {
                *text = phase.text(vote, (height, view));
            }
        }
        let bits = bit_array(&texts, self.validators.as_deref());
        (texts, bits)
    }

    fn last_commit(&self) -> Option<VoteSet> {
        let (commit, set) = self.last_commit.as_ref().zip(self.last_validators.as_ref())?;
        let at = (commit.height.value(), commit.view.number());
        let text = |(index, sig): (u32, &Option<tercet_consensus::commit::CommitSig>)| {
            sig.as_ref().map_or(NO_VOTE.to_owned(), |sig| {
                let vote = VoteSeen::of_commit(index, sig, commit.block_id.hash);
                Phase::PRECOMMIT.text(&vote, at)
            })
        };
        let votes: Vec<String> = (0..).zip(&commit.signatures).map(text).collect();
        let votes_bit_array = bit_array(&votes, Some(set));
        Some(VoteSet { votes, votes_bit_array, peer_maj_23s: BTreeMap::new() })
    }
}

/// A phase as CometBFT names it.
#[derive(Clone, Copy)]
struct Phase {
    kind: &'static str,
    name: &'static str,
}

impl Phase {
    const PREVOTE: Phase = Phase { kind: "SIGNED_MSG_TYPE_PREVOTE", name: "Prevote" };
    const PRECOMMIT: Phase = Phase { kind: "SIGNED_MSG_TYPE_PRECOMMIT", name: "Precommit" };

    fn text(self, vote: &VoteSeen, (height, view): (u64, u32)) -> String {
        let Phase { kind, name } = self;
        let short = |bytes: &[u8]| hex::encode_upper(bytes.get(..6).unwrap_or(bytes));
        format!(
            "Vote{{{}:{} {height}/{view:02}/{kind}({name}) {} {} {} @ {}}}",
            vote.index,
            short(vote.validator.as_bytes()),
            short(vote.block.as_bytes()),
            short(&vote.signature),
            short(&vote.extension),
            Rfc3339::from(vote.time),
        )
    }
}

/// `BA{4:xx_x} 30/40 = 0.75`: who has voted, and with how much power.
fn bit_array(votes: &[String], set: Option<&Validators>) -> String {
    let has = |text: &String| text != NO_VOTE;
    let bits: String = votes.iter().map(|text| if has(text) { 'x' } else { '_' }).collect();
    let total = set.map_or(0, Validators::total_power);
    let power = |(index, _): (u32, &String)| set.map_or(0, |set| set.power_at(index));
    let voted: u64 = (0..).zip(votes).filter(|(_, text)| has(text)).map(power).sum();
    let hundredths = (u128::from(voted) * 100 + u128::from(total) / 2) / u128::from(total.max(1));
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    format!("BA{{{}:{bits}}} {voted}/{total} = {whole}.{rest:02}", votes.len())
}

#[derive(Serialize)]
struct RoundVotes {
    round: u32,
    prevotes: Vec<String>,
    prevotes_bit_array: String,
    precommits: Vec<String>,
    precommits_bit_array: String,
}

#[derive(Serialize)]
struct Proposer {
    address: Hex<Vec<u8>>,
    index: u32,
}

/// Reply of `consensus_state`.
#[derive(Serialize)]
pub(crate) struct ConsensusReply {
    round_state: Simple,
}

#[derive(Serialize)]
struct Simple {
    #[serde(rename = "height/round/step")]
    place: String,
    start_time: Rfc3339,
    proposal_block_hash: Hex<Vec<u8>>,
    locked_block_hash: Hex<Vec<u8>>,
    valid_block_hash: Hex<Vec<u8>>,
    height_vote_set: [RoundVotes; 1],
    proposer: Proposer,
}

impl ConsensusReply {
    pub(crate) fn new(seen: &Seen) -> ConsensusReply {
        let PbftState { height, view, prepared, round, .. } = &seen.pbft;
        let hash = |hash: Option<tendermint::Hash>| {
            Hex(hash.map_or(vec![], |hash| hash.as_bytes().to_vec()))
        };
        let prepared = prepared.map(|(_, hash)| hash);
        ConsensusReply {
            round_state: Simple {
                place: format!("{height}/{}/{}", view.number(), seen.step().number()),
                start_time: seen.since(),
                proposal_block_hash: hash(round.accepted.map(|id| id.hash)),
                locked_block_hash: hash(prepared),
                valid_block_hash: hash(prepared),
                height_vote_set: seen.votes(),
                proposer: seen.proposer(),
            },
        }
    }
}

/// Reply of `dump_consensus_state`.
#[derive(Serialize)]
pub(crate) struct DumpReply {
    round_state: Round,
    peers: Vec<Peer>,
}

/// Blocks are not shown, only where they are known: `proposal_block` and the like stand as null.
#[derive(Serialize)]
struct Round {
    height: Text<u64>,
    round: u32,
    step: u8,
    start_time: Rfc3339,
    commit_time: Rfc3339,
    validators: Option<Set>,
    proposal: Option<()>,
    proposal_block: Option<()>,
    proposal_block_parts: Option<Parts>,
    locked_round: i64,
    locked_block: Option<()>,
    locked_block_parts: Option<()>,
    valid_round: i64,
    valid_block: Option<()>,
    valid_block_parts: Option<()>,
    votes: [RoundVotes; 1],
    commit_round: i64,
    last_commit: Option<VoteSet>,
    last_validators: Option<Set>,
    triggered_timeout_precommit: bool,
}

#[derive(Serialize)]
struct Set {
    validators: Vec<ValidatorEntry>,
    proposer: Option<ValidatorEntry>,
}

impl Set {
    fn new(set: &Validators, proposer: Option<u32>) -> Set {
        let at = |index: u32| set.at(index).map(ValidatorEntry::from);
        Set {
            validators: set.list().iter().map(Into::into).collect(),
            proposer: proposer.and_then(at),
        }
    }
}

#[derive(Serialize)]
struct Parts {
    #[serde(rename = "count/total")]
    count: String,
    parts_bit_array: String,
}

#[derive(Serialize)]
struct VoteSet {
    votes: Vec<String>,
    votes_bit_array: String,
    peer_maj_23s: BTreeMap<String, ()>,
}

impl DumpReply {
    pub(crate) fn new(seen: &Seen, peers: &[PeerView]) -> DumpReply {
        let PbftState { height, view, prepared, round, .. } = &seen.pbft;
        let prepared = prepared.map_or(-1, |(view, _)| i64::from(view.number()));
        let decided = seen.step() == Step::Commit;
        let proposer = seen.proposer().index;
        let commit_time = seen.pbft.round.since.map_or(Rfc3339(None), Rfc3339::from);
        let state = Round {
            height: Text(height.value()),
            round: view.number(),
            step: seen.step().number(),
            start_time: seen.since(),
            commit_time,
            validators: seen.validators.as_ref().map(|set| Set::new(set, Some(proposer))),
            proposal: None,
            proposal_block: None,
            proposal_block_parts: round.accepted.map(|id| {
                let total = id.part_set_header.total;
                let bits = "x".repeat(usize::try_from(total).unwrap_or(0));
                Parts { count: format!("{total}/{total}"), parts_bit_array: bits }
            }),
            locked_round: prepared,
            locked_block: None,
            locked_block_parts: None,
            valid_round: prepared,
            valid_block: None,
            valid_block_parts: None,
            votes: seen.votes(),
            commit_round: if decided { i64::from(view.number()) } else { -1 },
            last_commit: seen.last_commit(),
            last_validators: seen.last_validators.as_ref().map(|set| Set::new(set, None)),
            triggered_timeout_precommit: false,
        };
        DumpReply { round_state: state, peers: peers.iter().map(Peer::from).collect() }
    }
}

#[derive(Serialize)]
struct Peer {
    node_address: String,
    peer_state: PeerState,
}

#[derive(Serialize)]
struct PeerState {
    round_state: PeerRound,
    stats: Stats,
}

/// Where a peer is: nodes do not follow each other's steps, so all of it is what CometBFT says of a peer of which it knows nothing.
#[derive(Serialize)]
struct PeerRound {
    height: Text<u64>,
    round: i64,
    step: u8,
    start_time: Rfc3339,
    proposal: bool,
    proposal_block_part_set_header: Header,
    proposal_block_parts: Option<()>,
    proposal_pol_round: i64,
    proposal_pol: Option<()>,
    prevotes: Option<()>,
    precommits: Option<()>,
    last_commit_round: i64,
    last_commit: Option<()>,
    catchup_commit_round: i64,
    catchup_commit: Option<()>,
}

#[derive(Serialize, Default)]
struct Header {
    total: u32,
    hash: &'static str,
}

#[derive(Serialize, Default)]
struct Stats {
    votes: Text<u64>,
    block_parts: Text<u64>,
}

impl From<&PeerView> for Peer {
    fn from(peer: &PeerView) -> Peer {
        let round_state = PeerRound {
            height: Text(0),
            round: -1,
            step: 0,
            start_time: Rfc3339(None),
            proposal: false,
            proposal_block_part_set_header: Header::default(),
            proposal_block_parts: None,
            proposal_pol_round: -1,
            proposal_pol: None,
            prevotes: None,
            precommits: None,
            last_commit_round: -1,
            last_commit: None,
            catchup_commit_round: -1,
            catchup_commit: None,
        };
        let listens = peer.listen_addr.strip_prefix("tcp://").unwrap_or(&peer.listen_addr);
        Peer {
            node_address: format!("{}@{listens}", peer.id),
            peer_state: PeerState { round_state, stats: Stats::default() },
        }
    }
}
