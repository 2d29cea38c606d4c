//! Validator keys, and signatures behind the seams of signer and check: simulated ones are a keyed hash whose secret only this module
//! has, so nobody can make the signature of a key that it was not given; real ones are Ed25519.

use super::{Nanos, application};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::{Arc, Mutex, PoisonError};
use tendermint::Time;
use tendermint::crypto::signature::{Error, Verifier};
use tercet_consensus::key::{Address, KeyBytes, PublicKey, Signature};
use tercet_consensus::message::{Extension, Phase, SignRequest, Signed, SignedMessage, Vote};
use tercet_consensus::sign_bytes;
use tercet_consensus::verify::SignatureCheck;
use tercet_node::engine::signer::Signer;
use tercet_node::network::{self, PeerId};

/// The chain of every run.
pub(crate) const CHAIN_ID: &str = "simulated";

/// How many keys there are.
const KEYS_MAX: u8 = 24;

/// A validator key with the peer id of its node.
pub(crate) struct Key {
    signing: SigningKey,
    secret: [u8; 32],
    /// The public half.
    pub(crate) public: PublicKey,
    /// Its address.
    pub(crate) address: Address,
}

/// Keys and peer ids are made once a process: they take longer than a whole height.
static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| (0..KEYS_MAX).map(make).collect());
static PEERS: LazyLock<Vec<PeerId>> = LazyLock::new(|| {
    let peer = |n: u8| network::peer_id([n + 1; 32]).expect("every secret gives a peer id");
    (0..KEYS_MAX).map(peer).collect()
});

/// By the last bytes of each peer id, which are those of its key.
static SEATS: LazyLock<BTreeMap<u64, usize>> = LazyLock::new(|| {
    PEERS.iter().enumerate().map(|(seat, peer)| (last_bytes(peer), seat)).collect()
});
static BY_BYTES: LazyLock<BTreeMap<[u8; 8], &'static Key>> = LazyLock::new(|| {
    let first = |key: &Key| *key.public.to_bytes().first_chunk().expect("a key has 32 bytes");
    KEYS.iter().map(|key| (first(key), key)).collect()
});

fn make(n: u8) -> Key {
    let signing = tercet_consensus::testing::key(n);
    let public = tercet_consensus::testing::public(n);
    Key { signing, secret: secret(&public.to_bytes()), public, address: public.address() }
}

fn secret(public: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"the simulator's signatures").chain_update(public).finalize().into()
}

/// The key number `n`.
pub(crate) fn key(n: usize) -> &'static Key {
    KEYS.get(n).expect("a key")
}

/// The peer id of the node at `seat`.
pub(crate) fn peer(seat: usize) -> PeerId {
    *PEERS.get(seat).expect("a peer")
}

/// The seat of a peer.
pub(crate) fn seat_of(peer: &PeerId) -> Option<usize> {
    let seat = *SEATS.get(&last_bytes(peer))?;
    (self::peer(seat) == *peer).then_some(seat)
}

fn last_bytes(peer: &PeerId) -> u64 {
    u64::from_ne_bytes(*peer.as_ref().digest().last_chunk().expect("a peer id holds a key"))
}

/// The key whose public half begins so and is the same.
fn known(public: &[u8]) -> Option<&'static Key> {
    let (first, _) = public.split_first_chunk()?;
    let key = BY_BYTES.get(first)?;
    (key.public.to_bytes()[..] == *public).then_some(key)
}

fn tag(secret: &[u8; 32], message: &[u8]) -> Signature {
    let hash: [u8; 32] = Sha256::new().chain_update(secret).chain_update(message).finalize().into();
    let mut bytes = [1; 64];
    bytes.split_at_mut(32).0.copy_from_slice(&hash);
    Signature(bytes)
}

/// A signature that was found good, with what it is for.
struct Good {
    public: KeyBytes,
    message: Vec<u8>,
    signature: Signature,
}

thread_local! {
    /// Those of the run that are known to be good, by their first bytes: most are checked dozens of times.
    static GOOD: RefCell<BTreeMap<u64, Good>> = const { RefCell::new(BTreeMap::new()) };
}

fn first_bytes(signature: &Signature) -> u64 {
    u64::from_ne_bytes(*signature.0.first_chunk().expect("a signature has 64 bytes"))
}

/// Remembers a good signature.
fn remember(public: KeyBytes, message: &[u8], signature: &Signature) {
    let good = Good { public, message: message.to_vec(), signature: *signature };
    GOOD.with_borrow_mut(|all| all.insert(first_bytes(signature), good));
}

/// Whether a signature is known to be good, or found so by `verify` now.
fn is_good(
    public: KeyBytes,
    message: &[u8],
    signature: &Signature,
    verify: impl FnOnce() -> bool,
) -> bool {
    let same = |good: &Good| {
        good.signature == *signature && good.public == public && good.message == message
    };
    if GOOD.with_borrow(|all| all.get(&first_bytes(signature)).is_some_and(same)) {
        return true;
    }
    let good = verify();
    if good {
        remember(public, message, signature);
    }
    good
}

/// Whether a simulated signature is good.
fn is_good_tag(public: KeyBytes, message: &[u8], signature: &Signature) -> bool {
    is_good(public, message, signature, || {
        known(&public).is_some_and(|known| tag(&known.secret, message) == *signature)
    })
}

/// Checks simulated or real signatures.
#[derive(Debug, Default)]
pub(crate) struct Check {
    real: bool,
}

impl Check {
    /// A check of real or simulated signatures, for a run that begins.
    pub(crate) fn new(real: bool) -> Check {
        GOOD.with_borrow_mut(BTreeMap::clear);
        Check { real }
    }
}

