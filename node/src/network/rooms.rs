//! How many bytes wait in the inboxes: an inbox is bounded in frames, and frames may be large.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Class;

/// The most bytes of one class that were received and that nobody has taken yet, of all peers
/// together. A longer frame takes all of it.
const INBOX_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// The room of each class. Who finds none waits, and so does his peer, each in turn.
#[derive(Debug)]
pub(super) struct Rooms([Arc<Semaphore>; Class::COUNT]);

impl Default for Rooms {
    fn default() -> Self {
        Self(Class::ALL.map(|_| Arc::new(Semaphore::new(INBOX_BYTES_MAX as usize))))
    }
}

impl Rooms {
    /// Takes room for a frame of so many bytes; none where the room was closed, which it never is.
    pub(super) async fn take(&self, class: Class, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, INBOX_BYTES_MAX);
        let room = self.0.get(class.index())?;
        Arc::clone(room).acquire_many_owned(bytes).await.ok()
    }
}
