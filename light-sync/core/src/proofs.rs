//! Proofs of what an application answered, against the application hash of a header that is trusted. The state after block `h` is
//! named by the header of `h + 1`.
//!
//! The path of keys is built here from what was asked, never read from the proof (CometBFT `light/rpc/client.go`,
//! `DefaultMerkleKeyPathFn`; `crypto/merkle/proof_op.go`). There is one operation a key, from the innermost out:
//!
//! | Operation | What it shows |
//! |---|---|
//! | `ics23:iavl`, `ics23:simple`, `ics23:smt` | a key has a value, or, innermost only, it has none: [ICS-23](https://github.com/cosmos/ics23) with the specification of that tree |
//! | `simple:v` | a key has a value in a simple Merkle tree |
//!
//! Proofs of ICS-23 in batches or compressed are refused: they may mean many times what they are long.

use crate::tree::{Inclusion, InclusionError};
use ics23::commitment_proof::Proof;
use ics23::{CommitmentProof, ExistenceProof, HashOp, HostFunctionsProvider, ProofSpec};
use prost::Message as _;
use sha2::{Digest as _, Sha256, Sha512};
use tendermint_proto::v0_38::crypto as pb;

/// The most bytes of one proof operation.
pub const OP_BYTES_MAX: usize = 256 << 10;
/// The most bytes of a key or of the name of a store.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// The most steps from a leaf of a tree to its root.
pub const STEPS_MAX: usize = 256;

/// Why a proof shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The path names nothing of which the keys of a proof would be known.
    #[error("no proof is known for the path {0:?}: only /store/NAME/key and /key")]
    Path(String),
    /// The key is empty or too long.
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes")]
    Key,
    /// There is not one operation a key.
    #[error("{found} proof operations where {wanted} are needed")]
    Count {
        /// How many there are.
        found: usize,
        /// How many are needed.
        wanted: usize,
    },
    /// An operation is for another key.
    #[error("a proof operation is for another key")]
    OtherKey,
    /// An operation is of a kind that is not known.
    #[error("proof operations of type {0:?} are not known")]
    Kind(String),
    /// An operation is no proof.
    #[error("a proof operation is malformed")]
    Malformed,
    /// A tree of this kind cannot show that a key has no value.
    #[error("a simple tree cannot show that there is no value")]
    Absence,
    /// The proof of a tree does not show it.
    #[error("the proof does not show it")]
    Shows,
    /// A simple proof does not show it.
    #[error(transparent)]
    Inclusion(#[from] InclusionError),
    /// The trusted header has no application hash that a tree could have as its root.
    #[error("the header has no application hash of 32 bytes")]
    NoRoot,
    /// The proof leads elsewhere than to the trusted application hash.
    #[error("the proof does not lead to the application hash")]
    OtherRoot,
}

/// The keys that a proof must be for, from the outermost store in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath(Vec<Vec<u8>>);

impl KeyPath {
    /// The keys for a query: `/store/NAME/key` as Cosmos chains have it, or `/key` (also nothing) for an application that is one
    /// tree.
    ///
    /// # Errors
    /// Where no keys are known for the path, or the key cannot be one.
    pub fn new(path: &str, key: &[u8]) -> Result<KeyPath, ProofError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(ProofError::Key);
        }
        let unknown = || ProofError::Path(path.chars().take(64).collect());
        let parts: Vec<&str> = path.split('/').skip_while(|part| part.is_empty()).collect();
        match parts[..] {
            [] | ["key"] => Ok(KeyPath(vec![key.to_vec()])),
            ["store", name, "key"] if !name.is_empty() && name.len() <= KEY_BYTES_MAX => {
                Ok(KeyPath(vec![name.as_bytes().to_vec(), key.to_vec()]))
            }
            _ => Err(unknown()),
        }
    }
}

/// Checks that the state with `app_hash` has `value` at `path`, or none there.
///
/// # Errors
/// See [`ProofError`].
pub fn verify_query(
    app_hash: &[u8],
    path: &KeyPath,
    value: Option<&[u8]>,
    ops: &[pb::ProofOp],
) -> Result<(), ProofError> {
    if app_hash.len() != 32 {
        return Err(ProofError::NoRoot);
    }
    let (found, wanted) = (ops.len(), path.0.len());
    if found != wanted {
        return Err(ProofError::Count { found, wanted });
    }
    let mut shown = value.map(<[u8]>::to_vec);
    for (op, key) in ops.iter().zip(path.0.iter().rev()) {
        if op.key != *key {
            return Err(ProofError::OtherKey);
        }
        if op.data.len() > OP_BYTES_MAX {
            return Err(ProofError::Malformed);
        }
        shown = Some(run(op, key, shown.as_deref())?);
    }
    if shown.as_deref() == Some(app_hash) { Ok(()) } else { Err(ProofError::OtherRoot) }
}

