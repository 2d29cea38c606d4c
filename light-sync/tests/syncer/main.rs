//! The syncer against nodes that are served here, over HTTP: honest ones and others.
#![allow(missing_docs, clippy::unwrap_used)]

mod api;
mod content;
mod fork;
mod kill;
mod node;
mod providers;
mod repair;
mod store;
mod sync;
