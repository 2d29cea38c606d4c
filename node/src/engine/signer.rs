//! Whoever holds the validator key: typed requests, an answer at once, later or never.

use bytes::Bytes;
use tendermint::Time;
use tercet_config::ValidatorSecret;
use tercet_consensus::key::{Address, PublicKey, Signature};
use tercet_consensus::message::{Extension, Phase, SignRequest, Signed, SignedMessage, Vote};
use tercet_consensus::sign_bytes;

/// Signs for one validator. It may be slow, refuse or vanish: the replica does not wait for it.
pub trait Signer: Send {
    /// The address of the key.
    fn address(&self) -> Address;

    /// Signs `request`. `now` is the time for a COMMIT that is later than the earliest allowed one. None where the answer comes later
    /// as an event, or never.
    fn sign(&mut self, chain_id: &str, request: SignRequest, now: Time) -> Option<SignedMessage>;

    /// Signs a COMMIT and, apart, the extension that the application gave it.
    fn extend(
        &mut self,
        chain_id: &str,
        vote: Vote,
        data: Bytes,
        now: Time,
    ) -> Option<SignedMessage>;
}

/// A key in this process.
pub struct LocalSigner {
    key: ValidatorSecret,
    public: PublicKey,
    address: Address,
}

impl LocalSigner {
    /// A signer with this key.
    ///
    /// # Panics
    /// Never: the public half of a key is a key.
    #[must_use]
    pub fn new(key: impl Into<ValidatorSecret>) -> LocalSigner {
        let key = key.into();
        let public = PublicKey::try_from(&key.public()).expect("a public key");
        LocalSigner { address: public.address(), public, key }
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The signature under a hello for this transport peer id.
    #[must_use]
    pub fn hello(&self, chain_id: &str, peer_id: &[u8]) -> [u8; 64] {
        self.key.sign(&sign_bytes::hello(chain_id, peer_id))
    }

    fn vote(&self, chain_id: &str, message: Vote) -> SignedMessage {
        let signature = self.signature(&sign_bytes::vote(chain_id, &message));
        SignedMessage::Vote(Signed { message, signature })
    }

    fn signature(&self, bytes: &[u8]) -> Signature {
        Signature(self.key.sign(bytes))
    }
}

impl Signer for LocalSigner {
    fn address(&self) -> Address {
        self.address
    }

    fn sign(&mut self, chain_id: &str, request: SignRequest, now: Time) -> Option<SignedMessage> {
        Some(match request {
            SignRequest::Proposal(message) => {
                let signature = self.signature(&sign_bytes::proposal(chain_id, &message));
                SignedMessage::Proposal(Signed { message, signature })
            }
            SignRequest::Vote { vote: mut message, extend: _ } => {
                if message.phase == Phase::Commit {
                    message.time = message.time.max(now);
                }
                self.vote(chain_id, message)
            }
            SignRequest::ViewChange(message) => {
                let signature = self.signature(&sign_bytes::view_change(chain_id, &message));
                SignedMessage::ViewChange(Signed { message, signature })
            }
        })
    }

    fn extend(
        &mut self,
        chain_id: &str,
        mut vote: Vote,
        data: Bytes,
        now: Time,
    ) -> Option<SignedMessage> {
        vote.time = vote.time.max(now);
        let signature = self.signature(&sign_bytes::extension(chain_id, &vote, &data));
        vote.extension = Some(Extension { data, signature });
        Some(self.vote(chain_id, vote))
    }
}
