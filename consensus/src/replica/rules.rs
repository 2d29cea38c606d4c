//! The rules of docs/protocol.md §5, one function each, and the loop that runs them until none fires.

use super::height::{Prepared, Promise, Verdict};
use super::{Action, Note, Replica};
use crate::block::BlockId;
use crate::message::{Certificate, Decided, Phase, PrePrepare, Verified};
use crate::record::{Cause, Record};
use crate::view::View;
use std::time::Duration;

/// How often the rules may fire in one step; each firing makes something that can happen only once a view, so this is never reached.
const FIRINGS_MAX: usize = 1_000;

impl Replica {
    /// Runs every rule until none fires, then sets the timers.
    pub(super) fn run(&mut self, out: &mut Vec<Action>) {
        for _ in 0..FIRINGS_MAX {
            if self.at.decision.is_some() || !self.fire(out) {
                break;
            }
        }
        self.rule_timers(out);
    }

    /// The first rule that applies; false where none does.
    fn fire(&mut self, out: &mut Vec<Action>) -> bool {
        self.rule_decide(out)
            || self.rule_enter(out)
            || self.rule_enter_as_primary(out)
            || self.rule_view_change(out)
            || self.rule_new_view(out)
            || self.rule_fresh(out)
            || self.rule_accept(out)
            || self.rule_prepare(out)
            || self.rule_prepared(out)
    }

    // ---- The rules ----

    /// *Decide*: quorum of COMMITs for (h,v,b), of ANY view, also during a view change → decide b; h+1 starts in that view. A COMMIT
    /// quorum without the block stops all signing at h; the body is fetched by BlockID.
    fn rule_decide(&mut self, out: &mut Vec<Action>) -> bool {
        let Some((view, block_id)) = self.at.commit_quorum else { return false };
        let Some(block) = self.at.blocks.get(&block_id).cloned() else { return false };
        let commit = self.at.collect_commit(view, block_id);
        self.decide(Decided { block, commit }, out);
        true
    }

    /// *Entering v'*: anyone, with a valid NEW-VIEW for v' >= my view and >= my promise.
    fn rule_enter(&mut self, out: &mut Vec<Action>) -> bool {
        let top = self.at.top();
        let enterable = |m: &&Verified<PrePrepare>| {
            m.justification.is_some() && m.view() > self.at.view && m.view() >= top
        };
        let Some(message) = self.at.candidates.all().filter(enterable).max_by_key(|m| m.view())
        else {
            return false;
        };
        let message = message.clone();
        self.enter(message.view(), out);
        self.at.new_view = Some(message);
        true
    }

    /// *Entering v'*: the new primary with a quorum of VIEW-CHANGE(h,v').
    fn rule_enter_as_primary(&mut self, out: &mut Vec<Action>) -> bool {
        let Some(view) = self.at.view_changes.view_with_quorum() else { return false };
        if !self.signs()
            || view <= self.at.view
            || view < self.at.top()
            || !self.at.am_primary(view)
        {
            return false;
        }
        self.enter(view, out);
        true
    }

    /// *View change*: on proof of primary equivocation, on a refused block while not every validator has had its turn, or when blocking
    /// power of senders have highest VIEW-CHANGE >= u > max(view, promise) (the largest such u), or carried over. Timers ask for it in
    /// `record_timer`.
    fn rule_view_change(&mut self, out: &mut Vec<Action>) -> bool {
        if !self.signs() {
            return false;
        }
        let top = self.at.top();
        if let Some(view) = self.at.view_changes.blocking_view().filter(|view| *view > top) {
            return self.view_change(view, Cause::Join, out);
        }
        if let Some(view) = self.at.carried.take().filter(|view| *view > top) {
            return self.view_change(view, Cause::Carried, out);
        }
        let view = self.at.view;
        if !self.at.may_vote(view) {
            return false;
        }
        if self.at.suspected == Some(view) {
            return self.view_change(view.next(), Cause::Timer, out);
        }
        if self.at.candidates.equivocates(view) {
            out.push(Action::Note(Note::Equivocation(view)));
            return self.view_change(view.next(), Cause::Primary, out);
        }
        if let Some(block_id) = self.at.refused().filter(|_| self.at.refusals_count(view)) {
            out.push(Action::Note(Note::Refused(block_id)));
            return self.view_change(view.next(), Cause::Primary, out);
        }
        false
    }

