//! The other end: an application of this process for nodes of others.
//!
//! Source: CometBFT 0.38 `abci/server/socket_server.go`.

use super::frames;
use crate::remote::{Address, Listener, Stream};
use bytes::BytesMut;
use prost::Message as _;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::request::Value as Call;
use tendermint_proto::v0_38::abci::response::Value as Answer;
use tendermint_proto::v0_38::abci::{Request, Response, ResponseException};

const CHUNK: usize = 64 * 1024;

/// An application that listens.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    address: Address,
}

impl Server {
    /// Listens at `address`.
    ///
    /// # Errors
    /// Where the address is taken or not of this machine.
    pub fn bind(address: &Address) -> io::Result<Server> {
        let listener = address.listen()?;
        let address = listener.address(address)?;
        Ok(Server { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves every connection on a thread of its own, with a clone of `app` each.
    ///
    /// # Errors
    /// Where no more connections can be accepted.
    pub fn serve<A: Application>(&self, app: &A) -> io::Result<()> {
        loop {
            let (stream, app) = (self.listener.accept()?, app.clone());
            std::thread::spawn(move || match answer_all(stream, &app) {
                Ok(()) => tracing::info!("a connection ended"),
                Err(error) => tracing::error!("a connection broke: {error}"),
            });
            tracing::info!("a connection came");
        }
    }
}

/// Answers the requests of a connection in order. Answers leave with a Flush, and where no further request is there.
fn answer_all(mut stream: Stream, app: &impl Application) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(CHUNK, stream.try_clone()?);
    let (mut inbox, mut chunk) = (BytesMut::new(), vec![0; CHUNK]);
    loop {
        let frame = frames::take(&mut inbox).map_err(io::Error::other)?;
        let Some(frame) = frame else {
            writer.flush()?;
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                bytes => inbox.extend_from_slice(&chunk[..bytes]),
            }
            continue;
        };
        let call = Request::decode(frame).ok().and_then(|request| request.value);
        let call = call.ok_or_else(|| io::Error::other("what came is no request of ABCI"))?;
        let flushes = matches!(call, Call::Flush(_));
        // What panics answers with an exception, as the node must hear of it; it does not bring down the others.
        let answer = catch_unwind(AssertUnwindSafe(|| answer(app, call)));
        let answer = answer.unwrap_or_else(|_| {
            Answer::Exception(ResponseException { error: "the application panicked".to_owned() })
        });
        writer.write_all(&Response { value: Some(answer) }.encode_length_delimited_to_vec())?;
        if flushes {
            writer.flush()?;
        }
    }
}

fn answer(app: &impl Application, call: Call) -> Answer {
    match call {
        Call::Echo(request) => Answer::Echo(app.echo(request)),
        Call::Flush(_) => Answer::Flush(app.flush()),
        Call::Info(request) => Answer::Info(app.info(request)),
        Call::InitChain(request) => Answer::InitChain(app.init_chain(request)),
        Call::Query(request) => Answer::Query(app.query(request)),
        Call::CheckTx(request) => Answer::CheckTx(app.check_tx(request)),
        Call::Commit(_) => Answer::Commit(app.commit()),
        Call::ListSnapshots(_) => Answer::ListSnapshots(app.list_snapshots()),
        Call::OfferSnapshot(request) => Answer::OfferSnapshot(app.offer_snapshot(request)),
        Call::LoadSnapshotChunk(request) => {
            Answer::LoadSnapshotChunk(app.load_snapshot_chunk(request))
        }
        Call::ApplySnapshotChunk(request) => {
            Answer::ApplySnapshotChunk(app.apply_snapshot_chunk(request))
        }
        Call::PrepareProposal(request) => Answer::PrepareProposal(app.prepare_proposal(request)),
        Call::ProcessProposal(request) => Answer::ProcessProposal(app.process_proposal(request)),
        Call::ExtendVote(request) => Answer::ExtendVote(app.extend_vote(request)),
        Call::VerifyVoteExtension(request) => {
            Answer::VerifyVoteExtension(app.verify_vote_extension(request))
        }
        Call::FinalizeBlock(request) => Answer::FinalizeBlock(app.finalize_block(request)),
    }
}
