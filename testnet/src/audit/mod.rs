//! The audit of a chain: reads every node and looks for anything that must never be.
//!
//! - The same block and application hash at every height that the nodes share, and the same
//!   application hash computed by each of them at the highest.
//! - Every header names the block before it.
//! - Every commit that any node serves is accepted by `tendermint-light-client-verifier`, from the
//!   lowest height one by one, and in jumps (random ones, and one over each change of the validator
//!   set) exactly where more than 1/3 of the trusted set still signs (`light`). Every single
//!   signature in it is good.
//! - No two signatures of one validator for one height and view over different blocks
//!   (`signatures`).
//! - No evidence in any block: the header commits to an empty list.
//! - No line in a log that says that a node called its application out of order (`order`).

mod light;
mod order;
mod signatures;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tendermint::block::signed_header::SignedHeader;

use crate::rpc::{Rpc, RpcError, host_port};
use light::Light;
use signatures::Signatures;

/// Heights that are read from a node before they are compared.
const CHUNK: u64 = 64;
/// Findings that are told; more are only counted.
pub(crate) const FINDINGS_MAX: usize = 200;
/// Heights between two lines of progress.
const PROGRESS: u64 = 2_000;

/// What to audit.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    /// How the nodes are called, with their RPC addresses.
    pub(crate) nodes: Vec<(String, String)>,
    /// The logs of those that run on this machine.
    pub(crate) logs: Vec<(String, PathBuf)>,
    /// Jumps of the light client to try.
    pub(crate) jumps: usize,
    /// Seed of their choice.
    pub(crate) seed: u64,
    /// Whether to show progress.
    pub(crate) progress: bool,
}

/// Why a chain could not be audited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// A node does not answer.
    #[error("{0} cannot be read: an audit needs every node running")]
    Node(String, #[source] RpcError),
    /// The nodes have no block in common.
    #[error("the nodes share no block: lowest {from}, highest {to}; wait until all have committed")]
    NothingShared {
        /// Highest of the lowest heights.
        from: u64,
        /// Lowest of the highest heights.
        to: u64,
    },
    /// There is no node to read.
    #[error("no node to audit: give --endpoints or --dir of a running network")]
    NoNodes,
}

/// What the audit found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// One line each.
    pub(crate) lines: Vec<String>,
    /// How many more there are.
    pub(crate) more: u64,
    /// What was read.
    pub(crate) summary: String,
}

impl Findings {
    /// Whether all is well.
    pub(crate) fn clean(&self) -> bool {
        self.lines.is_empty()
    }

    fn add(&mut self, line: String) {
        if self.lines.len() < FINDINGS_MAX {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "FINDING {line}")?;
        }
        if self.more > 0 {
            writeln!(f, "FINDING and {} more", self.more)?;
        }
        let verdict = if self.clean() { "audit clean" } else { "audit FAILED" };
        write!(f, "{verdict}: {}", self.summary)
    }
}

/// A node under audit.
struct Witness {
    name: String,
    rpc: Rpc,
}

#[derive(Deserialize)]
struct CommitReply {
    signed_header: SignedHeader,
}

#[derive(Deserialize)]
struct ResultsReply {
    app_hash: Option<String>,
}

impl Witness {
    async fn commits(&mut self, from: u64, to: u64) -> Result<Vec<Box<RawValue>>, AuditError> {
        let mut commits = Vec::new();
        for height in from..=to {
            let params = json!({"height": height.to_string()});
            let commit = self.rpc.call("commit", params).await;
            commits.push(commit.map_err(|error| AuditError::Node(self.name.clone(), error))?);
        }
        Ok(commits)
    }

    async fn range(&mut self) -> Result<(u64, u64), AuditError> {
        let status = self.rpc.status().await;
        let info = status.map_err(|error| AuditError::Node(self.name.clone(), error))?.sync_info;
        Ok((info.earliest_block_height.max(1), info.latest_block_height))
    }

    /// The application hash that this node computed at `height`, where it tells.
    async fn computed_app_hash(&mut self, height: u64) -> Option<Vec<u8>> {
        let params = json!({"height": height.to_string()});
        let reply: ResultsReply = self.rpc.call("block_results", params).await.ok()?;
        STANDARD.decode(reply.app_hash?).ok()
    }
}

