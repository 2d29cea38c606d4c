//! What the application says, asked on its query side.

use super::super::json::abci::{Info, Query, Response};
use super::super::params::Args;
use super::super::server::Api;
use super::Answer;
use tendermint_proto::v0_38::abci::RequestQuery;

pub(super) async fn info(api: &Api) -> Result<Answer, String> {
    let info = api.bounded(api.sources.app.info()).await??;
    Answer::new(&Response { response: Info::from(info) })
}

pub(super) async fn query(api: &Api, args: &Args) -> Result<Answer, String> {
    let request = RequestQuery {
        path: args.text(0).to_owned(),
        data: args.bytes(1),
        height: args.int(2).unwrap_or(0),
        prove: args.is_true(3),
    };
    let query = api.bounded(api.sources.app.query(request)).await??;
    Answer::new(&Response { response: Query::from(query) })
}
