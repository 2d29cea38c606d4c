//! Links between nodes, broken in the ways that networks break. The network must have been started with `up --proxied`.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::ask::{height_of, tip};
use super::{ChaosError, Kind, LOOK, Run, millis};
use crate::proxy::{Rules, now_ms};
use crate::state::Net;

/// Every node must have new blocks within this after the links are whole again.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// How many.
const NEW_BLOCKS: u64 = 5;
/// A slow link has so many bytes a second (256 kbit/s).
const SLOW: u32 = 32_000;
/// Least and most milliseconds that its bytes are under way.
const SLOW_DELAY_MS: (u64, u64) = (50, 300);
/// How often links flap.
const FLAP_EVERY: Duration = Duration::from_secs(1);

/// What is done in one round.
#[derive(Debug, PartialEq, Eq)]
struct Round {
    /// In words.
    what: String,
    /// The rules, each for a time.
    steps: Vec<Step>,
}

/// Rules for a time.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    rules: Rules,
    lasts: Duration,
    /// Whether connections that were made before a moment are reset: that moment is when the step begins.
    resets: bool,
}

impl Round {
    /// Chooses what is done to a network of so many nodes.
    fn choose(kind: Kind, nodes: usize, lasts: Duration, random: &mut StdRng) -> Round {
        let mut order: Vec<usize> = (0..nodes).collect();
        order.shuffle(random);
        let (some, others) = order.split_at(random.random_range(1..nodes.max(2)));
        let mut rules = Rules::default();
        let what = match kind {
            Kind::OneWay => {
                let one = some.get(..1).unwrap_or(some);
                rules.on(one, others, |flow| flow.cut = true);
                format!("nothing arrives from {one:?} at {others:?}")
            }
            Kind::SlowLink => {
                let one = some.get(..1).unwrap_or(some);
                let peers = u32::try_from(nodes).unwrap_or(u32::MAX).saturating_sub(1).max(1);
                rules.between(one, &order, |flow| {
                    flow.bytes_per_second = SLOW / peers;
                    flow.delay_ms = SLOW_DELAY_MS;
                });
                format!("256 kbit/s and 50 to 300 ms around {one:?}")
            }
            Kind::Swizzle => return swizzle(&order, lasts, random),
            Kind::Flap => return flap(&order, lasts, random),
            _ => {
                rules.between(some, others, |flow| flow.cut = true);
                format!("{some:?} and {others:?} cut off from each other")
            }
        };
        Round { what, steps: vec![Step { rules, lasts, resets: false }] }
    }
}

/// All are cut off one after the other, and come back in another order.
fn swizzle(order: &[usize], lasts: Duration, random: &mut StdRng) -> Round {
    let nodes = u32::try_from(order.len()).unwrap_or(1).max(1);
    let lasts = lasts / (2 * nodes);
    let mut cut: Vec<usize> = Vec::new();
    let mut back = order.to_owned();
    back.shuffle(random);
    let mut steps = Vec::new();
    let mut step = |cut: &[usize]| {
        let mut rules = Rules::default();
        rules.between(cut, order, |flow| flow.cut = true);
        steps.push(Step { rules, lasts, resets: false });
    };
    for node in order {
        cut.push(*node);
        step(&cut);
    }
    for node in &back {
        cut.retain(|other| other != node);
        step(&cut);
    }
    Round { what: format!("cut off in the order {order:?}, back in the order {back:?}"), steps }
}

/// Connections of a random node break every second, and are refused until the next or not.
fn flap(order: &[usize], lasts: Duration, random: &mut StdRng) -> Round {
    let times = usize::try_from(lasts.as_secs()).unwrap_or(1).max(1);
    let mut steps = Vec::new();
    for _ in 0..times {
        let one = random.random_range(0..order.len().max(1));
        let mut rules = Rules::default();
        let refuse = random.random();
        rules.between(&[one], order, |flow| {
            flow.reset_before = 1;
            flow.refuse = refuse;
        });
        steps.push(Step { rules, lasts: FLAP_EVERY, resets: true });
    }
    Round {
        what: format!("connections of one node reset, and refused or not, {times} times"),
        steps,
    }
}

