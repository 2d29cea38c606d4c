//! Assembly: opens the stores, brings application and chain together, builds the parts, wires their handles, waits for the first that
//! ends, and stops all in order.

mod clients;
mod configured;
mod consensus;
mod ends;
mod hooks;
#[cfg(test)]
mod hostile_tests;
mod links;
mod metrics;
pub mod offline;
mod peers;
mod probed;
mod pruner;
mod settings;
mod stores;

pub use ends::{End, Ends};
pub use settings::{ChainSettings, MetricsSettings, NetworkSettings, RpcSettings, Settings};

use crate::audit::Audit;
use crate::engine::heights::{Published, Sets};
use crate::engine::signer::LocalSigner;
use crate::engine::verifier::{CachedCheck, Verifier};
use crate::engine::{EVENTS_MAX, Event};
use crate::events::Bus;
use crate::evidence::Evidence;
use crate::evidence::owner::Parts as EvidenceParts;
use crate::execution::executor::Parts as ExecutorParts;
use crate::execution::handshake::Ready;
use crate::execution::{Executor, Hooks, Job, State};
use crate::mempool::{Mempool, RelayMap, Revive};
use crate::network::{Class, Network};
use crate::rpc::Waiters;
use crate::sources::App;
use crate::store::Chain;
use crate::sync::{self, SyncHandle};
use arc_swap::ArcSwap;
use clients::{Doors, Heard, node_info, start_rpc};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use peers::{Peers, start_network};
use pruner::Pruner;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use stores::{Opened, Stores};
use tercet_abci::grammar::{self, Grammar};
use tercet_abci::remote::Stop;
use tercet_abci::{Application, Roles};
use tercet_consensus::key::{Address, PublicKey};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Versions of the protocol between nodes that this build speaks.
pub const PROTOCOL_VERSIONS: (u32, u32) = (1, 1);

/// Frames of one class that wait to be decoded before the peers' streams wait.
const INBOX_MAX: usize = 1_024;
/// The same for blocks, each of which may be large.
const BODIES_MAX: usize = 8;
/// The most threads for peers, for clients, and for signatures, each.
const THREADS_MAX: usize = 4;
/// How long a node that stops waits for answers of an application in another process.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long the parts may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Runs the node until it is asked to stop or a part of it ends, and says why.
///
/// # Errors
/// Where it cannot start: configuration, genesis, disk, ports, application.
pub fn run(settings: Settings) -> anyhow::Result<End> {
    let (named, calls) = (settings.app.clone(), settings.app_calls.clone());
    let stop = Stop::default();
    let open = || {
        let roles = tercet_abci::open(&named, &calls, &stop)?;
        let watched = std::env::var_os(grammar::VARIABLE).is_some();
        Ok(if watched { Grammar::default().watch(roles) } else { roles })
    };
    let mut node = match Node::start(settings, &stop, open) {
        Ok(node) => node,
        Err(_) if stop.is_told() => {
            return Ok(End::Asked("a signal before the application was there"));
        }
        Err(error) => return Err(error),
    };
    let end = node.wait();
    match &end {
        End::Asked(signal) => tracing::info!("{signal}: stopping"),
        end => tracing::error!("{end}"),
    }
    node.stop();
    Ok(end)
}

/// A running node.
pub struct Node {
    running: Running,
    stop: Stop,
    ended: mpsc::UnboundedReceiver<End>,
    signals: Signals,
    network_runtime: Runtime,
    rpc_runtime: Runtime,
}

