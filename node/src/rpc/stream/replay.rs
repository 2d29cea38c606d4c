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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::Limits;
    use crate::rpc::sources::Sources;
    use crate::rpc::tests::fake;

    const TX_BYTES: usize = 200_000;

    /// A clock that goes on only while everything waits.
    #[tokio::test(start_paused = true)]
    async fn a_block_that_is_told_again_takes_room_until_the_next_is_read() {
        let same = fake::Same::new(vec![vec![7; TX_BYTES].into()]);
        let sources = Sources { blocks: Arc::new(same), ..fake::sources() };
        let api = Api::new(sources, Limits::default()).unwrap();
        let query = Query::parse("tm.event = 'Tx'").unwrap();
        let mut replay = Replay::new(&api, &query, 5);
        let all = api.replies.available_permits();
        let busy = api.replies.acquire_many(u32::try_from(all).unwrap()).await.unwrap();
        let refused = replay.next().await.unwrap_err();
        assert_eq!(refused, "too many large replies are on their way, try again");
        drop(busy);
        assert!(replay.next().await.unwrap().is_some());
        let taken = all - api.replies.available_permits();
        assert!(taken * 1024 > TX_BYTES, "{taken}");
        assert!(replay.next().await.unwrap().is_some());
        assert_eq!(all - api.replies.available_permits(), taken, "one block at a time");
        drop(replay);
        assert_eq!(api.replies.available_permits(), all);
    }
}
