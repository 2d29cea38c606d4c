//! The Tercet daemon.
