//! The same verdict as `tendermint-light-client-verifier`, on cases that are made from valid ones by changing them. The seed is
//! fixed; `TERCET_LIGHT_CASES` says how many cases (2,000 by default).
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tendermint::block::signed_header::SignedHeader;
use tendermint::trust_threshold::TrustThresholdFraction;
use tendermint::validator::Set;
use tendermint_light_client_verifier::errors::VerificationErrorDetail as Detail;
use tendermint_light_client_verifier::types::{TrustedBlockState, UntrustedBlockState};
use tendermint_light_client_verifier::{ProdVerifier, Verdict as Theirs, Verifier as _};
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::key::Signature;
use tercet_consensus::validators::Validators;
use tercet_light_core::block::{TrustedBlock, UntrustedBlock};
use tercet_light_core::commit::Commit;
use tercet_light_core::header::Header;
use tercet_light_core::options::{Options, TrustLevel};
use tercet_light_core::testing::chain::{Chain, KeyNumber, SECP256K1, Spec, public, set_of, sign};
use tercet_light_core::time::Time;
use tercet_light_core::verify::{Invalid, Verdict, verify};

/// Xorshift: the same numbers every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    /// Between `-by` and `by`.
    fn around(&mut self, by: usize) -> i64 {
        i64::try_from(self.below(2 * by + 1)).unwrap() - i64::try_from(by).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

struct Case {
    trusted: TrustedBlock,
    block: UntrustedBlock,
    options: Options,
    level: (u64, u64),
    now: Time,
}

fn set(validators: &Validators) -> Set {
    Set::without_proposer(validators.to_tendermint())
}

/// What upstream says; none where its types refuse the commit or header.
fn theirs(case: &Case) -> Option<Theirs> {
    let header = case.block.header.to_tendermint().ok()?;
    let raw = pb::Commit::decode(case.block.commit.encode().as_slice()).unwrap();
    let commit = tendermint::block::Commit::try_from(raw).ok()?;
    let signed_header = SignedHeader::new(header, commit).ok()?;
    let trusted = case.trusted.header().to_tendermint().unwrap();
    let options = tendermint_light_client_verifier::options::Options {
        trust_threshold: TrustThresholdFraction::new(case.level.0, case.level.1).unwrap(),
        trusting_period: case.options.trusting_period,
        clock_drift: case.options.clock_drift,
    };
    let next = case.block.next_validators.as_ref().map(|next| set(next));
    Some(ProdVerifier::default().verify_update_header(
        UntrustedBlockState {
            signed_header: &signed_header,
            validators: &set(&case.block.validators),
            next_validators: next.as_ref(),
        },
        TrustedBlockState {
            chain_id: &trusted.chain_id,
            header_time: trusted.time,
            height: trusted.height,
            next_validators: &set(case.trusted.next_validators()),
            next_validators_hash: trusted.next_validators_hash,
        },
        &options,
        case.now.to_tendermint(),
    ))
}

fn ours(case: &Case) -> Verdict {
    match case.block.clone().bind() {
        Ok(block) => verify(&case.trusted, &block, &case.options, case.now),
        Err(invalid) => Verdict::Invalid(invalid),
    }
}

fn agree(ours: Verdict, theirs: Option<&Theirs>) -> bool {
    use Invalid as I;
    match (ours, theirs) {
        (Verdict::Success, Some(Theirs::Success)) => true,
        (Verdict::NotEnoughTrust(a), Some(Theirs::NotEnoughTrust(b))) => {
            (a.signed, a.total) == (b.tallied, b.total)
        }
        // Upstream's types refuse it, as a commit of another height.
        (Verdict::Invalid(_), None) => true,
        (Verdict::Invalid(invalid), Some(Theirs::Invalid(detail))) => matches!(
            (invalid, detail),
            (I::ValidatorsHash, Detail::InvalidValidatorSet(_))
                | (I::NextValidatorsHash, Detail::InvalidNextValidatorSet(_))
                | (I::CommitHash, Detail::InvalidCommitValue(_))
                | (I::NobodySigned, Detail::NoSignatureForCommit(_))
                | (I::CommitLength, Detail::MismatchPreCommitLength(_))
                | (I::UnknownSigner, Detail::FaultySigner(_))
                | (I::SignedTwice, Detail::DuplicateValidator(_))
                | (I::Expired, Detail::NotWithinTrustPeriod(_))
                | (I::TimeOrder, Detail::NonMonotonicBftTime(_))
                | (I::ChainId, Detail::ChainIdMismatch(_))
                | (I::HeightOrder, Detail::NonIncreasingHeight(_))
                | (I::Future, Detail::HeaderFromTheFuture(_))
                | (I::Signature, Detail::InvalidSignature(_))
                | (I::NotEnoughSigned, Detail::InsufficientSignersOverlap(_))
        ),
        _ => false,
    }
}

/// The header with something else in it.
fn change_header(random: &mut Random, header: &Header) -> Header {
    let mut raw = pb::Header::decode(header.bytes().clone()).unwrap();
    match random.below(7) {
        0 => raw.time.as_mut().unwrap().seconds += random.around(300),
        1 => raw.chain_id.push('x'),
        2 => raw.height += random.around(4),
        3 => raw.validators_hash = vec![7; 32],
        4 => raw.next_validators_hash = vec![7; 32],
        5 => raw.app_hash = vec![7; random.below(40)],
        _ => raw.time.as_mut().unwrap().nanos ^= 1,
    }
    Header::decode(raw.encode_to_vec().into()).unwrap_or_else(|_| header.clone())
}

fn change_entry(random: &mut Random, commit: &mut Commit, keys: &[KeyNumber]) {
    let count = commit.entries.len();
    if count == 0 {
        return;
    }
    let (at, other) = (random.below(count), random.below(count));
    let (copy, kind) = (commit.entries[other], random.below(9));
    let Some(entry) = commit.entries[at].as_mut() else { return };
    match kind {
        0 => commit.entries[at] = None,
        1 => entry.for_block = false,
        2 => commit.entries[at] = copy,
        3 => commit.entries.swap(at, other),
        4 => entry.time = entry.time.after(Duration::from_nanos(1)),
        5 => entry.address = public(keys[random.below(keys.len())]).address(),
        6 => entry.address = public(999).address(),
        7 => {
            entry.signature = Signature(std::array::from_fn(|_| random.next() as u8));
        }
        _ => {
            entry.signature.0[random.below(64)] ^= 1 << random.below(8);
        }
    }
}

fn change_commit(random: &mut Random, commit: &mut Commit, keys: &[KeyNumber]) {
    match random.below(12) {
        0 => commit.round += 1,
        1 => commit.height += 1,
        2 => commit.block_id.parts += 1,
        3 => drop(commit.entries.pop()),
        4 => commit.entries.push(commit.entries.first().copied().flatten()),
        5 => commit.entries.iter_mut().for_each(|entry| *entry = None),
        _ => change_entry(random, commit, keys),
    }
}

/// As many signers leave as bring the power to about the threshold.
fn thin_out(random: &mut Random, commit: &mut Commit) {
    let leave = if commit.entries.is_empty() { 0 } else { random.below(commit.entries.len() + 1) };
    for _ in 0..leave {
        let at = random.below(commit.entries.len());
        commit.entries[at] = None;
    }
}

fn change_sets(random: &mut Random, block: &mut UntrustedBlock, keys: &[KeyNumber]) {
    let mut members: Vec<(KeyNumber, u64)> = keys.iter().map(|key| (*key, 10)).collect();
    members[0].1 += random.below(3) as u64;
    if random.one_in(2) && members.len() > 1 {
        members.pop();
    }
    let other = Arc::new(set_of(&members));
    match random.below(4) {
        0 => block.validators = other,
        1 => block.next_validators = Some(other),
        2 => block.next_validators = None,
        _ => block.next_validators = Some(std::mem::replace(&mut block.validators, other)),
    }
}

/// A valid case, changed in up to three places.
fn case(random: &mut Random, chains: &mut [Chain]) -> Case {
    let index = random.below(chains.len());
    let chain = &mut chains[index];
    let last = chain.spec.last as usize;
    let low = 1 + random.below(last - 1) as u64;
    let ahead = if random.one_in(3) { 1 } else { 1 + random.below(last - low as usize) as u64 };
    let high = if random.one_in(20) { low } else { low + ahead };
    let root = chain.block(low);
    let hash = root.header.hash();
    let trusted = TrustedBlock::restore(root, hash).unwrap();
    let (mut block, keys) = (chain.block(high), chain.seats(high));
    let level = [(1, 3), (1, 3), (1, 2), (2, 3), (1, 1)][random.below(5)];
    let gap = block.header.time().since(trusted.header().time());
    let options = Options {
        trust_level: TrustLevel::new(level.0, level.1).unwrap(),
        trusting_period: Duration::from_secs(3_600),
        clock_drift: Duration::from_secs(10),
    };
    let mut now = trusted.header().time().after(gap).after(Duration::from_secs(1));
    for _ in 0..random.below(4) {
        match random.below(9) {
            0 => {
                let header = change_header(random, &block.header);
                // Half of those who change a header can sign it too.
                if random.one_in(2) {
                    block.commit = sign(&header, 0, keys.clone());
                }
                block.header = header;
            }
            1..=3 => change_commit(random, &mut block.commit, &keys),
            4..=5 => thin_out(random, &mut block.commit),
            6 => change_sets(random, &mut block, &keys),
            // Around the end of the trusting period and the drift of the clock, to the nanosecond.
            7 => {
                let end = trusted.header().time().after(options.trusting_period);
                let nanos = 1 + random.below(2) as u64;
                let early = Duration::from_nanos(2);
                now = Time::from_unix(end.unix_seconds() - 1, end.nanos()).unwrap();
                now = now.after(Duration::from_secs(1) - early).after(Duration::from_nanos(nanos));
            }
            _ => {
                let time = block.header.time();
                let before = Time::from_unix(time.unix_seconds() - 10, time.nanos()).unwrap();
                now = before.after(Duration::from_nanos(random.below(3) as u64));
            }
        }
    }
    Case { trusted, block, options, level, now }
}

/// Sets that stay, that rotate slowly, by more than a third and wholly; small ones and larger ones; secp256k1 keys among them.
fn chains() -> Vec<Chain> {
    let specs = [
        (1, 1, 0),
        (3, 1, 0),
        (4, 7, 1),
        (4, 3, 2),
        (4, 2, 4),
        (7, 5, 3),
        (7, 1, 7),
        (10, 4, 1),
        (10, 2, 4),
    ];
    let spec = |(validators, rotate_every, rotate_count)| Spec {
        last: 40,
        validators,
        rotate_every,
        rotate_count,
        mixed: validators == 7 && rotate_count == 3,
        commits: true,
        ..Spec::default()
    };
    specs.into_iter().map(|shape| Chain::new(spec(shape))).collect()
}

#[test]
fn verdicts_are_those_of_the_upstream_verifier() {
    let cases = std::env::var("TERCET_LIGHT_CASES").map_or(2_000, |n| n.parse().unwrap());
    let (mut random, mut chains) = (Random(0x7e5c_e7a1_1ce5_eed1), chains());
    assert!(chains[5].keys(1).iter().any(|key| *key >= SECP256K1));
    let mut verdicts: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..cases {
        let case = case(&mut random, &mut chains);
        let (ours, theirs) = (ours(&case), theirs(&case));
        assert!(agree(ours, theirs.as_ref()), "case {number}: {ours:?}, but upstream {theirs:?}");
        let name = match ours {
            Verdict::NotEnoughTrust(_) => "NotEnoughTrust".to_owned(),
            verdict => format!("{verdict:?}"),
        };
        *verdicts.entry(name).or_default() += 1;
    }
    println!("{cases} cases: {verdicts:#?}");
    // Every verdict there is occurs.
    assert!(cases < 2_000 || verdicts.len() == 17, "only {} verdicts", verdicts.len());
}
