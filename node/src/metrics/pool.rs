//! CometBFT's figures of transactions that wait (`mempool/metrics.go`), read from the pool's own counts.

use crate::rpc::sources::{POOL_SIZES, Pool, PoolCounts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::fmt;
use std::sync::Arc;

/// The figures.
pub(super) struct OfPool(pub(super) Arc<dyn Pool>);

impl fmt::Debug for OfPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfPool")
    }
}

impl Collector for OfPool {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let PoolCounts { failed, rejected, evicted, rechecked, sizes, size_sum } = self.0.counts();
        for (name, help, count) in [
            (
                "failed_txs",
                "Transactions that the application refused, or the gas of a block",
                failed,
            ),
            ("rejected_txs", "Transactions that found no room", rejected),
            ("evicted_txs", "Transactions that waited and became invalid or too old", evicted),
            ("recheck_times", "Checks of transactions that waited already", rechecked),
        ] {
            let counter = ConstCounter::new(count);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let bounds =
            POOL_SIZES.iter().map(|most| u32::try_from(*most).map_or(f64::INFINITY, f64::from));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(sizes).collect();
        let help = "Bytes of transactions that were taken";
        let mut metric =
            encoder.encode_descriptor("tx_size_bytes", help, None, MetricType::Histogram)?;
        #[expect(clippy::cast_precision_loss, reason = "a sum of nine million gigabytes")]
        let sum = size_sum as f64;
        metric.encode_histogram::<NoLabelSet>(sum, sizes.iter().sum(), &buckets, None)
    }
}
