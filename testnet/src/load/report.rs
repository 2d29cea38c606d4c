//! What a load measured, in words and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::follow::{BlockSeen, Followed};
use super::{Load, Method, Sent, Tally};

/// The figures of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What was run.
    pub(crate) setting: String,
    /// Seconds from the first send to the last answer.
    pub(crate) sending_s: f64,
    /// Transactions that the nodes took.
    pub(crate) accepted: u64,
    /// Transactions that they did not take, by reason.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Processor time that the loader took while it sent, in seconds.
    pub(crate) loader_cpu_s: f64,
    /// Sends more than 10 ms behind the schedule.
    pub(crate) late: u64,
    /// Transactions seen in blocks.
    pub(crate) committed: u64,
    /// First and last block with transactions.
    pub(crate) heights: Option<(u64, u64)>,
    /// Committed a second, between the first and the last loaded block after the warm-up.
    pub(crate) tx_per_s: Option<f64>,
    /// Committed a second over everything: from the first send to the last loaded block.
    pub(crate) overall_tx_per_s: Option<f64>,
    /// From the send to what the method promises.
    pub(crate) latency: Option<Quantiles>,
    /// What `latency` is.
    pub(crate) latency_of: String,
    /// From the send to the answer.
    pub(crate) answer: Option<Quantiles>,
    /// Time between blocks while loaded.
    pub(crate) block_interval: Option<Quantiles>,
    /// Largest block in transactions.
    pub(crate) block_txs_max: u64,
    /// Calls that failed while the chain was followed.
    pub(crate) follow_failures: u64,
}

/// Order statistics in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    /// How many values.
    pub(crate) count: usize,
    /// Half are at most this.
    pub(crate) p50_ms: f64,
    /// Nine in ten are at most this.
    pub(crate) p90_ms: f64,
    /// Ninety-nine in a hundred are at most this.
    pub(crate) p99_ms: f64,
    /// The largest.
    pub(crate) max_ms: f64,
}

impl Quantiles {
    /// The quantiles of durations in units of 10 µs; none of an empty list.
    pub(crate) fn of_ticks(mut values: Vec<u32>) -> Option<Self> {
        values.sort_unstable();
        let at = |percent| quantile(&values, percent).map(|ticks| f64::from(ticks) / 100.0);
        Some(Self {
            count: values.len(),
            p50_ms: at(50)?,
            p90_ms: at(90)?,
            p99_ms: at(99)?,
            max_ms: at(100)?,
        })
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms
        )
    }
}

/// The smallest value that at least `percent` of the sorted values do not exceed (nearest rank).
pub(crate) fn quantile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

impl Report {
    /// Puts the figures together.
    pub(crate) fn new(load: &Load, sending: Duration, tally: &Tally, seen: &Followed) -> Self {
        let warm = u32::try_from(load.warmup.as_micros() / 10).unwrap_or(u32::MAX);
        let measured: Vec<Sent> = tally.sent.iter().copied().filter(|s| s.at >= warm).collect();
        let answer = measured.iter().map(|sent| sent.answered.saturating_sub(sent.at)).collect();
        let answer = Quantiles::of_ticks(answer);
        let (latency, latency_of) = match load.method {
            Method::Commit => (answer, "send to the answer of broadcast_tx_commit"),
            Method::Sync | Method::Async => {
                (latency_to_block(&measured, &seen.sample), "send to the block seen")
            }
        };
        let loaded: Vec<BlockSeen> = seen.blocks.iter().copied().filter(|b| b.txs > 0).collect();
        let committed = loaded.iter().map(|block| block.txs).sum();
        Self {
            setting: setting(load),
            sending_s: sending.as_secs_f64(),
            accepted: u64::try_from(tally.sent.len()).unwrap_or(u64::MAX),
            rejected: tally.rejected.clone(),
            loader_cpu_s: tally.cpu.as_secs_f64(),
            late: tally.late,
            committed,
            heights: loaded.first().zip(loaded.last()).map(|(a, b)| (a.height, b.height)),
            tx_per_s: sustained(&loaded, warm),
            overall_tx_per_s: loaded.last().and_then(|last| per_second(committed, last.arrived)),
            latency,
            latency_of: latency_of.to_owned(),
            answer,
            block_interval: intervals(&seen.blocks, &loaded, warm),
            block_txs_max: loaded.iter().map(|block| block.txs).max().unwrap_or(0),
            follow_failures: seen.failures,
        }
    }
}

fn setting(load: &Load) -> String {
    let pace = match load.rate {
        0 => "as fast as answers come".to_owned(),
        rate => format!("{rate} tx/s"),
    };
    format!(
        "{} x {} bytes, {pace}, {} kept-alive HTTP connections to {} node(s), warm-up {:.0} s",
        load.method.route(),
        load.size_bytes,
        load.connections * load.endpoints.len(),
        load.endpoints.len(),
        load.warmup.as_secs_f64(),
    )
}

/// Transactions of the blocks after the first loaded one, over the time from it to the last.
fn sustained(loaded: &[BlockSeen], warm: u32) -> Option<f64> {
    let mut blocks = loaded.iter().filter(|block| block.arrived >= warm);
    let first = blocks.next()?;
    let (txs, end) = blocks.fold((0, first.arrived), |(txs, _), b| (txs + b.txs, b.arrived));
    per_second(txs, end - first.arrived)
}

