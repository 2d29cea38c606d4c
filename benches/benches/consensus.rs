//! The pure core: sealing and decoding blocks, verifying certificates, stepping a replica.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tendermint::block::Header;
use tendermint::block::header::Version;
use tendermint::{AppHash, Hash, Time};
use tendermint_proto::v0_38::types as pb;
use tercet_consensus::block::{BLOCK_BYTES_MAX, Block, BlockId, SealedBlock};
use tercet_consensus::message::Phase;
use tercet_consensus::testing::messages::Signers;
use tercet_consensus::verify::Direct;

/// Bytes of a transaction, as in the load test.
const TX_BYTES: usize = 250;

fn block(txs: usize) -> Block {
    let tx = |n: usize| {
        let mut tx = format!("key-{n:010}=").into_bytes();
        tx.resize(TX_BYTES, b'v');
        Bytes::from(tx)
    };
    let hash = Hash::Sha256([7; 32]);
    let header = Header {
        version: Version { block: 11, app: 1 },
        chain_id: "bench".parse().unwrap(),
        height: 1u32.into(),
        time: Time::from_unix_timestamp(1_700_000_000, 0).unwrap(),
        last_block_id: None,
        last_commit_hash: None,
        data_hash: None,
        validators_hash: hash,
        next_validators_hash: hash,
        consensus_hash: hash,
        app_hash: AppHash::try_from(vec![0; 8]).unwrap(),
        last_results_hash: Some(hash),
        evidence_hash: None,
        proposer_address: tendermint::account::Id::new([1; 20]),
    };
    let evidence = pb::EvidenceList::default();
    Block { header, txs: (0..txs).map(tx).collect(), evidence, last_commit: None }
}

fn blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("block");
    for txs in [0usize, 100, 5_000] {
        let plain = block(txs);
        let sealed = SealedBlock::seal(plain.clone());
        group.throughput(Throughput::Bytes(sealed.bytes().len() as u64));
        group.bench_with_input(BenchmarkId::new("seal", txs), &plain, |bencher, plain| {
            bencher.iter(|| SealedBlock::seal(black_box(plain.clone())));
        });
        group.bench_with_input(BenchmarkId::new("decode", txs), &sealed, |bencher, sealed| {
            bencher.iter(|| SealedBlock::decode(sealed.bytes().clone(), BLOCK_BYTES_MAX).unwrap());
        });
    }
    group.finish();
}

fn certificates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("certificate");
    for count in [4usize, 100] {
        let signers = Signers::new(&vec![10; count], 5);
        let id: BlockId = SealedBlock::seal(block(0)).id();
        let all: Vec<u32> = (0..u32::try_from(count).unwrap()).collect();
        let certificate = signers.certificate(0, id, &all);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("verify", count), |bencher| {
            bencher
                .iter(|| signers.context().certificate(black_box(&certificate), &Direct).unwrap());
        });
        let vote = signers.vote(Phase::Commit, 0, 0, id);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("vote", count), |bencher| {
            bencher.iter(|| signers.context().vote(black_box(vote.clone()), &Direct).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, blocks, certificates);
criterion_main!(benches);
