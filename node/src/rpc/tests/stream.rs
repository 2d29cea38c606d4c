//! `/websocket` against fakes: calls, limits, slow readers, older blocks.

use super::fake::*;
use super::socket::Socket;
use crate::events::{Data, Event, Executed, Kind, Step, Where};
use crate::rpc::Limits;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tendermint_proto::v0_38::abci::{ExecTxResult, ResponseFinalizeBlock};
use tercet_consensus::view::View;

async fn open(running: &Running) -> Socket {
    Socket::open(running.address).await
}

fn round(at: u64) -> Event {
    let place = Where { height: height(at), view: View::ZERO, step: Step::Propose };
    Event::new(Kind::NewRound, Data::Round(place))
}

fn error(reply: &Value) -> (i64, &str) {
    let error = &reply["error"];
    (error["code"].as_i64().unwrap(), error["data"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn all_routes_answer_over_a_websocket_in_order() {
    let running = start(Limits::default()).await;
    let mut socket = open(&running).await;
    assert_eq!(socket.call("health", json!({})).await["result"], json!({}));
    assert!(socket.call("status", json!([])).await["result"]["tercet_version"].is_string());
    let block = socket.call("block", json!({"height": "3"})).await;
    assert_eq!(block["result"]["block"]["header"]["height"], "3");
    let sent = socket.call("broadcast_tx_sync", json!({"tx": "YQ=="})).await;
    assert_eq!(sent["result"]["code"], 0);
    let unknown = socket.call("nothing", json!({})).await;
    assert_eq!(error(&unknown), (-32601, ""));
    // Wrong arguments are an internal error here, and an invalid request over HTTP.
    let wrong = socket.call("block", json!({"height": 3})).await;
    let (code, data) = error(&wrong);
    assert_eq!(code, -32603);
    assert!(data.starts_with("error converting json params to arguments: "), "{data}");
    socket.send(r#"{"jsonrpc":"2.0","method":"health"}"#).await;
    socket.send("not JSON").await;
    let parse = socket.next().await;
    assert_eq!(error(&parse).0, -32700);
    assert!(parse.get("id").is_none());
    socket.send(r#"{"id":7,"method":"health"} and more"#).await;
    assert_eq!(socket.next().await, json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
    socket.send(r#"[{"id":8,"method":"health"}]"#).await;
    assert_eq!(error(&socket.next().await).0, -32700);
}

#[tokio::test]
async fn transactions_that_follow_each_other_wait_together_and_are_answered_in_order() {
    let running = start(Limits::default()).await;
    let mut socket = open(&running).await;
    for number in 0..10 {
        let tx = json!({"tx": "bWVldA=="});
        socket.ask(&number.to_string(), "broadcast_tx_sync", tx).await;
    }
    for number in 0..10 {
        assert_eq!(socket.next().await["id"], number.to_string());
    }
}

#[tokio::test]
async fn what_is_no_websocket_is_refused_and_its_routes_are_not_found_elsewhere() {
    let running = start(Limits::default()).await;
    let reply = Client::new(&running).await.get("/websocket").await;
    assert_eq!(reply.status, 400);
    assert_eq!(Client::new(&running).await.get("/subscribe").await.status, 404);
}

#[tokio::test]
async fn subscriptions_are_limited_and_refused_in_comets_words() {
    let limits = Limits {
        max_subscription_clients: 2,
        max_subscriptions_per_client: 2,
        ..Limits::default()
    };
    let running = start(limits).await;
    let (mut one, mut two, mut three) =
        (open(&running).await, open(&running).await, open(&running).await);
    let query = |text: &str| json!({"query": text});
    one.subscribe("1", "tm.event='Tx'").await;
    let again = one.call("subscribe", query("tm.event = 'Tx'")).await;
    assert_eq!(error(&again), (-32603, "already subscribed"));
    let long = one.call("subscribe", query(&format!("a.b='{}'", "x".repeat(512)))).await;
    assert_eq!(error(&long).1, "maximum query length exceeded");
    let malformed = one.call("subscribe", query("malformed query")).await;
    assert_eq!(
        error(&malformed).1,
        "failed to parse query: offset 10: got tag, wanted <= operator, >= operator, < operator, > operator, = operator, CONTAINS \
         operator or EXISTS operator"
    );
    let list = one.call("subscribe", json!(["tm.event='NewBlock'"])).await;
    assert_eq!(list["result"], json!({}));
    let many = one.call("subscribe", query("tm.event='Vote'")).await;
    assert_eq!(error(&many).1, "max_subscriptions_per_client 2 reached");
    two.subscribe("1", "tm.event='Tx'").await;
    let full = three.call("subscribe", query("tm.event='Tx'")).await;
    assert_eq!(error(&full).1, "max_subscription_clients 2 reached");
    let none = two.call("unsubscribe", query("tm.event='NewBlock'")).await;
    assert_eq!(error(&none).1, "subscription not found");
    assert_eq!(two.call("unsubscribe", query("tm.event  =  'Tx'")).await["result"], json!({}));
    assert_eq!(one.call("unsubscribe_all", json!({})).await["result"], json!({}));
    assert_eq!(error(&one.call("unsubscribe_all", json!({})).await).1, "subscription not found");
    three.subscribe("1", "tm.event='Tx'").await;
    drop(three);
    // A connection that is gone takes its subscriptions along.
    while running.sources.bus.clients() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn events_come_under_the_id_of_their_subscription() {
    let running = start(Limits::default()).await;
    let mut socket = open(&running).await;
    socket.subscribe("a", "tm.event = 'NewRound'").await;
    socket.subscribe("b", "tm.event EXISTS").await;
    for at in 1..=3 {
        running.sources.bus.publish(round(at));
    }
    let mut seen = Vec::new();
    for _ in 0..6 {
        let event = socket.next().await;
        let value = &event["result"]["data"]["value"];
        seen.push((event["id"].clone(), value["height"].clone()));
        assert_eq!(event["result"]["events"], json!({"tm.event": ["NewRound"]}));
    }
    for id in ["a", "b"] {
        let of: Vec<&Value> = seen.iter().filter(|(own, _)| own == id).map(|(_, at)| at).collect();
        assert_eq!(of, ["1", "2", "3"]);
    }
}

fn large(at: u64) -> Event {
    let tx = Bytes::from(vec![7; 200_000]);
    let block = Arc::new(block(at, None, vec![tx]));
    let results =
        ResponseFinalizeBlock { tx_results: vec![ExecTxResult::default()], ..Default::default() };
    Event::new(Kind::NewBlock, Data::Block(Arc::new(Executed::stored(block, results))))
}

#[tokio::test]
async fn a_client_that_does_not_read_is_told_why_its_subscription_ended() {
    let running = start(Limits {
        subscription_buffer_size: 20,
        websocket_write_buffer_size: 20,
        ..Limits::default()
    })
    .await;
    let (mut slow, mut quick) = (open(&running).await, open(&running).await);
    slow.subscribe("slow", "tm.event = 'NewBlock'").await;
    quick.subscribe("quick", "tm.event = 'NewRound'").await;
    // More than all buffers between here and there hold.
    for at in 1..=400 {
        running.sources.bus.publish(large(at));
    }
    running.sources.bus.publish(round(1));
    assert_eq!(quick.next().await["id"], "quick");
    let last = loop {
        let event = slow.next().await;
        if event.get("error").is_some() {
            break event;
        }
    };
    let reason =
        "subscription was canceled (reason: internal subscription event buffer is out of capacity)";
    assert_eq!(error(&last), (-32000, reason));
    assert_eq!(last["id"], "slow");
    assert_eq!(last["error"]["message"], "Server error");
    // The connection goes on.
    assert_eq!(slow.call("health", json!({})).await["result"], json!({}));
}

/// Whether the connection is open of a client that has let so many large events wait for eleven seconds. The clock goes on only while
/// everything waits; the write timeout, which ends a connection too, is far.
async fn is_open_after(events: u64, close_on_slow_client: bool) -> bool {
    let running = start(Limits {
        subscription_buffer_size: 100,
        websocket_write_buffer_size: 100,
        write_timeout: Duration::from_secs(3_600),
        close_on_slow_client,
        ..Limits::default()
    })
    .await;
    let mut slow = open(&running).await;
    slow.subscribe("slow", "tm.event = 'NewBlock'").await;
    (1..=events).for_each(|at| running.sources.bus.publish(large(at)));
    tokio::time::sleep(Duration::from_secs(11)).await;
    // It reads what is there, and whether there is an answer behind it.
    let health = json!({"jsonrpc": "2.0", "id": "last", "method": "health"}).to_string();
    slow.try_send(health).await;
    loop {
        match slow.try_next().await {
            Some(message) if message["id"] == "last" => return true,
            Some(_) => {}
            None => return false,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off_where_the_configuration_says_so() {
    // A few wait for a place to be written to for longer than ten seconds; many fill the subscription.
    for events in [60, 400] {
        assert!(!is_open_after(events, true).await, "{events}");
        assert!(is_open_after(events, false).await, "{events}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_pinged_and_one_that_does_not_answer_is_cut_off() {
    use futures::StreamExt as _;
    use tokio_tungstenite::tungstenite::Message;
    let running = start(Limits::default()).await;
    // One that reads answers pings by that, and stays.
    let mut alive = open(&running).await;
    let begun = tokio::time::Instant::now();
    for ping in 1..=4 {
        let next = alive.0.next().await.unwrap().unwrap();
        assert!(matches!(next, Message::Ping(_)), "{next:?}");
        assert_eq!(begun.elapsed().as_secs(), 27 * ping);
    }
    assert_eq!(alive.call("health", json!({})).await["result"], json!({}));
    // One that does not even answer pings is gone after thirty seconds.
    let mut dead = open(&running).await;
    tokio::time::sleep(Duration::from_secs(29)).await;
    dead.ask("1", "health", json!({})).await;
    assert_eq!(dead.next().await["id"], "1");
    tokio::time::sleep(Duration::from_secs(31)).await;
    let end = tokio::time::timeout(Duration::from_secs(20), dead.try_next()).await;
    assert!(end.expect("it is cut off").is_none());
}

#[tokio::test]
async fn older_blocks_come_first_where_a_height_is_asked_for() {
    let running = start(Limits::default()).await;
    let mut socket = open(&running).await;
    let params = json!({"query": "tm.event = 'Tx'", "height": "20"});
    socket.ask("older", "subscribe", params).await;
    assert_eq!(socket.next().await["result"], json!({}));
    for at in ["20", "22", "24"] {
        let event = socket.next().await;
        assert_eq!(event["result"]["events"]["tx.height"], json!([at]), "{event}");
    }
    for (at, words) in [
        ("1", "height 1 is not available, lowest height is 2"),
        ("27", "height 27 must be less than or equal to the current blockchain height 25"),
        ("-1", "height must be greater than 0, but got -1"),
    ] {
        let params = json!({"query": "tm.event = 'NewBlock'", "height": at});
        let reply = socket.call("subscribe", params).await;
        assert_eq!(error(&reply).1, words);
    }
}

#[tokio::test]
async fn clients_are_told_when_the_node_stops() {
    let running = start(Limits::default()).await;
    let mut socket = open(&running).await;
    socket.subscribe("a", "tm.event = 'Tx'").await;
    running.sources.bus.close();
    let last = socket.next().await;
    assert_eq!(error(&last), (-32000, "subscription was canceled (reason: CometBFT exited)"));
}

#[tokio::test]
async fn the_state_of_consensus_has_comets_shape() {
    let running = start(Limits::default()).await;
    let mut socket = open(&running).await;
    let state = socket.call("consensus_state", json!({})).await["result"]["round_state"].clone();
    assert_eq!(state["height/round/step"], "26/0/4");
    let votes = &state["height_vote_set"][0];
    assert_eq!(votes["prevotes_bit_array"], "BA{4:_x__} 10/40 = 0.25");
    assert_eq!(votes["precommits_bit_array"], "BA{4:____} 0/40 = 0.00");
    assert_eq!(votes["precommits"], json!(["nil-Vote", "nil-Vote", "nil-Vote", "nil-Vote"]));
    let vote = votes["prevotes"][1].as_str().unwrap();
    let expected = "26/00/SIGNED_MSG_TYPE_PREVOTE(Prevote) ABABABABABAB 010203040506 000000000000 @ 2023-11-14T22:13:45.12Z}";
    assert!(vote.starts_with("Vote{1:") && vote.ends_with(expected), "{vote}");
    let dump = socket.call("dump_consensus_state", json!({})).await["result"].clone();
    assert_eq!(dump["round_state"]["votes"], state["height_vote_set"]);
    assert_eq!(dump["round_state"]["last_commit"]["votes_bit_array"], "BA{4:xxx_} 30/40 = 0.75");
    assert_eq!(dump["round_state"]["validators"]["validators"].as_array().unwrap().len(), 4);
    assert_eq!(dump["peers"][0]["peer_state"]["round_state"]["round"], -1);
}

#[tokio::test]
async fn unsafe_routes_are_there_by_configuration_alone() {
    let seeds = json!({"seeds": ["id@host:1"]});
    let running = start(Limits::default()).await;
    let mut socket = open(&running).await;
    for method in ["dial_seeds", "dial_peers", "unsafe_flush_mempool"] {
        assert_eq!(error(&socket.call(method, json!({})).await).0, -32601, "{method}");
    }
    let running = start(Limits { has_unsafe: true, ..Limits::default() }).await;
    let mut socket = open(&running).await;
    let reply = socket.call("dial_seeds", seeds).await;
    let log = "Dialing seeds in progress. See /net_info for details";
    assert_eq!(reply["result"], json!({"log": log}));
    assert_eq!(
        error(&socket.call("dial_seeds", json!({"seeds": []})).await).1,
        "no seeds provided"
    );
    assert_eq!(error(&socket.call("dial_peers", json!({})).await).1, "no peers provided");
    let private = json!({"peers": ["id@host:1"], "private": true});
    assert_eq!(error(&socket.call("dial_peers", private).await).1, "no");
    assert_eq!(socket.call("unsafe_flush_mempool", json!({})).await["result"], json!({}));
}
