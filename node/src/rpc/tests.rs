//! The server as a whole: over real HTTP, against CometBFT's captured replies and with tendermint-rpc as the client.

mod doors;
pub(crate) mod fake;
mod page;
mod replies;
mod search;
#[path = "../../tests/support/socket.rs"]
mod socket;
mod stream;
mod wire;
