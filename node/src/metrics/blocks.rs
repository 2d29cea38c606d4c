//! The blocks since the last time, each counted once.

use super::figures::{Blocks, OfValidator, whole};
use crate::rpc::sources::Sources;
use tendermint::Time;
use tendermint::block::Height;
use tercet_consensus::key::Address;

/// The most blocks that one question reads; where more have come, the oldest of them are in no figure.
const WALK_MAX: u64 = 20_000;

/// How far the chain was read.
pub(super) struct Walk {
    last: Option<Height>,
    last_time: Option<Time>,
}

impl Walk {
    /// Reads what comes after `last`.
    pub(super) fn from(last: Option<Height>) -> Walk {
        Walk { last, last_time: None }
    }

    /// Counts the blocks that have come.
    pub(super) fn go_on(
        &mut self,
        sources: &Sources,
        figures: &Blocks,
        me: &Address,
    ) -> Result<(), String> {
        let (Some(base), Some(top)) = (sources.blocks.base(), sources.blocks.height()) else {
            return Ok(());
        };
        figures.latest_block_height.set(whole(top.value()));
        let next = self.last.map_or(base.value(), |last| last.value() + 1);
        let first = next.max(base.value()).max((top.value() + 1).saturating_sub(WALK_MAX));
        figures.left_out.inc_by(first.saturating_sub(next));
        for height in first..=top.value() {
            let height = Height::try_from(height).map_err(|error| error.to_string())?;
            self.block(height, sources, figures)?;
            self.signatures(height, sources, figures, me)?;
            self.last = Some(height);
        }
        Ok(())
    }

    fn block(&mut self, height: Height, sources: &Sources, figures: &Blocks) -> Result<(), String> {
        // One that was pruned meanwhile counts no more.
        let Some(meta) = sources.blocks.meta(height)? else { return Ok(()) };
        let time = meta.header.time;
        if let Some(before) = self.last_time.replace(time)
            && let Ok(interval) = time.duration_since(before)
        {
            figures.interval_seconds.observe(interval.as_secs_f64());
        }
        figures.num_txs.set(whole(meta.num_txs));
        figures.total_txs.inc_by(whole(meta.num_txs));
        figures.size_bytes.set(whole(meta.size_bytes));
        figures.chain_size_bytes.inc_by(meta.size_bytes as u64);
        Ok(())
    }

    /// Who signed the commit that stands in the block at `height`.
    fn signatures(
        &self,
        height: Height,
        sources: &Sources,
        figures: &Blocks,
        me: &Address,
    ) -> Result<(), String> {
        let Ok(signed) = Height::try_from(height.value() - 1) else { return Ok(()) };
        let Some(commit) = sources.blocks.canonical_commit(signed)? else { return Ok(()) };
        let Some(set) = sources.blocks.validators(signed)? else { return Ok(()) };
        let (mut missing, mut power) = (0, 0_u64);
        for (index, _) in (0..).zip(&commit.signatures).filter(|(_, entry)| entry.is_none()) {
            missing += 1;
            power += set.power_at(index);
        }
        figures.missing_validators.set(missing);
        figures.missing_validators_power.set(whole(power));
        let Some(index) = set.index_of(me) else { return Ok(()) };
        let label = OfValidator { validator_address: me.to_string() };
        if commit.vote(index).is_some() {
            let last = figures.last_signed_height.get_or_create(&label);
            last.set(whole(signed.value()));
        } else {
            figures.missed_blocks.get_or_create(&label).inc();
        }
        Ok(())
    }
}