impl SignatureCheck for Check {
    fn check(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let public = key.to_bytes();
        match self.real {
            true => is_good(public, message, signature, || key.verify(message, signature)),
            false => is_good_tag(public, message, signature),
        }
    }
}

/// Simulated signatures for `tendermint`'s own verifier.
pub(crate) struct Simulated;

impl Verifier for Simulated {
    fn verify(
        key: tendermint::PublicKey,
        message: &[u8],
        signature: &tendermint::Signature,
    ) -> Result<(), Error> {
        let public = PublicKey::try_from(&key).ok().map(|key| key.to_bytes());
        let signature = Signature::from_slice(signature.as_bytes());
        let same = public.zip(signature).is_some_and(|(p, s)| is_good_tag(p, message, &s));
        if same { Ok(()) } else { Err(Error::VerificationFailed) }
    }
}

/// More signatures than any replica asks for in one turn: beyond, it goes round in circles.
const IN_A_TURN_MAX: usize = 1_000;

/// Requests that a signer did not answer at once.
pub(crate) type Late = Arc<Mutex<Vec<(Nanos, SignedMessage)>>>;

/// Signs for one key: at once, late or never.
pub(crate) struct SimSigner {
    key: usize,
    real: bool,
    /// What share of the requests goes wrong, in a thousand, and the randomness for it.
    pub(crate) faults: Arc<Mutex<(u64, super::rng::Rng)>>,
    late: Late,
    /// How often it was asked in the last turn, and when that was by the node's clock.
    asked: (Option<Time>, usize),
}

impl SimSigner {
    /// A signer that always answers at once, until `faults` says otherwise.
    pub(crate) fn new(
        key: usize,
        real: bool,
        faults: Arc<Mutex<(u64, super::rng::Rng)>>,
        late: Late,
    ) -> SimSigner {
        SimSigner { key, real, faults, late, asked: (None, 0) }
    }
}

/// Signs bytes as key `n`.
fn sign_bytes_as(n: usize, real: bool, bytes: &[u8]) -> Signature {
    let key = key(n);
    if real {
        return Signature(key.signing.sign(bytes).to_bytes());
    }
    let signature = tag(&key.secret, bytes);
    remember(key.public.to_bytes(), bytes, &signature);
    signature
}

/// The extension of a COMMIT of key `n` by `data`.
pub(crate) fn extension(n: usize, real: bool, vote: &Vote, data: Bytes) -> Extension {
    let signature = sign_bytes_as(n, real, &sign_bytes::extension(CHAIN_ID, vote, &data));
    Extension { data, signature }
}

/// Signs a request as key `n`.
pub(crate) fn sign(n: usize, real: bool, request: SignRequest, now: Time) -> SignedMessage {
    let sign = |bytes: Vec<u8>| sign_bytes_as(n, real, &bytes);
    match request {
        SignRequest::Proposal(message) => {
            let signature = sign(sign_bytes::proposal(CHAIN_ID, &message));
            SignedMessage::Proposal(Signed { message, signature })
        }
        SignRequest::Vote { vote: mut message, extend } => {
            if message.phase == Phase::Commit {
                message.time = message.time.max(now);
            }
            if extend {
                let data = application::extension(message.validator, message.height);
                message.extension = Some(extension(n, real, &message, data));
            }
            let signature = sign(sign_bytes::vote(CHAIN_ID, &message));
            SignedMessage::Vote(Signed { message, signature })
        }
        SignRequest::ViewChange(message) => {
            let signature = sign(sign_bytes::view_change(CHAIN_ID, &message));
            SignedMessage::ViewChange(Signed { message, signature })
        }
    }
}

impl Signer for SimSigner {
    fn address(&self) -> Address {
        key(self.key).address
    }

    fn sign(&mut self, _: &str, request: SignRequest, now: Time) -> Option<SignedMessage> {
        let asked = if self.asked.0 == Some(now) { self.asked.1 + 1 } else { 1 };
        self.asked = (Some(now), asked);
        assert!(asked <= IN_A_TURN_MAX, "a turn asks for signatures without end");
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let (share, rng) = &mut *faults;
        if !rng.permille(*share) {
            return Some(sign(self.key, self.real, request, now));
        }
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        match rng.below(3) {
            // Never.
            0 => None,
            1 => {
                let after = rng.time((super::MS, 800 * super::MS));
                late.push((after, sign(self.key, self.real, request, now)));
                None
            }
            // At once and again, by another clock.
            _ => {
                let again = (now + std::time::Duration::from_millis(5)).unwrap_or(now);
                late.push((5 * super::MS, sign(self.key, self.real, request.clone(), again)));
                Some(sign(self.key, self.real, request, now))
            }
        }
    }

    fn extend(
        &mut self,
        chain_id: &str,
        vote: Vote,
        data: Bytes,
        now: Time,
    ) -> Option<SignedMessage> {
        assert_eq!(data, application::extension(vote.validator, vote.height), "the application's");
        self.sign(chain_id, SignRequest::Vote { vote, extend: true }, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_consensus::message::ViewChange;
    use tercet_consensus::view::View;

    /// A replica whose rules fire for ever never leaves its turn, so nothing else can end the run.
    #[test]
    #[should_panic(expected = "a turn asks for signatures without end")]
    fn a_turn_that_signs_without_end_fails_the_run() {
        let faults = Arc::new(Mutex::new((0, super::super::rng::Rng::new(0))));
        let mut signer = SimSigner::new(0, false, faults, Late::default());
        let (height, view) = (tendermint::block::Height::from(1u32), View::ZERO);
        let validator = signer.address();
        let change = ViewChange { height, view, prepared: None, validator, index: 0 };
        let now = super::super::time_of(0, 0);
        (0..=IN_A_TURN_MAX).for_each(|_| {
            signer.sign(CHAIN_ID, SignRequest::ViewChange(change.clone()), now);
        });
    }
}
