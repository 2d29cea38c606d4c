//! The driver: asks providers what the planner wants to know, tells it the time, keeps what it verified.
//!
//! What is verified is kept before it is shown: [`Progress`] is published after the batch that holds it was written.

use crate::clock;
use crate::provider::Provider;
use crate::store::{Change, PRUNE_MAX, Reader, Store, StoreError};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tercet_light_core::header::Height;
use tercet_light_core::options::OptionsError;
use tercet_light_core::planner::{
    Answer, Config, Event, Failure, Fault, Finished, Fork, Planner, ProviderId, Request, RequestId,
    Role, Status,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Who is asked, and for what.
pub struct Source {
    /// Whom to ask.
    pub provider: Arc<dyn Provider>,
    /// For what.
    pub role: Role,
}

/// How far it is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What is trusted and why not more.
    pub status: Status,
    /// How many headers were kept since the start.
    pub headers: u64,
    /// How many anchors were added since the start.
    pub anchors: u64,
    /// Who is not asked any more and why, by name.
    pub refused: Vec<(String, Fault)>,
    /// How many are left to fetch from; witnesses are only compared with.
    pub providers: usize,
}

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// Two chains verify. Both are kept; the store cannot be used before the operator has said which is true. With it, who was
    /// given the evidence, and what they said.
    Forked(Box<Fork>, Vec<Submission>),
}

/// Evidence that was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// To whom.
    pub to: String,
    /// Which of the fork's.
    pub evidence: usize,
    /// Why it was not taken. Who is on the false side takes none against it.
    pub outcome: Result<(), String>,
}

/// How long each may take to take evidence.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers are pruned once so many more than the window are there.
const PRUNE_STEP: u64 = 1_000;

/// Why it could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The options cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are too many providers.
    #[error("too many providers: at most {}", tercet_light_core::planner::PROVIDERS_MAX)]
    Providers,
    /// A task of its own ended by itself.
    #[error("a task of the syncer ended unexpectedly")]
    Task,
}

type Reply = (RequestId, Result<Answer, Failure>);

/// See the [module](self).
pub struct Syncer {
    planner: Planner,
    providers: BTreeMap<ProviderId, Source>,
    store: Arc<Mutex<Store>>,
    reader: Reader,
    /// At most [`tercet_light_core::planner::REQUESTS_MAX`]: each ends at its deadline, with which the planner forgets it.
    requests: JoinSet<Reply>,
    work: JoinSet<Finished>,
    progress: watch::Sender<Progress>,
    restored: Option<Height>,
    keep_headers: Option<u64>,
    /// The height at which everything below the window had been pruned.
    pruned_at: Height,
}

