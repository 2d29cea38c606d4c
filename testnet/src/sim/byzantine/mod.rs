//! Those who lie.
use super::network::Wire;
use super::plan::Seat;
use super::rng::Rng;
use super::world::World;
use tercet_consensus::message::Message;
use tercet_node::execution::Refusal;
use tercet_node::network::PeerId;
use tercet_node::wire::Consensus;

/// One named way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    Censor,
    Twin,
}

impl Strategy {
    pub(crate) const ALL: &[Strategy] = &[];
    pub(crate) fn name(self) -> &'static str {
        "x"
    }
    pub(crate) fn choose(_: &mut Rng) -> Vec<Strategy> {
        Vec::new()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Memory {}

pub(crate) fn says(world: &mut World, seat: Seat, to: Option<PeerId>, message: Consensus) {
    let sent = world.envelope(Wire::Consensus(message));
    world.send_to(seat, to, &sent);
}

pub(crate) fn hears(_: &mut World, _: Seat, _: &Message) {}

pub(crate) fn refused_field(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Header { field, .. } => field,
        Refusal::Future(_) => "time, too far ahead",
        Refusal::TooLarge(..) => "size",
        Refusal::Evidence => "evidence",
        Refusal::Application => "application",
    }
}
