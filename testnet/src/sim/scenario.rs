//! Scenarios: plans as text, one thing a line, with what is expected of them. A shrunk failure is printed in the same form, so that it can
//! be kept. The lines are those of `docs/simulator.md`.

use super::adversary::Scheme;
use super::byzantine::Strategy;
use super::plan::{Extensions, Fault, Kind, Net, NodePlan, Plan, Seat, Timed, When};
use super::run::Outcome;
use super::{MS, Nanos, SECOND};
use std::fmt::Write as _;

/// A plan with what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// The plan.
    pub(crate) plan: Plan,
    /// What is expected beside that every invariant holds.
    pub(crate) expect: Vec<Expect>,
}

/// Something that is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// `expect met GROUP: NAME`: it is in the coverage.
    Met(String, String),
    /// `expect never GROUP: NAME`: it is not.
    Never(String, String),
    /// `expect first-within TIME`: from the healing to a height decided everywhere.
    FirstWithin(Nanos),
    /// `expect failure WORDS`: the run fails and says so.
    Failure(String),
}

impl Expect {
    /// What is not as expected, in words.
    fn missed(&self, outcome: &Outcome) -> Option<String> {
        let met = |group: &str, name: &str| outcome.coverage.has(group, name);
        match self {
            Expect::Met(group, name) if !met(group, name) => {
                Some(format!("{group}: {name} was never met"))
            }
            Expect::Never(group, name) if met(group, name) => {
                Some(format!("{group}: {name} was met"))
            }
            Expect::FirstWithin(limit) if outcome.first_took.is_none_or(|took| took > *limit) => {
                Some(format!("the first height took {:?} ns", outcome.first_took))
            }
            Expect::Failure(words) => match &outcome.failure {
                Some(failure) if failure.contains(words) => None,
                other => Some(format!("it should fail with {words:?}, and it did with {other:?}")),
            },
            _ => None,
        }
    }
}

impl Scenario {
    /// Whether it is expected to fail.
    pub(crate) fn fails(&self) -> bool {
        self.expect.iter().any(|expect| matches!(expect, Expect::Failure(_)))
    }