/// The root of the tree in which `op` shows that `key` has `value`, or none.
fn run(op: &pb::ProofOp, key: &[u8], value: Option<&[u8]>) -> Result<Vec<u8>, ProofError> {
    match op.r#type.as_str() {
        "ics23:iavl" => run_ics23(&ics23::iavl_spec(), op, key, value),
        "ics23:simple" => run_ics23(&ics23::tendermint_spec(), op, key, value),
        "ics23:smt" => run_ics23(&ics23::smt_spec(), op, key, value),
        "simple:v" => run_simple(op, key, value.ok_or(ProofError::Absence)?),
        other => Err(ProofError::Kind(other.chars().take(64).collect())),
    }
}

fn run_simple(op: &pb::ProofOp, key: &[u8], value: &[u8]) -> Result<Vec<u8>, ProofError> {
    let data = pb::ValueOp::decode(op.data.as_slice()).map_err(|_| ProofError::Malformed)?;
    let proof = Inclusion::from_proto(&data.proof.ok_or(ProofError::Malformed)?)?;
    // The pair of the key and the hash of the value, each with its length in front (`crypto/merkle/proof_value.go`).
    let mut leaf = vec![];
    for part in [key, Sha256::digest(value).as_slice()] {
        prost::encoding::encode_varint(part.len() as u64, &mut leaf);
        leaf.extend_from_slice(part);
    }
    Ok(proof.root(&leaf)?.as_bytes().to_vec())
}

fn run_ics23(
    spec: &ProofSpec,
    op: &pb::ProofOp,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<Vec<u8>, ProofError> {
    let proof = CommitmentProof::decode(op.data.as_slice()).map_err(|_| ProofError::Malformed)?;
    let some = match &proof.proof {
        Some(Proof::Exist(exist)) => Some(exist),
        // Nothing else looks at the key of this.
        Some(Proof::Nonexist(none)) if none.key != key => return Err(ProofError::OtherKey),
        Some(Proof::Nonexist(none)) => none.left.as_ref().or(none.right.as_ref()),
        _ => return Err(ProofError::Malformed),
    };
    let some = some.filter(|exist| is_hashed(exist)).ok_or(ProofError::Malformed)?;
    // Whatever root the proof has of its own is checked by the operation above, at last against the trusted hash.
    let root = ics23::calculate_existence_root::<Hashes>(some);
    let root = root.map_err(|_| ProofError::Malformed)?;
    let shown = match value {
        Some(value) => ics23::verify_membership::<Hashes>(&proof, spec, &root, key, value),
        None => ics23::verify_non_membership::<Hashes>(&proof, spec, &root, key),
    };
    if shown { Ok(root) } else { Err(ProofError::Shows) }
}

/// Whether every step hashes; steps that do not would make what is hashed ever longer.
fn is_hashed(proof: &ExistenceProof) -> bool {
    proof.path.len() <= STEPS_MAX
        && proof.leaf.as_ref().is_some_and(|leaf| leaf.hash == HashOp::Sha256 as i32)
        && proof.path.iter().all(|step| step.hash == HashOp::Sha256 as i32)
}

/// The trees that are known hash by SHA-256 alone. What their proofs say of other functions is refused before it is used, so for
/// those any function does that nobody can find collisions of.
struct Hashes;

impl HostFunctionsProvider for Hashes {
    fn sha2_256(message: &[u8]) -> [u8; 32] {
        Sha256::digest(message).into()
    }

    fn sha2_512(message: &[u8]) -> [u8; 64] {
        Sha512::digest(message).into()
    }

    fn sha2_512_truncated(message: &[u8]) -> [u8; 32] {
        other("sha2-512-truncated", message)
    }

    fn keccak_256(message: &[u8]) -> [u8; 32] {
        other("keccak-256", message)
    }

    fn ripemd160(message: &[u8]) -> [u8; 20] {
        let hash = other("ripemd160", message);
        std::array::from_fn(|index| hash[index])
    }

    fn blake2b_512(message: &[u8]) -> [u8; 64] {
        Sha512::new().chain_update("blake2b-512").chain_update(message).finalize().into()
    }

    fn blake2s_256(message: &[u8]) -> [u8; 32] {
        other("blake2s-256", message)
    }

    fn blake3(message: &[u8]) -> [u8; 32] {
        other("blake3", message)
    }
}

fn other(name: &str, message: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(name).chain_update(message).finalize().into()
}
