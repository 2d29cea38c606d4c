//! `full` mode: of every filled header the commit too, signatures of many commits in one batch. A commit that stands in the next
//! block is bound by that block's header; then bad signatures are the chain's fault and not the provider's.

use super::desk::Job;
use super::disputes::Fork;
use super::providers::Choice;
use super::request::{Answer, Failure, Fault, ProviderId, What};
use super::{Event, Planner};
use crate::block::{BoundBlock, UntrustedBlock};
use crate::chain::{Edge, TrustedRun};
use crate::commit::Commit;
use crate::evidence::Attack;
use crate::hash::Hash;
use crate::header::Height;
use crate::verify::{Invalid, Signatures, verify_commits};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tercet_consensus::validators::Validators;

/// The most headers of a run in `full` mode, and so the most commits of one batch.
pub(super) const RUN_COMMITS_MAX: u64 = 128;
/// The most runs that wait for commits.
const CHECKS_MAX: usize = 8;
/// The most validator sets that are kept.
const SETS_MAX: usize = 64;

/// A run whose commits are missing.
#[derive(Debug)]
struct Check {
    run: TrustedRun,
    /// The hash that the header above has for the commit of the highest.
    top_commit: Option<Hash>,
    commits: Vec<Commit>,
    senders: BTreeSet<ProviderId>,
    tried: BTreeSet<ProviderId>,
    /// Whether its signatures are being verified.
    under_way: bool,
}

/// Signatures to be verified: the work of `full` mode, which needs nothing but itself, so that it can be done in any thread.
#[derive(Debug)]
pub struct Work {
    high: Height,
    blocks: Vec<BoundBlock>,
}

/// [`Work`] that is done.
#[derive(Debug)]
pub struct Finished {
    high: Height,
    verdict: Result<(), Invalid>,
}

