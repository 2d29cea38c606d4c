//! The page at `/ui` in a real browser: Chromium without a window, driven by its DevTools protocol. Where there is none, `make test`
//! installs it; without that, this test says so and looks at nothing.
#![allow(missing_docs)]

#[path = "support/kvstore_net.rs"]
mod kvstore_net;
#[path = "support/ports.rs"]
mod ports;

use futures::{SinkExt as _, StreamExt as _};
use kvstore_net::{CHAIN, Net, run};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tendermint_rpc::Client as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the page is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A tab.
struct Tab {
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
    /// What the browser complained about.
    complaints: Vec<Value>,
    _folder: tempfile::TempDir,
    _browser: Child,
}

fn browser() -> Option<&'static str> {
    let found = |name: &&str| {
        std::process::Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(found)
}

impl Tab {
    /// An empty one.
    async fn open(program: &str) -> Tab {
        let folder = tempfile::tempdir().expect("a folder");
        let data = format!("--user-data-dir={}", folder.path().display());
        let mut browser = Command::new(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"])
            .args([data.as_str(), "about:blank"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(browser.stderr.take().expect("piped")).lines();
        let address = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time");
            let line = line.expect("text").expect("the browser runs");
            if let Some((_, url)) = line.split_once("DevTools listening on ws://") {
                break url.split_once('/').expect("a path").0.to_owned();
            }
        };
        // Or it would wait once the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut http = TcpStream::connect(&address).await.expect("it listens");
        let put = format!("PUT /json/new HTTP/1.1\r\nHost: {address}\r\n\r\n");
        http.write_all(put.as_bytes()).await.expect("sent");
        // The browser keeps the connection open.
        let (mut reply, mut piece) = (Vec::new(), [0; 4096]);
        let body = loop {
            let read = http.read(&mut piece).await.expect("an answer");
            assert_ne!(read, 0, "the connection ended");
            reply.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&reply);
            if let Some((_, body)) = text.split_once("\r\n\r\n")
                && body.ends_with("}\n")
            {
                break body.to_owned();
            }
        };
        let made: Value = serde_json::from_str(&body).expect("JSON");
        let url = made["webSocketDebuggerUrl"].as_str().expect("an address");
        let stream = TcpStream::connect(&address).await.expect("it listens");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a socket");
        let complaints = Vec::new();
        let mut tab = Tab { socket, last_id: 0, complaints, _folder: folder, _browser: browser };
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            tab.call(domain, json!({})).await;
        }
        tab
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let call = json!({"id": self.last_id, "method": method, "params": params});
        self.socket.send(Message::text(call.to_string())).await.expect("sent");
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("in time");
            let Message::Text(text) = next.expect("open").expect("a message") else { continue };
            let mut message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == self.last_id {
                return message["result"].take();
            }
            let told = ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"];
            if told.iter().any(|method| message["method"] == *method) {
                self.complaints.push(message);
            }
        }
    }

    async fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        self.call("Runtime.evaluate", asked).await["result"]["value"].take()
    }

    async fn text(&mut self, id: &str) -> String {
        let text = self.value(&format!("document.getElementById('{id}').textContent")).await;
        text.as_str().expect("text").to_owned()
    }

    /// Waits until an expression is true.
    async fn until(&mut self, expression: &str) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.value(expression).await != true {
                tokio::time::sleep(LOOK).await;
            }
        });
        let done = waited.await.is_ok();
        assert!(done, "not {expression}: {:?}", self.complaints);
    }

    async fn search(&mut self, words: &str) {
        let words = json!(words);
        let submit = format!(
            "document.getElementById('query').value = {words}; \
             document.querySelector('#search button').click();"
        );
        self.value(&submit).await;
    }
}

