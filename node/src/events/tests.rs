use super::query::Query;
use super::*;
use crate::store::chain_tests::chain_of;

fn kinds(query: &str) -> Vec<Kind> {
    let kinds = Kinds::of(&Query::parse(query).unwrap());
    Kind::ALL.into_iter().filter(|kind| kinds.has(*kind)).collect()
}

#[test]
fn a_query_leaves_the_kinds_that_can_meet_it() {
    assert_eq!(kinds("tm.event = 'Tx' AND app.key = 'a'"), [Kind::Tx]);
    assert_eq!(kinds("tm.event = 'Tx' AND tm.event = 'NewBlock'"), []);
    assert_eq!(kinds("app.key = 'a'"), Kind::ALL);
    assert_eq!(kinds("tm.event EXISTS"), Kind::ALL);
    assert_eq!(
        kinds("tm.event CONTAINS 'NewBlock'"),
        [Kind::NewBlock, Kind::NewBlockHeader, Kind::NewBlockEvents]
    );
}

fn attribute(key: &str, value: &str, index: bool) -> pb::EventAttribute {
    pb::EventAttribute { key: key.into(), value: value.into(), index }
}

/// A block with events of its own and transactions with theirs.
pub(super) fn executed() -> Arc<Executed> {
    let (_folder, chain) = chain_of(3);
    let block = chain.block(Height::from(3u32)).unwrap().unwrap();
    let event = |kind: &str| pb::Event {
        r#type: kind.into(),
        attributes: vec![
            attribute("a", "1", true),
            attribute("a", "2", false),
            attribute("", "3", true),
        ],
    };
    let result = pb::ExecTxResult { events: vec![event("x"), event("")], ..Default::default() };
    let results = ResponseFinalizeBlock {
        events: vec![event("whole")],
        tx_results: vec![result; block.txs().len()],
        validator_updates: vec![ValidatorUpdate::default()],
        ..Default::default()
    };
    Arc::new(Executed::stored(block, results))
}

#[test]
fn a_block_has_its_events_in_comets_order_with_their_keys() {
    let executed = executed();
    let count = executed.block.txs().len();
    assert!(count > 0);
    let events: Vec<Event> = of_block(&executed, Kinds::all()).collect();
    let kinds: Vec<Kind> = events.iter().map(|event| event.kind).collect();
    let mut expected = vec![Kind::NewBlock, Kind::NewBlockHeader, Kind::NewBlockEvents];
    expected.extend(vec![Kind::Tx; count]);
    expected.push(Kind::ValidatorSetUpdates);
    assert_eq!(kinds, expected);
    let shown = |event: &Event| serde_json::to_string(&event.keys).unwrap();
    assert_eq!(shown(&events[0]), r#"{"tm.event":["NewBlock"],"whole.a":["1","2"]}"#);
    assert_eq!(shown(&events[1]), r#"{"tm.event":["NewBlockHeader"]}"#);
    let hash = hex::encode_upper(executed.block.tx_hashes()[0]);
    assert_eq!(
        shown(&events[3]),
        format!(r#"{{"tm.event":["Tx"],"tx.hash":["{hash}"],"tx.height":["3"],"x.a":["1","2"]}}"#)
    );
}

#[test]
fn only_the_kinds_that_are_wanted_are_made() {
    let executed = executed();
    let wanted = Kinds::default().with(Kind::NewBlockHeader).with(Kind::ValidatorSetUpdates);
    let kinds: Vec<Kind> = of_block(&executed, wanted).map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::NewBlockHeader, Kind::ValidatorSetUpdates]);
    assert_eq!(of_block(&executed, Kinds::default()).count(), 0);
}
