//! Light blocks by how far they are trusted: [`UntrustedBlock`] as it came, [`BoundBlock`] whose parts belong together,
//! [`TrustedBlock`] that was verified. Each step takes the one before, so none can be left out.

use crate::commit::{Commit, Entry};
use crate::hash::Hash;
use crate::header::{Header, Height};
use crate::verify::Invalid;
use std::sync::Arc;
use tercet_consensus::validators::{Validator, Validators, ValidatorsError};

/// A header with its commit and validators, as somebody sent them.
#[derive(Clone, Debug)]
pub struct UntrustedBlock {
    /// The header.
    pub header: Header,
    /// The commit for it.
    pub commit: Commit,
    /// The validators of its height. That they are in this type says that each address is that of its key.
    pub validators: Arc<Validators>,
    /// The validators of the next height. Where there are none and the header says that they do not change, they are the same.
    pub next_validators: Option<Arc<Validators>>,
}

/// A light block whose parts belong together: validators and next validators by the header's hashes, the commit by the hash of the
/// header. Nothing says yet that its validators are those of the chain or that their signatures are good.
#[derive(Clone, Debug)]
pub struct BoundBlock {
    header: Header,
    hash: Hash,
    commit: Commit,
    validators: Arc<Validators>,
    next_validators: Option<Arc<Validators>>,
}

impl UntrustedBlock {
    /// Reads the validators of a light block, in Tendermint's type; their stated addresses must be the derived ones.
    ///
    /// # Errors
    /// Where they are no validator set.
    pub fn validators(
        infos: &[tendermint::validator::Info],
    ) -> Result<Arc<Validators>, ValidatorsError> {
        Validators::from_tendermint(infos).map(Arc::new)
    }

    /// Checks that the parts belong together, in the order of `verify_validator_sets` of `tendermint-light-client-verifier`.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn bind(self) -> Result<BoundBlock, Invalid> {
        let UntrustedBlock { header, commit, validators, next_validators } = self;
        if Hash::from_tendermint(validators.hash()) != Some(header.validators_hash()) {
            return Err(Invalid::ValidatorsHash);
        }
        let next_validators = next_validators.or_else(|| {
            let same = header.validators_hash() == header.next_validators_hash();
            same.then(|| Arc::clone(&validators))
        });
        if let Some(next) = &next_validators
            && Hash::from_tendermint(next.hash()) != Some(header.next_validators_hash())
        {
            return Err(Invalid::NextValidatorsHash);
        }
        let hash = header.hash();
        if hash != commit.block_id.hash {
            return Err(Invalid::CommitHash);
        }
        if header.height() != commit.height {
            return Err(Invalid::CommitHeight);
        }
        check_commit(&commit, &validators)?;
        Ok(BoundBlock { header, hash, commit, validators, next_validators })
    }
}

/// Somebody is present, there is one entry a validator, and all of them are validators.
fn check_commit(commit: &Commit, validators: &Validators) -> Result<(), Invalid> {
    if commit.entries.iter().all(Option::is_none) {
        return Err(Invalid::NobodySigned);
    }
    if commit.entries.len() != validators.count() {
        return Err(Invalid::CommitLength);
    }
    // Nearly always everybody is in the place of the validator.
    let known = |(place, entry): (&Validator, &Option<Entry>)| {
        entry.is_none_or(|entry| {
            entry.address == place.address || validators.index_of(&entry.address).is_some()
        })
    };
    if validators.list().iter().zip(&commit.entries).all(known) {
        Ok(())
    } else {
        Err(Invalid::UnknownSigner)
    }
}

impl BoundBlock {
    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The hash of the header.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Its height.
    #[must_use]
    pub fn height(&self) -> Height {
        self.header.height()
    }

    /// The commit.
    #[must_use]
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// The validators of its height.
    #[must_use]
    pub fn validators(&self) -> &Arc<Validators> {
        &self.validators
    }

    /// The validators of the next height, where they were given.
    #[must_use]
    pub fn next_validators(&self) -> Option<&Arc<Validators>> {
        self.next_validators.as_ref()
    }
}

/// A light block that is trusted: the root, or verified from another one. Later blocks are verified from it.
#[derive(Clone, Debug)]
pub struct TrustedBlock {
    block: BoundBlock,
    next_validators: Arc<Validators>,
}

impl TrustedBlock {
    /// Only [`crate::verify`] and the check of the root call this.
    pub(crate) fn new(block: BoundBlock) -> Result<TrustedBlock, Invalid> {
        let next_validators = block.next_validators.clone().ok_or(Invalid::NextValidatorsHash)?;
        Ok(TrustedBlock { block, next_validators })
    }

    /// A block that was trusted before and has been kept since: its hash is checked, its signatures are not again.
    ///
    /// # Errors
    /// Where its parts do not belong together, it is not the block `hash`, or it lacks the next validators.
    pub fn restore(block: UntrustedBlock, hash: Hash) -> Result<TrustedBlock, Invalid> {
        let block = block.bind()?;
        if block.hash() != hash {
            return Err(Invalid::CommitHash);
        }
        TrustedBlock::new(block)
    }

    /// A block of which only the next validators are known, as test suites have them: trusted as it is.
    ///
    /// # Errors
    /// Where the next validators are not those that the header names, or the commit is for another header.
    #[cfg(any(test, feature = "testing"))]
    pub fn assume(
        header: Header,
        commit: Commit,
        next_validators: Arc<Validators>,
    ) -> Result<TrustedBlock, Invalid> {
        if Hash::from_tendermint(next_validators.hash()) != Some(header.next_validators_hash()) {
            return Err(Invalid::NextValidatorsHash);
        }
        let hash = header.hash();
        if hash != commit.block_id.hash {
            return Err(Invalid::CommitHash);
        }
        let validators = Arc::clone(&next_validators);
        let next = Some(Arc::clone(&next_validators));
        let block = BoundBlock { header, hash, commit, validators, next_validators: next };
        Ok(TrustedBlock { block, next_validators })
    }

    /// The validators of the next height, which are those that the header names.
    #[must_use]
    pub fn next_validators(&self) -> &Arc<Validators> {
        &self.next_validators
    }
}

impl std::ops::Deref for TrustedBlock {
    type Target = BoundBlock;
    fn deref(&self) -> &BoundBlock {
        &self.block
    }
}
