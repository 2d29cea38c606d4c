//! One run, with what came of it.

use super::Nanos;
use super::coverage::Coverage;
use super::plan::Plan;
use super::trace::Trace;
use super::world::World;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What came of a run.
pub(crate) struct Outcome {
    /// Which invariant broke, in words.
    pub(crate) failure: Option<String>,
    /// What was met.
    pub(crate) coverage: Coverage,
    /// What happened, where it was asked for.
    pub(crate) trace: String,
    /// How many events there were.
    pub(crate) events: u64,
    /// Heights decided.
    pub(crate) heights: u64,
    /// Virtual time.
    pub(crate) took: Nanos,
    /// From the healing to the first height decided everywhere.
    pub(crate) first_took: Option<Nanos>,
}

/// Runs a plan. A broken invariant panics inside; it is caught here, as is any panic of the code under test (S13).
pub(crate) fn run(plan: Plan, trace: Trace) -> Outcome {
    remember_panics();
    let mut world = World::new(plan, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = result.err().map(|_| {
        let said = SAID.with(|said| said.borrow_mut().take());
        let said = said.unwrap_or_else(|| "a panic".into());
        // What the assertion is about, without its form.
        said.split_once("` failed: ").map_or(said.clone(), |(_, rest)| rest.to_owned())
    });
    Outcome {
        failure,
        trace: world.trace.take(),
        events: world.events(),
        heights: world.checks.tip(),
        took: world.now,
        first_took: world.liveness.first_took,
        coverage: world.coverage,
    }
}

/// Panics of runs are told by whoever asked for the run.
fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some(super::cli::THREAD) {
                let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
                let payload = info.payload();
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
                let text = text.unwrap_or_else(|| "a panic".into());
                let text = text + &place.unwrap_or_default();
                SAID.with(|said| *said.borrow_mut() = Some(text));
            } else {
                before(info);
            }
        }));
    });
}