    /// *New view*: the primary of its view, entered by a quorum of VIEW-CHANGE(h,v'), sends PRE-PREPARE with J at once. It may use any
    /// quorum whose bound block it has. A primary that already signed fresh (h,v') sends no NEW-VIEW for v'.
    fn rule_new_view(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        if self.at.proposed(view)
            || !self.signs()
            || !self.at.am_primary(view)
            || !self.at.may_vote(view)
        {
            return false;
        }
        let Some(justification) = self.at.choose_justification(view) else { return false };
        let bound = justification.certificate.as_ref().map(|certificate| certificate.block_id);
        let built = self.at.built.filter(|(built_for, _)| *built_for == view).map(|(_, id)| id);
        match bound.or(built) {
            Some(block_id) => self.ask_proposal(block_id, Some(justification), out),
            None => self.ask_build(out),
        }
    }

    /// *Fresh*: the primary of the start view pre-prepares on the last commit alone, when there is something to order, it has prepared
    /// nothing, late COMMITs have been waited for, and the last commit has the vote extensions that it should have.
    fn rule_fresh(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        let ready = self.signs()
            && !self.at.proposed(view)
            && view == self.at.start_view()
            && self.at.am_primary(view)
            && self.at.may_vote(view)
            && self.at.prepared.is_none()
            && self.at.builds_on(view);
        if !ready {
            return false;
        }
        match self.at.built.filter(|(built_for, _)| *built_for == view) {
            Some((_, block_id)) if self.at.is_fresh(&block_id) => {
                self.ask_proposal(block_id, None, out)
            }
            Some(_) => false,
            // The wait begins with the height, not with the work.
            None => self.late_commits_are_here(out) && self.at.work && self.ask_build(out),
        }
    }

    /// *Gathering late commits*: before pre-preparing h+1 the primary waits, at most `commit_grace` after deciding, for every validator
    /// whose COMMIT for either of the last two heights has arrived.
    fn late_commits_are_here(&mut self, out: &mut Vec<Action>) -> bool {
        if self.at.grace_over {
            return true;
        }
        let present = self.at.prior_committers();
        let members = &self.at.start.validators;
        let missing = |address| !present.contains(address) && members.index_of(address).is_some();
        if !self.committers.iter().any(missing) {
            self.at.grace_over = true;
            return true;
        }
        if !self.at.timers.grace_runs() {
            self.arm_grace(out);
        }
        false
    }

    /// *Accepting*: a justified pre-prepare of my view whose whole block is here goes to the application, once.
    fn rule_accept(&mut self, out: &mut Vec<Action>) -> bool {
        if !self.signs() || !self.at.may_vote(self.at.view) {
            return false;
        }
        let Some(block_id) = self.at.acceptable() else { return false };
        if self.at.verdicts.contains_key(&block_id) {
            return false;
        }
        let Some(block) = self.at.blocks.get(&block_id).cloned() else { return false };
        self.at.verdicts.insert(block_id, Verdict::Asked);
        out.push(Action::Validate(block));
        true
    }

    /// *PREPARE(h,v,b)*: my height is h, view v, v >= promise, my first at (h,v), pre-prepare justified, whole block here, header
    /// valid, application accepted.
    fn rule_prepare(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        if !self.signs() || !self.at.may_vote(view) || self.at.prepare_asked >= Some(view) {
            return false;
        }
        let Some(block_id) = self.at.acceptable() else { return false };
        if self.at.verdicts.get(&block_id) != Some(&Verdict::Accepted) {
            return false;
        }
        let Some(time) = self.at.blocks.get(&block_id).map(|block| block.header().time) else {
            return false;
        };
        self.at.prepare_asked = Some(view);
        self.at.accepted = Some((view, block_id));
        self.ask_vote(Phase::Prepare, block_id, time, out)
    }