impl Node {
    /// Starts a node that drives the application that `app` opens, once this process has the home for itself. A signal tells `stop`
    /// meanwhile, and [`Node::stop`] does.
    ///
    /// # Errors
    /// Where it cannot start: configuration, genesis, disk, ports, application.
    pub fn start(
        settings: Settings,
        stop: &Stop,
        app: impl FnOnce() -> anyhow::Result<Roles>,
    ) -> anyhow::Result<Node> {
        let (ends, ended) = Ends::new();
        let network_runtime = runtime("network", threads(4))?;
        let rpc_runtime = runtime("rpc", threads(4))?;
        let (signals, mut early) = {
            let _inside = network_runtime.enter();
            (Signals::new()?, Signals::new()?)
        };
        let stores = Stores::open(&settings)?;
        let stop = stop.clone();
        // The application may be waited for: a signal ends that.
        let ends_waiting = stop.clone();
        let listening = network_runtime.spawn(async move {
            early.asked().await;
            ends_waiting.tell();
        });
        let parts = (stores, app()?);
        let running = start(&settings, parts, &ends, (&network_runtime, &rpc_runtime))?;
        listening.abort();
        Ok(Node { running, stop, ended, signals, network_runtime, rpc_runtime })
    }

    /// Where the RPC listens; none without one, or on a Unix socket.
    #[must_use]
    pub fn rpc_address(&self) -> Option<SocketAddr> {
        self.running.addresses.rpc
    }

    /// Where CometBFT's gRPC listens; none without one, or on a Unix socket.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.running.addresses.grpc
    }

    /// Where Prometheus finds its metrics; none where they are not served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.running.addresses.metrics
    }

    /// Waits until a signal asks the process to stop or a part of the node ends.
    pub fn wait(&mut self) -> End {
        let Node { ended, signals, network_runtime, .. } = self;
        network_runtime.block_on(async {
            tokio::select! {
                end = ended.recv() => end.unwrap_or(End::Asked("nobody")),
                signal = signals.asked() => End::Asked(signal),
            }
        })
    }

    /// Stops in order: clients first, then the engine (which ends the executor and catch-up), then the pool and peers. Returns when no
    /// thread uses a database any more, which would crash a process that ends.
    pub fn stop(self) {
        let Node { running, stop, network_runtime, rpc_runtime, .. } = self;
        let Running { bus, network, mempool, evidence, events, threads, sync, rpc, .. } = running;
        let until = Instant::now() + STOP_MAX;
        let left = |most: Duration| until.saturating_duration_since(Instant::now()).min(most);
        bus.close();
        rpc.cancel();
        rpc_runtime.shutdown_timeout(left(STOP_MAX / 4));
        // A full queue means that the engine is busy or gone; the process ends either way.
        let _ = events.send_timeout(Event::Stop, left(STOP_MAX / 4));
        mempool.stop();
        evidence.stop();
        network.stop();
        let (done, finished) = bounded::<()>(1);
        std::thread::spawn(move || {
            for thread in threads {
                // A panic in it was told already.
                let _ = thread.join();
            }
            drop(done);
        });
        // What the application is asked is answered, if that takes no longer than a moment; then nobody waits for it any more.
        if finished.recv_timeout(left(ANSWER_MAX)) == Err(RecvTimeoutError::Timeout) {
            stop.tell();
            let _ = finished.recv_timeout(left(STOP_MAX / 2));
        }
        ends::shut_down(network_runtime, sync, until);
    }
}

/// What runs, and how it is stopped.
struct Running {
    bus: Bus,
    network: Network,
    mempool: Mempool,
    evidence: Evidence,
    events: Sender<Event>,
    /// The threads that hold databases: all must have ended when the process does.
    threads: Vec<JoinHandle<()>>,
    /// Ends right after catch-up.
    sync: tokio::task::JoinHandle<()>,
    rpc: CancellationToken,
    addresses: Addresses,
}

