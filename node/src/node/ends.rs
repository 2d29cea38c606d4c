//! Which part of the node ended first, and why: the node runs as long as all of them do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Why the node ends. Each kind has an exit code of its own (those of `sysexits.h`), so that a supervisor can tell them apart.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// Somebody asked for it.
    #[error("stopped by {0}")]
    Asked(&'static str),
    /// The disk failed: what is on it is unknown, so nothing more may be signed.
    #[error("{0}")]
    Disk(String),
    /// The application did not answer, or answered what it may not.
    #[error("{0}")]
    Application(String),
    /// Consensus is broken, or a part of the node has a bug.
    #[error("{0}")]
    Internal(String),
}

/// An error with its causes, each said once.
#[must_use]
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl End {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            End::Asked(_) => 0,
            End::Application(_) => 69,
            End::Internal(_) => 70,
            End::Disk(_) => 74,
        }
    }
}

/// Shuts a runtime down after `last`, a task that is about to end. A task that lends its thread to what blocks goes on there while its
/// runtime shuts down, and panics at its next timer.
pub(super) fn shut_down(runtime: Runtime, last: tokio::task::JoinHandle<()>, until: Instant) {
    // One that does not end in time is left to its panic.
    let _ = runtime.block_on(async { tokio::time::timeout_at(until.into(), last).await });
    runtime.shutdown_timeout(until.saturating_duration_since(Instant::now()));
}

/// Where parts tell that they have ended. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ends(mpsc::UnboundedSender<End>);

impl Ends {
    /// A place to tell, and the place to listen.
    #[must_use]
    pub fn new() -> (Ends, mpsc::UnboundedReceiver<End>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Ends(sender), receiver)
    }

    /// Tells that the node must end. Only the first reason counts.
    pub fn tell(&self, end: End) {
        // Nobody listens where the node is stopping already.
        let _ = self.0.send(end);
    }

    /// A callback for parts that know no more than that the application failed.
    #[must_use]
    pub fn on_application_failure(&self) -> Arc<dyn Fn(String) + Send + Sync> {
        let ends = self.clone();
        Arc::new(move |reason| ends.tell(End::Application(reason)))
    }

    /// Runs a critical part on a thread of its own: when it ends with a reason, or panics, the node ends. The reason is told before the part is
    /// dropped, and so before those whom that ends.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn spawn(
        &self,
        name: &'static str,
        mut part: impl FnMut() -> Option<End> + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let ends = self.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            match catch_unwind(AssertUnwindSafe(&mut part)) {
                Ok(None) => {}
                Ok(Some(end)) => ends.tell(end),
                Err(_) => ends.tell(End::Internal(format!(
                    "a bug: the {name} thread panicked (see the line above)"
                ))),
            }
        })
    }

    /// Watches a critical task: when it ends before the node is asked to stop, the node ends. What is returned ends right after it.
    pub fn watch(
        &self,
        name: &'static str,
        task: tokio::task::JoinHandle<()>,
    ) -> tokio::task::JoinHandle<()> {
        let ends = self.clone();
        tokio::spawn(async move {
            let what = match task.await {
                Ok(()) => format!("the {name} task has ended"),
                Err(error) => format!("a bug: the {name} task failed: {error}"),
            };
            ends.tell(End::Internal(what));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_part_that_panics_ends_the_node_with_its_name() {
        let (ends, mut told) = Ends::new();
        let thread = ends.spawn("engine", || panic!("for the test")).expect("a thread");
        thread.join().expect("the panic is caught");
        let end = told.blocking_recv().expect("it is told");
        assert!(end.to_string().contains("engine"), "{end}");
        assert_eq!(end.code(), 70);
    }

    /// Another part, which ends when it is let go.
    struct Other(Ends);

    impl Drop for Other {
        fn drop(&mut self) {
            self.0.tell(End::Internal("the sync task has ended".to_owned()));
        }
    }

    #[test]
    fn the_reason_of_a_part_comes_before_the_end_of_those_that_it_lets_go() {
        let (ends, mut told) = Ends::new();
        let other = Other(ends.clone());
        let part = move || {
            let _held = &other;
            Some(End::Disk("the disk is full".to_owned()))
        };
        ends.spawn("engine", part).expect("a thread").join().expect("no panic");
        let end = told.blocking_recv().expect("it is told");
        assert_eq!(end.code(), 74, "{end}");
    }

    #[test]
    fn a_task_that_blocks_while_its_runtime_is_shut_down_does_not_panic() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (ended, told) = std::sync::mpsc::channel();
        let last = runtime.spawn(async move {
            let _ = tokio::task::block_in_place(|| held.recv());
            tokio::time::sleep(Duration::from_millis(1)).await;
            let _ = ended.send(());
        });
        let limit = Duration::from_secs(60);
        let stopping = std::thread::spawn(move || shut_down(runtime, last, Instant::now() + limit));
        // Long enough for a runtime that does not wait for the task to be gone.
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
        drop(release);
        told.recv_timeout(limit).expect("the task came to its end");
        stopping.join().expect("no panic");
    }

    #[test]
    fn causes_are_said_once() {
        let cause = std::io::Error::other("No space left on device");
        let path = "data".into();
        let error = crate::store::StoreError::File { path, source: cause };
        let error = crate::engine::EngineError::Journal(error);
        let text = with_causes(&error);
        assert!(text.ends_with("cannot use data: No space left on device"), "{text}");
        assert_eq!(text.matches("cannot use data").count(), 1, "{text}");
    }

    #[test]
    fn a_part_that_is_done_does_not_end_the_node() {
        let (ends, mut told) = Ends::new();
        ends.spawn("engine", || None).expect("a thread").join().expect("no panic");
        drop(ends);
        assert!(told.blocking_recv().is_none());
    }
}
