//! The planner: which questions to ask of whom, and what follows from the answers. It has no clock and does no I/O; whoever drives
//! it brings answers ([`Planner::on_response`]) and the time ([`Planner::tick`]), and carries out requests ([`Planner::poll`]) and
//! events ([`Planner::next_event`]).
//!
//! It is level-triggered: an answer is recorded, then each part looks at the state and asks for what it lacks. Parts: `anchors`
//! (root and ascent), `audits` (witnesses), `disputes` (who differs has to show why), `segments` (hash fill), `commits` (`full`
//! mode).

mod anchors;
mod ascent;
mod audits;
mod commits;
mod desk;
mod disputes;
mod providers;
mod request;
mod segments;
mod status;

pub use self::anchors::ANCHORS_MAX;
pub use self::ascent::WAITING_BLOCKS_MAX;
pub use self::audits::AUDITS_MAX;
pub use self::commits::{Finished, Work};
pub use self::desk::{EVENTS_MAX, REQUESTS_MAX};
pub use self::disputes::Fork;
pub use self::providers::{PROVIDERS_MAX, Role, WINDOW_MAX};
pub use self::request::{
    ANSWER_BYTES_MAX, Answer, Claim, Failure, Fault, ProviderId, Request, RequestId,
    STATUS_BYTES_MAX, What,
};
pub use self::segments::RUNS_MAX;
pub use self::status::{Condition, Point, Status};

use self::anchors::Anchors;
use self::audits::Audit;
use self::commits::Commits;
use self::desk::{Desk, Job};
use self::disputes::Dispute;
use self::providers::Providers;
use self::segments::Segment;
use crate::chain::{RUN_HEADERS_MAX, TrustedRun};
use crate::commit::Commit;
use crate::hash::Hash;
use crate::header::Height;
use crate::options::{Options, OptionsError, TrustLevel, TrustRoot};
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// What signatures are checked of the headers between anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// None: their hashes say all.
    Hashes,
    /// More than two thirds of the validators of every height, for those who want it.
    Full,
}

/// How to sync.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where trust begins.
    pub root: TrustRoot,
    /// How far it goes.
    pub options: Options,
    /// With how many other providers each anchor has to agree before it is confirmed.
    pub witnesses: usize,
    /// How long slower witnesses are waited for where enough agree already, so that one that differs is heard in time.
    pub grace: Duration,
    /// What signatures are checked.
    pub mode: Mode,
    /// Whether headers between anchors are fetched.
    pub fill: bool,
    /// The lowest height to fetch below the root; none where nothing is.
    pub fill_from: Option<Height>,
    /// How many headers to ask for at once.
    pub run_headers: u64,
    /// How often each provider is asked for its tip.
    pub status_every: Duration,
    /// How long to wait for an answer.
    pub patience: Duration,
    /// After how long a run that everything waits for is asked of a second provider.
    pub hedge_after: Duration,
    /// How long a node may take to get the latest block (CometBFT's `MaxBlockLag`): who is behind for longer than this and twice
    /// the drift is asked for its latest block.
    pub block_lag: Duration,
}

impl Config {
    /// The defaults of CometBFT where it has them: a third, 10 s of drift and of lag; a trusting period of a week, two witnesses.
    #[must_use]
    pub fn new(root: TrustRoot) -> Config {
        Config {
            root,
            options: Options {
                trust_level: TrustLevel::ONE_THIRD,
                trusting_period: Duration::from_secs(168 * 3600),
                clock_drift: Duration::from_secs(10),
            },
            witnesses: 2,
            grace: Duration::from_secs(1),
            mode: Mode::Hashes,
            fill: true,
            fill_from: None,
            run_headers: RUN_HEADERS_MAX as u64,
            status_every: Duration::from_secs(1),
            patience: Duration::from_secs(10),
            hedge_after: Duration::from_secs(2),
            block_lag: Duration::from_secs(10),
        }
    }

    fn check(&self) -> Result<(), OptionsError> {
        if self.options.trusting_period.is_zero() {
            return Err(OptionsError::TrustingPeriod);
        }
        self.root.check()
    }
}

