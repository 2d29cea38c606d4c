//! The light client's part of the audit: steps from each height to the next, and jumps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use serde_json::json;
use tendermint::block::CommitSig;
use tendermint::block::signed_header::SignedHeader;
use tendermint::{Hash, Time, validator};
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::types::{
    TrustThreshold, TrustedBlockState, UntrustedBlockState,
};
use tendermint_light_client_verifier::{ProdVerifier, Verdict, Verifier};

use super::Findings;
use crate::rpc::{Rpc, RpcError, quoted};

/// Validators that one call returns at most.
const PAGE: u64 = 100;
/// Pages that are asked for at most.
const PAGES_MAX: u64 = 100;
/// Validator sets that are kept.
const SETS_MAX: usize = 4_096;
/// Changes of the validator set that are jumped over, at most.
const CHANGES_MAX: usize = 1_024;
/// Old chains must stay verifiable: trust does not expire here.
const TRUSTING_PERIOD: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// Block times may be ahead of this machine's clock by this much.
const CLOCK_DRIFT: Duration = Duration::from_secs(10);

/// Why no validator set matches a header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetError {
    /// The node does not give it.
    #[error("{0}")]
    Rpc(#[from] RpcError),
    /// What it gives has another hash.
    #[error("the set of height {height} has hash {got}, the header says {expected}")]
    Hash {
        /// Height of the set.
        height: u64,
        /// Its hash.
        got: Hash,
        /// The header's.
        expected: Hash,
    },
}

#[derive(Deserialize)]
struct ValidatorsReply {
    validators: Vec<validator::Info>,
    #[serde(deserialize_with = "quoted")]
    total: u64,
}

/// The sets that belong to a header.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    /// Who signs this height.
    pub(crate) validators: Arc<validator::Set>,
    /// Who signs the next, where the node tells already.
    next: Option<Arc<validator::Set>>,
}

/// A verified header that others are verified from.
#[derive(Clone, Debug)]
struct Trusted {
    signed: SignedHeader,
    sets: Sets,
}

/// The light client.
pub(crate) struct Light {
    options: Options,
    verifier: ProdVerifier,
    known: BTreeMap<Vec<u8>, Arc<validator::Set>>,
    /// The height before that.
    older: Option<Trusted>,
    last: Option<Trusted>,
    /// The height under way, from which the next one is verified.
    current: Option<Trusted>,
    /// Pairs of heights to jump between.
    planned: Vec<(u64, u64)>,
    kept: BTreeMap<u64, Trusted>,
    /// Headers two heights apart with different validators between them.
    changes: Vec<(Trusted, Trusted)>,
    /// Signatures verified one by one so far.
    pub(crate) signatures: u64,
}

impl Light {
    /// A light client that also tries `jumps` jumps between random heights of a range.
    pub(crate) fn new(jumps: usize, seed: u64, from: u64, to: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut planned = Vec::new();
        if to > from + 1 {
            planned.push((from, to));
            while planned.len() < jumps {
                let a = random.random_range(from..=to - 2);
                planned.push((a, random.random_range(a + 2..=to)));
            }
        }
        planned.truncate(jumps);
        Self {
            options: Options {
                trust_threshold: TrustThreshold::ONE_THIRD,
                trusting_period: TRUSTING_PERIOD,
                clock_drift: CLOCK_DRIFT,
            },
            verifier: ProdVerifier::default(),
            known: BTreeMap::new(),
            older: None,
            last: None,
            current: None,
            planned,
            kept: BTreeMap::new(),
            changes: Vec::new(),
            signatures: 0,
        }
    }

    /// The validator sets of a header, read from the node unless known.
    pub(crate) async fn sets(
        &mut self,
        rpc: &mut Rpc,
        signed: &SignedHeader,
    ) -> Result<Sets, SetError> {
        let header = &signed.header;
        let height = header.height.value();
        let validators = self.set(rpc, height, header.validators_hash).await?;
        let next = self.set(rpc, height + 1, header.next_validators_hash).await;
        // The set of the next height may not be served yet at the tip of a node; a wrong one is
        // a finding all the same.
        let next = match next {
            Ok(set) => Some(set),
            Err(SetError::Rpc(RpcError::Refused { .. })) => None,
            Err(error) => return Err(error),
        };
        Ok(Sets { validators, next })
    }

    async fn set(
        &mut self,
        rpc: &mut Rpc,
        height: u64,
        expected: Hash,
    ) -> Result<Arc<validator::Set>, SetError> {
        if let Some(set) = self.known.get(expected.as_bytes()) {
            return Ok(set.clone());
        }
        let mut validators = Vec::new();
        for page in 1..=PAGES_MAX {
            let params = json!({"height": height.to_string(), "page": page.to_string(),
                "per_page": PAGE.to_string()});
            let reply: ValidatorsReply = rpc.call("validators", params).await?;
            validators.extend(reply.validators);
            if u64::try_from(validators.len()).unwrap_or(u64::MAX) >= reply.total {
                break;
            }
        }
        let set = Arc::new(validator::Set::without_proposer(validators));
        let got = set.hash();
        if got != expected {
            return Err(SetError::Hash { height, got, expected });
        }
        if self.known.len() >= SETS_MAX {
            self.known.clear();
        }
        self.known.insert(expected.as_bytes().to_vec(), set.clone());
        Ok(set)
    }

