//! What the RPC reads from, made of the node's parts: one adapter for each trait of [`crate::rpc::sources`].

mod app;
mod chain;
mod evidence;
mod net;
mod pool;
mod status;
mod stopped;

pub use app::App;
pub use status::{Fault, Status, StatusParts};
pub use stopped::Stopped;