/// Reads every node and compares.
pub(crate) async fn run(audit: &Audit) -> Result<Findings, AuditError> {
    let mut witnesses = Vec::new();
    for (name, address) in &audit.nodes {
        let endpoint = host_port(address).map_err(|e| AuditError::Node(name.clone(), e))?;
        witnesses.push(Witness { name: name.clone(), rpc: Rpc::new(&endpoint) });
    }
    let (from, to) = shared_range(&mut witnesses).await?;
    let mut findings = Findings::default();
    let mut light = Light::new(audit.jumps, audit.seed, from, to);
    let mut commits = 0;
    let mut at = from;
    while at <= to {
        let end = to.min(at + CHUNK - 1);
        let replies = join_all(witnesses.iter_mut().map(|w| w.commits(at, end))).await;
        let replies = replies.into_iter().collect::<Result<Vec<_>, _>>()?;
        for (height, offset) in (at..=end).zip(0..) {
            let column: Vec<&RawValue> =
                replies.iter().filter_map(|r| r.get(offset)).map(AsRef::as_ref).collect();
            let distinct = distinct(height, &column, &witnesses, &mut findings);
            commits += distinct.len();
            check_height(height, &distinct, &mut witnesses, &mut light, &mut findings).await?;
        }
        if audit.progress && (end - from) / PROGRESS != (at - from) / PROGRESS {
            let _ = writeln!(std::io::stderr(), "audit: height {end} of {to}");
        }
        at = end + 1;
    }
    let (jumps, changes) = (light.jumps(&mut findings), light.changes());
    same_computed_hash(to, &mut witnesses, &mut findings).await;
    order::check(&audit.logs, &mut findings);
    findings.summary = format!(
        "{} node(s), heights {from} to {to}, {commits} commits and {} signatures verified, \
         {jumps} light client jumps, {changes} jumps over changes of the validator set tried",
        witnesses.len(),
        light.signatures,
    );
    Ok(findings)
}

async fn shared_range(witnesses: &mut [Witness]) -> Result<(u64, u64), AuditError> {
    if witnesses.is_empty() {
        return Err(AuditError::NoNodes);
    }
    let (mut from, mut to) = (1, u64::MAX);
    for witness in witnesses {
        let (earliest, latest) = witness.range().await?;
        from = from.max(earliest);
        to = to.min(latest);
    }
    if from > to { Err(AuditError::NothingShared { from, to }) } else { Ok((from, to)) }
}

/// The different answers for one height, each with the first node that gave it.
fn distinct(
    height: u64,
    column: &[&RawValue],
    witnesses: &[Witness],
    findings: &mut Findings,
) -> Vec<(usize, SignedHeader)> {
    let mut distinct: Vec<(usize, SignedHeader)> = Vec::new();
    let mut texts: Vec<&str> = Vec::new();
    for ((index, raw), witness) in column.iter().enumerate().zip(witnesses) {
        if texts.contains(&raw.get()) {
            continue;
        }
        texts.push(raw.get());
        match serde_json::from_str::<CommitReply>(raw.get()) {
            Ok(reply) if reply.signed_header.header.height.value() == height => {
                distinct.push((index, reply.signed_header));
            }
            Ok(reply) => {
                let other = reply.signed_header.header.height;
                findings.add(format!("height {height}: {} answers with {other}", witness.name));
            }
            Err(error) => {
                findings.add(format!("height {height}: {} serves no commit: {error}", witness.name))
            }
        }
    }
    distinct
}

async fn check_height(
    height: u64,
    distinct: &[(usize, SignedHeader)],
    witnesses: &mut [Witness],
    light: &mut Light,
    findings: &mut Findings,
) -> Result<(), AuditError> {
    let Some((first, reference)) = distinct.first() else { return Ok(()) };
    let name = |index: usize| witnesses.get(index).map_or("?", |w| w.name.as_str()).to_owned();
    let first_name = name(*first);
    for (index, other) in distinct {
        let (block, expected) = (&other.commit.block_id, &reference.commit.block_id);
        if block != expected {
            findings.add(format!(
                "height {height}: fork: {} has block {}, {first_name} has {}",
                name(*index),
                block.hash,
                expected.hash
            ));
        }
        if other.header.app_hash != reference.header.app_hash {
            findings.add(format!(
                "height {height}: application hash {} at {}, {} at {first_name}",
                other.header.app_hash,
                name(*index),
                reference.header.app_hash
            ));
        }
        if other.header.evidence_hash.is_some_and(|hash| hash.as_bytes() != empty_hash()) {
            findings.add(format!("height {height}: evidence in the block of {}", name(*index)));
        }
    }
    let mut signatures = Signatures::default();
    for (index, signed) in distinct {
        let Some(witness) = witnesses.get_mut(*index) else { continue };
        let sets = match light.sets(&mut witness.rpc, signed).await {
            Ok(sets) => sets,
            Err(error) => {
                findings.add(format!("height {height}: validators at {}: {error}", witness.name));
                continue;
            }
        };
        if let Err(reason) = light.verify(signed, &sets, index == first) {
            findings.add(format!("height {height}: commit of {}: {reason}", witness.name));
        }
        light.signatures += signatures.note(signed, &sets.validators, &witness.name, findings);
    }
    Ok(())
}

/// SHA-256 of nothing: what a header says of an empty list.
fn empty_hash() -> Vec<u8> {
    Sha256::digest([]).to_vec()
}

async fn same_computed_hash(height: u64, witnesses: &mut [Witness], findings: &mut Findings) {
    let mut expected: Option<(String, Vec<u8>)> = None;
    for witness in witnesses {
        let Some(hash) = witness.computed_app_hash(height).await else { continue };
        match &expected {
            None => expected = Some((witness.name.clone(), hash)),
            Some((_, first)) if *first == hash => {}
            Some((name, first)) => findings.add(format!(
                "height {height}: {} computed application hash {}, {name} {}",
                witness.name,
                hex::encode_upper(&hash),
                hex::encode_upper(first)
            )),
        }
    }
}
