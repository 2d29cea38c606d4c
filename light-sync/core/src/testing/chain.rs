//! A chain that is generated: validators that rotate, headers that link, commits that are signed when somebody asks.

use super::content;
use crate::block::UntrustedBlock;
use crate::commit::{BlockId, Commit, Entry};
use crate::content::deterministic;
use crate::hash::Hash;
use crate::header::{Header, Height};
use crate::sign_bytes::SignBytes;
use crate::time::Time;
use ed25519_dalek::SigningKey;
use k256::ecdsa::signature::Signer as _;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tendermint_proto::v0_38::{types as pb, version as pb_version};
use tercet_consensus::key::{PublicKey, Signature};
use tercet_consensus::merkle;
use tercet_consensus::validators::Validators;

/// The number of a key; each has one.
pub type KeyNumber = u32;

/// How a chain is to be.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its id.
    pub chain_id: String,
    /// Its first height.
    pub first: Height,
    /// Its last height.
    pub last: Height,
    /// How many validators each height has.
    pub validators: u32,
    /// After how many heights validators change.
    pub rotate_every: u64,
    /// How many of them change then.
    pub rotate_count: u32,
    /// The time of the first block.
    pub start: Time,
    /// From block to block.
    pub interval: Duration,
    /// The power of every validator; where it is 0 they differ a little, so that the order of a set is not that of its keys.
    pub power: u64,
    /// Whether every third key is one of secp256k1.
    pub mixed: bool,
    /// Whether headers have the true hash of the commit below, for which every commit is signed at once.
    pub commits: bool,
    /// Whether headers have the true hashes of the blocks in [`super::content`].
    pub contents: bool,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            chain_id: "light-test".to_owned(),
            first: 1,
            last: 100,
            validators: 4,
            rotate_every: 1,
            rotate_count: 0,
            start: Time::from_unix(1_700_000_000, 123_456_789).expect("a valid time"),
            interval: Duration::from_millis(1_500),
            power: 0,
            mixed: false,
            commits: false,
            contents: false,
        }
    }
}

/// In what the blocks of a fork differ from those of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// The application state, which nobody can have computed.
    AppHash,
    /// The transactions.
    Data,
    /// The transactions, decided in another round.
    Round,
    /// The validators: keys that never were in the chain.
    Strangers,
    /// The time: so many seconds later.
    Later(u32),
}

/// A generated chain.
#[derive(Clone, Debug)]
pub struct Chain {
    /// How it was to be.
    pub spec: Spec,
    headers: Vec<Header>,
    hashes: Vec<Hash>,
    commits: Vec<Commit>,
    sets: BTreeMap<KeyNumber, Arc<Validators>>,
    /// From which height on it is a fork, and how.
    twist: Option<(Height, Twist)>,
}

const STRANGERS: KeyNumber = 1 << 20;

impl Chain {
    /// Generates a chain.
    #[must_use]
    pub fn new(spec: Spec) -> Chain {
        let (headers, hashes, commits) = (Vec::new(), Vec::new(), Vec::new());
        let mut chain =
            Chain { spec, headers, hashes, commits, sets: BTreeMap::new(), twist: None };
        chain.grow(chain.spec.last);
        chain
    }

    /// Adds blocks up to `last`.
    pub fn grow(&mut self, last: Height) {
        self.spec.last = last;
        while self.next() <= last {
            let height = self.next();
            let header = self.make_header(height);
            self.hashes.push(header.hash());
            self.headers.push(header);
            if self.spec.commits {
                let commit = self.sign(height, self.seats(height));
                self.commits.push(commit);
            }
        }
    }

    /// The same chain up to `from`, and from there on another, as long.
    #[must_use]
    pub fn fork(&self, from: Height, twist: Twist) -> Chain {
        let mut chain = self.clone();
        let kept = usize::try_from(from - self.spec.first).expect("a test's chain");
        chain.headers.truncate(kept);
        chain.hashes.truncate(kept);
        chain.commits.truncate(kept);
        chain.twist = Some((from, twist));
        chain.grow(self.spec.last);
        chain
    }

    fn next(&self) -> Height {
        self.spec.first + self.headers.len() as u64
    }

    fn twist_at(&self, height: Height) -> Option<Twist> {
        self.twist.filter(|(from, _)| height >= *from).map(|(_, twist)| twist)
    }

