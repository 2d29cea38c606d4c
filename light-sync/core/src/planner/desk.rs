//! Requests that wait to be sent or answered, and events that wait to be taken.

use super::Event;
use super::request::{ProviderId, Request, RequestId, What};
use crate::hash::Hash;
use crate::header::Height;
use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};

/// The most requests that wait for an answer.
pub const REQUESTS_MAX: usize = 256;
/// Where so many events wait to be taken, no more headers are asked for.
pub const EVENTS_MAX: usize = 128;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Status,
    Root,
    Ascent(Height),
    Audit(Height),
    /// The latest block of a witness that does not have this height.
    Latest(Height),
    Dispute,
    Run {
        upper: Height,
        high: Height,
    },
    Commits {
        high: Height,
    },
    Validators(Hash),
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) provider: ProviderId,
    pub(super) what: What,
    pub(super) job: Job,
    deadline: Time,
}

#[derive(Debug, Default)]
pub(super) struct Desk {
    pending: BTreeMap<RequestId, Pending>,
    outbox: VecDeque<Request>,
    events: VecDeque<Event>,
    next: u64,
}

impl Desk {
    /// False where [`REQUESTS_MAX`] wait.
    pub(super) fn ask(
        &mut self,
        provider: ProviderId,
        what: What,
        job: Job,
        deadline: Time,
    ) -> bool {
        if self.pending.len() >= REQUESTS_MAX {
            return false;
        }
        let id = RequestId(self.next);
        self.next += 1;
        let bytes_max = what.bytes_max();
        self.outbox.push_back(Request { id, provider, what: what.clone(), bytes_max, deadline });
        self.pending.insert(id, Pending { provider, what, job, deadline });
        true
    }

    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < REQUESTS_MAX
    }

    pub(super) fn close(&mut self, id: RequestId) -> Option<Pending> {
        self.pending.remove(&id)
    }

    /// Whether `provider` is asked for this already.
    pub(super) fn is_asked(&self, job: Job, provider: ProviderId) -> bool {
        self.pending.values().any(|pending| pending.job == job && pending.provider == provider)
    }

    /// Whether anybody is asked for this already.
    pub(super) fn is_waiting(&self, job: Job) -> bool {
        self.pending.values().any(|pending| pending.job == job)
    }

    /// Closes those for which nobody waits any more.
    pub(super) fn overdue(&mut self, now: Time) -> Vec<(Job, ProviderId)> {
        self.take(|pending| pending.deadline <= now)
    }

    /// Closes those of these providers.
    pub(super) fn close_where(
        &mut self,
        of: impl Fn(ProviderId) -> bool,
    ) -> Vec<(Job, ProviderId)> {
        self.take(|pending| of(pending.provider))
    }

    fn take(&mut self, which: impl Fn(&Pending) -> bool) -> Vec<(Job, ProviderId)> {
        let ids: Vec<RequestId> =
            self.pending.iter().filter(|(_, p)| which(p)).map(|(id, _)| *id).collect();
        self.outbox.retain(|request| !ids.contains(&request.id));
        let closed = ids.iter().filter_map(|id| self.pending.remove(id));
        closed.map(|pending| (pending.job, pending.provider)).collect()
    }

    pub(super) fn first_deadline(&self) -> Option<Time> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    pub(super) fn has_requests(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(super) fn next_request(&mut self) -> Option<Request> {
        self.outbox.pop_front()
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn has_room_for_events(&self) -> bool {
        self.events.len() < EVENTS_MAX
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}
