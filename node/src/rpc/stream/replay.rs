//! Events of blocks that were executed before somebody subscribed, made again from the stores.

use super::super::replies::Room;
use super::super::server::Api;
use crate::events::query::Query;
use crate::events::{Event, Executed, Kinds, of_block};
use std::collections::VecDeque;
use std::sync::Arc;
use tendermint::block::Height;

/// The events of one block after the other.
pub(super) struct Replay {
    api: Api,
    query: Arc<Query>,
    next: u64,
    /// Those of the last block that was read; at most as many as it holds.
    ready: VecDeque<Event>,
    /// What that block takes of the memory for large replies.
    room: Room,
}

impl Replay {
    /// The events that meet `query`, from the block at `from` on.
    pub(super) fn new(api: &Api, query: &Query, from: u64) -> Replay {
        let query = Arc::new(query.clone());
        let (api, room) = (api.clone(), Room::default());
        Replay { api, query, next: from, ready: VecDeque::new(), room }
    }

    /// The first height that it has not read.
    pub(super) fn height(&self) -> u64 {
        self.next
    }

    /// The next event; none where it has come to the last executed block.
    ///
    /// # Errors
    /// Where the blocks are gone or cannot be read.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, String> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            self.room = Room::default();
            let Some((ready, bytes)) = self.read().await? else { return Ok(None) };
            if !ready.is_empty() {
                self.room = Room::take(&self.api, bytes).await?;
            }
            self.ready = ready;
            self.next = self.next.saturating_add(1);
        }
    }

    /// The events of the next block; none where it is not executed yet.
    async fn read(&self) -> Result<Option<(VecDeque<Event>, usize)>, String> {
        let place = Arc::clone(&self.api.reads).acquire_owned().await;
        let _place = place.map_err(|error| error.to_string())?;
        let (blocks, query, next) =
            (Arc::clone(&self.api.sources.blocks), Arc::clone(&self.query), self.next);
        let read = tokio::task::spawn_blocking(move || {
            let base = blocks.base().map_or(0, |base| base.value());
            if next < base {
                return Err(format!("height {next} is not available, lowest height is {base}"));
            }
            let height = Height::try_from(next).map_err(|error| error.to_string())?;
            let Some(results) = blocks.results(height)? else { return Ok(None) };
            let Some(block) = blocks.block(height)? else { return Ok(None) };
            let executed = Arc::new(Executed::stored(block, results));
            let met = of_block(&executed, Kinds::of(&query));
            let met = met.filter(|event| query.matches(&event.keys)).collect();
            Ok(Some((met, executed.bytes())))
        });
        read.await.map_err(|_| "the node stops".to_owned())?
    }
}