    /// Everything that is not as expected.
    pub(crate) fn judge(&self, outcome: &Outcome) -> Vec<String> {
        let failure = outcome.failure.clone().filter(|_| !self.fails());
        let missed = self.expect.iter().filter_map(|expect| expect.missed(outcome));
        failure.into_iter().chain(missed).collect()
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// The first line that is not understood, with its number.
    pub(crate) fn parse(text: &str) -> Result<Scenario, String> {
        let mut scenario = Scenario { plan: start(), expect: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let read = scenario.line(line);
            read.ok_or_else(|| format!("line {} is not understood: {line}", number + 1))?;
        }
        let nodes = scenario.plan.nodes.len();
        if scenario.plan.powers.iter().all(|power| *power == 0) || nodes == 0 {
            return Err("a scenario needs a line `powers`".into());
        }
        Ok(scenario)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let plan = &mut self.plan;
        match (first, words.as_slice()) {
            ("seed", [n]) => plan.seed = n.parse().ok()?,
            ("powers", powers) => {
                plan.powers = powers.iter().map(|p| p.parse().ok()).collect::<Option<_>>()?;
                plan.nodes = (0..plan.powers.len()).map(node).collect();
            }
            ("heights", [to, after]) => plan.heights = (to.parse().ok()?, after.parse().ok()?),
            ("heal", [height, at]) => plan.heal = (height.parse().ok()?, time(at)?),
            ("term", [n]) => plan.term = n.parse().ok()?,
            ("extensions", [begin, "said", said]) => {
                let (begin, said) = (begin.parse().ok()?, said.parse().ok()?);
                plan.extensions = Some(Extensions { said, begin });
            }
            ("empty-blocks", ["none"]) => plan.empty_blocks = None,
            ("empty-blocks", [after]) => plan.empty_blocks = Some(time(after)?),
            ("txs-every", ["none"]) => plan.txs_every = None,
            ("txs-every", [every]) => plan.txs_every = Some(time(every)?),
            ("real-signatures", []) => plan.real_signatures = true,
            ("delay", [least, most]) => plan.net.delay = (time(least)?, time(most)?),
            ("lost", [n]) => plan.net.lost = n.parse().ok()?,
            ("doubled", [n]) => plan.net.doubled = n.parse().ok()?,
            ("stragglers", [n]) => plan.net.stragglers = n.parse().ok()?,
            ("unlinked", [a, b]) => plan.net.unlinked.push((a.parse().ok()?, b.parse().ok()?)),
            ("adversary", [name]) => {
                let scheme = Scheme::ALL.iter().find(|(_, known)| known == name)?.0;
                plan.net.adversary = Some(scheme);
            }
            ("node", [seat, rest @ ..]) => self.node_line(seat.parse().ok()?, rest)?,
            ("change", [height, key, power]) => {
                plan.changes.push((height.parse().ok()?, key.parse().ok()?, power.parse().ok()?))
            }
            ("at", words) => {
                let (when, rest) = when(words)?;
                plan.faults.push(Timed { when, fault: fault(rest)? });
            }
            ("expect", _) => self.expect.push(expect(rest)?),
            _ => return None,
        }
        Some(())
    }

    fn node_line(&mut self, seat: Seat, mut words: &[&str]) -> Option<()> {
        while self.plan.nodes.len() <= seat {
            let next = self.plan.nodes.len();
            self.plan.nodes.push(node(next));
        }
        let node = self.plan.nodes.get_mut(seat)?;
        loop {
            words = match words {
                [] => return Some(()),
                ["key", n, rest @ ..] => {
                    node.key = n.parse().ok()?;
                    rest
                }
                ["lag", a, b, rest @ ..] => {
                    node.lag = (time(a)?, time(b)?);
                    rest
                }
                ["sync", a, b, rest @ ..] => {
                    node.sync = (time(a)?, time(b)?);
                    rest
                }
                ["app", a, b, rest @ ..] => {
                    node.app = (time(a)?, time(b)?);
                    rest
                }
                ["clock", ms, rest @ ..] => {
                    node.clock_ms = ms.parse().ok()?;
                    rest
                }
                ["drift", ppm, rest @ ..] => {
                    node.drift_ppm = ppm.parse().ok()?;
                    rest
                }
                ["byzantine", rest @ ..] => {
                    let named = |name: &&str| {
                        Strategy::ALL.iter().copied().find(|strategy| strategy.name() == *name)
                    };
                    node.byzantine = rest.iter().map(named).collect::<Option<_>>()?;
                    &[]
                }
                _ => return None,
            };
        }
    }
}

/// What a scenario begins with: nobody, in a good network.
fn start() -> Plan {
    Plan {
        seed: 1,
        nodes: Vec::new(),
        powers: Vec::new(),
        changes: Vec::new(),
        extensions: None,
        term: 64,
        net: Net {
            delay: (MS / 2, 5 * MS),
            stragglers: 0,
            lost: 0,
            doubled: 0,
            unlinked: Vec::new(),
            adversary: None,
        },
        faults: Vec::new(),
        empty_blocks: Some(20 * MS),
        txs_every: None,
        real_signatures: false,
        heal: (12, 10 * SECOND),
        heights: (20, 6),
    }
}

fn node(key: usize) -> NodePlan {
    NodePlan {
        key,
        lag: (20_000, 200_000),
        sync: (100_000, 3 * MS),
        app: (100_000, 2 * MS),
        clock_ms: 0,
        drift_ppm: 0,
        byzantine: Vec::new(),
    }
}

/// A time such as 1.5ms, 2s.
fn time(text: &str) -> Option<Nanos> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, MS),
        None => (text.strip_suffix('s')?, SECOND),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let mut nanos = whole.parse::<Nanos>().ok()?.checked_mul(unit)?;
    let mut scale = unit;
    for digit in part.chars() {
        scale /= 10;
        nanos += Nanos::from(digit.to_digit(10)?) * scale;
    }
    Some(nanos)
}

