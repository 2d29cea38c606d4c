//! Every target with fixed seeds, so that a failure comes again.

use super::*;

/// How many seeds a target gets here; `tercet-testnet fuzz` takes any.
const SEEDS: u64 = 6_000;

#[test]
fn no_decoder_fails_on_hostile_bytes() {
    for target in TARGETS {
        let corpus = (target.corpus)();
        for seed in 0..SEEDS {
            let bytes = input(target, &corpus, seed);
            let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(outcome.is_ok(), "{} of seed {seed}: {}", target.name, hex::encode(&bytes));
        }
    }
}

#[test]
fn valid_bytes_that_end_anywhere_fail_no_decoder() {
    for target in TARGETS {
        for bytes in (target.corpus)() {
            // Long texts in steps, or it would be quadratic in them.
            let step = 1 + bytes.len() / 2_000;
            for end in (0..=bytes.len()).rev().step_by(step) {
                (target.run)(&bytes[..end]);
            }
        }
    }
}

/// Whatever is damaged, most of what is fed is near to something valid: the corpus itself decodes, or the targets would see noise.
#[test]
fn the_same_seed_gives_the_same_bytes_and_others_give_others() {
    let target = &TARGETS[2];
    let corpus = (target.corpus)();
    let all = |corpus: &[Vec<u8>]| -> Vec<Vec<u8>> {
        (0..300).map(|seed| input(target, corpus, seed)).collect()
    };
    assert_eq!(all(&corpus), all(&corpus));
    let mut distinct = all(&corpus);
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 280, "{}", distinct.len());
    let decoded = corpus.iter().filter(|bytes| {
        crate::wire::Consensus::decode(bytes::Bytes::copy_from_slice(bytes)).is_ok()
    });
    assert_eq!(decoded.count(), corpus.len());
}