impl Work {
    /// Verifies the signatures, all in one batch.
    #[must_use]
    pub fn run(self) -> Finished {
        let verdicts = verify_commits(&self.blocks, Signatures::Quorum);
        Finished { high: self.high, verdict: verdicts.into_iter().collect() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Commits {
    work: VecDeque<Work>,
    checks: BTreeMap<Height, Check>,
    sets: BTreeMap<Hash, Arc<Validators>>,
    /// The hashes of `sets` in the order in which they came.
    order: VecDeque<Hash>,
    tried: BTreeSet<ProviderId>,
}

impl Commits {
    pub(super) fn has_room(&self) -> bool {
        self.checks.len() < CHECKS_MAX
    }

    pub(super) fn missing(&self) -> usize {
        self.checks.len()
    }

    /// Keeps a set, for headers that name it.
    pub(super) fn know(&mut self, set: &Arc<Validators>) {
        let Some(hash) = Hash::from_tendermint(set.hash()) else { return };
        if self.sets.insert(hash, Arc::clone(set)).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > SETS_MAX {
            self.order.pop_front().and_then(|hash| self.sets.remove(&hash));
        }
    }

    pub(super) fn check(&mut self, run: TrustedRun, above: &Edge) {
        let top_commit = above.last_commit();
        let (senders, tried) = (BTreeSet::new(), BTreeSet::new());
        let (commits, under_way) = (vec![], false);
        let check = Check { run, top_commit, commits, senders, tried, under_way };
        self.checks.insert(check.run.high(), check);
    }
}

impl Check {
    /// The lowest height whose commit is missing.
    fn next(&self) -> Height {
        self.run.low() + self.commits.len() as u64
    }

    fn is_complete(&self) -> bool {
        self.next() > self.run.high()
    }

    /// What the header above says is the hash of the commit of the header at `index`.
    fn commit_hash(&self, index: usize) -> Option<Hash> {
        match self.run.headers().get(index + 1) {
            Some(above) => above.last_commit_hash(),
            None => self.top_commit,
        }
    }

    /// Takes commits that are those of the next headers.
    fn take(&mut self, commits: Vec<Commit>) -> Result<(), Fault> {
        let asked = self.run.headers().len() - self.commits.len();
        if commits.is_empty() || commits.len() > asked {
            return Err(Fault::NotAsked);
        }
        for commit in commits {
            let index = self.commits.len();
            if self.run.hashes().get(index) != Some(&commit.block_id.hash)
                || self.commit_hash(index).is_some_and(|hash| hash != commit.hash())
            {
                return Err(Invalid::CommitHash.into());
            }
            self.commits.push(commit);
        }
        Ok(())
    }

    fn bind(&self, sets: &BTreeMap<Hash, Arc<Validators>>) -> Result<Vec<BoundBlock>, Lack> {
        let pairs = self.run.headers().iter().zip(&self.commits);
        pairs
            .map(|(header, commit)| {
                let hash = header.validators_hash();
                let validators = sets.get(&hash).ok_or(Lack::Set(hash, header.height()))?;
                let (header, commit) = (header.clone(), commit.clone());
                let validators = Arc::clone(validators);
                let block = UntrustedBlock { header, commit, validators, next_validators: None };
                block.bind().map_err(Lack::Invalid)
            })
            .collect()
    }
}

/// Why a run cannot be verified yet, or at all.
enum Lack {
    Set(Hash, Height),
    Invalid(Invalid),
}

impl Planner {
    pub(super) fn plan_commits(&mut self) {
        let highs: Vec<Height> = self.commits.checks.keys().rev().copied().collect();
        for high in highs {
            let Some(check) = self.commits.checks.get(&high) else { continue };
            if check.is_complete() {
                self.verify_run(high);
            } else {
                self.ask_for_commits(high);
            }
        }
    }

    fn ask_for_commits(&mut self, high: Height) {
        if self.desk.is_waiting(Job::Commits { high }) {
            return;
        }
        let Some(check) = self.commits.checks.get_mut(&high) else { return };
        let low = check.next();
        let choice = Choice { height: Some(low), not: Some(&check.tried) };
        match self.providers.pick(&choice, self.now) {
            Some(provider) => {
                check.tried.insert(provider);
                self.ask(provider, What::Commits { low, high }, Job::Commits { high });
            }
            None => check.tried.clear(),
        }
    }

    pub(super) fn on_commits(
        &mut self,
        high: Height,
        provider: ProviderId,
        response: Result<Answer, Failure>,
    ) {
        let Some(check) = self.commits.checks.get_mut(&high) else { return };
        let Ok(Answer::Commits(commits)) = response else { return };
        match check.take(commits) {
            Ok(()) => {
                check.senders.insert(provider);
                check.tried.clear();
            }
            Err(fault) => self.refuse(provider, fault),
        }
    }

    /// Hands out the signatures of a run to be verified.
    fn verify_run(&mut self, high: Height) {
        let Some(check) = self.commits.checks.get_mut(&high).filter(|check| !check.under_way)
        else {
            return;
        };
        match check.bind(&self.commits.sets) {
            Ok(blocks) => {
                check.under_way = true;
                self.commits.work.push_back(Work { high, blocks });
            }
            Err(Lack::Set(hash, height)) => self.ask_for_set(hash, height),
            Err(Lack::Invalid(invalid)) => self.bad_commits(high, invalid),
        }
    }

    /// The next signatures to verify, in `full` mode; give them back by [`Planner::on_work`].
    pub fn next_work(&mut self) -> Option<Work> {
        self.commits.work.pop_front()
    }

    /// Work that is done.
    pub fn on_work(&mut self, finished: Finished) {
        let high = finished.high;
        let Some(check) = self.commits.checks.get_mut(&high).filter(|check| check.under_way) else {
            return;
        };
        check.under_way = false;
        if self.fork.is_some() {
            return;
        }
        match finished.verdict {
            Ok(()) => {
                if let Some(check) = self.commits.checks.remove(&high) {
                    self.desk.tell(Event::Filled(check.run, Some(check.commits)));
                }
            }
            Err(invalid) => self.bad_commits(high, invalid),
        }
    }

    fn ask_for_set(&mut self, hash: Hash, height: Height) {
        if self.desk.is_waiting(Job::Validators(hash)) {
            return;
        }
        let not = Some(&self.commits.tried);
        let choice = Choice { height: Some(height), not };
        match self.providers.pick(&choice, self.now) {
            Some(provider) => {
                self.commits.tried.insert(provider);
                self.ask(provider, What::Validators(height), Job::Validators(hash));
            }
            None => self.commits.tried.clear(),
        }
    }

    pub(super) fn on_validators(
        &mut self,
        hash: Hash,
        provider: ProviderId,
        response: Result<Answer, Failure>,
    ) {
        let Ok(Answer::Validators(set)) = response else { return };
        if Hash::from_tendermint(set.hash()) == Some(hash) {
            self.commits.tried.clear();
            self.commits.know(&set);
        } else {
            self.refuse(provider, Invalid::ValidatorsHash.into());
        }
    }

    /// A commit of the run does not verify. Where all are bound by the header above, the chain holds a block that its validators
    /// have not signed; otherwise somebody made one up, and all are fetched anew.
    fn bad_commits(&mut self, high: Height, invalid: Invalid) {
        let Some(check) = self.commits.checks.get_mut(&high) else { return };
        let all_bound = (0..check.commits.len()).all(|index| check.commit_hash(index).is_some());
        check.commits.clear();
        let senders = std::mem::take(&mut check.senders);
        if all_bound {
            self.unsigned_history(high);
        } else if let [alone] = senders.into_iter().collect::<Vec<_>>().as_slice() {
            self.refuse(*alone, invalid.into());
        }
    }

    fn unsigned_history(&mut self, high: Height) {
        let below = self.anchors.all.range(..=high).next_back();
        let Some(common) = below
            .map(|(_, anchor)| anchor.block.clone())
            .or_else(|| self.anchors.all.values().next().map(|anchor| anchor.block.clone()))
        else {
            return;
        };
        let above = self.anchors.all.range(high..).next().map(|(_, anchor)| anchor.clone());
        let source = above.as_ref().and_then(|anchor| anchor.source);
        self.freeze(Fork {
            attack: Attack::BrokenHistory,
            common,
            ours: above.map(|anchor| anchor.block).into_iter().collect(),
            theirs: vec![],
            source,
            witness: None,
            evidence: vec![],
        });
    }
}
