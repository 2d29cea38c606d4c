//! Nodes that are asked for what is not kept. None is believed: an answer counts once it is checked, and where it does not hold the
//! next node is asked.

use super::error::ApiError;
use crate::provider::{CallError, RpcProvider};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes of an answer as JSON. Longer blocks are not served.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The most calls that ask nodes, or whose answer is not written yet; further ones wait.
pub const ASKS_MAX: usize = 8;

/// A place among [`ASKS_MAX`].
pub(super) type Held = OwnedSemaphorePermit;

/// Whoever is asked.
pub(super) struct Upstream {
    providers: Vec<RpcProvider>,
    /// Whom to ask first the next time.
    first: AtomicUsize,
    asks: Arc<Semaphore>,
}

impl Upstream {
    pub(super) fn new(providers: Vec<RpcProvider>) -> Upstream {
        let asks = Arc::new(Semaphore::new(ASKS_MAX));
        Upstream { providers, first: AtomicUsize::new(0), asks }
    }

    /// Waits for a place.
    pub(super) async fn hold(&self) -> Result<Held, ApiError> {
        let held = Arc::clone(&self.asks).acquire_owned().await;
        held.map_err(|_| ApiError::Refused("the api is stopping".to_owned()))
    }

    /// All nodes, another one first each time.
    pub(super) fn turn(&self) -> impl Iterator<Item = &RpcProvider> {
        let count = self.providers.len();
        let first = self.first.fetch_add(1, Ordering::Relaxed) % count.max(1);
        (0..count).filter_map(move |more| self.providers.get((first + more) % count))
    }

    /// What `check` makes of the first answer that it takes; otherwise why the last one was not taken.
    pub(super) async fn ask<T>(
        &self,
        method: &str,
        params: &Value,
        check: impl Fn(&RawValue) -> Result<T, String>,
    ) -> Result<T, ApiError> {
        let mut last = ApiError::Refused("there is nobody to ask".to_owned());
        for provider in self.turn() {
            let name = provider.shown_name();
            last = match provider.result(method, params, ANSWER_BYTES_MAX).await {
                Ok(result) => match check(&result) {
                    Ok(taken) => return Ok(taken),
                    Err(why) => ApiError::Refused(format!(
                        "{method}: the answer of {name} is refused: {why}"
                    )),
                },
                Err(CallError::Node { message, data }) => ApiError::Node { message, data },
                Err(CallError::Failed(_)) => {
                    ApiError::Refused(format!("{method}: {name} did not answer"))
                }
            };
        }
        Err(last)
    }
}
