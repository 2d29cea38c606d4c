//! Byzantine validators. Real processes do not lie, so most of these rows run directed scenarios of the simulator, in which they do; for
//! evidence in blocks an attacker with a validator's key lies to real nodes.

use anyhow::Context;

use super::lab::Lab;
use super::{NotHere, Row, Run, Seen};
use crate::attack::{self, Attack};
use crate::layout::Layout;
use crate::sim::cli::check;
use std::time::Duration;

/// Further seeds of each scenario.
const SEEDS: u64 = 300;

/// How long a real validator lies.
const LIES_FOR: Duration = Duration::from_secs(20);

/// The text of a scenario.
macro_rules! scenario {
    ($name:literal) => {
        ($name, include_str!(concat!("../../scenarios/", $name, ".txt")))
    };
}

const SCENARIOS: &[(&str, &str)] = &[
    scenario!("alone-in-later-views"),
    scenario!("amnesia"),
    scenario!("bound-by-an-earlier-view"),
    scenario!("censor"),
    scenario!("crash-between-writes"),
    scenario!("dead-primary"),
    scenario!("doubled-and-reordered"),
    scenario!("equivocating-primary"),
    scenario!("equivocating-votes"),
    scenario!("forged-new-view"),
    scenario!("invalid-blocks"),
    scenario!("late-commit"),
    scenario!("more-than-a-third"),
    scenario!("mutated-messages"),
    scenario!("power-loss"),
    scenario!("prepared-and-not-committed"),
    scenario!("replays"),
    scenario!("second-commit"),
    scenario!("silent-primaries"),
    scenario!("slow-primary"),
    scenario!("twins"),
    scenario!("view-change-and-new-view-lost"),
    scenario!("view-change-storm"),
    scenario!("withholding"),
    scenario!("wrong-clocks"),
];

/// A row of the simulator.
const fn row(id: &'static str, fault: &'static str, must: &'static str, run: Run) -> Row {
    Row { id, fault, how: "simulator: scenarios named in the last column", must, run }
}

/// How a real validator lies.
const TWICE: &str = "`tercet-testnet attack --kind equivocation`: its key signs everything twice";

