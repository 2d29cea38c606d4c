//! Disputes: a witness whose header differs has to show a chain of its own, from the last anchor that it shares with us, block by
//! block and alone. Where it cannot it is refused, and its difference counts for nothing. Where it can, two chains verify from one
//! block: more than the trust level of the validators signed both, and everything freezes.

use super::ascent::{Ascent, Step};
use super::desk::Job;
use super::request::{Answer, Failure, Fault, ProviderId, What};
use super::{Event, Planner};
use crate::block::{BoundBlock, TrustedBlock};
use crate::evidence::{Attack, AttackEvidence};
use crate::header::{Header, Height};
use crate::time::Time;
use std::time::Duration;

/// How many answers a witness may fail to give before it counts as one that shows nothing.
const FAILURES_MAX: u32 = 5;

/// When to ask again for what did not come.
const AGAIN: Duration = Duration::from_secs(1);

/// Two chains that both verify.
#[derive(Clone, Debug)]
pub struct Fork {
    /// The kind of attack.
    pub attack: Attack,
    /// The last block that both share.
    pub common: TrustedBlock,
    /// Our blocks from there, the one in conflict last.
    pub ours: Vec<TrustedBlock>,
    /// Those of the witness; none where our own anchors contradict each other.
    pub theirs: Vec<TrustedBlock>,
    /// Who sent our block in conflict; none where it was restored.
    pub source: Option<ProviderId>,
    /// Who showed the other chain.
    pub witness: Option<ProviderId>,
    /// Evidence against each side, to be sent to all full nodes: those on the true chain take what is against the other.
    pub evidence: Vec<AttackEvidence>,
}

/// What a witness has shown so far.
#[derive(Debug)]
pub(super) struct Dispute {
    /// The height of our anchor that it contradicts.
    height: Height,
    /// A block of a lower height whose time contradicts the anchor, in forward lunatic attacks.
    forward: Option<BoundBlock>,
    stage: Stage,
    failures: u32,
    since: Time,
    /// When to ask again.
    again: Time,
    /// Whether its latest block is asked for, because it does not have the height in question.
    latest: bool,
    /// Why it is refused where it shows nothing.
    fault: Fault,
}

#[derive(Debug)]
enum Stage {
    /// Looking for the highest anchor that is shared: those below, ascending.
    Common(Vec<Height>),
    /// Verifying its chain from there to `target`.
    Chain { common: Box<TrustedBlock>, target: Height, ascent: Ascent, trace: Vec<TrustedBlock> },
}

impl Dispute {
    pub(super) fn height(&self) -> Height {
        self.height
    }

    fn asks(&self) -> Option<What> {
        match &self.stage {
            Stage::Common(heights) => heights.last().map(|height| What::Header(*height)),
            Stage::Chain { .. } if self.latest => Some(What::Block(None)),
            Stage::Chain { target, ascent, .. } => {
                Some(What::Block(Some(ascent.need().unwrap_or(*target))))
            }
        }
    }
}

impl Planner {
    /// What a provider sent contradicts our anchor at `height`. That is no fault yet: the anchor may be the one that is false, and
    /// then this provider the only one that shows it. It is refused for `fault` where it cannot show its chain.
    pub(super) fn open_dispute(&mut self, witness: ProviderId, height: Height, fault: Fault) {
        self.open(witness, Claimed { height, below: height, forward: None, fault });
    }

    pub(super) fn open_forward_dispute(
        &mut self,
        witness: ProviderId,
        height: Height,
        theirs: BoundBlock,
    ) {
        let (below, fault) = (theirs.height(), Fault::Unproven(height));
        self.open(witness, Claimed { height, below, forward: Some(theirs), fault });
    }

    fn open(&mut self, witness: ProviderId, claimed: Claimed) {
        let Claimed { height, below, forward, fault } = claimed;
        // What a refused provider sent before may still contradict; nobody asks it any more.
        let refused = self.providers.get(witness).is_none_or(|p| p.refused.is_some());
        if refused || self.disputes.contains_key(&witness) {
            return;
        }
        let heights: Vec<Height> =
            self.anchors.all.range(..below).map(|(height, _)| *height).collect();
        if heights.is_empty() {
            // It differs at the root, which is ours to choose: it serves another chain.
            self.refuse(witness, fault);
            return;
        }
        let stage = Stage::Common(heights);
        let (since, again) = (self.now, self.now);
        let dispute =
            Dispute { height, forward, stage, failures: 0, since, again, latest: false, fault };
        self.disputes.insert(witness, dispute);
        if let Some(provider) = self.providers.get_mut(witness) {
            provider.disputed = true;
        }
    }

