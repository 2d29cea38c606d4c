//! Applications that others serve, unchanged: one on the server of `tendermint-abci`, and one written for `tower-abci`.
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, missing_docs, dead_code)]

mod support;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::task::{Context, Poll};
use support::{App, Net};
use tendermint::abci::types::ExecTxResult;
use tendermint::abci::{Code, response};
use tendermint::v0_38::abci::{Request, Response};
use tercet_abci::remote::{Address, Protocol};
use tercet_node::network::Transport;
use tokio::net::UnixStream;
use tower_abci::BoxError;
use tower_abci::v038::{Server, split};

/// A node with this application commits blocks, is stopped, starts again and goes on.
fn runs(address: Address, protocol: Protocol) {
    let mut net = Net::new(&[10], 0, Transport::Tcp);
    net.reach(0, address, protocol);
    net.start(0);
    commit(&net, "first=1");
    commit(&net, "second=2");
    net.stop(0);
    net.start(0);
    commit(&net, "third=3");
    for (key, base64) in [("first", "MQ=="), ("second", "Mg=="), ("third", "Mw==")] {
        let reply = net.get(0, &format!("abci_query?data=%22{key}%22"));
        assert!(reply.contains(&format!(r#""value":"{base64}""#)), "{reply}");
    }
}

fn commit(net: &Net, tx: &str) {
    let reply = net.get(0, &format!("broadcast_tx_commit?tx=%22{tx}%22"));
    let executed =
        reply.split_once("tx_result").is_some_and(|(_, rest)| rest.contains(r#""code":0"#));
    assert!(executed && !reply.contains("error"), "{reply}");
}

#[test]
fn an_application_on_the_server_of_tendermint_abci() {
    let server = tendermint_abci::ServerBuilder::default();
    let server = server.bind("127.0.0.1:0", App::default()).expect("a port");
    let address = server.local_addr().parse().expect("an address");
    std::thread::spawn(move || drop(server.listen()));
    runs(address, Protocol::Socket);
}

#[test]
fn an_application_by_grpc() {
    let address = "tcp://127.0.0.1:0".parse().expect("an address");
    let server = tercet_abci::grpc::Server::bind(&address).expect("a port");
    let address = server.address().clone();
    std::thread::spawn(move || server.serve(&App::default()));
    runs(address, Protocol::Grpc);
}

#[test]
fn an_application_written_for_tower_abci() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.sock");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.spawn(serve(path.clone()));
    // The server says to nobody when it listens.
    runtime.block_on(async {
        while UnixStream::connect(&path).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    runs(Address::Unix(path), Protocol::Socket);
    runtime.shutdown_background();
}

/// In the manner of tower-abci's example.
async fn serve(path: PathBuf) {
    let (consensus, mempool, snapshot, info) = split::service(Tower::default(), 1);
    let server = Server::builder().consensus(consensus).mempool(mempool);
    let server = server.snapshot(snapshot).info(info).finish().expect("all four");
    server.listen_unix(path).await.expect("it listens");
}

/// A map in memory, whose hash is the number of its keys.
#[derive(Clone, Debug, Default)]
struct Tower {
    height: u32,
    pairs: BTreeMap<String, String>,
}

impl tower::Service<Request> for Tower {
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let answer = self.answer(request);
        async move { Ok(answer) }.boxed()
    }
}

impl Tower {
    fn answer(&mut self, request: Request) -> Response {
        match request {
            Request::Info(_) => Response::Info(response::Info {
                data: "tower".into(),
                version: "1".into(),
                app_version: 1,
                last_block_height: self.height.into(),
                last_block_app_hash: self.hash(),
            }),
            Request::Query(query) => {
                let key = String::from_utf8_lossy(&query.data).into_owned();
                let value = self.pairs.get(&key).cloned().unwrap_or_default();
                let (key, value) = (Bytes::from(key), Bytes::from(value));
                Response::Query(response::Query { key, value, ..Default::default() })
            }
            Request::PrepareProposal(request) => {
                Response::PrepareProposal(response::PrepareProposal { txs: request.txs })
            }
            Request::ProcessProposal(_) => {
                Response::ProcessProposal(response::ProcessProposal::Accept)
            }
            Request::FinalizeBlock(block) => {
                let tx_results = block.txs.iter().map(|tx| self.execute(tx)).collect();
                Response::FinalizeBlock(response::FinalizeBlock {
                    tx_results,
                    app_hash: self.hash(),
                    events: Vec::new(),
                    validator_updates: Vec::new(),
                    consensus_param_updates: None,
                })
            }
            Request::Commit => {
                self.height += 1;
                Response::Commit(response::Commit::default())
            }
            Request::Flush => Response::Flush,
            Request::Echo(_) => Response::Echo(Default::default()),
            Request::InitChain(_) => Response::InitChain(Default::default()),
            Request::CheckTx(_) => Response::CheckTx(Default::default()),
            Request::ListSnapshots => Response::ListSnapshots(Default::default()),
            Request::OfferSnapshot(_) => Response::OfferSnapshot(Default::default()),
            Request::LoadSnapshotChunk(_) => Response::LoadSnapshotChunk(Default::default()),
            Request::ApplySnapshotChunk(_) => Response::ApplySnapshotChunk(Default::default()),
            Request::ExtendVote(_) => {
                Response::ExtendVote(response::ExtendVote { vote_extension: Bytes::new() })
            }
            Request::VerifyVoteExtension(_) => {
                Response::VerifyVoteExtension(response::VerifyVoteExtension::Accept)
            }
        }
    }

    fn execute(&mut self, tx: &Bytes) -> ExecTxResult {
        let text = String::from_utf8_lossy(tx).into_owned();
        match text.split_once('=') {
            Some((key, value)) => {
                self.pairs.insert(key.to_owned(), value.to_owned());
                ExecTxResult::default()
            }
            None => ExecTxResult { code: Code::from(1), ..ExecTxResult::default() },
        }
    }

    fn hash(&self) -> tendermint::AppHash {
        let keys = (self.pairs.len() as u64).to_be_bytes();
        keys.to_vec().try_into().expect("a hash of eight bytes")
    }
}
