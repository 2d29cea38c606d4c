//! The engine's clock: when which timer is due.

use std::time::{Duration, Instant};
use tercet_consensus::replica::{Timer, TimerKind};

/// A timer that is looked at so much too late was not late alone: this process was starved, and what the timer waits for may well lie
/// unread in one of its queues.
const STARVED: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Armed {
    at: Instant,
    after: Duration,
    timer: Timer,
    /// Whether it was put off already.
    put_off: bool,
}

/// The armed timers, one of each kind: arming one replaces the last of its kind, as the replica means it.
#[derive(Debug, Default)]
pub struct Timers(Vec<Armed>);

impl Timers {
    /// Arms `timer`, which is due `after` from `now`.
    pub fn arm(&mut self, timer: Timer, after: Duration, now: Instant) {
        self.0.retain(|armed| armed.timer.kind != timer.kind);
        self.0.push(Armed { at: now + after, after, timer, put_off: false });
    }

    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().map(|armed| armed.at).min()
    }

    /// Takes those that are due. One that would suspect a primary, and that this process looks at too late, is put off once, by as much as
    /// it was late and no longer than it ran: what counts is what the others did in its time, not how long this process slept.
    pub fn due(&mut self, now: Instant) -> Vec<Timer> {
        if self.next().is_none_or(|next| now < next) {
            return Vec::new();
        }
        for armed in &mut self.0 {
            let late = now.saturating_duration_since(armed.at);
            if suspects(armed.timer.kind) && late >= STARVED && !armed.put_off {
                armed.put_off = true;
                armed.at = now + late.min(armed.after);
            }
        }
        self.0.extract_if(.., |armed| armed.at <= now).map(|armed| armed.timer).collect()
    }
}

fn suspects(kind: TimerKind) -> bool {
    matches!(kind, TimerKind::Propose | TimerKind::Commit | TimerKind::NewView)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tendermint::block::Height;
    use tercet_consensus::view::View;

    const MS: Duration = Duration::from_millis(1);

    fn timer(kind: TimerKind, generation: u64) -> Timer {
        Timer { height: Height::from(1u32), view: View::ZERO, kind, generation }
    }

    #[test]
    fn arming_replaces_the_last_of_its_kind() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        timers.arm(timer(TimerKind::Commit, 1), 100 * MS, now);
        timers.arm(timer(TimerKind::Commit, 2), 200 * MS, now);
        timers.arm(timer(TimerKind::Grace, 3), 50 * MS, now);
        assert_eq!(timers.next(), Some(now + 50 * MS));
        assert_eq!(timers.due(now + 100 * MS), [timer(TimerKind::Grace, 3)]);
        assert_eq!(timers.due(now + 200 * MS), [timer(TimerKind::Commit, 2)]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_process_that_slept_reads_what_has_come_before_it_suspects_the_primary() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        timers.arm(timer(TimerKind::Commit, 1), 300 * MS, now);
        let woken = now + 1_000 * MS;
        assert!(timers.due(woken).is_empty());
        assert_eq!(timers.next(), Some(woken + 300 * MS), "no longer than it ran");
        // Once.
        assert_eq!(timers.due(woken + 2_000 * MS), [timer(TimerKind::Commit, 1)]);
        timers.arm(timer(TimerKind::Propose, 2), 300 * MS, now);
        assert!(timers.due(now + 350 * MS).is_empty());
        assert_eq!(timers.due(now + 400 * MS), [timer(TimerKind::Propose, 2)]);
    }

    #[test]
    fn a_wait_for_late_commits_is_over_when_it_is_over() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        timers.arm(timer(TimerKind::Grace, 1), 20 * MS, now);
        assert_eq!(timers.due(now + 1_000 * MS), [timer(TimerKind::Grace, 1)]);
    }
}