#[test]
fn a_browser_shows_the_chain_and_finds_what_is_in_it() {
    let Some(program) = browser() else {
        eprintln!("skipped: there is no chromium here");
        return;
    };
    let net = Net::start(4);
    run(async {
        let address = net.nodes[0].rpc_address().expect("a port");
        let client = net.client(0).await;
        let mut tab = Tab::open(program).await;
        for scheme in ["light", "dark"] {
            let feature = json!([{"name": "prefers-color-scheme", "value": scheme}]);
            tab.call("Emulation.setEmulatedMedia", json!({"features": feature})).await;
            tab.call("Page.navigate", json!({"url": format!("http://{address}/ui")})).await;
            tab.until("document.getElementById('link')?.textContent === 'live'").await;
            tab.until("document.querySelectorAll('#validators tr').length === 4").await;
            tab.until("document.querySelectorAll('#peers tr').length === 3").await;
            tab.until("document.querySelectorAll('#blocks tr').length > 1").await;
            let ground = tab.value("getComputedStyle(document.body).backgroundColor").await;
            let expected = if scheme == "light" { "rgb(246, 247, 249)" } else { "rgb(17, 22, 28)" };
            assert_eq!(ground, expected);
        }
        assert_eq!(tab.text("chain").await, CHAIN);
        assert_eq!(tab.text("peer-count").await, "3");
        assert_eq!(tab.value("document.querySelectorAll('.badge.good').length").await, 2);
        let sent = client.broadcast_tx_commit(b"name=<b>satoshi</b>".to_vec()).await;
        let sent = sent.expect("it is in a block");
        // What is told of it comes by itself, with the hash that this page computes.
        let (hash, height) = (sent.hash.to_string(), sent.height);
        tab.until(&format!("!!document.querySelector('#txs button[title=\"{hash}\"]')")).await;
        let shown = tab.text("txs").await;
        assert!(shown.contains("name=<b>satoshi</b>"), "{shown}");
        // Of all that was decided in the last seconds something is a second's.
        tab.until("parseFloat(document.getElementById('tps').textContent) > 0").await;
        let mempool = "/^\\d+ · \\d+ B$/.test(document.getElementById('mempool').textContent)";
        tab.until(mempool).await;
        // Three of four sign each block at least, and one of them is primary.
        let marks = "document.querySelectorAll('#validators .signed i";
        tab.until(&format!("4 * {marks}.yes').length >= 3 * {marks}').length")).await;
        tab.until(&format!("{marks}').length >= 8")).await;
        let row = "document.querySelector('#validators .badge').closest('td').title";
        tab.until(&format!("{row} === document.getElementById('primary').title")).await;
        let bars = "Array.from(document.querySelectorAll('#validators .bar'), b => b.style.width)";
        let widths = tab.value(bars).await;
        assert_eq!(widths, json!(["3rem", "3rem", "3rem", "3rem"]), "their power is the same");
        let found = "document.getElementById('found-text').textContent";
        tab.search(&hash).await;
        tab.until(&format!("{found}.includes('\"height\": \"{height}\"')")).await;
        tab.search("app.key='name'").await;
        tab.until(&format!("{found} === '1 found'")).await;
        tab.search(&height.to_string()).await;
        tab.until(&format!("{found}.includes('\"block_id\"')")).await;
        tab.search("9999999").await;
        tab.until(&format!("{found}.includes('9999999')")).await;
        let block = tab.value("document.querySelector('#blocks td.hash[title]').title").await;
        tab.search(block.as_str().expect("a hash")).await;
        tab.until(&format!("{found}.includes('\"block_id\"') && {found}.includes({block})")).await;
        tab.search(&"ab".repeat(32)).await;
        tab.until(&format!("{found}.includes('no transaction and no block')")).await;
        tab.search("no query").await;
        tab.until(&format!("{found}.length > 1 && !{found}.includes('9999999')")).await;
        tab.value("document.getElementById('close').click()").await;
        tab.until("document.getElementById('found').hidden").await;
        // A connection that breaks comes back, and what happens is told again.
        tab.value("net.socket.close()").await;
        tab.until("document.getElementById('link').textContent.startsWith('no connection')").await;
        tab.until("document.getElementById('link').textContent === 'live'").await;
        let sent = client.broadcast_tx_commit(b"again=1".to_vec()).await.expect("in a block");
        let hash = sent.hash.to_string();
        tab.until(&format!("!!document.querySelector('#txs button[title=\"{hash}\"]')")).await;
        assert_eq!(tab.complaints, Vec::<Value>::new());
    });
}
