//! Hostile bytes for every decoder of the node, for as long as one likes; `make test` runs the same with few seeds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tercet_node::hostile_bytes::{TARGETS, Target, input};

use crate::table::say;

/// How often the clock is looked at.
const SEEDS_A_LOOK: u64 = 256;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct FuzzArgs {
    /// One decoder alone (default: all, one after the other).
    #[arg(long)]
    target: Option<String>,
    /// Seeds, as FIRST..END.
    #[arg(long, value_parser = seeds, conflicts_with = "seconds")]
    seeds: Option<(u64, u64)>,
    /// Seconds for each decoder, from a random seed on.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once("..").and_then(|(first, end)| {
        Some((first.parse().ok()?, end.parse().ok()?)).filter(|(first, end)| first < end)
    });
    parsed.ok_or_else(|| "write FIRST..END, such as 0..100000".to_owned())
}

/// Runs the decoders; fails with the first seed that one of them does not stand.
pub(crate) fn run(args: &FuzzArgs) -> anyhow::Result<()> {
    let chosen: Vec<&Target> = match &args.target {
        None => TARGETS.iter().collect(),
        Some(name) => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            let found = TARGETS.iter().find(|target| target.name == name);
            vec![found.with_context(|| format!("the decoders are {}", names.join(", ")))?]
        }
    };
    for target in chosen {
        let count = fuzz(target, args)?;
        say(&format!("{}: {count} inputs, nothing found", target.name));
    }
    Ok(())
}

fn fuzz(target: &Target, args: &FuzzArgs) -> anyhow::Result<u64> {
    let corpus = (target.corpus)();
    let (first, end) = args.seeds.unwrap_or_else(|| (u64::from(rand::random::<u32>()), u64::MAX));
    let until = Instant::now() + Duration::from_secs(args.seconds);
    for seed in first..end {
        if args.seeds.is_none() && seed.is_multiple_of(SEEDS_A_LOOK) && Instant::now() > until {
            return Ok(seed - first);
        }
        let bytes = input(target, &corpus, seed);
        if std::panic::catch_unwind(|| (target.run)(&bytes)).is_err() {
            let again = format!("--target {} --seeds {seed}..{}", target.name, seed + 1);
            bail!("{} fails on {}: {again}", target.name, hex::encode(&bytes));
        }
    }
    Ok(end - first)
}