impl Syncer {
    /// A syncer that takes up what the store holds.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn new(config: Config, store: Store, sources: Vec<Source>) -> Result<Syncer, SyncError> {
        let restored = store.restore(config.fill_from)?;
        let mut planner = Planner::new(config, clock::now())?;
        let mut providers = BTreeMap::new();
        for (id, source) in (0..).map(ProviderId).zip(sources) {
            if !planner.add_provider(id, source.role) {
                return Err(SyncError::Providers);
            }
            providers.insert(id, source);
        }
        let top = restored.anchors.last().map(|(block, _)| block.height());
        planner.restore(restored.anchors, restored.edges);
        let status = planner.status();
        let left = count_providers(&providers, &status);
        let progress =
            Progress { status, headers: 0, anchors: 0, refused: vec![], providers: left };
        Ok(Syncer {
            planner,
            providers,
            reader: store.reader(),
            store: Arc::new(Mutex::new(store)),
            requests: JoinSet::new(),
            work: JoinSet::new(),
            progress: watch::Sender::new(progress),
            restored: top,
            keep_headers: None,
            pruned_at: 0,
        })
    }

    /// Keeps so many headers below the latest anchor and prunes what is below; anchors are kept for ever.
    #[must_use]
    pub fn keep_headers(self, keep: Option<u64>) -> Syncer {
        Syncer { keep_headers: keep, ..self }
    }

    /// How far it is, whenever that changes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Reads what is kept, also while it runs.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Syncs and follows until `stop` is ready or a fork is found.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<End, SyncError> {
        tokio::pin!(stop);
        loop {
            self.planner.tick(clock::now());
            while let Some(request) = self.planner.poll() {
                self.send(request);
            }
            while let Some(work) = self.planner.next_work() {
                self.work.spawn_blocking(move || work.run());
            }
            if let Some(fork) = self.keep().await? {
                let submissions = self.submit(&fork).await;
                return Ok(End::Forked(fork, submissions));
            }
            let wait = self.planner.next_tick().since(clock::now());
            tokio::select! {
                () = &mut stop => return Ok(End::Stopped),
                Some(reply) = self.requests.join_next() => self.take_replies(reply.ok()),
                Some(done) = self.work.join_next() => {
                    self.planner.on_work(done.map_err(|_| SyncError::Task)?);
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn send(&mut self, request: Request) {
        let Some(source) = self.providers.get(&request.provider) else { return };
        let reply = source.provider.ask(&request.what, request.bytes_max);
        let wait = request.deadline.since(clock::now());
        self.requests.spawn(async move {
            let reply = tokio::time::timeout(wait, reply).await;
            (request.id, reply.unwrap_or(Err(Failure::Unavailable)))
        });
    }

    /// All replies that are there, before anything else is asked.
    fn take_replies(&mut self, first: Option<Reply>) {
        self.planner.tick(clock::now());
        let mut next = first;
        while let Some((id, reply)) = next {
            self.planner.on_response(id, reply);
            next = self.requests.try_join_next().and_then(Result::ok);
        }
    }

    /// Keeps what was verified, in one batch, and then shows it; the fork, where there is one.
    async fn keep(&mut self) -> Result<Option<Box<Fork>>, SyncError> {
        let mut changes = vec![];
        let (mut headers, mut anchors, mut fork) = (0, 0, None);
        while let Some(event) = self.planner.next_event() {
            if let Event::Fork(found) = &event {
                fork = Some(found.clone());
            }
            if let Some(change) = self.change(event) {
                match &change {
                    Change::Filled(run, _) => headers += run.headers().len() as u64,
                    Change::Anchor(..) => (headers, anchors) = (headers + 1, anchors + 1),
                    _ => {}
                }
                changes.push(change);
            }
        }
        if !changes.is_empty() {
            self.write(changes).await?;
            self.prune().await?;
        }
        self.publish(headers, anchors);
        Ok(fork)
    }

    /// Gives the evidence to everybody, refused ones too, at once: those on the true chain take what is against the other.
    async fn submit(&self, fork: &Fork) -> Vec<Submission> {
        let mut tasks = JoinSet::new();
        for source in self.providers.values() {
            for (index, evidence) in fork.evidence.iter().enumerate() {
                let (to, sent) =
                    (source.provider.name().to_owned(), source.provider.submit(evidence));
                tasks.spawn(async move {
                    let outcome = tokio::time::timeout(SUBMIT_TIMEOUT, sent).await;
                    let outcome = outcome.unwrap_or_else(|_| Err("no answer in time".to_owned()));
                    Submission { to, evidence: index, outcome }
                });
            }
        }
        let mut all = tasks.join_all().await;
        all.sort_by(|a, b| (&a.to, a.evidence).cmp(&(&b.to, b.evidence)));
        all
    }

    /// Prunes, where a window is set and enough has come since.
    async fn prune(&mut self) -> Result<(), SyncError> {
        let Some(keep) = self.keep_headers else { return Ok(()) };
        let top = self.planner.status().verified.map_or(0, |point| point.height);
        if top < self.pruned_at.saturating_add(PRUNE_STEP) {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let prune = move || match store.lock() {
            Ok(mut store) => store.prune(keep).map_err(SyncError::Store),
            Err(_) => Err(SyncError::Task),
        };
        let count = tokio::task::spawn_blocking(prune).await.map_err(|_| SyncError::Task)??;
        if count < PRUNE_MAX {
            self.pruned_at = top;
        }
        Ok(())
    }

    fn change(&self, event: Event) -> Option<Change> {
        match event {
            Event::Anchor(block, _) if Some(block.height()) <= self.restored => None,
            Event::Anchor(block, source) => {
                let source = source.map_or(String::new(), |id| self.name(id));
                Some(Change::Anchor(block, source))
            }
            Event::Confirmed { height, by, .. } => {
                let by = by.into_iter().map(|id| self.name(id)).collect();
                Some(Change::Confirmed(height, by))
            }
            Event::Filled(run, commits) => Some(Change::Filled(run, commits)),
            Event::Beginning(height) => Some(Change::Beginning(height)),
            Event::Fork(fork) => Some(Change::Fork(fork)),
            // These are in the status.
            Event::Refused(..) | Event::ClockSuspect(_) => None,
        }
    }

    async fn write(&self, changes: Vec<Change>) -> Result<(), SyncError> {
        let store = Arc::clone(&self.store);
        let write = move || match store.lock() {
            Ok(mut store) => store.apply(&changes).map_err(SyncError::Store),
            Err(_) => Err(SyncError::Task),
        };
        tokio::task::spawn_blocking(write).await.map_err(|_| SyncError::Task)?
    }

    fn publish(&self, headers: u64, anchors: u64) {
        let status = self.planner.status();
        self.progress.send_if_modified(|progress| {
            let same = headers == 0 && anchors == 0 && progress.status == status;
            if !same {
                progress.refused = status
                    .refused
                    .iter()
                    .map(|(id, fault)| (self.name(*id), fault.clone()))
                    .collect();
                progress.providers = count_providers(&self.providers, &status);
                progress.status = status;
                progress.headers += headers;
                progress.anchors += anchors;
            }
            !same
        });
    }

    fn name(&self, id: ProviderId) -> String {
        let name = |source: &Source| source.provider.name().to_owned();
        self.providers.get(&id).map_or(String::new(), name)
    }
}

/// How many are left to fetch from.
fn count_providers(all: &BTreeMap<ProviderId, Source>, status: &Status) -> usize {
    let refused = |id: &ProviderId| status.refused.iter().any(|(other, _)| other == id);
    all.iter().filter(|(id, source)| source.role == Role::Provider && !refused(id)).count()
}
