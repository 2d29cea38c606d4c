//! The server as a whole: over real HTTP, against CometBFT's captured replies and with tendermint-rpc as the client.

mod fake;
mod replies;
mod wire;
