//! Whole networks under random faults: every invariant after every step, and progress once the network is good.

use super::cluster::{Cluster, Faults, Options};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn good() -> Faults {
    Faults { delay: 5 * MS, ..Faults::default() }
}

/// Everything at once, until eight seconds have passed.
fn bad() -> Faults {
    Faults {
        loss: 15,
        duplicates: 10,
        delay: 60 * MS,
        crashes: 60,
        partitions: 50,
        signers: 10,
        holds: 40,
        until: 8_000 * MS,
    }
}

fn options(powers: &[u64], faults: Faults) -> Options {
    Options { powers: vec![(1, powers.to_vec())], faults, liar: None, extensions_from: None }
}

const POWERS: [&[u64]; 4] = [&[1; 4], &[40, 30, 20, 10], &[1; 7], &[2, 1, 1, 1]];

/// Chaos until the network is good, then twelve more heights at every correct replica within a bound.
fn chaos_then_progress(seed: u64, options: Options) {
    println!("seed {seed}");
    let until = options.faults.until;
    let mut cluster = Cluster::new(seed, options);
    let _ = cluster.run(usize::MAX, until);
    let (tip, steps) = (cluster.tip(), cluster.steps());
    let done = cluster.run(tip + 12, until + 60_000 * MS);
    done.unwrap_or_else(|state| panic!("seed {seed}: no progress: {state}"));
    assert!(cluster.steps() - steps < 60_000, "seed {seed}: {} steps", cluster.steps() - steps);
}

/// L5.
#[test]
fn a_good_network_decides_without_a_view_change() {
    for powers in [&[1][..], &[1; 4], &[4, 3, 2, 1], &[1; 7]] {
        let mut cluster = Cluster::new(1, options(powers, good()));
        let took = cluster.run(20, 10_000 * MS).unwrap();
        assert_eq!(cluster.highest_view().number(), 0, "L5: {powers:?}");
        assert!(took < 4_000 * MS, "{powers:?} took {took:?}");
    }
}

/// S1–S6, S9, S11, S12, L1, L3, L4.
#[test]
fn networks_agree_and_go_on_under_random_faults() {
    for seed in 0..160 {
        let powers = POWERS[seed as usize % 4];
        chaos_then_progress(seed, options(powers, bad()));
    }
}

/// The same with a liar whose power is below a third.
#[test]
fn a_liar_forks_nothing_and_stops_nothing() {
    for seed in 1_000..1_120 {
        let powers = POWERS[seed as usize % 4];
        let liar = match seed % 4 {
            1 => 1 + (seed / 4 % 3) as u8,
            3 => 1 + (seed / 4 % 3) as u8,
            _ => (seed / 4) as u8 % powers.len() as u8,
        };
        let faults = Faults { crashes: 20, loss: 8, partitions: 20, ..bad() };
        chaos_then_progress(seed, Options { liar: Some(liar), ..options(powers, faults) });
    }
}

/// §7: a validator joins, another is re-weighted, another leaves; "no certificate mixes sets".
#[test]
fn validators_join_and_leave_under_random_faults() {
    for seed in 2_000..2_030 {
        let powers = vec![
            (1, vec![1, 1, 1, 1, 0]),
            (4, vec![1, 1, 1, 1, 2]),
            (7, vec![0, 1, 1, 3, 2]),
            (10, vec![2, 1, 0, 2, 2]),
        ];
        let faults = Faults { until: 5_000 * MS, ..bad() };
        chaos_then_progress(seed, Options { powers, ..options(&[], faults) });
    }
}

/// Vote extensions from the first height on, or from a later one: whoever is primary finds a commit that has them all.
#[test]
fn networks_with_vote_extensions_agree_and_go_on_under_random_faults() {
    for seed in 3_000..3_060 {
        let extensions_from = Some(1 + (seed as u32 % 3) * 4);
        let powers = POWERS[seed as usize % 4];
        chaos_then_progress(seed, Options { extensions_from, ..options(powers, bad()) });
    }
}

/// L1 with a crash: whoever died costs one timeout at each of its turns.
#[test]
fn a_dead_validator_stops_nothing() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut cluster = Cluster::new(seed, options(&[1; 4], good()));
        cluster.kill((seed % 4) as u8, seed % 2 == 0);
        cluster.run(20, 120_000 * MS).unwrap_or_else(|state| panic!("seed {seed}: {state}"));
    }
}

/// "power 30 of 40/30/20/10 dead": by power, not by heads.
#[test]
fn the_dead_are_weighed_and_not_counted() {
    let mut cluster = Cluster::new(3, options(&[40, 30, 20, 10], good()));
    cluster.kill(1, false);
    cluster.run(20, 120_000 * MS).unwrap_or_else(|state| panic!("{state}"));
    let mut cluster = Cluster::new(3, options(&[40, 30, 20, 10], good()));
    cluster.kill(0, false);
    assert!(cluster.run(20, 60_000 * MS).is_err(), "60 of 100 are no quorum");
}

#[test]
fn two_dead_of_seven_stop_nothing() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut cluster = Cluster::new(seed, options(&[1; 7], good()));
        cluster.kill(0, false);
        cluster.kill(3, false);
        cluster.run(20, 240_000 * MS).unwrap_or_else(|state| panic!("seed {seed}: {state}"));
    }
}

/// L6: a power loss of all replicas, again and again.
#[test]
fn the_chain_goes_on_after_a_power_loss_of_all() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut cluster = Cluster::new(seed, options(POWERS[seed as usize % 4], good()));
        for round in 1..8 {
            cluster.restart_all();
            let _ = cluster.run(usize::MAX, round * (seed as u32 * 7 + 30) * MS);
        }
        let tip = cluster.tip();
        cluster.run(tip + 10, 60_000 * MS).unwrap_or_else(|state| panic!("seed {seed}: {state}"));
    }
}

/// Tendermint by ByzzFuzz: two steps in which every message is lost stop nothing, because what is lost comes back by STATUS.
#[test]
fn moments_of_total_loss_stop_nothing() {
    for seed in 0..30 {
        println!("seed {seed}");
        let until = (20 + seed as u32 * 23) * MS;
        let mut cluster =
            Cluster::new(seed, options(&[1; 4], Faults { loss: 100, until, ..good() }));
        let took = cluster.run(5, until + 5_000 * MS);
        took.unwrap_or_else(|state| panic!("seed {seed}: {state}"));
    }
}
