//! The order as a state machine.

use crate::application::Role;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// The blocks that are remembered, the last of them, to see that each height has one.
const BLOCKS_MAX: usize = 10_000;

/// A call whose place matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Once a chain.
    InitChain {
        /// The height of its first block.
        initial_height: i64,
    },
    /// A snapshot of a peer.
    OfferSnapshot,
    /// A part of it.
    ApplySnapshotChunk,
    /// A block is to be built, of this height.
    PrepareProposal(i64),
    /// A block of this height is to be judged.
    ProcessProposal(i64),
    /// A COMMIT of this height is to be extended.
    ExtendVote(i64),
    /// The extension of another COMMIT of this height.
    VerifyVoteExtension(i64),
    /// A decided block.
    FinalizeBlock {
        /// Its height.
        height: i64,
        /// Its hash.
        hash: Bytes,
    },
    /// What it did is to be kept.
    Commit,
}

impl Call {
    /// The ABCI method.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Call::InitChain { .. } => "InitChain",
            Call::OfferSnapshot => "OfferSnapshot",
            Call::ApplySnapshotChunk => "ApplySnapshotChunk",
            Call::PrepareProposal(_) => "PrepareProposal",
            Call::ProcessProposal(_) => "ProcessProposal",
            Call::ExtendVote(_) => "ExtendVote",
            Call::VerifyVoteExtension(_) => "VerifyVoteExtension",
            Call::FinalizeBlock { .. } => "FinalizeBlock",
            Call::Commit => "Commit",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method())?;
        match self {
            Call::PrepareProposal(height)
            | Call::ProcessProposal(height)
            | Call::ExtendVote(height)
            | Call::VerifyVoteExtension(height)
            | Call::FinalizeBlock { height, .. } => write!(f, " of height {height}"),
            _ => Ok(()),
        }
    }
}

/// A call that the order does not allow where it comes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disorder {
    /// A start begins with `Info`, or with `InitChain` where the chain is new.
    #[error("{0} before the application was asked where it is (Info)")]
    BeforeInfo(Call),
    /// An application at height 0 knows no chain.
    #[error("{0} before InitChain, and the application is at height 0")]
    BeforeInit(Call),
    /// It knows one already.
    #[error("InitChain where the application goes on with height {next}")]
    InitAgain {
        /// The height that is next.
        next: i64,
    },
    /// Heights follow each other, and all calls of consensus are about the one that is next.
    #[error("{call} where height {next} is next")]
    Height {
        /// The call.
        call: Call,
        /// The height that is next.
        next: i64,
    },
    /// `FinalizeBlock` and `Commit` belong together.
    #[error("{call} between FinalizeBlock and Commit of height {height}")]
    Uncommitted {
        /// The call.
        call: Call,
        /// The executed height.
        height: i64,
    },
    /// There is nothing to commit.
    #[error("Commit without FinalizeBlock of height {next}")]
    NothingDecided {
        /// The height that is next.
        next: i64,
    },
    /// A height has one block.
    #[error("FinalizeBlock of height {height} with another block than before")]
    OtherBlock {
        /// The height.
        height: i64,
    },
    /// Snapshots are for applications that have executed nothing.
    #[error("OfferSnapshot where height {next} has begun")]
    LateSnapshot {
        /// The height that is next.
        next: i64,
    },
    /// Chunks belong to a snapshot that was accepted.
    #[error("ApplySnapshotChunk without a snapshot that was accepted")]
    NoSnapshot,
    /// What was restored is confirmed by `Info`.
    #[error("{0} before a snapshot was restored and confirmed (Info)")]
    Restoring(Call),
    /// Each method has its connection.
    #[error("{method} over the connection for {role}")]
    Role {
        /// The method.
        method: &'static str,
        /// The role of the connection.
        role: Role,
    },
}

/// Where the order is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The node has started, or has connected again.
    #[default]
    Start,
    /// The application said that it knows no chain.
    New,
    /// Snapshots are offered.
    Restoring {
        /// Whether the last one was accepted.
        accepted: bool,
        /// Whether a chunk of it was taken.
        begun: bool,
    },
    /// This height is next.
    Next {
        /// The height.
        height: i64,
        /// Whether nothing but `InitChain` was called yet.
        clean: bool,
    },
    /// The block of this height was executed.
    Decided(i64),
}

/// The order of the calls to one application.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    at: At,
    blocks: BTreeMap<i64, Bytes>,
}

