//! Providers: who is asked. None is believed; what comes back goes to the core, which judges it.

mod evidence;
mod http;
mod json;
mod rpc;

pub use self::evidence::evidence_params;
pub use self::http::{Endpoint, EndpointError};
pub use self::rpc::{CallError, RUN_HEADERS, RpcProvider};

use std::future::Future;
use std::pin::Pin;
use tercet_light_core::evidence::AttackEvidence;
use tercet_light_core::planner::{Answer, Failure, What};

/// What comes back, some time.
pub type Reply = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// Whether evidence was taken, some time; why not, in words.
pub type Submitted = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Somebody who can be asked.
pub trait Provider: Send + Sync {
    /// What the user calls it, as its address.
    fn name(&self) -> &str;

    /// Asks. Dropping the reply gives up; `bytes_max` is the most bytes that the answer may have as protobuf.
    fn ask(&self, what: &What, bytes_max: usize) -> Reply;

    /// Submits evidence of an attack.
    fn submit(&self, evidence: &AttackEvidence) -> Submitted;
}
