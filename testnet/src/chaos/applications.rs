//! Applications in processes of their own that are killed at random times, alone or with their nodes.

use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rand::Rng;

use super::ask::tip;
use super::{ChaosError, GIVE_UP, Kind, LOOK, Run, kill, millis};
use crate::application::{Files, strike};
use crate::state::{Net, Node};

/// The longest time between the two kills of a node and its application, in milliseconds.
const APART_MAX_MS: u64 = 50;
/// The longest time until the node is started again, in milliseconds.
const DOWN_MAX_MS: u64 = 1_000;

impl Run {
    /// Kills the application of a random validator, and the node with it where the kind says so, in a random order.
    pub(super) async fn kill_application(&mut self) -> Result<String, ChaosError> {
        let net = Net::load(&self.chaos.dir)?;
        let validators: Vec<Node> = net.validators().cloned().collect();
        let victim = self.random.random_range(0..validators.len());
        let node = validators.get(victim).ok_or(ChaosError::TooFew)?.clone();
        let others: Vec<Node> =
            net.nodes.iter().filter(|other| other.index != node.index).cloned().collect();
        let height = tip(&others).await;
        let killed = match self.chaos.kind {
            Kind::KillNodeAndApp => self.kill_both(&node).await?,
            _ => strike(&node)?,
        };
        let again = wait_for_application(&node, killed).await?;
        let back = self.wait_back(&node, &others, height).await?;
        let what = match self.chaos.kind {
            Kind::KillNodeAndApp => " and its application",
            _ => "'s application",
        };
        Ok(format!(
            "{}{what} killed at height {height}, the application back after {}, the node at the tip {} after {}",
            node.name(),
            millis(again),
            tip(&others).await,
            millis(back)
        ))
    }

    /// Kills node and application a moment apart, and starts the node again.
    async fn kill_both(&mut self, node: &Node) -> Result<Pid, ChaosError> {
        let apart = Duration::from_millis(self.random.random_range(0..APART_MAX_MS));
        let node_first = self.random.random_bool(0.5);
        let mut killed = None;
        if !node_first {
            killed = Some(strike(node)?);
            tokio::time::sleep(apart).await;
        }
        kill(&self.chaos.dir, node).await?;
        let killed = match killed {
            Some(killed) => killed,
            None => {
                tokio::time::sleep(apart).await;
                strike(node)?
            }
        };
        let down = Duration::from_millis(self.random.random_range(0..DOWN_MAX_MS));
        tokio::time::sleep(down).await;
        self.restart(node.index)?;
        Ok(killed)
    }
}

/// Waits until another process is the application: how long it took.
async fn wait_for_application(node: &Node, killed: Pid) -> Result<Duration, ChaosError> {
    let (files, start) = (Files::of(&node.home), Instant::now());
    while files.running().is_none_or(|group| group == killed) {
        if start.elapsed() > GIVE_UP {
            let (name, secs) = (node.name(), GIVE_UP.as_secs());
            return Err(ChaosError::Lost { name, secs, log: files.log.display().to_string() });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(start.elapsed())
}