    /// The numbers of the keys of the validators of a height.
    #[must_use]
    pub fn keys(&self, height: Height) -> Vec<KeyNumber> {
        let turns = u32::try_from(height / self.spec.rotate_every).expect("a test's chain");
        let strangers = self.twist_at(height) == Some(Twist::Strangers);
        let first = turns * self.spec.rotate_count + if strangers { STRANGERS } else { 0 };
        let secp = |key: KeyNumber| if self.spec.mixed && key % 3 == 2 { SECP256K1 } else { 0 };
        (first..first + self.spec.validators).map(|key| key + secp(key)).collect()
    }

    /// The validators of a height.
    pub fn set(&mut self, height: Height) -> Arc<Validators> {
        let keys = self.keys(height);
        if let Some(set) = self.sets.get(&keys[0]) {
            return Arc::clone(set);
        }
        let members: Vec<_> = keys.iter().map(|key| (*key, self.power(*key))).collect();
        let set = Arc::new(set_of(&members));
        self.sets.insert(keys[0], Arc::clone(&set));
        set
    }

    fn power(&self, key: KeyNumber) -> u64 {
        if self.spec.power > 0 { self.spec.power } else { 10 + u64::from(key % 7) }
    }

    /// The numbers of the keys in the order of the set.
    #[must_use]
    pub fn seats(&self, height: Height) -> Vec<KeyNumber> {
        let mut keys = self.keys(height);
        keys.sort_by_key(|n| (std::cmp::Reverse(self.power(*n)), public(*n).address()));
        keys
    }

    fn make_header(&mut self, height: Height) -> Header {
        let index = height - self.spec.first;
        let twist = self.twist_at(height);
        let salted = |on: bool, n: u8| vec![if on { n ^ 0xff } else { n }; 32];
        let validators_hash = self.set(height).hash();
        let next_validators_hash = self.set(height + 1).hash();
        let last = self.hashes.last().copied();
        let late = if let Some(Twist::Later(seconds)) = twist { u64::from(seconds) } else { 0 };
        let passed = self.spec.interval * u32::try_from(index).expect("a test's chain");
        let time = self.spec.start.after(passed + Duration::from_secs(late));
        let last_commit =
            self.commits.last().map_or_else(|| vec![1; 32], |c| c.hash().as_bytes().to_vec());
        let header = pb::Header {
            version: Some(pb_version::Consensus { block: 11, app: 1 }),
            chain_id: self.spec.chain_id.clone(),
            height: height.cast_signed(),
            time: Some(time.to_proto()),
            last_block_id: last.map(|hash| pb::BlockId {
                hash: hash.as_bytes().to_vec(),
                part_set_header: Some(pb::PartSetHeader { total: 1, hash: vec![8; 32] }),
            }),
            last_commit_hash: last_commit,
            data_hash: salted(matches!(twist, Some(Twist::Data | Twist::Round)), 2),
            validators_hash: validators_hash.as_bytes().to_vec(),
            next_validators_hash: next_validators_hash.as_bytes().to_vec(),
            consensus_hash: vec![3; 32],
            app_hash: salted(twist == Some(Twist::AppHash), 4),
            last_results_hash: vec![5; 32],
            evidence_hash: vec![6; 32],
            proposer_address: public(self.seats(height)[0]).address().as_bytes().to_vec(),
        };
        let header = if self.spec.contents { self.with_contents(header) } else { header };
        Header::decode(header.encode_to_vec().into()).expect("a header")
    }

    fn with_contents(&self, mut header: pb::Header) -> pb::Header {
        let root = |leaves: &[Vec<u8>]| merkle::root(leaves).as_bytes().to_vec();
        let height = header.height.cast_unsigned();
        let (bytes, gas) = content::PARAMS;
        let params = pb::HashedParams { block_max_bytes: bytes, block_max_gas: gas };
        let sha = |bytes: &[u8]| Sha256::digest(bytes).to_vec();
        let results = content::results(height - 1);
        let results: Vec<_> = results.iter().map(|it| deterministic(it).encode_to_vec()).collect();
        if self.twist_at(height).is_none() {
            let txs: Vec<_> = content::txs(height).iter().map(|tx| sha(tx)).collect();
            header.data_hash = root(&txs);
            header.app_hash = content::app_hash(height - 1).as_bytes().to_vec();
        }
        header.consensus_hash = sha(&params.encode_to_vec());
        header.last_results_hash = root(&results);
        header.evidence_hash = root(&[]);
        header
    }

