//! A WebSocket client, as small as there is one.
#![allow(dead_code, unreachable_pub)]

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How long any message may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to `/websocket`.
pub(crate) struct Socket(pub(crate) WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn open(address: SocketAddr) -> Socket {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let url = format!("ws://{address}/websocket");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a socket");
        Socket(socket)
    }

    /// Sends a text.
    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.expect("it is sent");
    }

    /// Sends a text; false where the connection is gone.
    pub(crate) async fn try_send(&mut self, text: impl Into<String>) -> bool {
        self.0.send(Message::text(text.into())).await.is_ok()
    }

    /// The next message that is a text; none where the connection is closed.
    pub(crate) async fn try_next(&mut self) -> Option<Value> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Some(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        self.try_next().await.expect("the connection is open")
    }

    /// Calls a method.
    pub(crate) async fn ask(&mut self, id: &str, method: &str, params: Value) {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(call.to_string()).await;
    }

    /// Calls a method, and returns the reply, which comes before anything else.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask("call", method, params).await;
        let reply = self.next().await;
        assert_eq!(reply["id"], "call", "{reply}");
        reply
    }

    /// Subscribes.
    pub(crate) async fn subscribe(&mut self, id: &str, query: &str) {
        self.ask(id, "subscribe", json!({"query": query})).await;
        // Events of others may come before.
        loop {
            let reply = self.next().await;
            if reply["id"] == id {
                return assert_eq!(reply, json!({"jsonrpc": "2.0", "id": id, "result": {}}));
            }
        }
    }
}