impl Checker {
    /// The node starts, or has lost the application: it must ask where it is.
    pub fn begin(&mut self) {
        self.at = At::Start;
    }

    /// `Info` was answered with this height.
    pub fn told(&mut self, height: i64) {
        let known = At::Next { height: height.saturating_add(1), clean: false };
        self.at = match self.at {
            At::Start if height <= 0 => At::New,
            At::Start => known,
            At::Restoring { begun: true, .. } if height > 0 => known,
            at => at,
        };
    }

    /// `OfferSnapshot` was answered.
    pub fn offered(&mut self, accepted: bool) {
        if let At::Restoring { .. } = self.at {
            self.at = At::Restoring { accepted, begun: false };
        }
    }

    /// A call is made.
    ///
    /// # Errors
    /// Where the order does not allow it; nothing is changed then.
    pub fn call(&mut self, call: Call) -> Result<(), Disorder> {
        match call {
            Call::InitChain { initial_height } => self.init(initial_height),
            Call::OfferSnapshot => self.offer(),
            Call::ApplySnapshotChunk => self.apply(),
            Call::FinalizeBlock { height, ref hash } => {
                let hash = hash.clone();
                self.expects(&call, height)?;
                self.decide(height, hash)
            }
            Call::Commit => match self.at {
                At::Decided(height) => {
                    self.next(height.saturating_add(1), false);
                    Ok(())
                }
                At::Next { height: next, .. } => Err(Disorder::NothingDecided { next }),
                _ => self.expects(&call, 0),
            },
            Call::PrepareProposal(height)
            | Call::ProcessProposal(height)
            | Call::ExtendVote(height) => self.expects(&call, height).map(|()| self.begun()),
            // One that came late is about the height before.
            Call::VerifyVoteExtension(height) => {
                let late = At::Next { height: height.saturating_add(1), clean: false };
                let late = if self.at == late { height.saturating_add(1) } else { height };
                self.expects(&call, late).map(|()| self.begun())
            }
        }
    }

    fn next(&mut self, height: i64, clean: bool) {
        self.at = At::Next { height, clean };
    }

    fn begun(&mut self) {
        if let At::Next { clean, .. } = &mut self.at {
            *clean = false;
        }
    }

    fn init(&mut self, initial_height: i64) -> Result<(), Disorder> {
        let call = Call::InitChain { initial_height };
        match self.at {
            // A clean start, without a question before it.
            At::Start if self.blocks.is_empty() => {}
            At::New => {}
            At::Start => return Err(Disorder::BeforeInfo(call)),
            At::Next { height: next, .. } => return Err(Disorder::InitAgain { next }),
            At::Decided(height) => return Err(Disorder::Uncommitted { call, height }),
            At::Restoring { .. } => return Err(Disorder::Restoring(call)),
        }
        self.next(initial_height.max(1), true);
        Ok(())
    }

    fn offer(&mut self) -> Result<(), Disorder> {
        match self.at {
            At::Start | At::New | At::Restoring { .. } | At::Next { clean: true, .. } => {
                self.at = At::Restoring { accepted: false, begun: false };
                Ok(())
            }
            At::Next { height: next, .. } | At::Decided(next) => {
                Err(Disorder::LateSnapshot { next })
            }
        }
    }

    fn apply(&mut self) -> Result<(), Disorder> {
        match &mut self.at {
            At::Restoring { accepted: true, begun } => {
                *begun = true;
                Ok(())
            }
            _ => Err(Disorder::NoSnapshot),
        }
    }

    /// That a call of consensus is about the height that is next.
    fn expects(&self, call: &Call, height: i64) -> Result<(), Disorder> {
        let call = call.clone();
        match self.at {
            At::Next { height: next, .. } if next == height => Ok(()),
            At::Next { height: next, .. } => Err(Disorder::Height { call, next }),
            At::Decided(height) => Err(Disorder::Uncommitted { call, height }),
            At::Start => Err(Disorder::BeforeInfo(call)),
            At::New => Err(Disorder::BeforeInit(call)),
            At::Restoring { .. } => Err(Disorder::Restoring(call)),
        }
    }

    fn decide(&mut self, height: i64, hash: Bytes) -> Result<(), Disorder> {
        if self.blocks.get(&height).is_some_and(|before| *before != hash) {
            return Err(Disorder::OtherBlock { height });
        }
        self.blocks.insert(height, hash);
        if self.blocks.len() > BLOCKS_MAX {
            self.blocks.pop_first();
        }
        self.at = At::Decided(height);
        Ok(())
    }
}