    pub(super) fn plan_disputes(&mut self) {
        let now = self.now;
        let due = self.disputes.iter().filter(|(_, dispute)| dispute.again <= now);
        let open = due.map(|(id, dispute)| (*id, dispute.asks()));
        let wants: Vec<(ProviderId, Option<What>)> = open.collect();
        for (witness, what) in wants {
            let ready = self.providers.is_ready_to_compare(witness, self.now);
            match what {
                Some(what) if ready && !self.desk.is_asked(Job::Dispute, witness) => {
                    self.ask(witness, what, Job::Dispute);
                }
                Some(_) => {}
                None => self.refuse(witness, Fault::OtherRoot(self.config.root.height)),
            }
        }
    }

    pub(super) fn on_dispute(&mut self, witness: ProviderId, response: Result<Answer, Failure>) {
        let Some(mut dispute) = self.disputes.remove(&witness) else { return };
        let outcome = match response {
            Ok(Answer::Header(header)) => self.on_shared(&mut dispute, witness, &header),
            Ok(Answer::Block(block)) => {
                let height = block.header.height();
                let asked = dispute.latest || dispute.asks() == Some(What::Block(Some(height)));
                let bound = if asked { self.bind(*block, None) } else { Err(Fault::NotAsked) };
                bound.and_then(|block| self.go_on(&mut dispute, witness, block))
            }
            Err(Failure::NotYet) => Ok(self.not_yet(&mut dispute)),
            _ => dispute.failed(self.now),
        };
        match outcome {
            Ok(Outcome::Open) => drop(self.disputes.insert(witness, dispute)),
            Ok(Outcome::Behind) => {
                self.providers.rest(witness, self.now);
                if let Some(provider) = self.providers.get_mut(witness) {
                    provider.disputed = false;
                }
            }
            Ok(Outcome::Proven(common, theirs)) => {
                self.proven(&dispute, witness, *common, theirs);
            }
            Err(fault) => self.refuse(witness, fault),
        }
    }

    /// Whether an anchor is shared.
    fn on_shared(
        &self,
        dispute: &mut Dispute,
        witness: ProviderId,
        header: &Header,
    ) -> Result<Outcome, Fault> {
        if dispute.asks() != Some(What::Header(header.height())) {
            return Err(Fault::NotAsked);
        }
        match self.anchors.all.get(&header.height()).map(|anchor| &anchor.block) {
            Some(anchor) if anchor.hash() == header.hash() => {
                self.go_up(dispute, witness, anchor.clone())
            }
            // The next lower one may be.
            _ => Ok(dispute.go_down()),
        }
    }

    /// The witness does not have the height in question. Once it should, its latest block tells whether its chain has passed the
    /// time of our anchor below it.
    fn not_yet(&self, dispute: &mut Dispute) -> Outcome {
        let drift = self.config.options.clock_drift.saturating_mul(2);
        dispute.again = self.now.after(AGAIN);
        dispute.latest = self.now >= dispute.since.after(drift).after(self.config.block_lag);
        Outcome::Open
    }

    /// The last shared anchor is found: from there the witness has to show its chain up to our next anchor.
    fn go_up(
        &self,
        dispute: &mut Dispute,
        witness: ProviderId,
        common: TrustedBlock,
    ) -> Result<Outcome, Fault> {
        let next = self.anchors.all.range(common.height() + 1..).next().map(|(height, _)| *height);
        let target = match &dispute.forward {
            Some(theirs) => theirs.height(),
            None => next.unwrap_or(dispute.height),
        };
        let (ascent, trace) = (Ascent::default(), Vec::new());
        dispute.stage = Stage::Chain { common: Box::new(common), target, ascent, trace };
        match dispute.forward.take() {
            Some(theirs) => {
                dispute.forward = Some(theirs.clone());
                self.go_on(dispute, witness, theirs)
            }
            None => Ok(Outcome::Open),
        }
    }

