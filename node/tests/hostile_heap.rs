//! No decoder takes much more memory than the bytes that it is given: measured at the allocator, in a program of its own.

use peak_alloc::PeakAlloc;
use tercet_node::hostile_bytes::{HEAP_FACTOR, TARGETS, input};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// How many seeds a target gets.
const SEEDS: u64 = 3_000;

#[test]
fn a_decoder_takes_at_most_four_times_its_input_and_a_constant() {
    for target in TARGETS {
        let corpus = (target.corpus)();
        // What is made once and kept does not count.
        corpus.iter().for_each(|bytes| (target.run)(bytes));
        let mut worst = 0;
        for seed in 0..SEEDS {
            let bytes = input(target, &corpus, seed);
            HEAP.reset_peak_usage();
            let before = HEAP.current_usage();
            (target.run)(&bytes);
            let taken = HEAP.peak_usage().saturating_sub(before);
            let beyond = taken.saturating_sub(HEAP_FACTOR * bytes.len());
            worst = worst.max(beyond);
            assert!(
                beyond <= target.heap_bytes_max,
                "{} of seed {seed} takes {taken} bytes for {}",
                target.name,
                bytes.len()
            );
        }
        println!("{}: {worst} bytes beyond {HEAP_FACTOR} times the input", target.name);
    }
}
