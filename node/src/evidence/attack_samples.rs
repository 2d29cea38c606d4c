//! Attacks on light clients of the chain of the tests, right and wrong.

use super::tests::{Fake, TIP, commit, signers, time_of};
use std::time::Duration;
use tendermint::block::{Header, Height};
use tendermint::{AppHash, Hash};
use tendermint_proto::v0_38::types as pb;
use tendermint_proto::v0_38::types::evidence::Sum;
use tercet_consensus::block::BlockId;
use tercet_consensus::testing::cluster::header;
use tercet_consensus::testing::messages::{CHAIN_ID, block_id};

/// The chain with the commit of block 10: view 1, by validators 1, 2 and 3.
pub(super) fn chain() -> Fake {
    let mut chain = Fake::new();
    let id = id_of(&chain.headers[&10]);
    chain.commits.insert(10, commit(10, 1, id, &[1, 2, 3]));
    chain
}

fn id_of(header: &Header) -> BlockId {
    BlockId { hash: header.hash(), ..block_id(1) }
}

/// The chain's own header of block 10.
fn own() -> Header {
    let validators = signers(10).validators;
    let proposer = validators.at(0).expect("four").address;
    of_chain(header(Height::from(10u32), time_of(10), proposer, &validators, None))
}

/// A header of this chain.
pub(super) fn of_chain(mut header: Header) -> Header {
    header.chain_id = CHAIN_ID.parse().expect("an id");
    header
}

fn validator(index: u32) -> pb::Validator {
    let info = signers(10).validators.to_tendermint().swap_remove(index as usize);
    pb::Validator {
        address: info.address.as_bytes().to_vec(),
        pub_key: Some(info.pub_key.into()),
        voting_power: info.power.into(),
        proposer_priority: i64::from(index) - 7,
    }
}

/// An attack with this header, in view `v` signed by `by`, that accuses `guilty`.
fn attack(header: Header, v: u32, by: &[u32], guilty: &[u32]) -> pb::LightClientAttackEvidence {
    let height = u32::try_from(header.height.value()).expect("small");
    let commit = commit(height, v, id_of(&header), by);
    let mut raw = pb::Header::from(header);
    raw.last_block_id.get_or_insert_with(|| pb::BlockId {
        hash: Vec::new(),
        part_set_header: Some(pb::PartSetHeader::default()),
    });
    let commit = with_times(commit.to_tendermint().into());
    pb::LightClientAttackEvidence {
        conflicting_block: Some(pb::LightBlock {
            signed_header: Some(pb::SignedHeader { header: Some(raw), commit: Some(commit) }),
            validator_set: Some(pb::ValidatorSet {
                validators: (0..4).map(validator).collect(),
                proposer: Some(validator(0)),
                total_voting_power: 0,
            }),
        }),
        common_height: i64::from(height),
        byzantine_validators: guilty.iter().map(|index| validator(*index)).collect(),
        total_voting_power: 40,
        timestamp: Some(time_of(height).into()),
    }
}

/// Go writes the time of absent validators too.
fn with_times(mut commit: pb::Commit) -> pb::Commit {
    for entry in &mut commit.signatures {
        entry.timestamp.get_or_insert(tendermint_proto::google::protobuf::Timestamp {
            seconds: -62_135_596_800,
            nanos: 0,
        });
    }
    commit
}

fn wrapped(inner: pb::LightClientAttackEvidence) -> pb::Evidence {
    pb::Evidence { sum: Some(Sum::LightClientAttackEvidence(inner)) }
}

fn since(mut inner: pb::LightClientAttackEvidence, height: u32) -> pb::LightClientAttackEvidence {
    inner.common_height = height.into();
    inner.timestamp = Some(time_of(height).into());
    inner
}

fn raw_lunatic() -> pb::LightClientAttackEvidence {
    let mut header = own();
    header.app_hash = AppHash::try_from(b"lunatic".to_vec()).expect("a hash");
    since(attack(header, 0, &[0, 1, 2], &[0, 1, 2]), 7)
}

fn raw_equivocation() -> pb::LightClientAttackEvidence {
    let mut header = own();
    header.data_hash = Some(Hash::Sha256([5; 32]));
    attack(header, 1, &[0, 1, 2], &[1, 2])
}

