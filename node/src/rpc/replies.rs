//! The memory of replies that are on their way to clients: large ones take room until they have left, so that a crowd that reads
//! slowly cannot make the node hold a block for each of them.

use super::server::Api;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

/// The most bytes of large replies, of all clients together.
pub(crate) const REPLIES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Replies up to this size take no room.
const FREE_BYTES_MAX: usize = 64 * 1024;
/// The unit of the room.
pub(crate) const UNIT_BYTES: usize = 1024;

/// What a reply holds until it has left.
#[derive(Debug, Default)]
pub(crate) struct Room(Vec<OwnedSemaphorePermit>);

impl Room {
    /// Room for so many bytes, waited for as long as a reply may take.
    ///
    /// # Errors
    /// Where the time is up, or there is never so much.
    pub(crate) async fn take(api: &Api, bytes: usize) -> Result<Room, String> {
        if bytes <= FREE_BYTES_MAX {
            return Ok(Room::default());
        }
        let busy = || "too many large replies are on their way, try again".to_owned();
        let too_large = || format!("the reply has {bytes} bytes, the most is {REPLIES_BYTES_MAX}");
        if bytes > REPLIES_BYTES_MAX {
            return Err(too_large());
        }
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).map_err(|_| too_large())?;
        let replies = std::sync::Arc::clone(&api.replies);
        let room =
            tokio::time::timeout(api.limits.write_timeout, replies.acquire_many_owned(units));
        let room = room.await.map_err(|_| busy())?.map_err(|error| error.to_string())?;
        Ok(Room(vec![room]))
    }

    /// Takes over what `other` holds.
    pub(crate) fn join(&mut self, other: Room) {
        self.0.extend(other.0);
    }

    /// The bytes of a reply, which hold this room for as long as they live.
    pub(crate) fn hold(self, reply: Vec<u8>) -> Bytes {
        if self.0.is_empty() { Bytes::from(reply) } else { Bytes::from_owner(Held(reply, self)) }
    }
}

struct Held(Vec<u8>, #[expect(dead_code, reason = "held")] Room);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
