//! Connections of a peer, and which of them carries it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::address::NodeId;
use super::hello::Hello;
use super::peers::Peer;
use super::session::Opened;

/// Two connections that were made within this time are a simultaneous dial; a later one means
/// that the other side has lost the earlier.
pub(super) const SIMULTANEOUS: Duration = Duration::from_secs(10);

/// One established connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) node: NodeId,
    pub(super) outbound: bool,
    pub(super) remote: Multiaddr,
    pub(super) since: Instant,
    /// What the peer said; none while the hello is under way.
    pub(super) hello: Option<Arc<Hello>>,
    /// Its hello was refused: the peer is to be left alone.
    pub(super) refused: bool,
    pub(super) streams: mpsc::UnboundedSender<Opened>,
    /// Starts the delivery, once.
    pub(super) go: Option<oneshot::Sender<Arc<Peer>>>,
    pub(super) session: AbortHandle,
}

/// What decides which connection carries a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: ConnectionId,
    pub(super) outbound: bool,
    pub(super) since: Instant,
    pub(super) greeted: bool,
}

/// The connection that has to carry a peer. `smaller`: our peer id is the smaller one.
/// `present`: the peer is connected already, so there is no point in waiting for a better
/// connection whose hello is still under way. Both sides come to the same choice.
pub(super) fn choose(
    candidates: &[Candidate],
    smaller: bool,
    present: bool,
) -> Option<ConnectionId> {
    let better = |a: Candidate, b: Candidate| if prefer(&b, &a, smaller) { b } else { a };
    let greeted = candidates.iter().copied().filter(|c| c.greeted).reduce(better)?;
    let best = candidates.iter().copied().reduce(better)?;
    (present || best == greeted).then_some(greeted.id)
}

/// Whether `a` is to be kept rather than `b`.
fn prefer(a: &Candidate, b: &Candidate, smaller: bool) -> bool {
    let apart = a.since.max(b.since) - a.since.min(b.since);
    if a.outbound != b.outbound && apart < SIMULTANEOUS {
        a.outbound == smaller
    } else {
        a.since > b.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: usize, outbound: bool, since: Instant, greeted: bool) -> Candidate {
        Candidate { id: ConnectionId::new_unchecked(id), outbound, since, greeted }
    }

    #[test]
    fn both_sides_keep_the_connection_that_the_smaller_peer_dialled() {
        let now = Instant::now();
        let later = now + Duration::from_millis(5);
        for (first, second) in [(now, later), (later, now)] {
            // The smaller side dialled connection 1, the other side connection 2.
            let ours = [candidate(1, true, first, true), candidate(2, false, second, true)];
            let theirs = [candidate(1, false, second, true), candidate(2, true, first, true)];
            assert_eq!(choose(&ours, true, true), Some(ConnectionId::new_unchecked(1)));
            assert_eq!(choose(&theirs, false, true), Some(ConnectionId::new_unchecked(1)));
        }
    }

    #[test]
    fn a_new_peer_waits_for_the_better_connection_a_present_one_does_not() {
        let now = Instant::now();
        let links = [candidate(1, true, now, false), candidate(2, false, now, true)];
        assert_eq!(choose(&links, true, false), None);
        assert_eq!(choose(&links, true, true), Some(ConnectionId::new_unchecked(2)));
        assert_eq!(choose(&links[1..], true, false), Some(ConnectionId::new_unchecked(2)));
        assert_eq!(choose(&links[..1], true, true), None);
    }

    #[test]
    fn a_peer_that_dials_again_later_has_lost_the_earlier_connection() {
        let now = Instant::now();
        let links = [candidate(1, true, now, true), candidate(2, false, now + SIMULTANEOUS, true)];
        assert_eq!(choose(&links, true, true), Some(ConnectionId::new_unchecked(2)));
        let links = [candidate(1, false, now, true), candidate(2, false, now + SIMULTANEOUS, true)];
        assert_eq!(choose(&links, true, true), Some(ConnectionId::new_unchecked(2)));
    }
}