fn when<'a>(words: &'a [&'a str]) -> Option<(When, &'a [&'a str])> {
    match words {
        ["height", n, rest @ ..] => Some((When::Height(n.parse().ok()?), rest)),
        ["record", seat, n, rest @ ..] => {
            Some((When::Records(seat.parse().ok()?, n.parse().ok()?), rest))
        }
        [at, rest @ ..] => Some((When::At(time(at)?), rest)),
        [] => None,
    }
}

fn fault(words: &[&str]) -> Option<Fault> {
    let seat = |text: &str| text.parse::<Seat>().ok();
    Some(match words {
        ["crash", s, "down", down, rest @ ..] => {
            Fault::Crash { seat: seat(s)?, down: time(down)?, seen: flag(rest, "seen") }
        }
        ["dead", s, rest @ ..] => Fault::Dead { seat: seat(s)?, seen: flag(rest, "seen") },
        ["power-loss", "down", down] => Fault::PowerLoss { down: time(down)? },
        ["disk-fails", s, "down", down] => Fault::DiskFails { seat: seat(s)?, down: time(down)? },
        ["cut", from, "to", to, "lasts", lasts, rest @ ..] => Fault::Cut {
            from: seats(from)?,
            to: seats(to)?,
            lasts: time(lasts)?,
            both: flag(rest, "both"),
            noticed: flag(rest, "noticed"),
        },
        ["swizzle", "lasts", lasts] => Fault::Swizzle { lasts: time(lasts)? },
        ["loss", percent, "lasts", lasts] => {
            Fault::Loss { percent: percent.parse().ok()?, lasts: time(lasts)? }
        }
        ["mute", kind, percent, "lasts", lasts] => Fault::Mute {
            kind: Kind::ALL.iter().find(|(_, name)| name == kind)?.0,
            percent: percent.parse().ok()?,
            lasts: time(lasts)?,
        },
        ["freeze", s, "lasts", lasts] => Fault::Freeze { seat: seat(s)?, lasts: time(lasts)? },
        ["clock", s, "by", by] => Fault::ClockJump { seat: seat(s)?, by_ms: by.parse().ok()? },
        ["slow-app", s, "each", each, "lasts", lasts] => {
            Fault::SlowApp { seat: seat(s)?, each: time(each)?, lasts: time(lasts)? }
        }
        ["signers", permille, "lasts", lasts] => {
            Fault::Signers { permille: permille.parse().ok()?, lasts: time(lasts)? }
        }
        _ => return None,
    })
}

fn flag(words: &[&str], name: &str) -> bool {
    words.contains(&name)
}

/// Seats such as 0,2,3; `-` for none.
fn seats(text: &str) -> Option<Vec<Seat>> {
    match text {
        "-" => Some(Vec::new()),
        text => text.split(',').map(|seat| seat.parse().ok()).collect(),
    }
}

fn expect(rest: &str) -> Option<Expect> {
    let pair = |text: &str| {
        let (group, name) = text.split_once(':')?;
        Some((group.trim().to_owned(), name.trim().to_owned()))
    };
    let (what, rest) = rest.split_once(' ')?;
    Some(match what {
        "met" => pair(rest).map(|(group, name)| Expect::Met(group, name))?,
        "never" => pair(rest).map(|(group, name)| Expect::Never(group, name))?,
        "first-within" => Expect::FirstWithin(time(rest)?),
        "failure" => Expect::Failure(rest.to_owned()),
        _ => return None,
    })
}

/// A plan as the text of a scenario.
pub(crate) fn write(plan: &Plan) -> String {
    let mut text = String::new();
    let powers: Vec<String> = plan.powers.iter().map(ToString::to_string).collect();
    let mut line = |what: String| {
        let _ = writeln!(text, "{what}");
    };
    line(format!("seed {}", plan.seed));
    line(format!("powers {}", powers.join(" ")));
    line(format!("heights {} {}", plan.heights.0, plan.heights.1));
    line(format!("heal {} {}", plan.heal.0, ms(plan.heal.1)));
    line(format!("term {}", plan.term));
    if let Some(Extensions { said, begin }) = plan.extensions {
        line(format!("extensions {begin} said {said}"));
    }
    let optional = |time: Option<Nanos>| time.map_or("none".into(), ms);
    line(format!("empty-blocks {}", optional(plan.empty_blocks)));
    line(format!("txs-every {}", optional(plan.txs_every)));
    if plan.real_signatures {
        line("real-signatures".into());
    }
    let net = &plan.net;
    line(format!("delay {} {}", ms(net.delay.0), ms(net.delay.1)));
    line(format!("lost {}", net.lost));
    line(format!("doubled {}", net.doubled));
    line(format!("stragglers {}", net.stragglers));
    net.unlinked.iter().for_each(|(a, b)| line(format!("unlinked {a} {b}")));
    net.adversary.iter().for_each(|scheme| line(format!("adversary {}", scheme.name())));
    for (seat, node) in plan.nodes.iter().enumerate() {
        let pair = |(a, b): (Nanos, Nanos)| format!("{} {}", ms(a), ms(b));
        let (lag, sync, app) = (pair(node.lag), pair(node.sync), pair(node.app));
        let (key, clock, drift) = (node.key, node.clock_ms, node.drift_ppm);
        let mut what = format!(
            "node {seat} key {key} lag {lag} sync {sync} app {app} clock {clock} drift {drift}"
        );
        if !node.byzantine.is_empty() {
            let names: Vec<&str> = node.byzantine.iter().map(|s| s.name()).collect();
            what += &format!(" byzantine {}", names.join(" "));
        }
        line(what);
    }
    for (height, key, power) in &plan.changes {
        line(format!("change {height} {key} {power}"));
    }
    for timed in &plan.faults {
        line(format!("at {} {}", write_when(timed.when), write_fault(&timed.fault)));
    }
    text
}

fn ms(time: Nanos) -> String {
    let (whole, part) = (time / MS, time % MS);
    if part == 0 { format!("{whole}ms") } else { format!("{whole}.{part:06}ms") }
}

fn write_when(when: When) -> String {
    match when {
        When::At(at) => ms(at),
        When::Height(height) => format!("height {height}"),
        When::Records(seat, count) => format!("record {seat} {count}"),
    }
}

fn write_fault(fault: &Fault) -> String {
    let flag = |set: bool, name: &'static str| if set { name } else { "" };
    let text = match fault {
        Fault::Crash { seat, down, seen } => {
            format!("crash {seat} down {} {}", ms(*down), flag(*seen, "seen"))
        }
        Fault::Dead { seat, seen } => format!("dead {seat} {}", flag(*seen, "seen")),
        Fault::PowerLoss { down } => format!("power-loss down {}", ms(*down)),
        Fault::DiskFails { seat, down } => format!("disk-fails {seat} down {}", ms(*down)),
        Fault::Cut { from, to, lasts, both, noticed } => {
            let (from, to) = (write_seats(from), write_seats(to));
            let (both, noticed) = (flag(*both, "both"), flag(*noticed, " noticed"));
            format!("cut {from} to {to} lasts {} {both}{noticed}", ms(*lasts))
        }
        Fault::Swizzle { lasts } => format!("swizzle lasts {}", ms(*lasts)),
        Fault::Loss { percent, lasts } => format!("loss {percent} lasts {}", ms(*lasts)),
        Fault::Mute { kind, percent, lasts } => {
            let name = Kind::ALL.iter().find(|(other, _)| other == kind).map_or("", |(_, n)| n);
            format!("mute {name} {percent} lasts {}", ms(*lasts))
        }
        Fault::Freeze { seat, lasts } => format!("freeze {seat} lasts {}", ms(*lasts)),
        Fault::ClockJump { seat, by_ms } => format!("clock {seat} by {by_ms}"),
        Fault::SlowApp { seat, each, lasts } => {
            format!("slow-app {seat} each {} lasts {}", ms(*each), ms(*lasts))
        }
        Fault::Signers { permille, lasts } => format!("signers {permille} lasts {}", ms(*lasts)),
    };
    text.trim_end().to_owned()
}

fn write_seats(seats: &[Seat]) -> String {
    let seats: Vec<String> = seats.iter().map(ToString::to_string).collect();
    if seats.is_empty() { "-".into() } else { seats.join(",") }
}
