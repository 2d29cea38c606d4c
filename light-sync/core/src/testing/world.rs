//! A planner among simulated providers, which may lie, be slow or say nothing. Time passes only here; a run is the same every time.

use super::chain::{Chain, KeyNumber};
use crate::chain::LinkedRun;
use crate::hash::Hash;
use crate::header::{Header, Height};
use crate::options::TrustRoot;
use crate::planner::{
    Answer, Claim, Config, Event, Failure, Planner, ProviderId, Request, RequestId, Role, Status,
    What,
};
use crate::time::Time;
use bytes::Bytes;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tendermint_proto::v0_38::types as pb;

/// How a provider behaves.
#[derive(Clone, Debug)]
pub enum Manner {
    /// It tells what its chain is.
    Honest,
    /// It never answers.
    Silent,
    /// It cannot be reached.
    Down,
    /// It always asks to be left alone (HTTP's 429).
    Busy,
    /// It serves headers of which that of this height is changed.
    BreaksHashes(Height),
    /// It serves headers of another chain, linked among themselves.
    OtherHeaders(Box<Chain>),
    /// It serves commits that only these keys have signed.
    FewSign(Vec<KeyNumber>),
    /// It claims this height.
    Overclaims(Height),
    /// It says that it is of this chain.
    NamesChain(String),
    /// It answers with something else.
    OtherAnswers,
    /// It answers for the height below the one that was asked for.
    OtherHeights,
    /// It agrees with nobody, and shows nothing.
    Differs,
    /// It serves commits whose signatures are those of the heights before.
    OldSignatures,
}

/// A simulated provider.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// What it serves.
    pub chain: Chain,
    /// How it behaves.
    pub manner: Manner,
    /// How long it takes to answer.
    pub delay: Duration,
    /// How far its tip is behind.
    pub lag: Duration,
    /// The lowest height that it has.
    pub first: Height,
}

impl Simulated {
    /// An honest provider that answers after 20 ms.
    #[must_use]
    pub fn new(chain: Chain) -> Simulated {
        let first = chain.spec.first;
        let (delay, lag) = (Duration::from_millis(20), Duration::ZERO);
        Simulated { chain, manner: Manner::Honest, delay, lag, first }
    }

    /// One that behaves in this manner.
    #[must_use]
    pub fn with(chain: Chain, manner: Manner) -> Simulated {
        Simulated { manner, ..Simulated::new(chain) }
    }

