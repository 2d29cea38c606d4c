//! The application boundary: what the node asks of an application, applications inside this process, and the kvstore.
//!
//! The node sees an [`Application`] for each of four roles, as CometBFT has four connections. An application written for the
//! `tendermint-abci` crate becomes one by [`in_process()`]: one clone a role, and a panic in it comes back as an [`AppError`].
//! One that can execute a block before it is decided becomes one by [`optimistic()`] (see the module [`optimistic`](mod@optimistic)).
//! An application in another process is [`remote`], by [`socket`] or [`grpc`]. [`open()`] finds the application that a configuration names; [`kvstore`] is the one that comes with the node.
//! Whether the node keeps to ABCI's order of calls is seen by [`grammar`].

mod application;
pub mod grammar;
pub mod grpc;
mod in_process;
pub mod kvstore;
mod noop;
mod open;
pub mod optimistic;
mod pace;
pub mod remote;
pub mod socket;

#[cfg(test)]
mod tests;

pub use application::{AppError, Application, Role, Roles};
pub use in_process::{in_process, optimistic};
pub use open::{Named, OpenError, open};
