//! The bus: order, who lags, what is kept.

use super::*;
use crate::events::tests::executed;
use crate::events::{Data, Kind, Step, Where, of_block};
use tercet_consensus::view::View;

fn query(text: &str) -> Query {
    Query::parse(text).unwrap()
}

fn most(events: usize) -> Most {
    Most { clients: 10, per_client: 10, events }
}

fn event(height: u32) -> Event {
    let (height, view) = (Height::from(height), View::ZERO);
    Event::new(Kind::NewRound, Data::Round(Where { height, view, step: Step::Propose }))
}

fn height(event: &Event) -> u64 {
    match &event.data {
        Data::Round(at) => at.height.value(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn events_come_in_order_to_those_whose_query_they_meet() {
    let bus = Bus::default();
    assert_eq!(bus.wanted(), Kinds::default());
    let rounds = bus.subscribe(1, query("tm.event='NewRound'"), most(10)).unwrap();
    let all = bus.subscribe(2, query("tm.event EXISTS"), most(10)).unwrap();
    let blocks = bus.subscribe(2, query("tm.event = 'NewBlock'"), most(10)).unwrap();
    for at in 1..=3 {
        bus.publish(event(at));
    }
    for at in 1..=3 {
        assert_eq!(height(&rounds.next().await.unwrap()), at);
        assert_eq!(height(&all.next().await.unwrap()), at);
    }
    assert!(blocks.ring.take().is_none());
    assert_eq!((bus.clients(), bus.subscriptions_of(2)), (2, 2));
    drop((rounds, all));
    assert_eq!((bus.clients(), bus.subscriptions_of(2)), (1, 1));
    assert_eq!(bus.wanted(), Kinds::default().with(Kind::NewBlock));
    assert_eq!(bus.held_bytes(), 0);
}

#[tokio::test]
async fn who_does_not_read_is_told_so_and_others_go_on() {
    let bus = Bus::default();
    let slow = bus.subscribe(1, query("tm.event EXISTS"), most(2)).unwrap();
    let quick = bus.subscribe(2, query("tm.event EXISTS"), most(2)).unwrap();
    for at in 1..=3 {
        bus.publish(event(at));
        assert_eq!(height(&quick.next().await.unwrap()), u64::from(at));
    }
    assert_eq!(slow.next().await.unwrap_err(), End::OutOfCapacity);
    assert_eq!(bus.held_bytes(), 0);
    bus.publish(event(4));
    assert_eq!(slow.next().await.unwrap_err(), End::OutOfCapacity);
    assert_eq!(height(&quick.next().await.unwrap()), 4);
}

#[tokio::test]
async fn an_event_waits_for_one_who_reads_a_little_slower() {
    const EVENTS: u32 = 10_000;
    let bus = Bus::default();
    let one = bus.subscribe(1, query("tm.event EXISTS"), most(2)).unwrap();
    let publishing = {
        let bus = bus.clone();
        std::thread::spawn(move || (1..=EVENTS).for_each(|at| bus.publish(event(at))))
    };
    for at in 1..=EVENTS {
        assert_eq!(height(&one.next().await.unwrap()), u64::from(at));
    }
    publishing.join().unwrap();
}

#[tokio::test]
async fn the_events_of_one_block_find_room_together() {
    let bus = Bus::default();
    let one = bus.subscribe(1, query("tm.event EXISTS"), most(2)).unwrap();
    let of_block = |at: u32| {
        let height = Height::from(at);
        Event::new(Kind::ValidatorSetUpdates, Data::Validators(height, Vec::new()))
    };
    bus.publish(event(1));
    (0..50).for_each(|_| bus.publish(of_block(7)));
    for _ in 0..50 {
        assert!(one.next().await.is_ok());
    }
    // One is left: the next block finds room, and the one after it none.
    (0..50).for_each(|_| bus.publish(of_block(8)));
    bus.publish(of_block(9));
    assert_eq!(one.next().await.unwrap_err(), End::OutOfCapacity);
}

#[tokio::test]
async fn the_events_of_all_are_bounded_in_bytes_and_the_slowest_goes_first() {
    let bus = Bus::default();
    let count = EVENTS_BYTES_MAX / event(1).weight();
    let slow = bus.subscribe(1, query("tm.event EXISTS"), most(2 * count)).unwrap();
    bus.publish(event(1));
    let other = bus.subscribe(2, query("tm.event EXISTS"), most(2 * count)).unwrap();
    for at in 1..=count {
        bus.publish(event(u32::try_from(at).unwrap()));
    }
    assert_eq!(slow.next().await.unwrap_err(), End::OutOfCapacity);
    assert_eq!(height(&other.next().await.unwrap()), 1);
    assert!(bus.held_bytes() <= EVENTS_BYTES_MAX);
}

#[tokio::test]
async fn a_query_is_subscribed_to_once_a_client_however_it_is_written() {
    let bus = Bus::default();
    let first = bus.subscribe(1, query("tm.event='Tx'"), most(1)).unwrap();
    let again = bus.subscribe(1, query("tm.event  =  'Tx'"), most(1)).unwrap_err();
    assert_eq!(again, BusError::AlreadySubscribed);
    assert_eq!(bus.unsubscribe(1, &query("tm.event = 'Tx' ")), Ok(()));
    assert_eq!(first.next().await.unwrap_err(), End::Unsubscribed);
    assert_eq!(bus.unsubscribe(1, &query("tm.event = 'Tx'")), Err(BusError::NotFound));
    let second = bus.subscribe(1, query("tm.event='Tx'"), most(1)).unwrap();
    // The first, dropped late, does not take the second along.
    drop(first);
    assert_eq!(bus.subscriptions_of(1), 1);
    assert_eq!(bus.unsubscribe_all(1), Ok(()));
    assert_eq!(bus.unsubscribe_all(1), Err(BusError::NotFound));
    assert_eq!(second.next().await.unwrap_err(), End::Unsubscribed);
}

#[tokio::test]
async fn a_paused_subscription_takes_nothing_until_it_goes_live() {
    let bus = Bus::default();
    let one = bus.subscribe(1, query("tm.event='NewRound'"), most(1)).unwrap();
    one.pause();
    (1..5).for_each(|at| bus.publish(event(at)));
    one.go_live();
    bus.publish(event(5));
    assert_eq!(height(&one.next().await.unwrap()), 5);
}

#[tokio::test]
async fn all_are_told_when_the_node_stops() {
    let bus = Bus::default();
    let one = bus.subscribe(1, query("tm.event='Tx'"), most(1)).unwrap();
    bus.close();
    assert_eq!(one.next().await.unwrap_err(), End::Exited);
    assert!(bus.subscribe(1, query("a.b='c'"), most(1)).is_err());
}

/// A block is kept by every event about it, and its memory is there once.
#[tokio::test]
async fn a_block_that_is_known_under_several_events_is_counted_once() {
    let bus = Bus::default();
    let block = query("tm.event = 'NewBlock' AND whole.a EXISTS");
    let header = query("tm.event = 'NewBlockHeader'");
    let txs = query("tm.event = 'Tx'");
    let (block, header, txs) = (
        bus.subscribe(1, block, most(10)).unwrap(),
        bus.subscribe(1, header, most(10)).unwrap(),
        bus.subscribe(1, txs, most(10)).unwrap(),
    );
    let executed = executed();
    let (bytes, mut weights, mut told) = (executed.bytes(), 0, 0);
    for event in of_block(&executed, bus.wanted()) {
        weights += event.weight();
        told += 1;
        bus.publish(event);
    }
    assert!(told > 3, "a block, its header and its transactions");
    assert_eq!(bus.held_bytes(), bytes + weights);
    // The lightest event keeps the whole block.
    drop((block, txs));
    let kept = header.next().await.unwrap();
    assert_eq!(bus.held_bytes(), bytes + kept.weight());
    drop(executed);
    assert_eq!(bus.held_bytes(), bytes + kept.weight());
    drop(kept);
    assert_eq!(bus.held_bytes(), 0);
}

#[tokio::test]
async fn who_is_told_of_one_large_block_lags_behind_nothing() {
    let bus = Bus::default();
    let of_block = |at: u32| {
        let height = Height::from(at);
        Event::new(Kind::ValidatorSetUpdates, Data::Validators(height, Vec::new()))
    };
    let more_than_all = EVENTS_BYTES_MAX / of_block(1).weight() + 2;
    let quick = bus.subscribe(1, query("tm.event EXISTS"), most(1)).unwrap();
    (0..more_than_all).for_each(|_| bus.publish(of_block(7)));
    assert!(bus.held_bytes() > EVENTS_BYTES_MAX);
    for _ in 0..more_than_all {
        assert!(quick.next().await.is_ok(), "it has read all that came before");
    }
    // One that has an older event to read does.
    let slow = bus.subscribe(2, query("tm.event EXISTS"), most(10)).unwrap();
    bus.publish(of_block(8));
    assert!(quick.next().await.is_ok());
    (0..more_than_all).for_each(|_| bus.publish(of_block(9)));
    assert_eq!(slow.next().await.unwrap_err(), End::OutOfCapacity);
    assert!(quick.next().await.is_ok());
}
