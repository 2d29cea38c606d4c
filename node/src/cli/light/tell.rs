//! Telling how far the syncer is.

use crate::cli::say;
use anyhow::bail;
use std::time::{Duration, Instant};
use tercet_light_core::planner::Condition;
use tercet_light_sync::driver::Progress;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often progress is told while headers are missing.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// The same where everything is there.
const SYNCED_EVERY: Duration = Duration::from_secs(30);

/// Tells how far it is until somebody stops it, or it cannot go on.
pub(super) async fn watch_progress(
    mut progress: watch::Receiver<Progress>,
    root: u64,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let mut told = Told::new(&progress.borrow());
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            changed = progress.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let now = progress.borrow_and_update().clone();
                told.changes(&now)?;
                check(&now, root)?;
            }
            _ = ticks.tick() => told.tick(&progress.borrow().clone())?,
        }
    }
}

/// Whether it can go on by itself.
fn check(progress: &Progress, root: u64) -> anyhow::Result<()> {
    match progress.status.condition {
        Condition::RootRefuted => bail!(
            "every provider has another header at height {root}: --trust-hash is wrong, or the providers are of another chain"
        ),
        Condition::Expired => bail!(
            "what is trusted is older than the trusting period: choose a newer --trust-height and --trust-hash, and another --dir"
        ),
        // A fork ends it in a better way.
        Condition::Frozen => Ok(()),
        _ if progress.providers > 0 => Ok(()),
        _ => {
            let why = progress.refused.last();
            let why = why.map_or(String::new(), |(name, fault)| format!(" ({name}: {fault})"));
            bail!(
                "nobody is left to fetch from{why}: is the root right, and the chain? Name other nodes with --provider"
            )
        }
    }
}

/// What was told last.
struct Told {
    condition: Option<Condition>,
    /// Whether it was told that everything is there.
    synced: bool,
    refused: usize,
    headers: u64,
    at: Instant,
}

impl Told {
    fn new(progress: &Progress) -> Told {
        let headers = progress.headers;
        Told { condition: None, synced: false, refused: 0, headers, at: Instant::now() }
    }

    /// What changed other than numbers.
    fn changes(&mut self, progress: &Progress) -> anyhow::Result<()> {
        for (name, fault) in progress.refused.iter().skip(self.refused) {
            say(&format!("{name} is not asked any more: {fault}"))?;
        }
        self.refused = progress.refused.len();
        let condition = progress.status.condition;
        if self.condition != Some(condition) && self.is_worth_telling(condition) {
            self.rate(progress)?;
        }
        self.condition = Some(condition);
        self.synced |= condition == Condition::Synced;
        Ok(())
    }

    /// At the tip, blocks come unconfirmed and are confirmed a moment later.
    fn is_worth_telling(&self, condition: Condition) -> bool {
        use Condition::{Synced, Syncing, Unconfirmed};
        let follows = |condition| matches!(condition, Synced | Syncing | Unconfirmed);
        let first = condition == Synced && !self.synced;
        first || !(self.condition.is_some_and(follows) && follows(condition))
    }

    /// Time passes.
    fn tick(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let follows = progress.status.condition == Condition::Synced;
        if follows && self.at.elapsed() < SYNCED_EVERY {
            return Ok(());
        }
        self.rate(progress)
    }

    fn rate(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let seconds = self.at.elapsed().as_secs_f64().max(0.001);
        let more = progress.headers - self.headers;
        (self.at, self.headers) = (Instant::now(), progress.headers);
        say(&line(progress, more, seconds))
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]
fn line(progress: &Progress, headers: u64, seconds: f64) -> String {
    let status = &progress.status;
    let height = |point: Option<tercet_light_core::planner::Point>| {
        point.map_or("nothing".to_owned(), |point| point.height.to_string())
    };
    let rate = headers as f64 / seconds;
    let left = match status.missing {
        0 => "all headers are there".to_owned(),
        missing if rate < 1.0 => format!("{missing} headers missing"),
        missing => {
            format!("{missing} headers missing, {} s left", (missing as f64 / rate).ceil() as u64)
        }
    };
    format!(
        "{:?}: verified {}, trusted {}; {left}; {} headers/s, {} new anchors",
        status.condition,
        height(status.verified),
        height(status.trusted),
        rate.round() as u64,
        progress.anchors,
    )
}
