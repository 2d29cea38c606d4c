// The page of a node: everything on it comes from the node's own WebSocket. Text of others is set as text, never as markup.
"use strict";

const BLOCKS = 15, TXS = 15, SIGNED = 20, METAS = 400;
// A block larger than this is not fetched for its transactions.
const BLOCK_BYTES = 512 * 1024;
const TICK = 500, SLOW_TICK = 3000, CALL_TIMEOUT = 15000;
// `blockchain` answers with at most 20 blocks; where more come in a tick the oldest of them are left out.
const PAGE = 20, PAGES = 5;

const $ = (id) => document.getElementById(id);
const short = (hash) => hash ? hash.slice(0, 10) : "–";

const net = { socket: null, next: 1, waiting: new Map(), pause: 500 };
const state = { height: 0, seen: 0, metas: [], txs: [], commits: [], validators: [], peers: [], pbft: null, busy: false };

// ---- The connection -------------------------------------------------------------------------------------------------------------

function connect() {
  const url = new URL("websocket", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = net.socket = new WebSocket(url);
  socket.onopen = () => {
    net.pause = 500;
    link("live", "good");
    call("subscribe", { query: "tm.event='NewBlockHeader'" }).catch(notice);
    everything();
  };
  socket.onmessage = (message) => take(JSON.parse(message.data));
  socket.onclose = () => {
    link("no connection: trying again", "bad");
    for (const wait of net.waiting.values()) wait.no(new Error("the connection broke"));
    net.waiting.clear();
    setTimeout(connect, net.pause);
    net.pause = Math.min(net.pause * 2, 10000);
  };
}

function call(method, params = {}) {
  return new Promise((yes, no) => {
    if (net.socket.readyState !== WebSocket.OPEN) return no(new Error("there is no connection to the node"));
    const id = net.next++;
    const late = setTimeout(() => { net.waiting.delete(id); no(new Error(method + ": no answer")); }, CALL_TIMEOUT);
    const end = (then) => (value) => { clearTimeout(late); then(value); };
    net.waiting.set(id, { yes: end(yes), no: end(no) });
    net.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
  });
}

function take(reply) {
  const data = reply.result && reply.result.data;
  if (data && data.type === "tendermint/event/NewBlockHeader") {
    state.height = Math.max(state.height, Number(data.value.header.height));
    return;
  }
  const wait = net.waiting.get(reply.id);
  if (!wait) return;
  net.waiting.delete(reply.id);
  if (reply.error) wait.no(new Error(reply.error.data || reply.error.message));
  else wait.yes(reply.result);
}

function link(text, kind) {
  $("link").textContent = text;
  $("link").className = "badge " + kind;
}

function notice(error) {
  $("notice").hidden = !error;
  $("notice").textContent = error ? error.message : "";
}

// ---- What is asked, and when ----------------------------------------------------------------------------------------------------

async function everything() {
  try {
    const status = await call("status");
    $("chain").textContent = status.node_info.network;
    $("node").textContent = status.node_info.moniker + " · " + (status.tercet_version || status.node_info.version);
    document.title = status.node_info.moniker + " · " + status.node_info.network;
    state.height = Math.max(state.height, Number(status.sync_info.latest_block_height));
    notice(status.sync_info.catching_up ? new Error("This node is catching up: what it shows is of the past.") : null);
    await slowly();
    await fresh();
  } catch (error) { notice(error); }
}

// Twice a second at most, whatever the number of blocks.
async function fresh() {
  if (state.busy || state.height === state.seen || net.socket.readyState !== WebSocket.OPEN) return;
  state.busy = true;
  try {
    const top = state.height;
    const from = Math.max(state.seen + 1, top - PAGE * PAGES + 1, 1);
    for (let low = from; low <= top; low += PAGE) {
      const range = { minHeight: String(low), maxHeight: String(Math.min(low + PAGE - 1, top)) };
      const page = await call("blockchain", range);
      state.metas = page.block_metas.concat(state.metas).slice(0, METAS);
    }
    state.seen = top;
    await Promise.all([commits(top), transactions(from), pool(), pbft()]);
    draw();
  } catch (error) { notice(error); } finally { state.busy = false; }
}

async function commits(top) {
  const known = new Set(state.commits.map((commit) => commit.height));
  const wanted = [];
  for (let height = top; height > Math.max(top - SIGNED, 0); height--) if (!known.has(height)) wanted.push(height);
  const got = await Promise.all(wanted.map((height) => call("commit", { height: String(height) }).catch(() => null)));
  for (const reply of got.filter(Boolean)) {
    const commit = reply.signed_header.commit;
    const signers = commit.signatures.filter((one) => one.block_id_flag === 2).map((one) => one.validator_address);
    state.commits.push({ height: Number(commit.height), signers: new Set(signers) });
  }
  state.commits.sort((a, b) => b.height - a.height).splice(SIGNED);
}

async function transactions(from) {
  const meta = state.metas.find((meta) => Number(meta.num_txs) > 0 && Number(meta.block_size) <= BLOCK_BYTES);
  if (!meta || Number(meta.header.height) < from) return;
  const { block } = await call("block", { height: meta.header.height });
  const rows = block.data.txs.slice(-TXS).reverse().map((tx) => {
    const bytes = Uint8Array.from(atob(tx), (letter) => letter.charCodeAt(0));
    return { hash: sha256(bytes), height: block.header.height, size: bytes.length, text: printable(bytes) };
  });
  state.txs = rows.concat(state.txs).slice(0, TXS);
}

async function pool() {
  const pool = await call("num_unconfirmed_txs");
  $("mempool").textContent = Number(pool.total).toLocaleString() + " · " + bytes(Number(pool.total_bytes));
}

async function pbft() {
  state.pbft = await call("pbft_state").catch(() => null);
}

async function slowly() {
  if (net.socket.readyState !== WebSocket.OPEN) return;
  const [validators, peers] = await Promise.all([call("validators", { per_page: "100" }), call("net_info")]);
  state.validators = validators.validators;
  state.peers = peers.peers;
  draw();
}

// ---- What is shown --------------------------------------------------------------------------------------------------------------

function draw() {
  const newest = state.metas[0];
  if (newest) $("height").textContent = Number(newest.header.height).toLocaleString();
  if (state.pbft) {
    $("view").textContent = state.pbft.view;
    $("primary").textContent = short(state.pbft.primary);
    $("primary").title = state.pbft.primary || "";
  }
  $("peer-count").textContent = state.peers.length;
  rates();
  rows("blocks", state.metas.slice(0, BLOCKS), (meta) => [
    link_to(meta.header.height, () => show("Block " + meta.header.height, "block", { height: meta.header.height })),
    hash(meta.block_id.hash), hash(meta.header.proposer_address), number(meta.num_txs), number(meta.block_size),
    right(new Date(meta.header.time).toLocaleTimeString()),
  ]);
  $("no-txs").hidden = state.txs.length > 0;
  rows("txs", state.txs, (tx) => [
    link_to(short(tx.hash), () => show("Transaction " + tx.hash, "tx", { hash: base64(tx.hash) }), tx.hash),
    number(tx.height), number(tx.size), text(tx.text),
  ]);
  const connected = new Map((state.pbft ? state.pbft.validators : []).map((one) => [one.address, one.connected]));
  const most = Math.max(1, ...state.validators.map((one) => Number(one.voting_power)));
  rows("validators", state.validators, (one) => [
    who(one.address), power(Number(one.voting_power), most), signed(one.address),
    text(connected.get(one.address) ? "yes" : connected.has(one.address) ? "no" : "–"),
  ]);
  rows("peers", state.peers, (peer) => [
    text(peer.node_info.moniker), text(peer.remote_ip), text(peer.is_outbound ? "this node" : "the peer"),
    right(peer.latency_ms === undefined ? "–" : Number(peer.latency_ms).toFixed(1) + " ms"),
    right(span(Number(peer.connection_status.Duration) / 1e9)),
  ]);
}

function rates() {
  const metas = state.metas;
  if (metas.length < 2) return;
  const time = (meta) => Date.parse(meta.header.time) / 1000;
  const recent = metas.filter((meta) => time(metas[0]) - time(meta) <= 10);
  const used = recent.length > 1 ? recent : metas.slice(0, 2);
  const last = used[used.length - 1];
  const seconds = time(used[0]) - time(last);
  if (seconds <= 0) return;
  const txs = used.slice(0, -1).reduce((sum, meta) => sum + Number(meta.num_txs), 0);
  // Blocks that were left out count as those that were not.
  const heights = Number(used[0].header.height) - Number(last.header.height);
  const all = txs * heights / (used.length - 1);
  $("tps").textContent = (all / seconds).toLocaleString(undefined, { maximumFractionDigits: 1 });
  const interval = seconds / heights;
  $("interval").textContent = interval < 1 ? Math.round(interval * 1000) + " ms" : interval.toFixed(1) + " s";
}

function rows(id, items, cells) {
  $(id).replaceChildren(...items.map((item) => {
    const row = document.createElement("tr");
    row.append(...cells(item));
    return row;
  }));
}

function text(content, name) {
  const cell = document.createElement("td");
  cell.textContent = content;
  if (name) cell.className = name;
  return cell;
}

const right = (content) => text(content, "number");
const number = (content) => right(Number(content).toLocaleString());

function hash(whole) {
  const cell = text(short(whole), "hash");
  cell.title = whole;
  return cell;
}

function who(address) {
  const cell = hash(address);
  if (state.pbft && state.pbft.primary === address) {
    cell.append(" ");
    const mark = document.createElement("span");
    mark.className = "badge good";
    mark.textContent = "primary";
    cell.append(mark);
  }
  return cell;
}

function power(value, most) {
  const cell = number(value);
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.style.width = (3 * value / most).toFixed(2) + "rem";
  cell.prepend(bar);
  return cell;
}

function signed(address) {
  const cell = text(""), marks = document.createElement("span");
  marks.className = "signed";
  let count = 0;
  for (const commit of state.commits) {
    const mark = document.createElement("i"), yes = commit.signers.has(address);
    mark.className = yes ? "yes" : "no";
    mark.title = "height " + commit.height + (yes ? ": signed" : ": not signed");
    count += yes;
    marks.append(mark);
  }
  marks.setAttribute("role", "img");
  marks.setAttribute("aria-label", count + " of the last " + state.commits.length);
  cell.append(marks);
  return cell;
}

function link_to(label, then, title) {
  const cell = text("", "hash"), button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  if (title) button.title = title;
  button.onclick = then;
  cell.append(button);
  return cell;
}

function bytes(count) {
  if (count < 1024) return count + " B";
  return count < 1048576 ? (count / 1024).toFixed(1) + " KiB" : (count / 1048576).toFixed(1) + " MiB";
}

function span(seconds) {
  if (seconds < 60) return Math.floor(seconds) + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min";
  return seconds < 86400 ? Math.floor(seconds / 3600) + " h" : Math.floor(seconds / 86400) + " d";
}

function printable(bytes) {
  const head = Array.from(bytes.slice(0, 28), (byte) => byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·");
  return head.join("") + (bytes.length > 28 ? "…" : "");
}

function base64(hex) {
  const letters = hex.match(/../g).map((pair) => String.fromCharCode(parseInt(pair, 16)));
  return btoa(letters.join(""));
}

// ---- Search ---------------------------------------------------------------------------------------------------------------------

async function show(title, method, params) {
  $("found").hidden = false;
  $("found-title").textContent = title;
  $("found-list").replaceChildren();
  $("found-text").textContent = "…";
  try {
    $("found-text").textContent = JSON.stringify(await call(method, params), null, 2);
    return true;
  } catch (error) {
    $("found-text").textContent = error.message;
    return false;
  }
}

async function search(words) {
  const height = words.replaceAll(",", "");
  if (/^\d+$/.test(height)) return show("Block " + height, "block", { height });
  const hex = words.replace(/^0x/i, "");
  if (/^[0-9a-f]{64}$/i.test(hex)) {
    if (await show("Transaction " + hex, "tx", { hash: base64(hex) })) return;
    const found = await call("block_by_hash", { hash: base64(hex) }).catch(() => null);
    if (found && found.block) return show("Block " + found.block.header.height, "block", { height: found.block.header.height });
    $("found-text").textContent = "There is no transaction and no block with this hash.";
    return;
  }
  $("found").hidden = false;
  $("found-title").textContent = "Transactions: " + words;
  $("found-list").replaceChildren();
  $("found-text").textContent = "…";
  try {
    const found = await call("tx_search", { query: words, per_page: "30", order_by: "desc" });
    $("found-text").textContent = found.total_count + " found" + (found.txs.length < found.total_count ? ", the newest shown" : "");
    $("found-list").replaceChildren(...found.txs.map((tx) => {
      const item = document.createElement("li"), button = document.createElement("button");
      button.type = "button";
      button.className = "mono";
      button.textContent = tx.hash + " in block " + tx.height;
      button.onclick = () => show("Transaction " + tx.hash, "tx", { hash: base64(tx.hash) });
      item.append(button);
      return item;
    }));
  } catch (error) { $("found-text").textContent = error.message; }
}

$("search").onsubmit = (event) => {
  event.preventDefault();
  const words = $("query").value.trim();
  if (words) search(words).catch(notice);
};
$("close").onclick = () => { $("found").hidden = true; };

// ---- SHA-256: browsers offer theirs to pages over TLS alone ---------------------------------------------------------------------

const ROUNDS = new Uint32Array(64), START = new Uint32Array(8);
(() => {
  const part = (root) => Math.floor((root - Math.floor(root)) * 2 ** 32);
  for (let number = 2, found = 0; found < 64; number++) {
    let prime = true;
    for (let by = 2; by * by <= number; by++) if (number % by === 0) prime = false;
    if (!prime) continue;
    if (found < 8) START[found] = part(Math.sqrt(number));
    ROUNDS[found++] = part(Math.cbrt(number));
  }
})();

function sha256(bytes) {
  const padded = new Uint8Array(((bytes.length + 72) >> 6) << 6);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length << 3);
  const sum = Uint32Array.from(START), w = new Uint32Array(64);
  const turn = (x, by) => (x >>> by) | (x << (32 - by));
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = sum;
    for (let i = 0; i < 64; i++) {
      const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25), choice = (e & f) ^ (~e & g);
      const t1 = (h + s1 + choice + ROUNDS[i] + w[i]) | 0;
      const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22), most = (a & b) ^ (a & c) ^ (b & c);
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + s0 + most) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => { sum[i] += word; });
  }
  return Array.from(sum, (word) => word.toString(16).padStart(8, "0")).join("").toUpperCase();
}

setInterval(fresh, TICK);
setInterval(() => slowly().catch(notice), SLOW_TICK);
connect();
