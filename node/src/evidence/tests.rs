//! Every rule of evidence against a chain of four validators that stands still, and CometBFT's own bytes.

use super::attack_samples::{self as attacks};
use super::duplicate;
use super::facts::{Facts, Tip};
use super::pool::Pair;
use super::{EvidenceError, Invalid, Key, Piece, What, block};
use crate::store::StoreError;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tendermint::Time;
use tendermint::block::{Header, Height};
use tendermint::evidence::Params;
use tendermint_proto::v0_38::types as pb;
use tendermint_proto::v0_38::types::evidence::Sum;
use tercet_consensus::block::BlockId;
use tercet_consensus::commit::{Commit, CommitSig};
use tercet_consensus::key::PublicKey;
use tercet_consensus::message::{Extension, Phase, SignedVote};
use tercet_consensus::testing::cluster::header;
use tercet_consensus::testing::messages::{CHAIN_ID, Signers, block_id, view};
use tercet_consensus::validators::Validators;
use tercet_consensus::verify::Direct;

/// The height of the chain.
pub(super) const TIP: u32 = 20;

/// A chain of blocks 1 to [`TIP`], ten seconds apart.
pub(super) struct Fake {
    pub(super) headers: BTreeMap<u64, Header>,
    pub(super) commits: BTreeMap<u64, Commit>,
    validators: Arc<Validators>,
    marks: BTreeMap<Key, Height>,
    params: Params,
    floor: u64,
}

impl Facts for Fake {
    fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        Ok(self.headers.get(&height.value()).cloned())
    }
    fn commit(&self, height: Height) -> Result<Option<Commit>, StoreError> {
        Ok(self.commits.get(&height.value()).cloned())
    }
    fn validators(&self, height: Height) -> Result<Option<Arc<Validators>>, StoreError> {
        Ok(self.headers.get(&height.value()).map(|_| self.validators.clone()))
    }
    fn committed(&self, key: &Key) -> Result<Option<Height>, StoreError> {
        Ok(self.marks.get(key).copied())
    }
}

impl Fake {
    pub(super) fn new() -> Fake {
        Fake::of(signers(1).validators)
    }

    fn of(validators: Validators) -> Fake {
        let proposer = validators.at(0).expect("one").address;
        let of = |h: u32| {
            let header = header(Height::from(h), time_of(h), proposer, &validators, None);
            (u64::from(h), attacks::of_chain(header))
        };
        Fake {
            headers: (1..=TIP).map(of).collect(),
            commits: BTreeMap::new(),
            params: Params {
                max_age_num_blocks: 100,
                max_age_duration: tendermint::evidence::Duration(Duration::from_secs(1_000)),
                max_bytes: 100_000,
            },
            validators: Arc::new(validators),
            marks: BTreeMap::new(),
            floor: 1,
        }
    }

    fn tip(&self) -> Tip<'_> {
        let time = self.headers[&u64::from(TIP)].time;
        Tip {
            chain_id: CHAIN_ID,
            height: TIP.into(),
            time,
            params: &self.params,
            floor: self.floor,
        }
    }

    /// What a block with these pieces is refused for.
    pub(super) fn judge(&self, pieces: &[pb::Evidence]) -> Result<(), Invalid> {
        let list = pb::EvidenceList { evidence: pieces.to_vec() };
        match block::check_block(&list, &self.tip(), self, &Direct) {
            Ok(()) => Ok(()),
            Err(EvidenceError::Invalid(invalid)) => Err(invalid),
            Err(EvidenceError::Store(error)) => panic!("{error}"),
        }
    }
}

pub(super) fn signers(height: u32) -> Signers {
    Signers::new(&[10; 4], height)
}

pub(super) fn time_of(height: u32) -> Time {
    Time::from_unix_timestamp(1_700_000_000 + 10 * i64::from(height), 0).expect("a time")
}

/// Validator 1 votes for two blocks at height 10 in view 2, the second so many seconds later.
fn pair(phase: Phase, later: u64) -> Pair {
    let s = signers(10);
    let first = s.vote(phase, 1, 2, block_id(9));
    let mut second = s.vote(phase, 1, 2, block_id(3)).message;
    second.time = (second.time + Duration::from_secs(later)).expect("a time");
    (first, s.sign_vote(second))
}

