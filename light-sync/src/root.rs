//! A root to begin with, for those who have none: what several providers say, compared. This is trust on first use: who controls
//! all that are asked, or the way to them, decides which chain is trusted.

use crate::provider::Provider;
use std::sync::Arc;
use std::time::Duration;
use tercet_light_core::hash::Hash;
use tercet_light_core::header::Height;
use tercet_light_core::planner::{Answer, Failure, What};
use tercet_light_core::time::Time;
use tercet_light_core::verify::{Signatures, verify_commits};

/// How long a provider may take for each question.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far below the lowest tip the height is that is proposed, so that all have it.
const BELOW_TIP: Height = 2;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The height.
    pub height: Height,
    /// What was said: chain, hash and time, and who said it; the most first.
    pub opinions: Vec<(Opinion, Vec<String>)>,
    /// Who said nothing that could be used, and why.
    pub silent: Vec<(String, String)>,
}

/// A block that two thirds of its own validators have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// The chain.
    pub chain_id: String,
    /// The hash of the header.
    pub hash: Hash,
    /// Its time.
    pub time: Time,
}

impl Proposal {
    /// What all who answered say, where they are at least two.
    #[must_use]
    pub fn agreed(&self) -> Option<&Opinion> {
        match self.opinions.as_slice() {
            [(opinion, by)] if by.len() > 1 => Some(opinion),
            _ => None,
        }
    }
}

/// Asks all for the block at `height`, or for a recent one that all should have.
pub async fn propose(providers: &[Arc<dyn Provider>], height: Option<Height>) -> Proposal {
    let mut proposal = Proposal { height: 0, opinions: vec![], silent: vec![] };
    let mut able = vec![];
    for provider in providers {
        match ask(provider, What::Status).await {
            Ok(Answer::Status(claim)) => able.push((provider, claim.last)),
            other => proposal.silent.push((provider.name().to_owned(), why(other.err()))),
        }
    }
    let lowest = able.iter().map(|(_, last)| *last).min().unwrap_or(0);
    proposal.height = height.unwrap_or_else(|| lowest.saturating_sub(BELOW_TIP).max(1));
    for (provider, _) in able {
        let name = provider.name().to_owned();
        match block(provider, proposal.height).await {
            Err(why) => proposal.silent.push((name, why)),
            Ok(opinion) => match proposal.opinions.iter_mut().find(|(o, _)| *o == opinion) {
                Some((_, by)) => by.push(name),
                None => proposal.opinions.push((opinion, vec![name])),
            },
        }
    }
    proposal.opinions.sort_by_key(|(_, by)| std::cmp::Reverse(by.len()));
    proposal
}

async fn ask(provider: &Arc<dyn Provider>, what: What) -> Result<Answer, Failure> {
    let reply = provider.ask(&what, what.bytes_max());
    tokio::time::timeout(PATIENCE, reply).await.unwrap_or(Err(Failure::Unavailable))
}

fn why(failure: Option<Failure>) -> String {
    match failure {
        Some(Failure::NotYet) => "it does not have this height yet".to_owned(),
        Some(Failure::Gone) => "it does not have this height any more".to_owned(),
        Some(Failure::Malformed(fault)) => fault.to_string(),
        Some(Failure::Busy(_)) => "it is busy".to_owned(),
        _ => "it did not answer".to_owned(),
    }
}

async fn block(provider: &Arc<dyn Provider>, height: Height) -> Result<Opinion, String> {
    let block = match ask(provider, What::Block(Some(height))).await {
        Ok(Answer::Block(block)) if block.header.height() == height => block,
        Ok(_) => return Err("it sent another block".to_owned()),
        Err(failure) => return Err(why(Some(failure))),
    };
    let bound = block.bind().map_err(|error| error.to_string())?;
    let header = bound.header().clone();
    let verdict = verify_commits(&[bound], Signatures::Quorum).pop();
    verdict.unwrap_or(Ok(())).map_err(|error| error.to_string())?;
    let chain_id = String::from_utf8_lossy(header.chain_id()).into_owned();
    Ok(Opinion { chain_id, hash: header.hash(), time: header.time() })
}
