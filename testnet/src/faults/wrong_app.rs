//! A validator whose application is not deterministic: the key-value store, whose hash goes wrong from the first block on that has a transaction of
//! the key `diverge`. The row of the fault table starts it in place of the node program, by a hidden command.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, ResponseCheckTx, ResponseCommit, ResponseFinalizeBlock,
    ResponseInfo, ResponseInitChain, ResponsePrepareProposal, ResponseProcessProposal,
    ResponseQuery,
};
use tercet_abci::grammar::Grammar;
use tercet_abci::kvstore::{Durability, KvStore};
use tercet_abci::remote::Stop;
use tercet_config::{Home, Loaded};
use tercet_node::node::{Node, Settings};

use crate::table::say;

/// What a transaction that spoils the hash begins with.
pub(super) const TRIGGER: &str = "diverge=";

#[derive(Clone)]
struct Wrong {
    right: KvStore,
    spoilt: Arc<AtomicBool>,
}

impl Application for Wrong {
    fn info(&self, request: RequestInfo) -> ResponseInfo {
        self.right.info(request)
    }

    fn init_chain(&self, request: RequestInitChain) -> ResponseInitChain {
        self.right.init_chain(request)
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        self.right.query(request)
    }

    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        self.right.check_tx(request)
    }

    fn prepare_proposal(&self, request: RequestPrepareProposal) -> ResponsePrepareProposal {
        self.right.prepare_proposal(request)
    }

    fn process_proposal(&self, request: RequestProcessProposal) -> ResponseProcessProposal {
        self.right.process_proposal(request)
    }

    fn finalize_block(&self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        if request.txs.iter().any(|tx| tx.starts_with(TRIGGER.as_bytes())) {
            self.spoilt.store(true, Ordering::Relaxed);
        }
        let mut answer = self.right.finalize_block(request);
        if self.spoilt.load(Ordering::Relaxed) {
            // Another hash in every process.
            answer.app_hash = std::process::id().to_be_bytes().repeat(2).into();
        }
        answer
    }

    fn commit(&self) -> ResponseCommit {
        self.right.commit()
    }
}

/// Runs a node of `home` with that application until it ends.
pub(crate) fn run(home: &Path) -> anyhow::Result<ExitCode> {
    // The node has runtimes of its own, which cannot start inside another.
    std::thread::scope(|scope| {
        let node = scope.spawn(|| node(home));
        node.join().unwrap_or_else(|_| anyhow::bail!("the node panicked"))
    })
}

fn node(home: &Path) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_ansi(false).init();
    let home = Home::new(home);
    let loaded = Loaded::from_home(&home)?;
    let settings = Settings::of(&home, &loaded.config)?;
    let data = settings.data.join("kvstore.db");
    let mut node = Node::start(settings, &Stop::default(), || {
        let right = KvStore::open(&data, Durability::Synced)?;
        let app = Wrong { right, spoilt: Arc::default() };
        Ok(Grammar::default().watch(tercet_abci::in_process(app)))
    })?;
    let end = node.wait();
    say(&format!("ERROR {end}"));
    node.stop();
    Ok(ExitCode::from(end.code()))
}