/// Where clients find it.
struct Addresses {
    rpc: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

/// The signals that ask the process to stop. Taken before anything is opened, so that none kills a node that is just starting.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// Threads for a part that gets one of so many of this machine's processors. More would only wake each other up: four nodes on two
/// processors order a fifth more transactions with one thread a part than with two.
fn threads(one_of: usize) -> usize {
    std::thread::available_parallelism()
        .map_or(1, |processors| (processors.get() / one_of).clamp(1, THREADS_MAX))
}

fn runtime(name: &'static str, threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()
}

fn start(
    settings: &Settings,
    (stores, app): (Stores, Roles),
    ends: &Ends,
    (network_runtime, rpc_runtime): (&Runtime, &Runtime),
) -> anyhow::Result<Running> {
    let signer = LocalSigner::new(settings.validator_secret.clone());
    let public = signer.public();
    let (app, timings) = metrics::timed(settings, app);
    let Roles { query, mempool, mut consensus, snapshot: _ } = app;
    let Opened { journal, chain, index, stale_until, ready } =
        stores.ready(settings, public, consensus.as_mut())?;
    let mut sets = Sets::new(settings.chain.id(), settings.chain.term, ready.state.next_height());
    sets.start(&ready.state);

    let (events, event_queue) = bounded(EVENTS_MAX);
    // Never full, so that engine and executor never wait for each other. What is in it is bounded by what may be decided and not executed
    // (`sync::handed`; without it the engine waits for the validators that execution tells) and by the blocks that a height keeps.
    let (jobs, job_queue) = unbounded();
    let (audit, relay) = (Audit::default(), RelayMap::default());
    let heard = Heard { bus: Bus::default(), index, waiters: Waiters::new() };
    let heights = sets.published();
    let verifier = Verifier::new(Arc::clone(&heights), events.clone(), audit.clone(), threads(2))?;
    let peers = start_network(settings, &signer, &sets, &audit, network_runtime)?;
    let (network, expelling) = (peers.network.clone(), peers.network.clone());
    audit.on_too_many_faults(move |peer| {
        expelling.expel(peer, "it sends what no correct node sends");
    });
    let shared = Shared { settings, ends, public, chain, events, audit, network };
    let (mempool, pool) = shared.mempool(mempool, relay.clone(), &ready.state, revive(&jobs))?;
    let (evidence, accusing) = shared.evidence(&verifier)?;
    let pruned = (shared.chain.clone(), heard.index.clone());
    let (pruner, pruning) = Pruner::start(pruned, settings.probe.clone())?;
    let (follow, tell, following) = shared.follow(&heard, &ready.state)?;
    let around = hooks::Around {
        events: &shared.events,
        me: shared.me(),
        mempool: &mempool,
        waiters: &heard.waiters,
        evidence: &evidence,
        follow,
    };
    let hooks = hooks::hooks(around, pruner);
    let executor = shared.executor(consensus, &ready, (hooks, verifier.check()), job_queue)?;
    let (handle, sync) = {
        let _inside = network_runtime.enter();
        shared.tasks(peers, &verifier, heights, (&mempool, &evidence))
    };
    let snapshot = Arc::new(ArcSwap::default());
    let mut engine = consensus::engine(consensus::Start {
        settings,
        journal,
        chain: shared.chain.clone(),
        sets,
        state: &ready.state,
        signer,
        network: shared.network.clone(),
        jobs,
        mempool: mempool.clone(),
        sync: handle,
        audit: shared.audit.clone(),
        evidence: evidence.clone(),
        stale_until,
        relay,
        tell,
        snapshot: Arc::clone(&snapshot),
    })?;
    let engine =
        ends.spawn("engine", move || engine.run(&event_queue).err().map(consensus::end))?;
    let (query, queries) = App::start(query, ends.on_application_failure())?;
    let bus = heard.bus.clone();
    let sources = shared.sources(query, (&mempool, &evidence), heard, snapshot);
    let metrics = metrics::bind(settings, (&sources, &timings), rpc_runtime)?;
    let Doors { stop: rpc, rpc: rpc_address, grpc } = start_rpc(settings, sources, rpc_runtime)?;
    let metrics_address = metrics.map(|server| metrics::serve(server, &rpc, rpc_runtime));
    let Shared { network, events, .. } = shared;
    let threads = vec![engine, executor, pool, queries, pruning, accusing, following];
    let addresses = Addresses { rpc: rpc_address, grpc, metrics: metrics_address.flatten() };
    Ok(Running { bus, network, mempool, evidence, events, threads, sync, rpc, addresses })
}

/// Has the executor bring the application back, in its turn.
fn revive(jobs: &Sender<Job>) -> Revive {
    let jobs = jobs.clone();
    Box::new(move || {
        let (done, back) = bounded(1);
        // Where the executor has ended, the node ends.
        drop(jobs.send(Job::Revive(done)));
        back
    })
}

/// What many parts need.
struct Shared<'a> {
    settings: &'a Settings,
    ends: &'a Ends,
    public: PublicKey,
    chain: Chain,
    events: Sender<Event>,
    audit: Audit,
    network: Network,
}