    /// The header of a height.
    #[must_use]
    pub fn header(&self, height: Height) -> &Header {
        &self.headers[usize::try_from(height - self.spec.first).expect("a test's chain")]
    }

    /// The hash of a height.
    #[must_use]
    pub fn hash(&self, height: Height) -> Hash {
        self.hashes[usize::try_from(height - self.spec.first).expect("a test's chain")]
    }

    /// The commit of a height, signed by all.
    #[must_use]
    pub fn commit(&self, height: Height) -> Commit {
        let kept =
            self.commits.get(usize::try_from(height - self.spec.first).unwrap_or(usize::MAX));
        kept.cloned().unwrap_or_else(|| self.sign(height, self.seats(height)))
    }

    /// Spoils the first signature of the commit of a height, and makes the chain from there on as if it were good.
    pub fn spoil_commit(&mut self, height: Height) {
        let kept = usize::try_from(height - self.spec.first).expect("a test's chain") + 1;
        let last = self.spec.last;
        self.headers.truncate(kept);
        self.hashes.truncate(kept);
        self.commits.truncate(kept);
        let entries = self.commits.last_mut().into_iter().flat_map(|commit| &mut commit.entries);
        if let Some(Some(entry)) = entries.into_iter().next() {
            entry.signature.0[40] ^= 1;
        }
        self.grow(last);
    }

    /// A commit of a height with one entry for each of `seats`, signed by these keys.
    #[must_use]
    pub fn sign(&self, height: Height, seats: Vec<KeyNumber>) -> Commit {
        let round = u32::from(self.twist_at(height) == Some(Twist::Round));
        sign(self.header(height), round, seats)
    }

    /// The light block of a height.
    pub fn block(&mut self, height: Height) -> UntrustedBlock {
        UntrustedBlock {
            header: self.header(height).clone(),
            commit: self.commit(height),
            validators: self.set(height),
            next_validators: Some(self.set(height + 1)),
        }
    }
}

/// A commit for a header, with one entry for each of `seats`, signed by these keys.
#[must_use]
pub fn sign(header: &Header, round: u32, seats: Vec<KeyNumber>) -> Commit {
    let block_id = BlockId { hash: header.hash(), parts: 1, parts_hash: Some(Hash::new([8; 32])) };
    let mut commit = Commit { height: header.height(), round, block_id, entries: vec![] };
    let mut bytes = SignBytes::new(header.chain_id(), &commit);
    let entry = |(n, key): (u32, KeyNumber)| {
        let time = header.time().after(Duration::from_millis(u64::from(n)));
        let signature = Signature(signature(key, bytes.at(time)));
        Some(Entry { for_block: true, address: public(key).address(), time, signature })
    };
    commit.entries = (0..).zip(seats).map(entry).collect();
    commit
}

/// The validator set of these keys and powers.
#[must_use]
pub fn set_of(members: &[(KeyNumber, u64)]) -> Validators {
    Validators::new(members.iter().map(|(key, power)| (public(*key), *power))).expect("a set")
}

/// Keys from this number on are secp256k1 keys.
pub const SECP256K1: KeyNumber = 1 << 24;

fn seed(key: KeyNumber) -> [u8; 32] {
    let mut seed = [0x5a; 32];
    seed[..4].copy_from_slice(&key.to_le_bytes());
    seed
}

fn secp256k1(key: KeyNumber) -> k256::ecdsa::SigningKey {
    k256::ecdsa::SigningKey::from_slice(&seed(key)).expect("a scalar of the curve")
}

/// The signature of a key.
#[must_use]
pub fn signature(key: KeyNumber, message: &[u8]) -> [u8; 64] {
    if key >= SECP256K1 {
        let signature: k256::ecdsa::Signature = secp256k1(key).sign(message);
        return signature.to_bytes().into();
    }
    let key = SigningKey::from_bytes(&seed(key));
    ed25519_dalek::Signer::sign(&key, message).to_bytes()
}

/// The public part of a key.
#[must_use]
pub fn public(key: KeyNumber) -> PublicKey {
    if key >= SECP256K1 {
        return PublicKey::Secp256k1(*secp256k1(key).verifying_key());
    }
    let key = SigningKey::from_bytes(&seed(key)).verifying_key();
    PublicKey::ed25519(key.as_bytes()).expect("a point of the curve")
}
