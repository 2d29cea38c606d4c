//! Transactions of the load: `key=value` of an exact size, each with a key of its own, and the
//! requests that carry them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Method;

/// Digits of a transaction's number.
const NUMBER_DIGITS: usize = 10;
/// Digits (hex) that tell one run from another.
const RUN_DIGITS: usize = 8;
/// Most transactions of a run: what fits the digits and 32 bits.
pub(crate) const COUNT_MAX: u64 = u32::MAX as u64;
/// Largest transaction, in bytes: CometBFT's `max_tx_bytes`.
pub(crate) const SIZE_BYTES_MAX: usize = 1024 * 1024;

/// Makes the transactions of one run and recognises them in blocks.
#[derive(Clone, Debug)]
pub(crate) struct Transactions {
    head: String,
    size_bytes: usize,
}

impl Transactions {
    /// Transactions of `size_bytes` whose keys begin with `prefix` and the number of the run.
    pub(crate) fn new(prefix: &str, run: u32, size_bytes: usize) -> Result<Self, String> {
        let head = format!("{prefix}{run:0width$x}", width = RUN_DIGITS);
        let least = head.len() + NUMBER_DIGITS + 2;
        if prefix.contains(['=', ':']) {
            return Err("--prefix must not contain '=' or ':'".to_owned());
        }
        if size_bytes < least || size_bytes > SIZE_BYTES_MAX {
            return Err(format!(
                "--size must be between {least} (key, '=' and one byte) and {SIZE_BYTES_MAX}"
            ));
        }
        Ok(Self { head, size_bytes })
    }

    /// Transaction number `number`.
    pub(crate) fn write(&self, number: u32, tx: &mut Vec<u8>) {
        use std::io::Write;
        tx.clear();
        tx.extend_from_slice(self.head.as_bytes());
        write!(tx, "{number:0width$}=", width = NUMBER_DIGITS)
            .expect("writing to a vector does not fail");
        tx.resize(self.size_bytes, b'v');
    }

    /// The number of a transaction, where it is one of this run.
    pub(crate) fn number(&self, tx: &[u8]) -> Option<u32> {
        let digits = tx.strip_prefix(self.head.as_bytes())?.get(..NUMBER_DIGITS)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The numbers of this run's transactions in a reply of `block`, in the block's order.
    ///
    /// The reply is scanned, not parsed: in a full block the transactions are nearly all of it.
    pub(crate) fn numbers_in_block(&self, reply: &[u8]) -> Vec<u32> {
        let start = find(reply, b"\"txs\":[").map_or(reply.len(), |at| at + 7);
        let txs = reply.get(start..).unwrap_or_default();
        let end = txs.iter().position(|byte| *byte == b']').unwrap_or(0);
        let txs = txs.get(..end).unwrap_or_default();
        let mut tx = Vec::with_capacity(self.size_bytes);
        let strings = txs.split(|byte| *byte == b'"').filter(|text| text.len() > 1);
        strings
            .filter_map(|text| {
                tx.clear();
                STANDARD.decode_vec(text, &mut tx).ok()?;
                self.number(&tx)
            })
            .collect()
    }
}

/// Where `needle` begins in `bytes`.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// A request in whose bytes only the transaction changes.
#[derive(Debug)]
pub(crate) struct Request {
    transactions: Transactions,
    bytes: Vec<u8>,
    slot: std::ops::Range<usize>,
    tx: Vec<u8>,
}

impl Request {
    /// A request to `host` that carries transactions by `method`.
    pub(crate) fn new(transactions: Transactions, host: &str, method: Method) -> Self {
        let encoded = transactions.size_bytes.div_ceil(3) * 4;
        let before = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\",\"params\":{{\"tx\":\"",
            method.route()
        );
        let body = format!("{before}{}\"}}}}", "A".repeat(encoded));
        let bytes = super::http::post(host, body.as_bytes());
        let start = bytes.len() - body.len() + before.len();
        Self { transactions, bytes, slot: start..start + encoded, tx: Vec::new() }
    }

    /// The whole request with transaction number `number`.
    pub(crate) fn carry(&mut self, number: u32) -> &[u8] {
        self.transactions.write(number, &mut self.tx);
        if let Some(slot) = self.bytes.get_mut(self.slot.clone()) {
            STANDARD.encode_slice(&self.tx, slot).expect("the slot has the encoded size");
        }
        &self.bytes
    }
}

/// What a node made of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Taken into the pool, or committed, as the method says.
    Accepted,
    /// Not taken, with the reason; numbers in it are written as `#`, so that like meets like.
    Rejected(String),
}

/// Reads the reply of a broadcast; the good one without parsing it.
pub(crate) fn verdict(method: Method, reply: &[u8]) -> Verdict {
    let codes = match method {
        Method::Commit => 2,
        Method::Sync | Method::Async => 1,
    };
    if count_zero_codes(reply) == Some(codes) {
        return Verdict::Accepted;
    }
    Verdict::Rejected(reason(reply))
}

