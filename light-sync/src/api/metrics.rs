//! `/metrics` and `/readyz`.

use super::Api;
use tercet_light_core::planner::{Condition, Point};

impl Api {
    /// Why it is not ready; none where everything is there and trusted.
    pub(super) fn unready(&self) -> Option<String> {
        let progress = self.progress.borrow();
        let condition = progress.status.condition;
        let follows = matches!(condition, Condition::Synced | Condition::Unconfirmed);
        let ready = follows && progress.status.trusted.is_some() && progress.status.missing == 0;
        (!ready).then(|| format!("{condition:?}, {} headers missing", progress.status.missing))
    }

    /// In the text form of Prometheus.
    pub(super) fn metrics(&self) -> String {
        let progress = self.progress.borrow();
        let status = &progress.status;
        let height = |point: Option<Point>| point.map_or(0, |point| point.height);
        let frozen = u64::from(status.condition == Condition::Frozen);
        let clock = u64::from(status.condition == Condition::ClockSuspect);
        let gauges = [
            ("verified_height", "The highest verified block.", height(status.verified)),
            (
                "trusted_height",
                "The highest block that is served as trusted.",
                height(status.trusted),
            ),
            ("missing_headers", "Headers that are missing.", status.missing),
            ("providers", "Providers that are still asked.", progress.providers as u64),
            (
                "refused_providers",
                "Providers that are not asked any more.",
                progress.refused.len() as u64,
            ),
            ("frozen", "1 where two chains verify.", frozen),
            ("clock_suspect", "1 where providers contradict the clock.", clock),
            ("headers", "Headers kept since the start.", progress.headers),
            ("anchors", "Anchors added since the start.", progress.anchors),
        ];
        let line = |(name, help, value): (&str, &str, u64)| {
            format!(
                "# HELP tercet_light_{name} {help}\n# TYPE tercet_light_{name} gauge\ntercet_light_{name} {value}\n"
            )
        };
        gauges.into_iter().map(line).collect()
    }
}