fn per_second(txs: u64, ticks: u32) -> Option<f64> {
    let txs = f64::from(u32::try_from(txs).ok()?);
    (ticks > 0).then(|| txs / (f64::from(ticks) / 100_000.0))
}

fn latency_to_block(measured: &[Sent], sample: &[(u32, u32)]) -> Option<Quantiles> {
    let mut sent: Vec<(u32, u32)> = measured.iter().map(|sent| (sent.number, sent.at)).collect();
    sent.sort_unstable();
    let at = |number| sent.binary_search_by_key(&number, |(number, _)| *number).ok();
    let latencies = sample.iter().filter_map(|(number, arrived)| {
        let (_, at) = sent.get(at(*number)?)?;
        Some(arrived.saturating_sub(*at))
    });
    Quantiles::of_ticks(latencies.collect())
}

/// Times between consecutive blocks from the first to the last loaded one after the warm-up.
///
/// Blocks that one look at the chain found together count as one interval for all.
fn intervals(blocks: &[BlockSeen], loaded: &[BlockSeen], warm: u32) -> Option<Quantiles> {
    let first = loaded.iter().find(|block| block.arrived >= warm)?;
    let last = loaded.last()?;
    let range = blocks.iter().filter(|b| b.height >= first.height && b.height <= last.height);
    let arrivals: Vec<u32> = range.map(|block| block.arrived).collect();
    let gaps = arrivals.windows(2).map(|two| match two {
        [a, b] => b - a,
        _ => 0,
    });
    Quantiles::of_ticks(gaps.collect())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "load        {}", self.setting)?;
        let rejected: u64 = self.rejected.values().sum();
        writeln!(f, "accepted    {} in {:.1} s of sending", self.accepted, self.sending_s)?;
        writeln!(f, "rejected    {rejected}")?;
        for (reason, count) in &self.rejected {
            writeln!(f, "            {count} x {reason}")?;
        }
        if self.late > 0 {
            writeln!(f, "late        {} sends over 10 ms behind the schedule", self.late)?;
        }
        writeln!(
            f,
            "loader      {:.2} s of processor time: {:.0} % of a core",
            self.loader_cpu_s,
            self.loader_cpu_s / self.sending_s * 100.0
        )?;
        match self.heights {
            Some((from, to)) => {
                writeln!(f, "committed   {} in heights {from} to {to}", self.committed)?;
            }
            None => writeln!(f, "committed   0: no block with transactions was seen")?,
        }
        let missing = self.accepted.saturating_sub(self.committed);
        if missing > 0 {
            writeln!(f, "missing     {missing} accepted, but in no block when watching ended")?;
        }
        if let Some(rate) = self.tx_per_s {
            write!(f, "sustained   {rate:.0} tx/s between the first and last loaded block after ")?;
            writeln!(f, "the warm-up")?;
        }
        if let Some(rate) = self.overall_tx_per_s {
            writeln!(f, "overall     {rate:.0} tx/s from the first send to the last loaded block")?;
        }
        if let Some(latency) = self.latency {
            let of = &self.latency_of;
            writeln!(f, "latency     {latency} ({of}, {} transactions)", latency.count)?;
        }
        if let Some(answer) = self.answer.filter(|_| self.latency != self.answer) {
            writeln!(f, "answer      {answer} (send to the answer)")?;
        }
        if let Some(interval) = self.block_interval {
            write!(f, "blocks      interval median {:.1} ms, ", interval.p50_ms)?;
            write!(f, "max {:.1} ms, at most {} txs", interval.max_ms, self.block_txs_max)?;
            writeln!(f, " ({} intervals)", interval.count)?;
        }
        if self.follow_failures > 0 {
            writeln!(f, "warning     {} calls failed while following", self.follow_failures)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values: Vec<u32> = (1..=100).collect();
        for percent in [1, 50, 90, 99, 100] {
            let rank = u32::try_from(percent).expect("small");
            assert_eq!(quantile(&values, percent), Some(rank));
        }
        assert_eq!(quantile(&[7], 1), Some(7));
        assert_eq!(quantile(&[7], 100), Some(7));
        assert_eq!(quantile(&[1, 2, 3], 50), Some(2));
        assert_eq!(quantile::<u32>(&[], 50), None);
        assert_eq!(Quantiles::of_ticks(Vec::new()), None);
        let one = Quantiles::of_ticks(vec![300, 100, 200]).expect("values");
        assert_eq!((one.p50_ms, one.max_ms, one.count), (2.0, 3.0, 3));
    }

    fn block(height: u64, arrived: u32, txs: u64) -> BlockSeen {
        BlockSeen { height, arrived, txs, size_bytes: 0 }
    }

    #[test]
    fn sustained_leaves_out_the_warm_up_and_the_first_loaded_block() {
        let loaded =
            [block(1, 0, 9), block(2, 100_000, 50), block(3, 150_000, 30), block(5, 300_000, 20)];
        assert_eq!(sustained(&loaded, 50_000), Some(25.0));
        assert_eq!(sustained(&loaded[..1], 0), None);
        assert_eq!(sustained(&[], 0), None);
    }

    #[test]
    fn latency_joins_sends_with_the_blocks_they_were_seen_in() {
        let sent = |number, at| Sent { number, at, answered: at };
        let sample = [(1, 700), (2, 700), (9, 800)];
        let latency = latency_to_block(&[sent(2, 600), sent(1, 500)], &sample).expect("two");
        assert_eq!((latency.count, latency.p50_ms, latency.max_ms), (2, 1.0, 2.0));
    }
}