    /// Takes a block of the witness's chain.
    fn go_on(
        &self,
        dispute: &mut Dispute,
        witness: ProviderId,
        block: BoundBlock,
    ) -> Result<Outcome, Fault> {
        let unproven = dispute.fault.clone();
        if std::mem::take(&mut dispute.latest) {
            let passed = self.anchors.all.get(&dispute.height).is_some_and(|ours| {
                block.height() < dispute.height
                    && block.header().time() >= ours.block.header().time()
            });
            if !passed {
                return Ok(dispute.is_behind(self.now));
            }
            dispute.forward = Some(block.clone());
            if let Stage::Chain { target, .. } = &mut dispute.stage {
                *target = block.height();
            }
        }
        let Stage::Chain { common, target, ascent, trace } = &mut dispute.stage else {
            return Err(unproven);
        };
        let ours = self.anchors.all.get(target).map(|anchor| anchor.block.hash());
        if block.height() == *target && ours == Some(block.hash()) {
            // First it says one thing and then another.
            return Err(unproven);
        }
        ascent.offer(block, witness);
        loop {
            let from = trace.last().unwrap_or(common);
            match ascent.step(from, &self.config.options, self.now) {
                Step::Extended(block, _) => {
                    let done = block.height() == *target;
                    trace.push(*block);
                    if done {
                        return Ok(Outcome::Proven(common.clone(), std::mem::take(trace)));
                    }
                }
                Step::Idle | Step::Need => return Ok(Outcome::Open),
                Step::Refuse(_, invalid) => return Err(invalid.into()),
                Step::Future(_) | Step::Expired => return Err(unproven),
            }
        }
    }

    fn proven(
        &mut self,
        dispute: &Dispute,
        witness: ProviderId,
        common: TrustedBlock,
        theirs: Vec<TrustedBlock>,
    ) {
        let Some(last) = theirs.last() else { return };
        let ours_height = if dispute.forward.is_some() { dispute.height } else { last.height() };
        let Some(anchor) = self.anchors.all.get(&ours_height).cloned() else { return };
        let between = self.anchors.all.range(common.height() + 1..=ours_height);
        let ours = between.map(|(_, anchor)| anchor.block.clone()).collect();
        let against_ours = AttackEvidence::new(&common, &anchor.block, last);
        let attack = against_ours.attack;
        let mut evidence = vec![against_ours];
        if dispute.forward.is_none() {
            evidence.push(AttackEvidence::new(&common, last, &anchor.block));
        }
        let (source, witness) = (anchor.source, Some(witness));
        self.freeze(Fork { attack, common, ours, theirs, source, witness, evidence });
    }

    /// Nothing goes on: only the operator can tell which chain is the true one.
    pub(super) fn freeze(&mut self, fork: Fork) {
        self.fork = Some(fork.common.height());
        self.desk.tell(Event::Fork(Box::new(fork)));
    }
}

/// What opens a dispute.
struct Claimed {
    height: Height,
    below: Height,
    forward: Option<BoundBlock>,
    fault: Fault,
}

enum Outcome {
    Open,
    /// It can show nothing yet, and is not at fault.
    Behind,
    Proven(Box<TrustedBlock>, Vec<TrustedBlock>),
}

impl Dispute {
    /// An answer did not come.
    fn failed(&mut self, now: Time) -> Result<Outcome, Fault> {
        self.failures += 1;
        self.again = now.after(AGAIN);
        if self.failures < FAILURES_MAX { Ok(Outcome::Open) } else { Err(self.fault.clone()) }
    }

    /// Its chain has not come to the time of our anchor.
    fn is_behind(&mut self, now: Time) -> Outcome {
        self.failures += 1;
        self.again = now.after(AGAIN);
        if self.failures < FAILURES_MAX { Outcome::Open } else { Outcome::Behind }
    }

    /// The anchor that was asked about is not shared: the next lower one may be.
    fn go_down(&mut self) -> Outcome {
        if let Stage::Common(heights) = &mut self.stage {
            heights.pop();
        }
        Outcome::Open
    }
}