pub(super) const ROWS: &[Row] = &[
    row(
        "T-30b",
        "A crash between any two writes, of one and of all",
        "the same messages sent again, none signed anew; S; L",
        |_| Box::pin(async { simulated(&["crash-between-writes", "power-loss"]) }),
    ),
    row(
        "T-60",
        "Forged NEW-VIEW: every part of it wrong, while views change",
        "rejected; the forger loses its view; S; L",
        |_| Box::pin(async { simulated(&["forged-new-view", "bound-by-an-earlier-view"]) }),
    ),
    row(
        "T-61",
        "Old messages of other views and heights again and again",
        "nobody leaves a view for them; S; L",
        |_| Box::pin(async { simulated(&["replays"]) }),
    ),
    row(
        "T-64",
        "A block prepared by some, then a view change with liars",
        "proposed again in the new view; S",
        |_| Box::pin(async { simulated(&["prepared-and-not-committed", "second-commit"]) }),
    ),
    row("T-65", "VIEW-CHANGE and NEW-VIEW lost", "sent again; S; L", |_| {
        Box::pin(async { simulated(&["view-change-and-new-view-lost"]) })
    }),
    row(
        "T-120a",
        "A primary with two proposals for one view",
        "at most one decided; the others leave it; S; L",
        |_| Box::pin(async { simulated(&["equivocating-primary"]) }),
    ),
    Row {
        id: "T-120b",
        fault: "The same: two PRE-PREPAREs of a real validator",
        how: TWICE,
        must: "each view with two proposals ends before its timer does; S; L",
        run: |lab| Box::pin(equivocated(lab)),
    },
    row(
        "T-121",
        "Primaries that say nothing, two in a row among seven",
        "one timeout each; S; L",
        |_| Box::pin(async { simulated(&["dead-primary", "silent-primaries"]) }),
    ),
    row("T-122a", "A primary that proposes just too late", "the others leave it; S; L", |_| {
        Box::pin(async { simulated(&["slow-primary"]) })
    }),
    row(
        "T-122b",
        "A primary that proposes just in time, again and again",
        "voted out; 70 % of the throughput within ten views",
        |_| {
            Box::pin(elsewhere(
                "the rule `slow-primary` is reserved (docs/protocol.md); until then its term ends it, and costs what docs/simulator.md says",
            ))
        },
    ),
    row(
        "T-123",
        "A primary that leaves transactions out",
        "they are decided in the next terms; S; L",
        |_| Box::pin(async { simulated(&["censor"]) }),
    ),
    row(
        "T-124",
        "A primary whose blocks have one wrong part, each part in turn",
        "refused by all; the others leave it; S; L",
        |_| Box::pin(async { simulated(&["invalid-blocks"]) }),
    ),
    row(
        "T-125",
        "Votes withheld, late, or sent to some only",
        "the others fetch what they lack; S; L",
        |_| Box::pin(async { simulated(&["withholding", "late-commit"]) }),
    ),
    row(
        "T-126a",
        "PREPARE and COMMIT signed for two blocks of a view",
        "counted once; S; L",
        |_| Box::pin(async { simulated(&["equivocating-votes"]) }),
    ),
    Row {
        id: "T-126b",
        fault: "The same: evidence in a block",
        how: TWICE,
        must: "each offence in one block, once, of four nodes under load; the application hears of it once; L",
        run: |lab| Box::pin(equivocated(lab)),
    },
    row(
        "T-127",
        "Certificates with other signers, views or digests",
        "rejected (each line of the checklist has a directed test); S; L",
        |_| Box::pin(async { simulated(&["mutated-messages", "forged-new-view"]) }),
    ),
    row(
        "T-128",
        "View-change storm: timers that do not agree, timeouts near the delays",
        "back-off converges; S; L",
        |_| Box::pin(async { simulated(&["view-change-storm", "alone-in-later-views"]) }),
    ),
    row(
        "T-129a",
        "Two of four lie together, beyond the bound",
        "the fork is seen from outside: an invariant of safety breaks",
        |_| Box::pin(async { simulated(&["more-than-a-third"]) }),
    ),
    row(
        "T-129b",
        "The same: light clients get evidence, nodes halt",
        "attack evidence for every light client",
        |_| {
            Box::pin(elsewhere(
                "held by `everybody_is_given_the_evidence_in_cometbfts_json` and \
                 `evidence_that_the_light_client_makes_is_accepted` (T-72 in docs/light-sync.md), not by processes",
            ))
        },
    ),
    row(
        "T-130a",
        "Amnesia: one prepares and then says that it has not",
        "what may be decided is proposed again; S; L",
        |_| Box::pin(async { simulated(&["amnesia"]) }),
    ),
    row("T-130b", "The same: proof against the liar", "shown by the VIEW-CHANGEs", |_| {
        Box::pin(elsewhere(
            "CometBFT's evidence has no form for it, so no block could hold it; T-130a shows that it breaks nothing",
        ))
    }),
    row("T-132", "Twins: two correct copies with one key", "S; L", |_| {
        Box::pin(async { simulated(&["twins"]) })
    }),
    row(
        "T-134",
        "Wrong clocks in COMMITs and proposals, jumps and drift",
        "the median bounds the block time, which rises; S; L",
        |_| Box::pin(async { simulated(&["wrong-clocks"]) }),
    ),
];

/// Four validators, of which one signs everything twice.
async fn equivocated(lab: &mut Lab) -> Seen {
    lab.up(Layout { powers: vec![1_000; 4], ..lab.layout(4) }).await?;
    let outcome = attack::run(&Attack {
        dir: lab.dir().to_path_buf(),
        kind: attack::Kind::Equivocation,
        victim: 0,
        duration: LIES_FOR,
        addresses: 1,
        load_rate: attack::LOAD_RATE,
    })
    .await?;
    anyhow::ensure!(outcome.failures.is_empty(), outcome.failures.join("; "));
    Ok(outcome.measured())
}

async fn elsewhere(why: &'static str) -> Seen {
    Err(NotHere::Elsewhere(why).into())
}

/// Runs scenarios of these names as they stand, then with further seeds.
pub(super) fn simulated(names: &[&str]) -> Seen {
    let mut seen = Vec::new();
    for name in names {
        let scenario = SCENARIOS.iter().find(|(other, _)| other == name);
        let (_, text) = scenario.with_context(|| format!("no scenario {name}"))?;
        let (runs, heights) = check(text, SEEDS).with_context(|| (*name).to_owned())?;
        seen.push(format!("{name}: as expected; {runs} seeds, {heights} heights"));
    }
    Ok(seen.join("; "))
}