    /// Verifies a commit from the height before; `reference`: the next height starts from it.
    ///
    /// The first height of all is trusted as it stands, once more than 2/3 of its set signed it.
    pub(crate) fn verify(
        &mut self,
        signed: &SignedHeader,
        sets: &Sets,
        reference: bool,
    ) -> Result<(), String> {
        let height = signed.header.height.value();
        if reference {
            self.older = std::mem::replace(&mut self.last, self.current.take());
        }
        let before = self.last.as_ref().filter(|last| last.height() + 1 == height);
        let result = match before {
            Some(trusted) => follows(&trusted.signed, signed)
                .and_then(|()| text(self.judge(trusted, signed, sets))),
            None => text(self.verifier.verify_validator_sets(&untrusted(signed, sets)))
                .and_then(|()| text(self.verifier.verify_commit(&untrusted(signed, sets)))),
        };
        if reference {
            let trusted = Trusted { signed: signed.clone(), sets: sets.clone() };
            if self.planned.iter().any(|(a, b)| [*a, *b].contains(&height)) {
                self.kept.insert(height, trusted.clone());
            }
            self.note_change(&trusted);
            self.current = Some(trusted);
        }
        result
    }

    /// Plans a jump to `trusted` over the height before, where other validators sign than two
    /// heights ago.
    fn note_change(&mut self, trusted: &Trusted) {
        let Some(older) = &self.older else { return };
        let two_apart = older.height() + 2 == trusted.height();
        let (before, now) = (&older.signed.header, &trusted.signed.header);
        if two_apart
            && before.validators_hash != now.validators_hash
            && self.changes.len() < CHANGES_MAX
        {
            self.changes.push((older.clone(), trusted.clone()));
        }
    }

    fn judge(&self, trusted: &Trusted, signed: &SignedHeader, sets: &Sets) -> Verdict {
        let header = &trusted.signed.header;
        let next = trusted.sets.next.as_deref().unwrap_or(&trusted.sets.validators);
        let state = TrustedBlockState {
            chain_id: &header.chain_id,
            header_time: header.time,
            height: header.height,
            next_validators: next,
            next_validators_hash: header.next_validators_hash,
        };
        let untrusted = untrusted(signed, sets);
        self.verifier.verify_update_header(untrusted, state, &self.options, Time::now())
    }

    /// How many jumps over changes of the validator set are planned.
    pub(crate) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// Tries the planned jumps, and one over each change of the validator set: each must succeed exactly where more than 1/3 of the trusted set
    /// signed. Returns how many succeeded.
    pub(crate) fn jumps(&self, findings: &mut Findings) -> usize {
        let mut succeeded = 0;
        let planned = self.planned.iter();
        let planned = planned.filter_map(|(a, b)| self.kept.get(a).zip(self.kept.get(b)));
        let over_changes = self.changes.iter().map(|(from, to)| (from, to));
        for (from, to) in planned.chain(over_changes) {
            let (a, b) = (from.height(), to.height());
            let Some(next) = from.sets.next.as_deref() else { continue };
            let possible = signs_a_third(next, &to.signed);
            match (self.judge(from, &to.signed, &to.sets), possible) {
                (Verdict::Success, true) => succeeded += 1,
                (Verdict::NotEnoughTrust(_), false) => {}
                (Verdict::Success, false) => {
                    findings.add(format!("light client jumps {a} to {b} without enough trust"));
                }
                (verdict, _) => {
                    let reason = text(verdict).err().unwrap_or_default();
                    findings.add(format!("light client cannot jump from {a} to {b}: {reason}"));
                }
            }
        }
        succeeded
    }
}

impl Trusted {
    fn height(&self) -> u64 {
        self.signed.header.height.value()
    }
}

/// Whether a header names the block before it.
fn follows(before: &SignedHeader, signed: &SignedHeader) -> Result<(), String> {
    let (named, expected) = (signed.header.last_block_id, before.commit.block_id);
    if named == Some(expected) {
        return Ok(());
    }
    let named = named.map_or_else(|| "none".to_owned(), |id| id.hash.to_string());
    Err(format!("the header names {named} as the block before, that is {}", expected.hash))
}

fn untrusted<'a>(signed: &'a SignedHeader, sets: &'a Sets) -> UntrustedBlockState<'a> {
    UntrustedBlockState {
        signed_header: signed,
        validators: &sets.validators,
        next_validators: sets.next.as_deref(),
    }
}

fn text(verdict: Verdict) -> Result<(), String> {
    match verdict {
        Verdict::Success => Ok(()),
        Verdict::NotEnoughTrust(tally) => Err(format!("not enough trust: {tally}")),
        Verdict::Invalid(detail) => Err(detail.to_string()),
    }
}

/// Whether more than 1/3 of the power of `set` signed the commit.
fn signs_a_third(set: &validator::Set, signed: &SignedHeader) -> bool {
    let signers: Vec<_> = signed.commit.signatures.iter().filter_map(committer).collect();
    let of = |info: &validator::Info| u128::from(info.power.value());
    let total: u128 = set.validators().iter().map(of).sum();
    let signing = set.validators().iter().filter(|info| signers.contains(&info.address));
    signing.map(of).sum::<u128>() * 3 > total
}

fn committer(signature: &CommitSig) -> Option<tendermint::account::Id> {
    match signature {
        CommitSig::BlockIdFlagCommit { validator_address, .. } => Some(*validator_address),
        CommitSig::BlockIdFlagAbsent | CommitSig::BlockIdFlagNil { .. } => None,
    }
}