impl Shared<'_> {
    fn me(&self) -> Address {
        self.public.address()
    }

    fn mempool(
        &self,
        app: Box<dyn Application>,
        relay: RelayMap,
        state: &State,
        revive: Revive,
    ) -> std::io::Result<(Mempool, JoinHandle<()>)> {
        let failed = self.ends.on_application_failure();
        let (mempool, thread) = Mempool::start(crate::mempool::Parts {
            settings: self.settings.mempool.clone(),
            app,
            network: self.network.clone(),
            relay,
            events: self.events.clone(),
            audit: self.audit.clone(),
            height: state.last_height.unwrap_or(self.settings.chain.initial_height()),
            revive,
            failed: Box::new(move |reason| failed(reason)),
        })?;
        mempool.gas_max(state.params.block.max_gas);
        Ok((mempool, thread))
    }

    fn evidence(&self, verifier: &Verifier) -> std::io::Result<(Evidence, JoinHandle<()>)> {
        let network = self.network.clone();
        let (evidence, mut owner) = Evidence::new(EvidenceParts {
            chain: self.chain.clone(),
            check: verifier.check(),
            broadcast: Box::new(move |frame| network.broadcast(Class::Transactions, frame)),
            audit: self.audit.clone(),
        });
        let thread = self.ends.spawn("evidence", move || {
            owner.run();
            None
        })?;
        Ok((evidence, thread))
    }

    fn executor(
        &self,
        app: Box<dyn Application>,
        ready: &Ready,
        (hooks, check): (Hooks, Arc<CachedCheck>),
        jobs: Receiver<Job>,
    ) -> std::io::Result<JoinHandle<()>> {
        let mut executor = Executor::new(ExecutorParts {
            app,
            chain: self.chain.clone(),
            state: ready.state.clone(),
            app_height: ready.app_height,
            origin: stores::origin(self.settings),
            me: Some(self.me()),
            check,
            hooks,
            probe: self.settings.probe.clone(),
        });
        self.ends.spawn("executor", move || {
            executor.run(&jobs);
            None
        })
    }

    /// The tasks on the network's runtime. Each of them is one that consensus needs.
    fn tasks(
        &self,
        peers: Peers,
        verifier: &Verifier,
        heights: Published,
        (mempool, evidence): (&Mempool, &Evidence),
    ) -> (SyncHandle, tokio::task::JoinHandle<()>) {
        let (sync, task) = sync::start(sync::Parts {
            network: self.network.clone(),
            inbox: peers.sync,
            chain: self.chain.clone(),
            verifier: verifier.clone(),
            heights,
            events: self.events.clone(),
            audit: self.audit.clone(),
        });
        let links = links::run(peers.events, self.events.clone(), Some(self.me()));
        let offered = evidence.clone();
        let transactions = mempool
            .clone()
            .run(peers.transactions, move |peer, pieces| offered.offer(peer, pieces));
        let others = [
            ("network", peers.task),
            ("votes", tokio::spawn(verifier.clone().run(peers.consensus))),
            ("blocks", tokio::spawn(verifier.clone().run(peers.bodies))),
            ("transactions", tokio::spawn(transactions)),
            ("links", tokio::spawn(links)),
        ];
        for (name, task) in others {
            drop(self.ends.watch(name, task));
        }
        (sync, self.ends.watch("sync", task))
    }
}