/// What the driver has to know.
#[derive(Clone, Debug)]
pub enum Event {
    /// A block is verified: keep it as an anchor, with who sent it; none where it was restored.
    Anchor(Box<crate::block::TrustedBlock>, Option<ProviderId>),
    /// An anchor agrees with enough other providers: it is trusted.
    Confirmed {
        /// Its height.
        height: Height,
        /// Its hash.
        hash: Hash,
        /// Who agrees.
        by: Vec<ProviderId>,
    },
    /// Headers are verified: keep them. In `full` mode with their commits, in the same order.
    Filled(TrustedRun, Option<Vec<Commit>>),
    /// The chain begins at this height.
    Beginning(Height),
    /// A provider is not asked any more.
    Refused(ProviderId, Fault),
    /// Two chains verify: nothing goes on until the operator decides.
    Fork(Box<Fork>),
    /// Whether the clock is contradicted by two thirds of the providers; while it is, no trust is extended.
    ClockSuspect(bool),
}

/// See the [module](self).
pub struct Planner {
    config: Config,
    now: Time,
    providers: Providers,
    desk: Desk,
    anchors: Anchors,
    audits: BTreeMap<Height, Audit>,
    disputes: BTreeMap<ProviderId, Dispute>,
    segments: BTreeMap<Height, Segment>,
    commits: Commits,
    fork: Option<Height>,
    clock_suspect: bool,
    run_times: segments::RunTimes,
}

impl Planner {
    /// A planner that knows nothing but its root.
    ///
    /// # Errors
    /// Where the configuration cannot be.
    pub fn new(config: Config, now: Time) -> Result<Planner, OptionsError> {
        config.check()?;
        Ok(Planner {
            config,
            now,
            providers: Providers::default(),
            desk: Desk::default(),
            anchors: Anchors::default(),
            audits: BTreeMap::new(),
            disputes: BTreeMap::new(),
            segments: BTreeMap::new(),
            commits: Commits::default(),
            fork: None,
            clock_suspect: false,
            run_times: segments::RunTimes::default(),
        })
    }

    /// Adds a provider; false where there are [`PROVIDERS_MAX`], or one of this number.
    pub fn add_provider(&mut self, id: ProviderId, role: Role) -> bool {
        self.providers.add(id, role)
    }

    /// Forgets a provider, with why it was refused.
    pub fn remove_provider(&mut self, id: ProviderId) {
        self.providers.remove(id);
        self.disputes.remove(&id);
    }

    /// Time passes. It should be called when [`Planner::next_tick`] has come, and may be called at any time.
    pub fn tick(&mut self, now: Time) {
        self.now = now;
        for (job, provider) in self.desk.overdue(now) {
            self.providers.failed(provider, &Failure::Unavailable, now);
            self.dispatch(job, provider, Err(Failure::Unavailable));
        }
        self.judge_clock();
    }

    /// When [`Planner::tick`] has something to do at the latest.
    #[must_use]
    pub fn next_tick(&self) -> Time {
        let poll = self.now.after(self.config.status_every.min(Duration::from_millis(250)));
        self.desk.first_deadline().map_or(poll, |deadline| deadline.min(poll))
    }

    /// The next request; none until something comes back or time passes.
    pub fn poll(&mut self) -> Option<Request> {
        if self.fork.is_none() && !self.desk.has_requests() {
            self.reap();
            self.plan_status();
            self.plan_root();
            self.plan_ascent();
            self.plan_audits();
            self.plan_disputes();
            self.plan_segments();
            self.plan_commits();
        }
        if self.fork.is_some() { None } else { self.desk.next_request() }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.desk.next_event()
    }

    /// An answer, or that there is none. What was not asked for, or is too late, is ignored.
    pub fn on_response(&mut self, id: RequestId, response: Result<Answer, Failure>) {
        let Some(pending) = self.desk.close(id) else { return };
        let provider = pending.provider;
        let response = match response {
            Ok(answer) if !pending.what.fits(&answer) => Err(Failure::Malformed(Fault::NotAsked)),
            response => response,
        };
        match &response {
            Ok(_) => self.providers.answered(provider),
            Err(failure) => self.providers.failed(provider, failure, self.now),
        }
        if let Err(Failure::Malformed(fault)) = &response {
            self.refuse(provider, fault.clone());
        }
        let refused = self.providers.get(provider).is_none_or(|p| p.refused.is_some());
        let response = if refused { Err(Failure::Unavailable) } else { response };
        self.dispatch(pending.job, provider, response);
    }

