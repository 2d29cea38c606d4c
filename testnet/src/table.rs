//! The live view of a running network: a table on a terminal, one line every few seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::process::{memory_bytes, running};
use crate::rpc::Rpc;
use crate::state::{Net, Node};

/// How often the table is drawn on a terminal.
pub(crate) const DRAW: Duration = Duration::from_secs(1);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
/// Patience with a node that is asked for its figures.
const PATIENCE: Duration = Duration::from_millis(500);
/// Headers that one call returns at most.
const PAGE: u64 = 20;

/// Writes a line to standard output.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody is left to tell where the output is gone.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// What one node shows.
#[derive(Clone, Debug, Default)]
struct Row {
    name: String,
    state: String,
    height: Option<u64>,
    view: Option<u64>,
    primary: Option<String>,
    tx_per_s: Option<f64>,
    peers: Option<u64>,
    memory_bytes: Option<u64>,
}

/// One node's client and what was counted last.
struct Watch {
    rpc: Rpc,
    height: u64,
    at: Instant,
}

/// The view of a network.
pub(crate) struct Table {
    watches: Vec<Watch>,
    drawn_lines: usize,
    last_line: Option<Instant>,
    terminal: bool,
}

impl Table {
    /// A view of `net` on standard output.
    pub(crate) fn new(net: &Net) -> Self {
        let watch = |node: &Node| Watch {
            rpc: Rpc::new(&node.rpc).patient(PATIENCE),
            height: 0,
            at: Instant::now(),
        };
        Self {
            watches: net.nodes.iter().map(watch).collect(),
            drawn_lines: 0,
            last_line: None,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// Asks all nodes and shows what they say.
    pub(crate) async fn show(&mut self, net: &Net) {
        if !self.terminal && self.last_line.is_some_and(|last| last.elapsed() < LINE) {
            return;
        }
        let rows =
            net.nodes.iter().zip(&mut self.watches).map(|(node, watch)| row(net, node, watch));
        let rows: Vec<Row> = futures::future::join_all(rows).await;
        let text = if self.terminal { self.redraw(&rows) } else { line(&rows) };
        self.last_line = Some(Instant::now());
        let mut out = std::io::stdout().lock();
        // Nobody is left to tell where the output is gone.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// A message below the table, which is drawn anew under it.
    pub(crate) fn say(&mut self, message: &str) {
        say(message);
        self.drawn_lines = 0;
    }

    fn redraw(&mut self, rows: &[Row]) -> String {
        let mut text = String::new();
        if self.drawn_lines > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn_lines));
        }
        let drawn = draw(rows);
        self.drawn_lines = drawn.len();
        for line in drawn {
            text.push_str(&line);
            text.push_str("\x1b[K\n");
        }
        text
    }
}

/// One look at a network, for `status`: the rows as lines.
pub(crate) async fn once(net: &Net) -> Vec<String> {
    let mut table = Table::new(net);
    let rows = net.nodes.iter().zip(&mut table.watches).map(|(node, watch)| row(net, node, watch));
    let rows: Vec<Row> = futures::future::join_all(rows).await;
    draw(&rows)
}

async fn row(net: &Net, node: &Node, watch: &mut Watch) -> Row {
    let pid = running(node);
    let state = match (&node.down, pid) {
        (Some(why), _) => why.clone(),
        (None, Some(_)) => "up".to_owned(),
        (None, None) => "down".to_owned(),
    };
    let name = format!("{}{}", node.name(), if node.validator.is_some() { "" } else { " (full)" });
    let mut row = Row { name, state, memory_bytes: pid.and_then(memory_bytes), ..Row::default() };
    if pid.is_none() || node.down.is_some() {
        return row;
    }
    let Ok(status) = watch.rpc.status().await else { return row };
    let height = status.sync_info.latest_block_height;
    row.height = Some(height);
    row.tx_per_s = rate(watch, height).await;
    row.peers = watch.rpc.peers().await.ok();
    if let Ok(state) = watch.rpc.pbft_state().await {
        row.view = Some(state.view);
        row.primary = state.primary.map(|address| net.name_of(&address));
    }
    row
}

/// Transactions a second since the last look; none where there were too many blocks to count.
async fn rate(watch: &mut Watch, height: u64) -> Option<f64> {
    let (from, since) = (watch.height, watch.at.elapsed());
    watch.at = Instant::now();
    watch.height = height;
    if from == 0 || since.is_zero() {
        return None;
    }
    let mut txs = 0;
    let mut at = from;
    while at < height {
        let to = height.min(at + PAGE);
        let chain = watch.rpc.blockchain(at + 1, to).await.ok()?;
        txs += chain.block_metas.iter().map(|meta| meta.num_txs).sum::<u64>();
        at = to;
    }
    Some(f64::from(u32::try_from(txs).ok()?) / since.as_secs_f64())
}

fn or_dash<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn mebibytes(bytes: Option<u64>) -> String {
    or_dash(bytes.map(|bytes| format!("{} MB", bytes / (1024 * 1024))))
}

fn draw(rows: &[Row]) -> Vec<String> {
    let head = ["node", "state", "height", "view", "primary", "tx/s", "peers", "memory"];
    let mut lines = vec![columns(&head.map(str::to_owned))];
    for row in rows {
        lines.push(columns(&[
            row.name.clone(),
            row.state.clone(),
            or_dash(row.height),
            or_dash(row.view),
            or_dash(row.primary.clone()),
            or_dash(row.tx_per_s.map(|rate| format!("{rate:.0}"))),
            or_dash(row.peers),
            mebibytes(row.memory_bytes),
        ]));
    }
    lines
}

fn columns(cells: &[String; 8]) -> String {
    let [name, state, height, view, primary, rate, peers, memory] = cells;
    format!(
        "{name:<14} {state:<10} {height:>9} {view:>5} {primary:>8} {rate:>8} {peers:>6} {memory:>9}"
    )
}

fn line(rows: &[Row]) -> String {
    let heights: Vec<String> = rows.iter().map(|row| or_dash(row.height)).collect();
    let peers: Vec<String> = rows.iter().map(|row| or_dash(row.peers)).collect();
    let memory: Vec<String> = rows.iter().map(|row| mebibytes(row.memory_bytes)).collect();
    let best = rows.iter().max_by_key(|row| row.height).cloned().unwrap_or_default();
    format!(
        "heights {}  view {}  primary {}  tx/s {}  peers {}  memory {}\n",
        heights.join(" "),
        or_dash(best.view),
        or_dash(best.primary),
        or_dash(best.tx_per_s.map(|rate| format!("{rate:.0}"))),
        peers.join(" "),
        memory.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        let row = Row { name: "node0".to_owned(), height: Some(7), ..Row::default() };
        let drawn = draw(std::slice::from_ref(&row));
        assert_eq!(drawn.len(), 2);
        assert!(drawn.iter().all(|line| line.len() <= 100));
        let expected = "heights 7  view -  primary -  tx/s -  peers -  memory -\n";
        assert_eq!(line(&[row]), expected);
    }
}