    /// *Prepared*: quorum of PREPAREs for (h,v,b) from distinct validators, and the block, **while v is my view and v >= promise** →
    /// `prepared`, which only a higher view replaces → persist → COMMIT(h,v,b). Otherwise no COMMIT: without this guard the protocol
    /// forks (docs/protocol.md §10).
    fn rule_prepared(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        if !self.at.may_vote(view) || self.at.commit_asked >= Some(view) || !self.signs() {
            return false;
        }
        let validators = &self.at.start.validators;
        let Some(block_id) = self.at.prepares.quorum(view, validators) else { return false };
        let Some(block) = self.at.blocks.get(&block_id) else { return false };
        let earliest = block.header().time.checked_add(Duration::from_millis(1));
        let earliest = earliest.unwrap_or(block.header().time);
        let certificate = Certificate {
            height: self.at.start.height,
            view,
            block_id,
            votes: self.at.prepares.for_block(view, block_id).cloned().collect(),
        };
        self.at.prepared = Some(Prepared { view, block_id, certificate });
        self.at.commit_asked = Some(view);
        self.check_certificates(out);
        self.signs() && self.ask_vote(Phase::Commit, block_id, earliest, out)
    }

    // ---- What the rules do ----

    /// Enters `view`; it never falls.
    fn enter(&mut self, view: View, out: &mut Vec<Action>) {
        self.at.view = view;
        self.at.new_view = None;
        self.entered(out);
    }

    /// What follows from being in another view, however it came about.
    pub(super) fn entered(&mut self, out: &mut Vec<Action>) {
        let view = self.at.view;
        // What was refused may be bound now, and a refusal need not be for ever: by the clock, or by an application that lacked something.
        self.at.verdicts.retain(|_, verdict| *verdict != Verdict::Refused);
        out.push(Action::Note(Note::Entered { view, primary: self.at.primary_address(view) }));
    }

    /// Promises `view` and asks for the signature under VIEW-CHANGE. The promise holds from now on, though nothing is durable before
    /// the signature is back: a crash in between forgets both.
    pub(super) fn view_change(&mut self, view: View, cause: Cause, out: &mut Vec<Action>) -> bool {
        self.at.promise = Some(Promise { view, cause });
        out.push(Action::Note(Note::ViewChange { view, cause }));
        self.ask_view_change(view, out)
    }

    fn ask_build(&mut self, out: &mut Vec<Action>) -> bool {
        let view = self.at.view;
        if self.at.build_asked >= Some(view) {
            return false;
        }
        if self.awaits_judgement(out) {
            return false;
        }
        let Some(last_commit) = self.at.commit_to_build_on() else { return false };
        self.at.build_asked = Some(view);
        out.push(Action::Propose { height: self.height(), view, last_commit });
        true
    }

    pub(super) fn decide(&mut self, decided: Decided, out: &mut Vec<Action>) {
        let block =
            self.at.durable_blocks.insert(decided.block.id()).then(|| decided.block.clone());
        self.at.decision = Some(decided.commit.clone());
        self.at.keep_block(decided.block.clone());
        out.push(Action::Persist(Record::Decided { commit: decided.commit.clone(), block }));
        out.push(Action::Decide(decided));
    }
}

impl super::height::At {
    /// The pre-prepared block of my view that is justified and whole.
    fn acceptable(&self) -> Option<BlockId> {
        let mut messages = self.candidates.of(self.view);
        messages.find(|message| self.is_justified(message) == Some(true)).map(|m| m.block_id())
    }

    /// A pre-prepared block of my view that header or application refuse.
    fn refused(&self) -> Option<BlockId> {
        let mut proposed = self.candidates.of(self.view).map(|message| message.block_id());
        proposed.find(|id| self.verdicts.get(id) == Some(&Verdict::Refused))
    }

    /// Whether the block builds on a commit of my view.
    fn is_fresh(&self, block_id: &BlockId) -> bool {
        let block = self.blocks.get(block_id);
        block.is_some_and(|b| b.last_commit().map_or(View::ZERO, |c| c.view) == self.view)
    }
}