/// A header that could not follow from the chain.
pub(super) fn lunatic() -> pb::Evidence {
    wrapped(raw_lunatic())
}

/// The same told with another common height.
pub(super) fn lunatic_since(height: u32) -> pb::Evidence {
    wrapped(since(raw_lunatic(), height))
}

/// Another block in the round of the chain's.
pub(super) fn equivocation() -> pb::Evidence {
    wrapped(raw_equivocation())
}

/// Another block in another round.
pub(super) fn amnesia() -> pb::Evidence {
    let mut header = own();
    header.data_hash = Some(Hash::Sha256([5; 32]));
    wrapped(attack(header, 2, &[0, 1, 2], &[]))
}

/// A header of a height to come, with a time that is over.
pub(super) fn ahead() -> pb::Evidence {
    wrapped(raw_ahead())
}

fn raw_ahead() -> pb::LightClientAttackEvidence {
    let mut header = own();
    header.height = Height::from(TIP + 5);
    header.time = time_of(TIP);
    header.app_hash = AppHash::try_from(b"lunatic".to_vec()).expect("a hash");
    since(attack(header, 0, &[0, 1, 2], &[0, 1, 2]), 7)
}

/// What a light client makes of the attack when it knows the chain.
pub(super) fn by_light_client(chain: &Fake, raw: &pb::Evidence) -> light::AttackEvidence {
    let Some(Sum::LightClientAttackEvidence(inner)) = &raw.sum else { panic!("{raw:?}") };
    let signed = inner.conflicting_block.as_ref().and_then(|block| block.signed_header.as_ref());
    let signed = signed.expect("there");
    let conflicting =
        bound(signed.header.as_ref().expect("there"), signed.commit.as_ref().expect("there"));
    let of_chain = |height: u32| {
        let header = &chain.headers[&u64::from(height)];
        let known = chain.commits.get(&height.into()).cloned();
        let commit = known.unwrap_or_else(|| commit(height, 0, id_of(header), &[0, 1, 2]));
        bound(&header.clone().into(), &with_times(commit.to_tendermint().into()))
    };
    let height = u32::try_from(conflicting.header.height()).expect("small");
    let common = of_chain(7);
    let hash = common.header.hash();
    let common = light::TrustedBlock::restore(common, hash).expect("a block of the chain");
    let trusted = of_chain(height.min(TIP));
    let bind = |block: light::UntrustedBlock| block.bind().expect("a block");
    light::AttackEvidence::new(&common, &bind(conflicting), &bind(trusted))
}

fn bound(header: &pb::Header, commit: &pb::Commit) -> light::UntrustedBlock {
    use prost::Message as _;
    let validators = std::sync::Arc::new(signers(10).validators);
    light::UntrustedBlock {
        header: light::Header::decode(header.encode_to_vec().into()).expect("a header"),
        commit: light::Commit::from_proto(commit).expect("a commit"),
        validators: validators.clone(),
        next_validators: Some(validators),
    }
}

/// What the light client calls these.
mod light {
    pub(super) use tercet_light_core::block::{TrustedBlock, UntrustedBlock};
    pub(super) use tercet_light_core::commit::Commit;
    pub(crate) use tercet_light_core::evidence::AttackEvidence;
    pub(super) use tercet_light_core::header::Header;
}

type Spoil = fn(&mut pb::LightClientAttackEvidence);

fn block(e: &mut pb::LightClientAttackEvidence) -> &mut pb::LightBlock {
    e.conflicting_block.as_mut().expect("there")
}

fn set(e: &mut pb::LightClientAttackEvidence) -> &mut pb::ValidatorSet {
    block(e).validator_set.as_mut().expect("there")
}

fn entries(e: &mut pb::LightClientAttackEvidence) -> &mut Vec<pb::CommitSig> {
    &mut signed(e).commit.as_mut().expect("there").signatures
}

fn signed(e: &mut pb::LightClientAttackEvidence) -> &mut pb::SignedHeader {
    block(e).signed_header.as_mut().expect("there")
}

