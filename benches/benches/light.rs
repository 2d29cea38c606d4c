//! The light client: hash fill, and commits with 100 validators beside the upstream verifier in one run.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use tendermint::block::Commit;
use tendermint::block::signed_header::SignedHeader;
use tendermint::trust_threshold::TrustThresholdFraction;
use tendermint::validator::Set;
use tendermint_light_client_verifier::types::{TrustedBlockState, UntrustedBlockState};
use tendermint_light_client_verifier::{ProdVerifier, Verdict, Verifier as _};
use tendermint_proto::Protobuf;
use tendermint_proto::v0_38::types as pb;
use tercet_light_core::block::{BoundBlock, TrustedBlock, UntrustedBlock};
use tercet_light_core::chain::{LinkedRun, RUN_HEADERS_MAX, RunRequest};
use tercet_light_core::options::{Options, TrustLevel};
use tercet_light_core::testing::chain::{Chain, Spec};
use tercet_light_core::verify::{Signatures, verify_commits};

/// How many commits one batch has, as in `full` mode.
const COMMITS: u64 = 128;

fn fill(criterion: &mut Criterion) {
    let high = RUN_HEADERS_MAX as u64 + 1;
    let chain = Chain::new(Spec { last: high, ..Spec::default() });
    let request = RunRequest { chain_id: chain.spec.chain_id.clone(), low: 2, high };
    let raw: Vec<Bytes> = (2..=high).map(|height| chain.header(height).bytes().clone()).collect();
    let mut group = criterion.benchmark_group("light/fill");
    group.throughput(Throughput::Elements(raw.len() as u64));
    group.bench_function("decode, hash and link", |bencher| {
        bencher.iter(|| LinkedRun::link(&request, black_box(raw.clone())).unwrap());
    });
    group.bench_function("upstream: decode and hash", |bencher| {
        let decode = |raw: &Bytes| {
            let header = <tendermint::block::Header as Protobuf<pb::Header>>::decode(raw.clone());
            header.unwrap().hash()
        };
        bencher.iter(|| raw.iter().map(decode).collect::<Vec<_>>());
    });
    group.finish();
}

fn options() -> Options {
    Options {
        trust_level: TrustLevel::ONE_THIRD,
        trusting_period: Duration::from_secs(1 << 30),
        clock_drift: Duration::from_secs(10),
    }
}

fn commits(criterion: &mut Criterion) {
    let mut chain = Chain::new(Spec { last: COMMITS + 1, validators: 100, ..Spec::default() });
    let blocks: Vec<UntrustedBlock> = (1..=COMMITS).map(|height| chain.block(height)).collect();
    let bind = |blocks: Vec<UntrustedBlock>| -> Vec<BoundBlock> {
        blocks.into_iter().map(|block| block.bind().unwrap()).collect()
    };
    let mut group = criterion.benchmark_group("light/commits of 100 validators");
    group.sample_size(10).throughput(Throughput::Elements(COMMITS));
    for (name, which) in
        [("a quorum, batched", Signatures::Quorum), ("all, batched", Signatures::All)]
    {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let verdicts = verify_commits(&bind(black_box(blocks.clone())), which);
                assert!(verdicts.iter().all(Result::is_ok));
            });
        });
    }
    // The same on two threads, a batch each.
    group.throughput(Throughput::Elements(2 * COMMITS));
    group.bench_function("a quorum, batched, two threads", |bencher| {
        let verify = || verify_commits(&bind(black_box(blocks.clone())), Signatures::Quorum);
        bencher.iter(|| {
            std::thread::scope(|scope| {
                let other = scope.spawn(verify);
                assert!(verify().iter().chain(&other.join().unwrap()).all(Result::is_ok));
            });
        });
    });
    group.throughput(Throughput::Elements(COMMITS));
    // One commit is bad: the batch is halved until it is found.
    let mut bad = blocks.clone();
    bad[20].commit.entries[0].as_mut().unwrap().signature.0[40] ^= 1;
    group.bench_function("a quorum, batched, one is bad", |bencher| {
        bencher.iter(|| {
            let verdicts = verify_commits(&bind(black_box(bad.clone())), Signatures::Quorum);
            assert_eq!(verdicts.iter().filter(|verdict| verdict.is_err()).count(), 1);
        });
    });
    group.finish();
    one_by_one(criterion, &blocks);
}

fn one_by_one(criterion: &mut Criterion, blocks: &[UntrustedBlock]) {
    let now = blocks.last().unwrap().header.time().after(Duration::from_secs(1));
    let mut group = criterion.benchmark_group("light/one commit of 100 validators");
    group.sample_size(20).throughput(Throughput::Elements(1));
    let root = TrustedBlock::restore(blocks[0].clone(), blocks[0].header.hash()).unwrap();
    group.bench_function("adjacent", |bencher| {
        bencher.iter(|| root.extend(blocks[1].clone().bind().unwrap(), &options(), now).unwrap());
    });
    group.bench_function("skipping", |bencher| {
        bencher.iter(|| root.extend(blocks[40].clone().bind().unwrap(), &options(), now).unwrap());
    });
    let signed = |block: &UntrustedBlock| {
        let commit = block.commit.encode();
        let commit = pb::Commit { ..prost::Message::decode(commit.as_slice()).unwrap() };
        let commit = Commit::try_from(commit).unwrap();
        SignedHeader::new(block.header.to_tendermint().unwrap(), commit).unwrap()
    };
    let (trusted, next) = (blocks[0].header.to_tendermint().unwrap(), signed(&blocks[1]));
    let set = Set::without_proposer(blocks[0].validators.to_tendermint());
    let options = tendermint_light_client_verifier::options::Options {
        trust_threshold: TrustThresholdFraction::ONE_THIRD,
        trusting_period: Duration::from_secs(1 << 30),
        clock_drift: Duration::from_secs(10),
    };
    group.bench_function("upstream: adjacent", |bencher| {
        bencher.iter(|| {
            let verdict = ProdVerifier::default().verify_update_header(
                UntrustedBlockState {
                    signed_header: black_box(&next),
                    validators: &set,
                    next_validators: Some(&set),
                },
                TrustedBlockState {
                    chain_id: &trusted.chain_id,
                    header_time: trusted.time,
                    height: trusted.height,
                    next_validators: &set,
                    next_validators_hash: trusted.next_validators_hash,
                },
                &options,
                now.to_tendermint(),
            );
            assert_eq!(verdict, Verdict::Success);
        });
    });
    group.finish();
}

criterion_group!(benches, fill, commits);
criterion_main!(benches);
