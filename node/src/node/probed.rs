//! The journal, with [`Probe`] hearing of decisions.

use crate::engine::outside::Records;
use crate::probe::{Point, Probe};
use crate::store::{Journal, StoreError};
use tendermint::block::Height;
use tercet_consensus::record::Record;

/// A journal that tells when a decision comes and when it is durable.
pub(super) struct Probed {
    pub(super) journal: Journal,
    pub(super) probe: Probe,
}

impl Records for Probed {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let decides = records.iter().any(|record| matches!(record, Record::Decided { .. }));
        if decides {
            self.probe.reach(Point::Decided);
        }
        Records::append(&mut self.journal, records)?;
        if decides {
            self.probe.reach(Point::Journaled);
        }
        Ok(())
    }

    fn records(&self, height: Height) -> Result<Vec<Record>, StoreError> {
        Records::records(&self.journal, height)
    }

    fn last_height(&self) -> Result<Option<Height>, StoreError> {
        Records::last_height(&self.journal)
    }

    fn prune_below(&mut self, height: Height) -> Result<(), StoreError> {
        Records::prune_below(&mut self.journal, height)
    }

    fn reserved(&self) -> Option<Height> {
        Records::reserved(&self.journal)
    }

    fn reserve(&mut self, upto: Height) -> Result<(), StoreError> {
        Records::reserve(&mut self.journal, upto)
    }
}