/// How many `"code":0` there are, none where any code is something else.
fn count_zero_codes(reply: &[u8]) -> Option<usize> {
    const CODE: &[u8] = b"\"code\":";
    let mut rest = reply;
    let mut zeros = 0;
    while let Some(at) = find(rest, CODE) {
        rest = rest.get(at + CODE.len()..)?;
        if !matches!(rest, [b'0', b',' | b'}', ..]) {
            return None;
        }
        zeros += 1;
    }
    Some(zeros)
}

fn reason(reply: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(reply) else {
        return "the answer is not JSON".to_owned();
    };
    let error = &value["error"];
    let text = |value: &serde_json::Value| value.as_str().filter(|s| !s.is_empty()).map(generic);
    if error.is_object() {
        let found = text(&error["data"]).or_else(|| text(&error["message"]));
        return found.unwrap_or_else(|| "error without a text".to_owned());
    }
    let result = &value["result"];
    let codes = [&result["check_tx"], &result["tx_result"], &result["deliver_tx"], result];
    for part in codes {
        if let Some(code) = part["code"].as_u64().filter(|code| *code != 0) {
            let log = text(&part["log"]).map(|log| format!(": {log}")).unwrap_or_default();
            return format!("code {code}{log}");
        }
    }
    "answer without a code".to_owned()
}

/// The text with every run of digits as `#`, at most 120 characters.
fn generic(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars().take(120) {
        match character.is_ascii_digit() {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transactions(size_bytes: usize) -> Transactions {
        Transactions::new("load-", 0xbeef, size_bytes).expect("valid")
    }

    #[test]
    fn transactions_have_the_exact_size_and_keys_of_their_own() {
        for size_bytes in [25, 26, 250, 4096] {
            let transactions = transactions(size_bytes);
            let mut keys = std::collections::BTreeSet::new();
            for number in [0, 1, 9, 10, 123_456, u32::MAX] {
                let mut tx = Vec::new();
                transactions.write(number, &mut tx);
                assert_eq!(tx.len(), size_bytes);
                assert_eq!(tx.iter().filter(|byte| **byte == b'=').count(), 1);
                assert!(!tx.contains(&b':'));
                assert_eq!(transactions.number(&tx), Some(number));
                let key = tx.split(|byte| *byte == b'=').next().expect("key").to_vec();
                assert!(keys.insert(key));
            }
        }
    }

    #[test]
    fn sizes_without_room_for_a_key_are_refused() {
        assert!(Transactions::new("load-", 1, 24).is_err());
        assert!(Transactions::new("load-", 1, SIZE_BYTES_MAX + 1).is_err());
        assert!(Transactions::new("a=b", 1, 250).is_err());
    }

    #[test]
    fn requests_carry_the_transaction_in_base64_and_a_right_length() {
        let mut request = Request::new(transactions(250), "127.0.0.1:26657", Method::Sync);
        for number in [0, 77] {
            let bytes = request.carry(number).to_vec();
            let text = String::from_utf8(bytes).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
            assert!(head.contains(&format!("Content-Length: {}", body.len())));
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(body["method"], "broadcast_tx_sync");
            let tx = STANDARD.decode(body["params"]["tx"].as_str().expect("tx")).expect("base64");
            assert_eq!(tx.len(), 250);
            assert_eq!(transactions(250).number(&tx), Some(number));
        }
    }

    #[test]
    fn our_transactions_are_found_in_a_block() {
        let mut txs = Vec::new();
        for number in [3, 1] {
            let mut tx = Vec::new();
            transactions(250).write(number, &mut tx);
            txs.push(STANDARD.encode(&tx));
        }
        txs.push(STANDARD.encode("other=1"));
        let reply = serde_json::json!({"result": {"block": {"data": {"txs": txs}}}}).to_string();
        assert_eq!(transactions(250).numbers_in_block(reply.as_bytes()), [3, 1]);
        assert!(transactions(250).numbers_in_block(b"{\"data\":{\"txs\":[]}}").is_empty());
        assert!(transactions(250).numbers_in_block(b"{\"txs\":[\"").is_empty());
    }

    #[test]
    fn verdicts_follow_the_codes() {
        let good = br#"{"result":{"code":0,"data":"","log":"","hash":"AB"}}"#;
        assert_eq!(verdict(Method::Sync, good), Verdict::Accepted);
        let both = br#"{"result":{"check_tx":{"code":0,"data":null},"tx_result":{"code":0}}}"#;
        assert_eq!(verdict(Method::Commit, both), Verdict::Accepted);
        let second = br#"{"result":{"check_tx":{"code":0},"tx_result":{"code":7,"log":"no"}}}"#;
        assert_eq!(verdict(Method::Commit, second), Verdict::Rejected("code 7: no".to_owned()));
        let full = br#"{"error":{"code":-32603,"message":"Internal error",
            "data":"mempool is full: number of txs 5000 (max: 5000)"}}"#;
        let reason = "mempool is full: number of txs # (max: #)".to_owned();
        assert_eq!(verdict(Method::Sync, full), Verdict::Rejected(reason));
        assert_eq!(
            verdict(Method::Sync, b"oops"),
            Verdict::Rejected("the answer is not JSON".to_owned())
        );
    }
}
