//! Whole networks under random faults: every invariant after every step, and progress once the network is good.

use super::cluster::{Cluster, Faults};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn good() -> Faults {
    let until = Duration::ZERO;
    Faults { loss: 0, duplicates: 0, delay: 5 * MS, crashes: 0, partitions: 0, until }
}

fn bad() -> Faults {
    Faults {
        loss: 15,
        duplicates: 10,
        delay: 60 * MS,
        crashes: 60,
        partitions: 50,
        until: 8_000 * MS,
    }
}

#[test]
fn a_good_network_decides_without_a_view_change() {
    for powers in [&[1][..], &[1; 4], &[4, 3, 2, 1], &[1; 7]] {
        let mut cluster = Cluster::new(1, powers, good());
        let took = cluster.run(20, 10_000 * MS).unwrap();
        assert_eq!(cluster.highest_view().number(), 0, "L5: {powers:?}");
        assert!(took < 4_000 * MS, "{powers:?} took {took:?}");
    }
}

#[test]
fn networks_agree_and_go_on_under_random_faults() {
    for seed in 0..300 {
        println!("seed {seed}");
        let powers: &[u64] = match seed % 4 {
            0 => &[1; 4],
            1 => &[40, 30, 20, 10],
            2 => &[1; 7],
            _ => &[2, 1, 1, 1],
        };
        let mut cluster = Cluster::new(seed, powers, bad());
        cluster
            .run(12, 300_000 * MS)
            .unwrap_or_else(|state| panic!("seed {seed}: no progress: {state}"));
    }
}

#[test]
fn a_dead_validator_stops_nothing() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut cluster = Cluster::new(seed, &[1; 4], good());
        cluster.kill(u32::try_from(seed % 4).unwrap());
        cluster.run(20, 120_000 * MS).unwrap_or_else(|state| panic!("seed {seed}: {state}"));
    }
}

#[test]
fn two_dead_of_seven_stop_nothing() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut cluster = Cluster::new(seed, &[1; 7], good());
        cluster.kill(0);
        cluster.kill(3);
        cluster.run(20, 240_000 * MS).unwrap_or_else(|state| panic!("seed {seed}: {state}"));
    }
}