    /// What a provider says about itself without having been asked, as when it tells of a new block.
    pub fn on_claim(&mut self, provider: ProviderId, claim: Claim) {
        self.take_claim(provider, claim);
    }

    fn dispatch(&mut self, job: Job, provider: ProviderId, response: Result<Answer, Failure>) {
        if self.fork.is_some() {
            return;
        }
        match job {
            Job::Status => self.on_status(provider, response),
            Job::Root => self.on_root(provider, response),
            Job::Ascent(height) => self.on_ascent(provider, height, response),
            Job::Audit(height) => self.on_audit(height, provider, response),
            Job::Latest(height) => self.on_latest(height, provider, response),
            Job::Dispute => self.on_dispute(provider, response),
            Job::Run { upper, high } => self.on_run(upper, high, provider, response),
            Job::Commits { high } => self.on_commits(high, provider, response),
            Job::Validators(hash) => self.on_validators(hash, provider, response),
        }
    }

    /// Nobody waits for what a refused or removed provider was asked.
    fn reap(&mut self) {
        let gone = |id| self.providers.get(id).is_none_or(|p| p.refused.is_some());
        for (job, provider) in self.desk.close_where(gone) {
            self.dispatch(job, provider, Err(Failure::Unavailable));
        }
    }

    fn ask(&mut self, provider: ProviderId, what: What, job: Job) {
        let deadline = self.now.after(self.config.patience);
        if self.desk.ask(provider, what, job, deadline) {
            self.providers.asked(provider);
        }
    }

    fn refuse(&mut self, provider: ProviderId, fault: Fault) {
        let Some(known) = self.providers.get_mut(provider).filter(|p| p.refused.is_none()) else {
            return;
        };
        known.refused = Some(fault.clone());
        self.disputes.remove(&provider);
        self.audits.values_mut().for_each(|audit| audit.forget(provider));
        self.desk.tell(Event::Refused(provider, fault));
    }

    fn plan_status(&mut self) {
        let now = self.now;
        let due = |(id, p): (ProviderId, &providers::Provider)| {
            (p.status_at <= now && self.providers.is_ready(id, now)).then_some(id)
        };
        let ids: Vec<ProviderId> = self.providers.good().filter_map(due).collect();
        for id in ids {
            if let Some(provider) = self.providers.get_mut(id) {
                provider.status_at = now.after(self.config.status_every);
            }
            self.ask(id, What::Status, Job::Status);
        }
    }

    fn on_status(&mut self, provider: ProviderId, response: Result<Answer, Failure>) {
        if let Ok(Answer::Status(claim)) = response {
            self.take_claim(provider, claim);
        }
    }

    fn take_claim(&mut self, provider: ProviderId, claim: Claim) {
        let drift = self.config.options.clock_drift;
        let off = |time: Time| time.since(self.now) > drift;
        let off_clock = off(claim.time)
            || claim.clock.is_some_and(|clock| off(clock) || self.now.since(clock) > drift);
        if !self.providers.claimed(provider, claim, &self.config.root) {
            self.refuse(provider, Fault::OtherChain);
        } else if let Some(known) = self.providers.get_mut(provider) {
            known.off_clock = off_clock;
        }
        self.judge_clock();
    }

    /// Whether two thirds of the providers that say anything contradict the local clock.
    fn judge_clock(&mut self) {
        let said = || self.providers.good().filter(|(_, p)| p.claim.is_some());
        let off = said().filter(|(_, p)| p.off_clock).count();
        let suspect = off > 0 && off * 3 >= said().count() * 2;
        if suspect != self.clock_suspect {
            self.clock_suspect = suspect;
            self.desk.tell(Event::ClockSuspect(suspect));
        }
    }
}