impl Step {
    /// The rules as of now.
    fn rules(&self, nodes: &[usize]) -> Rules {
        let mut rules = self.rules.clone();
        if self.resets {
            let now = now_ms();
            rules.on(nodes, nodes, |flow| {
                if flow.reset_before > 0 {
                    flow.reset_before = now;
                }
            });
        }
        rules
    }
}

impl Run {
    /// One round: breaks links, mends them, and waits for new blocks at every node.
    pub(super) async fn break_links(&mut self) -> Result<String, ChaosError> {
        let net = Net::load(&self.chaos.dir)?;
        if !net.proxied {
            return Err(ChaosError::NotProxied);
        }
        let nodes: Vec<usize> = net.nodes.iter().map(|node| node.index).collect();
        let lasts = self.chaos.struck_for;
        let round = Round::choose(self.chaos.kind, nodes.len(), lasts, &mut self.random);
        let before = tip(&net.nodes).await;
        for step in &round.steps {
            step.rules(&nodes).store(&self.chaos.dir)?;
            tokio::time::sleep(step.lasts).await;
        }
        Rules::default().store(&self.chaos.dir)?;
        let healed = Instant::now();
        let tip = tip(&net.nodes).await;
        let mut late = Vec::new();
        for node in &net.nodes {
            while height_of(node).await < Some(tip + NEW_BLOCKS) {
                if healed.elapsed() > HEALED_WITHIN {
                    late.push(node.name());
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        let took = healed.elapsed();
        self.back.push(took);
        let what = round.what;
        if !late.is_empty() {
            let late = late.join(", ");
            self.fail(format!("{what}: no {NEW_BLOCKS} new blocks at {late} within 30 s"));
        }
        let blocks = tip.saturating_sub(before);
        Ok(format!(
            "{what}: {blocks} blocks meanwhile, {NEW_BLOCKS} more at all {} after",
            millis(took)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn choose(kind: Kind, seed: u64) -> Round {
        let mut random = StdRng::seed_from_u64(seed);
        Round::choose(kind, 4, Duration::from_secs(8), &mut random)
    }

    /// How many of the twelve flows are broken.
    fn broken(rules: &Rules) -> usize {
        let flows = (0..4).flat_map(|a| (0..4).map(move |b| rules.flow(a, b)));
        flows.filter(|flow| *flow != crate::proxy::Flow::default()).count()
    }

    #[test]
    fn a_seed_gives_the_same_round() {
        for kind in [Kind::Partition, Kind::OneWay, Kind::Swizzle, Kind::Flap, Kind::SlowLink] {
            assert_eq!(choose(kind, 5), choose(kind, 5));
            let all: Vec<String> = (0..20).map(|seed| choose(kind, seed).what).collect();
            assert!(kind == Kind::Flap || all.iter().any(|what| *what != all[0]), "{kind:?}");
        }
    }

    #[test]
    fn rounds_break_what_they_say() {
        for seed in 0..50 {
            let partition = broken(&choose(Kind::Partition, seed).steps[0].rules);
            assert!([6, 8].contains(&partition), "{partition}");
            assert!((1..=3).contains(&broken(&choose(Kind::OneWay, seed).steps[0].rules)));
            assert_eq!(broken(&choose(Kind::SlowLink, seed).steps[0].rules), 6);
            let swizzle = choose(Kind::Swizzle, seed).steps;
            let counts: Vec<usize> = swizzle.iter().map(|step| broken(&step.rules)).collect();
            assert_eq!(counts, [6, 10, 12, 12, 12, 10, 6, 0]);
            assert_eq!(swizzle.iter().map(|step| step.lasts).sum::<Duration>().as_secs(), 8);
            let flap = choose(Kind::Flap, seed).steps;
            assert_eq!(flap.len(), 8);
            let rules = flap[0].rules(&[0, 1, 2, 3]);
            let reset = (0..4).flat_map(|a| (0..4).map(move |b| (a, b)));
            let reset = reset.filter(|(a, b)| rules.flow(*a, *b).reset_before > 1_000_000);
            assert_eq!(reset.count(), 6);
        }
    }
}