fn evidence(pair: &Pair) -> pb::Evidence {
    let piece = Piece::of_votes(pair, time_of(10), &signers(10).validators);
    piece.expect("an offence").raw().clone()
}

fn votes_of(raw: &mut pb::Evidence) -> &mut pb::DuplicateVoteEvidence {
    match &mut raw.sum {
        Some(Sum::DuplicateVoteEvidence(inner)) => inner,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offence_has_one_form_whoever_saw_which_vote_first() {
    let (first, second) = pair(Phase::Commit, 0);
    let one = evidence(&(first.clone(), second.clone()));
    assert_eq!(one, evidence(&(second.clone(), first.clone())));
    let mut raw = one.clone();
    let inner = votes_of(&mut raw);
    let hash = |vote: &Option<pb::Vote>| vote.clone().and_then(|v| v.block_id).map(|id| id.hash);
    assert_eq!(hash(&inner.vote_a), Some(vec![3; 32]), "the lower block id comes first");
    assert_eq!((inner.total_voting_power, inner.validator_power), (40, 10));
    assert_eq!(inner.timestamp, Some(time_of(10).into()));
    // What no signature covers does not make another one.
    let signature = second.signature;
    let mut extended = second;
    extended.message.extension = Some(Extension { data: "x".into(), signature });
    assert_eq!(one, evidence(&(first.clone(), extended)));
    let mut padded = one.clone();
    let vote = votes_of(&mut padded).vote_b.as_mut().expect("there");
    (vote.extension, vote.extension_signature) = (vec![1; 100], vec![2; 64]);
    vote.validator_index = 3;
    let padded = Piece::new(padded).expect("a sound form");
    assert_eq!(padded.canonical(&signers(10).validators).raw(), &one);
    // Two votes for one block, of two views or of two validators are none.
    let s = signers(10);
    let vote = |index, v, id| s.vote(Phase::Commit, index, v, block_id(id));
    for (a, b) in [
        (vote(1, 2, 3), vote(1, 2, 3)),
        (vote(1, 2, 3), vote(1, 3, 9)),
        (vote(1, 2, 3), vote(2, 2, 9)),
    ] {
        assert!(Piece::of_votes(&(a, b), time_of(10), &s.validators).is_none());
    }
}

#[test]
fn what_correct_validators_make_is_valid() {
    for phase in [Phase::Prepare, Phase::Commit] {
        assert_eq!(Fake::new().judge(&[evidence(&pair(phase, 5))]), Ok(()));
    }
}

type Spoil = fn(&mut pb::DuplicateVoteEvidence);

fn a(raw: &mut pb::DuplicateVoteEvidence) -> &mut pb::Vote {
    raw.vote_a.as_mut().expect("there")
}

/// Signs again what was changed, as validator 1.
fn sign(vote: &mut pb::Vote) {
    let s = signers(10);
    let canonical = pb::CanonicalVote {
        r#type: vote.r#type,
        height: vote.height,
        round: vote.round.into(),
        block_id: vote.block_id.clone().map(|id| pb::CanonicalBlockId {
            hash: id.hash,
            part_set_header: id
                .part_set_header
                .map(|p| pb::CanonicalPartSetHeader { total: p.total, hash: p.hash }),
        }),
        timestamp: vote.timestamp,
        chain_id: CHAIN_ID.into(),
    };
    vote.signature = s.sign(1, &canonical.encode_length_delimited_to_vec()).0.to_vec();
}

/// What breaks the form of both votes together, and what is said of it.
fn wrong_pairs() -> Vec<(Spoil, &'static str)> {
    vec![
        (|e| e.vote_b = None, "one or both of the votes are empty"),
        (|e| std::mem::swap(&mut e.vote_a, &mut e.vote_b), "duplicate votes in invalid order"),
        (
            |e| {
                a(e).block_id = e.vote_b.as_ref().and_then(|b| b.block_id.clone());
                sign(a(e));
            },
            "duplicate votes in invalid order",
        ),
        (|e| a(e).validator_address = vec![7; 20], "validator addresses do not match"),
        (|e| e.timestamp = None, "evidence without a time"),
    ]
}

/// Spoils a vote.
type SpoilVote = fn(&mut pb::Vote);

/// The same of one vote, signed again.
fn wrong_votes() -> Vec<(SpoilVote, &'static str)> {
    vec![
        (|v| v.height = 11, "h/r/s does not match"),
        (|v| v.round = 3, "h/r/s does not match"),
        (|v| v.r#type = 1, "h/r/s does not match"),
        (|v| v.r#type = 32, "invalid Type"),
        (|v| v.round = -1, "negative Round"),
        (|v| v.height = 0, "negative or zero Height"),
        (|v| v.validator_index = -1, "negative ValidatorIndex"),
        (|v| v.validator_address = vec![7; 19], "an address that is not of 20 bytes"),
        (|v| v.timestamp = None, "evidence without a time"),
        (|v| v.extension = vec![1], "a vote extension without a signature"),
        (|v| v.block_id = None, "blockID must be either empty or complete"),
        (
            |v| v.block_id.as_mut().expect("there").hash = vec![1; 31],
            "blockID must be either empty or complete",
        ),
    ]
}

/// Whether that is what is wrong.
type Wrong = fn(&Invalid) -> bool;

/// What does not hold against the chain.
fn wrong_claims() -> Vec<(Spoil, Wrong)> {
    vec![
        (|e| e.timestamp = Some(time_of(11).into()), |i| matches!(i, Invalid::Time { .. })),
        (|e| e.validator_power = 11, |i| matches!(i, Invalid::Power { right: 10, .. })),
        (|e| e.validator_power = -10, |i| matches!(i, Invalid::Power { right: 10, .. })),
        (|e| e.total_voting_power = 39, |i| matches!(i, Invalid::Power { right: 40, .. })),
        (|e| a(e).signature[5] ^= 1, |i| *i == Invalid::Signature("VoteA")),
        (
            |e| e.vote_b.as_mut().expect("there").signature[5] ^= 1,
            |i| *i == Invalid::Signature("VoteB"),
        ),
        (|e| a(e).timestamp = Some(time_of(11).into()), |i| *i == Invalid::Signature("VoteA")),
        (
            |e| a(e).signature = vec![1; 63],
            |i| *i == Invalid::Form("a signature that is not of 64 bytes"),
        ),
    ]
}

#[test]
fn two_votes_that_break_a_rule_are_refused() {
    let judged = |spoil: &dyn Fn(&mut pb::DuplicateVoteEvidence)| {
        let mut raw = evidence(&pair(Phase::Commit, 5));
        spoil(votes_of(&mut raw));
        let invalid = Fake::new().judge(&[raw]).expect_err("it is refused");
        assert!(invalid.is_fault(), "{invalid}");
        invalid
    };
    for (spoil, what) in wrong_pairs() {
        assert_eq!(judged(&spoil), Invalid::Form(what));
    }
    for (spoil, what) in wrong_votes() {
        let spoil = |e: &mut pb::DuplicateVoteEvidence| {
            spoil(a(e));
            sign(a(e));
        };
        assert_eq!(judged(&spoil), Invalid::Form(what));
    }
    for (spoil, right) in wrong_claims() {
        let invalid = judged(&spoil);
        assert!(right(&invalid), "{invalid:?}");
    }
    let none = Fake::new().judge(&[pb::Evidence { sum: None }]);
    assert_eq!(none, Err(Invalid::Form("evidence of no known type")));
}

#[test]
fn a_vote_for_nothing_and_one_for_a_block_are_an_offence_too() {
    let mut raw = evidence(&pair(Phase::Commit, 0));
    let first = a(votes_of(&mut raw));
    first.block_id =
        Some(pb::BlockId { hash: Vec::new(), part_set_header: Some(pb::PartSetHeader::default()) });
    let canonical = pb::CanonicalVote {
        r#type: 2,
        height: 10,
        round: 2,
        block_id: None,
        timestamp: first.timestamp,
        chain_id: CHAIN_ID.into(),
    };
    first.signature = signers(10).sign(1, &canonical.encode_length_delimited_to_vec()).0.to_vec();
    assert_eq!(Fake::new().judge(&[raw]), Ok(()));
}

#[test]
fn who_was_no_validator_is_not_accused() {
    let strangers = Fake::of(tercet_consensus::testing::validators(&[40]));
    let invalid = strangers.judge(&[evidence(&pair(Phase::Commit, 0))]);
    assert!(matches!(invalid, Err(Invalid::Stranger { .. })), "{invalid:?}");
}

#[test]
fn another_chain_has_other_votes() {
    let mut chain = Fake::new();
    let raw = evidence(&pair(Phase::Commit, 0));
    let list = pb::EvidenceList { evidence: vec![raw] };
    let tip = Tip { chain_id: "other", ..chain.tip() };
    let result = block::check_block(&list, &tip, &chain, &Direct);
    assert!(matches!(result, Err(EvidenceError::Invalid(Invalid::Signature("VoteA")))));
    chain.headers.remove(&10);
    assert_eq!(chain.judge(&list.evidence), Err(Invalid::Missing(Height::from(10u32))));
}

#[test]
fn evidence_is_too_old_by_blocks_and_by_time_together() {
    let age = |blocks, seconds| {
        let mut chain = Fake::new();
        chain.params.max_age_num_blocks = blocks;
        let age = tendermint::evidence::Duration(Duration::from_secs(seconds));
        chain.params.max_age_duration = age;
        chain.judge(&[evidence(&pair(Phase::Commit, 0))])
    };
    // It is ten blocks and a hundred seconds old.
    assert_eq!(age(10, 100), Ok(()));
    assert_eq!(age(9, 100), Ok(()));
    assert_eq!(age(10, 99), Ok(()));
    let old = age(9, 99);
    assert!(matches!(old, Err(Invalid::Old { .. })), "{old:?}");
    assert!(!old.expect_err("old").is_fault(), "it is no fault of whoever passed it on");
}

#[test]
fn what_is_not_decided_is_too_early() {
    let s = signers(TIP + 1);
    let vote = |id| s.vote(Phase::Commit, 1, 2, block_id(id));
    let piece = Piece::of_votes(&(vote(3), vote(9)), time_of(TIP + 1), &s.validators);
    let raw = piece.expect("an offence").raw().clone();
    let early = Fake::new().judge(&[raw]).expect_err("not decided");
    assert_eq!(early, Invalid::Early(Height::from(TIP + 1)));
    assert!(!early.is_fault());
}

/// "At most one per (validator, height, view, type), ever": whatever times the offender signed.
#[test]
fn an_offence_stands_once_in_a_block_whatever_the_times_in_it() {
    let (one, other) = (evidence(&pair(Phase::Commit, 1)), evidence(&pair(Phase::Commit, 2)));
    assert_ne!(one, other);
    assert_eq!(Fake::new().judge(&[one.clone(), other]), Err(Invalid::Twice));
    assert_eq!(Fake::new().judge(&[one.clone(), one.clone()]), Err(Invalid::Twice));
    // Another phase is another offence.
    assert_eq!(Fake::new().judge(&[one, evidence(&pair(Phase::Prepare, 1))]), Ok(()));
}

#[test]
fn an_offence_in_an_earlier_block_is_not_punished_again() {
    let (mut chain, one) = (Fake::new(), evidence(&pair(Phase::Commit, 1)));
    let key = Piece::new(one).expect("sound").key();
    let validator = signers(10).validators.at(1).expect("four").address;
    assert_eq!(key.what, What::Votes { view: 2, kind: 2, validator });
    chain.marks.insert(key, Height::from(TIP));
    let other = evidence(&pair(Phase::Commit, 2));
    assert_eq!(chain.judge(std::slice::from_ref(&other)), Err(Invalid::Committed));
    // The mark of the block itself, which is executed once more, is none of an earlier one.
    chain.marks.insert(key, Height::from(TIP + 1));
    assert_eq!(chain.judge(&[other]), Ok(()));
}

#[test]
fn a_block_holds_no_more_bytes_of_evidence_than_the_parameters_allow() {
    let (mut chain, one) = (Fake::new(), evidence(&pair(Phase::Commit, 1)));
    let size = pb::EvidenceList { evidence: vec![one.clone()] }.encoded_len();
    chain.params.max_bytes = i64::try_from(size).expect("small");
    assert_eq!(chain.judge(std::slice::from_ref(&one)), Ok(()));
    chain.params.max_bytes -= 1;
    assert_eq!(chain.judge(&[one]), Err(Invalid::TooMuch(size, size - 1)));
    chain.params.max_bytes = -1;
    assert_eq!(chain.judge(&[]), Ok(()));
}

#[test]
fn what_goes_into_a_block_fits_and_is_oldest_first() {
    let piece = |later| Arc::new(Piece::new(evidence(&pair(Phase::Commit, later))).expect("sound"));
    let pending = [piece(1), piece(2), piece(3)];
    let all = |_: &Piece| Ok::<bool, ()>(true);
    let whole = block::select(&pending, 10_000, all).expect("no error");
    assert_eq!(whole.evidence.len(), 3);
    let size = whole.encoded_len();
    assert_eq!(block::select(&pending, size, all).expect("no error"), whole);
    let less = block::select(&pending, size - 1, all).expect("no error");
    assert_eq!(less.evidence, whole.evidence[..2]);
    let second = block::select(&pending, 10_000, |p| Ok::<_, ()>(*p == *pending[1]));
    assert_eq!(second.expect("no error").evidence, whole.evidence[1..2]);
}

/// What CometBFT 0.38.17 writes for these: bytes, hashes, JSON and what an application is told.
const COMETBFT: &str = include_str!("samples/cometbft.txt");

fn sample(name: &str, kind: &str) -> Vec<String> {
    let start = format!("{name} {kind} ");
    COMETBFT.lines().filter_map(|line| line.strip_prefix(&start).map(str::to_owned)).collect()
}

#[test]
fn bytes_hashes_and_what_the_application_hears_are_those_of_cometbft() {
    for name in ["duplicate", "nil", "attack"] {
        let one = |kind| sample(name, kind).pop().expect("a line");
        let bytes = hex::decode(one("proto")).expect("hexadecimal");
        let raw = crate::wire::decode_evidence(&bytes).expect("canonical");
        let piece = Piece::new(raw.clone()).expect("sound");
        assert_eq!(hex::encode_upper(piece.hash()), one("hash"), "{name}");
        let list = pb::EvidenceList { evidence: vec![raw.clone()] };
        let hash = tercet_consensus::block::evidence_hash(&list);
        assert_eq!(hash.to_string(), one("list"), "{name}");
        let told = block::misbehavior(&list);
        let told: Vec<String> = told.iter().map(|m| hex::encode(m.encode_to_vec())).collect();
        assert_eq!(told, sample(name, "abci"), "{name}");
        let read = crate::rpc::read_evidence(&one("json")).expect("CometBFT's JSON");
        assert_eq!(read.as_ref(), Some(&raw), "{name}");
        assert_eq!(crate::rpc::show_evidence(raw), one("json"), "{name}");
    }
}

#[test]
fn evidence_that_cometbft_signed_verifies() {
    let keys = COMETBFT.lines().filter_map(|line| line.strip_prefix("validator "));
    let keys = keys.map(|line| hex::decode(line.split(' ').nth(1).expect("a key")).expect("hex"));
    let keys = keys.map(|key| (PublicKey::ed25519(&key).expect("a key"), 10));
    let validators = Validators::new(keys).expect("a set");
    for (name, height) in [("duplicate", 10), ("nil", 10), ("attack", 7)] {
        let bytes = hex::decode(sample(name, "proto").pop().expect("a line")).expect("hex");
        let raw = pb::Evidence::decode(&*bytes).expect("evidence");
        let piece = Piece::new(raw.clone()).expect("sound");
        let mut chain = Fake::of(validators.clone());
        chain.headers.get_mut(&height).expect("there").time = piece.time();
        // The headers are old ones, the tip is not.
        chain.params.max_age_num_blocks = 1_000;
        assert_eq!(chain.judge(&[raw]), Ok(()), "{name}");
    }
}

#[test]
fn attacks_of_each_kind_are_valid_and_accuse_who_is_guilty() {
    let chain = attacks::chain();
    let s = signers(10);
    let address = |index: u32| s.validators.at(index).expect("four").address.as_bytes().to_vec();
    let accused = |raw: &pb::Evidence| match &raw.sum {
        Some(Sum::LightClientAttackEvidence(inner)) => {
            inner.byzantine_validators.iter().map(|v| v.address.clone()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let lunatic = attacks::lunatic();
    assert_eq!(accused(&lunatic), [address(0), address(1), address(2)]);
    assert_eq!(chain.judge(&[lunatic]), Ok(()));
    let equivocation = attacks::equivocation();
    assert_eq!(accused(&equivocation), [address(1), address(2)]);
    assert_eq!(chain.judge(&[equivocation]), Ok(()));
    let amnesia = attacks::amnesia();
    assert!(accused(&amnesia).is_empty());
    assert_eq!(chain.judge(std::slice::from_ref(&amnesia)), Ok(()));
    let list = pb::EvidenceList { evidence: vec![amnesia] };
    assert!(block::misbehavior(&list).is_empty(), "nobody can be told");
    let ahead = attacks::ahead();
    assert_eq!(chain.judge(&[ahead]), Ok(()));
}

/// `tercet light` finds the attack, and what it submits is taken as it is.
#[test]
fn evidence_that_the_light_client_makes_is_accepted() {
    let chain = attacks::chain();
    for (name, raw) in [
        ("lunatic", attacks::lunatic()),
        ("equivocation", attacks::equivocation()),
        ("amnesia", attacks::amnesia()),
        ("ahead", attacks::ahead()),
    ] {
        let made = attacks::by_light_client(&chain, &raw);
        let json = tercet_light_sync::provider::evidence_params(&made)["evidence"].to_string();
        let given = crate::rpc::read_evidence(&json).expect("CometBFT's JSON").expect("evidence");
        let encoded = made.encode();
        assert_eq!(pb::Evidence::decode(&*encoded), Ok(given.clone()), "{name}");
        assert_eq!(chain.judge(std::slice::from_ref(&given)), Ok(()), "{name}");
        let key = |raw: pb::Evidence| Piece::new(raw).expect("sound").key();
        assert_eq!(key(given), key(raw), "{name}");
    }
}

#[test]
fn an_attack_that_breaks_a_rule_is_refused() {
    for (name, raw) in attacks::wrong() {
        let invalid = attacks::chain().judge(&[raw]);
        assert!(invalid.is_err(), "{name} is accepted");
    }
}

#[test]
fn one_header_is_punished_once_whatever_common_height_it_is_told_with() {
    let chain = attacks::chain();
    let (first, second) = (attacks::lunatic(), attacks::lunatic_since(6));
    assert_eq!(chain.judge(std::slice::from_ref(&second)), Ok(()));
    assert_eq!(chain.judge(&[first, second]), Err(Invalid::Twice));
}

/// What is wrong otherwise costs no signature.
#[test]
fn signatures_of_an_attack_are_checked_last_and_up_to_the_first_wrong_one() {
    use std::cell::Cell;
    use tercet_consensus::verify::SignatureCheck;
    struct Counted(Cell<usize>);
    impl SignatureCheck for Counted {
        fn check(
            &self,
            key: &PublicKey,
            message: &[u8],
            signature: &tercet_consensus::key::Signature,
        ) -> bool {
            self.0.set(self.0.get() + 1);
            key.verify(message, signature)
        }
    }
    let cost = |raw: pb::Evidence| {
        let (chain, count) = (attacks::chain(), Counted(Cell::new(0)));
        let list = pb::EvidenceList { evidence: vec![raw] };
        let result = block::check_block(&list, &chain.tip(), &chain, &count);
        (result.is_ok(), count.0.get())
    };
    assert_eq!(cost(attacks::lunatic()), (true, 3));
    for (name, raw) in attacks::wrong() {
        let most = usize::from(name.contains("signature"));
        let (ok, checked) = cost(raw);
        assert!(!ok && checked <= most, "{name}: {checked} signatures");
    }
}

/// The votes of [`duplicate::make`] are those that were signed.
#[test]
fn times_that_the_offender_signed_are_kept() {
    let (first, second) = pair(Phase::Commit, 7);
    let made = duplicate::make(&first, &second, time_of(10), &signers(10).validators);
    let made = made.expect("an offence");
    let times = |vote: &SignedVote| Some(vote.message.time.into());
    assert_eq!(made.vote_b.expect("there").timestamp, times(&first));
    assert_eq!(made.vote_a.expect("there").timestamp, times(&second));
}

pub(super) fn entry(vote: &SignedVote) -> CommitSig {
    let (address, time) = (vote.message.validator, vote.message.time);
    CommitSig { address, time, signature: vote.signature, extension: None }
}

pub(super) fn commit(height: u32, v: u32, id: BlockId, by: &[u32]) -> Commit {
    let s = signers(height);
    let of = |index| by.contains(&index).then(|| entry(&s.vote(Phase::Commit, index, v, id)));
    let signatures = (0..4).map(of).collect();
    Commit { height: Height::from(height), view: view(v), block_id: id, signatures }
}