/// Attacks that break one rule each, with its name.
pub(super) fn wrong() -> Vec<(&'static str, pb::Evidence)> {
    let spoils: Vec<(&'static str, Spoil)> = vec![
        ("no block", |e| e.conflicting_block = None),
        ("no header", |e| signed(e).header = None),
        ("no commit", |e| signed(e).commit = None),
        ("no validators", |e| block(e).validator_set = None),
        ("no proposer", |e| set(e).proposer = None),
        ("a sum of powers", |e| set(e).total_voting_power = 40),
        ("a proposer from elsewhere", |e| set(e).proposer.as_mut().expect("there").address[0] ^= 1),
        ("an entry too few", |e| drop(entries(e).pop())),
        ("a common height of zero", |e| e.common_height = 0),
        ("a common height above the block", |e| *e = since(e.clone(), 11)),
        ("the time of another block", |e| e.timestamp = Some(time_of(8).into())),
        ("no time", |e| e.timestamp = None),
        ("another total", |e| e.total_voting_power = 41),
        ("another header than was signed for", |e| {
            signed(e).header.as_mut().expect("there").data_hash = vec![1; 32];
        }),
        ("another power in the set", |e| set(e).validators[0].voting_power = 11),
        ("another key in the set", |e| {
            set(e).validators[0].pub_key = set(e).validators[1].pub_key.clone();
        }),
        ("an address that is not that of the key", |e| set(e).validators[0].address[3] ^= 1),
        ("an entry under another's address", |e| {
            let other = entries(e)[1].validator_address.clone();
            entries(e)[0].validator_address = other;
        }),
        ("nobody accused", |e| e.byzantine_validators.clear()),
        ("one accused too few", |e| drop(e.byzantine_validators.pop())),
        ("one accused that did not sign", |e| e.byzantine_validators.push(validator(3))),
        ("an innocent accused", |e| e.byzantine_validators[2] = validator(3)),
        ("the accused in another order", |e| e.byzantine_validators.swap(0, 1)),
        ("another power of the accused", |e| e.byzantine_validators[0].voting_power = 9),
        ("another key of the accused", |e| {
            let other = e.byzantine_validators[1].pub_key.clone();
            e.byzantine_validators[0].pub_key = other;
        }),
        ("a bad signature", |e| entries(e)[0].signature[7] ^= 1),
        ("a short signature", |e| entries(e)[0].signature.truncate(63)),
    ];
    let spoilt = spoils.into_iter().map(|(name, spoil)| {
        let mut inner = raw_lunatic();
        spoil(&mut inner);
        (name, wrapped(inner))
    });
    spoilt.chain(others()).collect()
}

fn others() -> Vec<(&'static str, pb::Evidence)> {
    let mut early = raw_ahead();
    let late = (time_of(TIP) + Duration::from_secs(1)).expect("a time");
    let mut header = own();
    (header.height, header.time) = (Height::from(TIP + 5), late);
    header.app_hash = AppHash::try_from(b"lunatic".to_vec()).expect("a hash");
    early.conflicting_block = attack(header, 0, &[0, 1, 2], &[0, 1, 2]).conflicting_block;
    let mut same_height = raw_lunatic();
    same_height = since(same_height, 10);
    let mut foreign = own();
    foreign.chain_id = "other".parse().expect("an id");
    foreign.app_hash = AppHash::try_from(b"lunatic".to_vec()).expect("a hash");
    let mut lunatic = own();
    lunatic.app_hash = AppHash::try_from(b"lunatic".to_vec()).expect("a hash");
    let two = attack(lunatic, 0, &[0, 1], &[0, 1]);
    let mut accusing = raw_equivocation();
    accusing.byzantine_validators.insert(0, validator(0));
    let mut amnesia = own();
    amnesia.data_hash = Some(Hash::Sha256([5; 32]));
    vec![
        ("a header to come with a time to come", wrapped(early)),
        ("a lunatic header at the common height", wrapped(same_height)),
        (
            "a header of another chain",
            wrapped(since(attack(foreign, 0, &[0, 1, 2], &[0, 1, 2]), 7)),
        ),
        ("half of the power", wrapped(since(two, 7))),
        ("the chain's own header", wrapped(attack(own(), 1, &[1, 2, 3], &[1, 2, 3]))),
        ("who signed one of both", wrapped(accusing)),
        ("anyone for amnesia", wrapped(attack(amnesia, 2, &[0, 1, 2], &[0]))),
    ]
}