    /// Its highest height at this time; 0 where it has none.
    #[must_use]
    pub fn tip(&self, now: Time) -> Height {
        let (mut low, mut high) = (self.chain.spec.first - 1, self.chain.spec.last);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.chain.header(middle).time().after(self.lag) <= now {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    fn answer(&mut self, what: &What, now: Time) -> Option<Result<Answer, Failure>> {
        match self.manner {
            Manner::Silent => return None,
            Manner::Down => return Some(Err(Failure::Unavailable)),
            Manner::Busy => return Some(Err(Failure::Busy(Duration::from_secs(1)))),
            Manner::OtherAnswers if *what != What::Status => {
                return Some(Ok(Answer::Commits(vec![])));
            }
            _ => {}
        }
        let tip = self.tip(now);
        let height = match what {
            What::Status => return Some(Ok(Answer::Status(self.claim(tip)))),
            What::Block(None) => tip,
            What::Block(Some(height)) | What::Header(height) | What::Validators(height) => *height,
            What::Run(request) => request.high,
            What::Commits { high, .. } => *high,
        };
        if height > tip {
            return Some(Err(Failure::NotYet));
        }
        let lowest = match what {
            What::Run(request) => request.low,
            What::Commits { low, .. } => *low,
            _ => height,
        };
        if lowest < self.first {
            return Some(Err(Failure::Gone));
        }
        Some(self.serve(what, height))
    }

    fn claim(&self, tip: Height) -> Claim {
        let last = if let Manner::Overclaims(height) = self.manner { height } else { tip };
        let chain_id = match &self.manner {
            Manner::NamesChain(name) => name.clone(),
            _ => self.chain.spec.chain_id.clone(),
        };
        let time = self.chain.header(tip.max(self.chain.spec.first)).time();
        Claim { chain_id, genesis_hash: None, first: self.first, last, time, clock: None }
    }

    fn serve(&mut self, what: &What, height: Height) -> Result<Answer, Failure> {
        let shifted = matches!(self.manner, Manner::OtherHeights) && height > self.first;
        let height = if shifted { height - 1 } else { height };
        match what {
            What::Block(_) => {
                let mut block = self.chain.block(height);
                match &self.manner {
                    Manner::FewSign(keys) => block.commit = self.signed_by(height, keys),
                    Manner::Differs => return Err(Failure::Unavailable),
                    _ => {}
                }
                Ok(Answer::Block(Box::new(block)))
            }
            What::Header(_) => Ok(Answer::Header(match self.manner {
                Manner::Differs => changed(self.chain.header(height)),
                _ => self.chain.header(height).clone(),
            })),
            What::Run(request) => {
                let raw = (request.low..=request.high).map(|height| self.raw_header(height));
                Ok(Answer::Run(LinkedRun::link(request, raw.collect())?))
            }
            What::Commits { low, high } => {
                let commit = |height| match self.manner {
                    Manner::OldSignatures if height > 1 => {
                        let mut commit = self.chain.commit(height);
                        commit.entries = self.chain.commit(height - 1).entries;
                        commit
                    }
                    _ => self.chain.commit(height),
                };
                Ok(Answer::Commits((*low..=*high).map(commit).collect()))
            }
            What::Validators(_) => Ok(Answer::Validators(self.chain.set(height))),
            What::Status => Err(Failure::Unavailable),
        }
    }

    fn signed_by(&self, height: Height, keys: &[KeyNumber]) -> crate::commit::Commit {
        let seats = self.chain.seats(height);
        let mut commit = self.chain.sign(height, seats.clone());
        for (entry, seat) in commit.entries.iter_mut().zip(seats) {
            if !keys.contains(&seat) {
                *entry = None;
            }
        }
        commit
    }

    fn raw_header(&self, height: Height) -> Bytes {
        match &self.manner {
            Manner::BreaksHashes(at) if *at == height => {
                changed(self.chain.header(height)).bytes().clone()
            }
            Manner::OtherHeaders(other) => other.header(height).bytes().clone(),
            _ => self.chain.header(height).bytes().clone(),
        }
    }
}

/// The header with another application state.
#[must_use]
pub fn changed(header: &Header) -> Header {
    let mut raw = pb::Header::decode(header.bytes().clone()).expect("a header");
    raw.app_hash = vec![0xee; 32];
    Header::decode(raw.encode_to_vec().into()).expect("a header")
}

/// A planner with its providers.
pub struct World {
    /// The planner.
    pub planner: Planner,
    /// The time.
    pub now: Time,
    /// The providers.
    pub providers: BTreeMap<ProviderId, Simulated>,
    /// All events so far, but for headers.
    pub events: Vec<Event>,
    /// All headers that were verified: anchors and what was filled.
    pub headers: BTreeMap<Height, Hash>,
    /// For how many heights a commit came with the header.
    pub commits: BTreeSet<Height>,
    /// All requests so far.
    pub requests: Vec<Request>,
    /// Whether events are left where they are.
    pub take_no_events: bool,
    under_way: BTreeMap<(Time, u64), (RequestId, Result<Answer, Failure>)>,
}

impl World {
    /// A world at this time.
    #[must_use]
    pub fn new(config: Config, now: Time, providers: Vec<Simulated>) -> World {
        let planner = Planner::new(config, now).expect("a configuration");
        let mut world = World {
            planner,
            now,
            providers: BTreeMap::new(),
            events: vec![],
            headers: BTreeMap::new(),
            commits: BTreeSet::new(),
            requests: vec![],
            take_no_events: false,
            under_way: BTreeMap::new(),
        };
        for (id, provider) in (0..).map(ProviderId).zip(providers) {
            world.planner.add_provider(id, Role::Provider);
            world.providers.insert(id, provider);
        }
        world
    }

    /// The root of this chain at `height`.
    #[must_use]
    pub fn root(chain: &Chain, height: Height) -> TrustRoot {
        let chain_id = chain.spec.chain_id.clone();
        TrustRoot { chain_id, height, hash: chain.hash(height), genesis_hash: None }
    }

    /// Lets time pass until `done`, or for at most so long; whether it is done.
    pub fn run(&mut self, at_most: Duration, done: impl Fn(&World, &Status) -> bool) -> bool {
        let end = self.now.after(at_most);
        loop {
            self.exchange();
            if done(self, &self.planner.status()) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            self.advance();
        }
    }

    /// Lets so much time pass.
    pub fn wait(&mut self, time: Duration) {
        self.run(time, |_, _| false);
    }

    fn exchange(&mut self) {
        while let Some(request) = self.planner.poll() {
            if let Some(provider) = self.providers.get_mut(&request.provider)
                && let Some(answer) = provider.answer(&request.what, self.now)
            {
                let at = self.now.after(provider.delay);
                self.under_way.insert((at, self.requests.len() as u64), (request.id, answer));
            }
            self.requests.push(request);
            self.work();
        }
        self.work();
    }

    fn work(&mut self) {
        while let Some(work) = self.planner.next_work() {
            self.planner.on_work(work.run());
        }
        self.take_events();
    }

    fn take_events(&mut self) {
        while !self.take_no_events
            && let Some(event) = self.planner.next_event()
        {
            match event {
                Event::Filled(run, commits) => {
                    let of_run = run.headers().iter().zip(run.hashes());
                    self.headers.extend(of_run.map(|(header, hash)| (header.height(), *hash)));
                    if let Some(commits) = commits {
                        self.commits.extend(commits.iter().map(|commit| commit.height));
                    }
                }
                event => {
                    if let Event::Anchor(block, _) = &event {
                        self.headers.insert(block.height(), block.hash());
                    }
                    self.events.push(event);
                }
            }
        }
    }

    /// To the next answer or tick.
    fn advance(&mut self) {
        let tick = self.planner.next_tick().max(self.now.after(Duration::from_millis(1)));
        let due = self.under_way.first_key_value().map(|(key, _)| *key).filter(|key| key.0 <= tick);
        match due.and_then(|key| self.under_way.remove_entry(&key)) {
            Some(((at, _), (id, answer))) => {
                self.now = self.now.max(at);
                self.planner.tick(self.now);
                self.planner.on_response(id, answer);
            }
            None => {
                self.now = tick;
                self.planner.tick(self.now);
            }
        }
    }

    /// How often an event of this kind came.
    pub fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| which(event)).count()
    }
}
