//! What is asked: every route in every encoding, with right, wrong, missing and superfluous parameters.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// A request to any node: what depends on its chain stands in it as a name between `$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The route that it is meant for; empty where it is meant for none.
    pub(super) route: &'static str,
    /// How it is sent.
    pub(super) form: Form,
}

/// How a request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The body of a POST to `/`.
    Post(String),
    /// The path of a GET with its query.
    Get(String),
    /// Method and path of a request without a body, or with one.
    Other(&'static str, &'static str, &'static str),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Post(body) => write!(f, "POST {body}"),
            Form::Get(path) => write!(f, "GET {path}"),
            Form::Other(method, path, body) => write!(f, "{method} {path} {body}"),
        }
    }
}

impl Request {
    /// Whether the name of something that differs by nature stands in it.
    pub(super) fn names(&self, what: &str) -> bool {
        matches!(&self.form, Form::Post(text) | Form::Get(text) if text.contains(what))
    }

    /// Whether it is a call without `params`.
    pub(super) fn lacks_params(&self) -> bool {
        matches!(&self.form, Form::Post(body) if !body.contains("\"params\""))
    }
}

/// What a parameter is, with values of which a node makes something, in JSON.
#[derive(Clone, Copy)]
struct Param(&'static str, &'static [&'static str]);

const HEIGHT: Param = Param("height", &["\"$tx0$\"", "$tx1$", "\"$latest$\""]);
const PAGE: Param = Param("page", &["\"1\"", "2"]);
const PER_PAGE: Param = Param("per_page", &["\"1\"", "100", "\"101\""]);
const PROVE: Param = Param("prove", &["true", "false"]);
const ORDER: Param = Param("order_by", &["\"asc\"", "\"desc\"", "\"\""]);
const QUERY: Param = Param(
    "query",
    &[
        "\"tx.height=$tx0$\"",
        "\"tx.height>0 AND app.key='a'\"",
        "\"app.creator='Cosmoshi Netowoko'\"",
        "\"block.height>=$tx0$ AND block.height<=$tx1$\"",
        "\"tx.hash='$tx0.hash$'\"",
        "\"tx.height > 0 AND\"",
        "\"app.key EXISTS\"",
        "\"app.key CONTAINS 'a'\"",
        "\"tm.event='Tx'\"",
    ],
);
const TX: Param = Param("tx", &["\"bm90aGluZw==\"", "\"YWJjPWRlZg==\"", "\"eD0=\""]);

/// Every route that answers alike whenever it is asked, with its parameters.
const ROUTES: &[(&str, &[Param])] = &[
    ("health", &[]),
    ("status", &[]),
    ("net_info", &[]),
    ("genesis", &[]),
    ("genesis_chunked", &[Param("chunk", &["\"0\"", "0", "1"])]),
    (
        "blockchain",
        &[Param("minHeight", &["\"1\"", "$tx0$"]), Param("maxHeight", &["\"$latest$\"", "$tx1$"])],
    ),
    ("header", &[HEIGHT]),
    ("header_by_hash", &[Param("hash", &["\"$tx0.block$\"", "\"$tx0.block64$\""])]),
    ("block", &[HEIGHT]),
    ("block_by_hash", &[Param("hash", &["\"$tx0.block64$\"", "\"$tx0.block$\""])]),
    ("block_results", &[HEIGHT]),
    ("commit", &[HEIGHT]),
    ("validators", &[HEIGHT, PAGE, PER_PAGE]),
    ("consensus_params", &[HEIGHT]),
    ("unconfirmed_txs", &[Param("limit", &["\"1\"", "30", "101"])]),
    ("num_unconfirmed_txs", &[]),
    ("tx", &[Param("hash", &["\"$tx0.hash64$\"", "\"$tx0.hash$\""]), PROVE]),
    ("tx_search", &[QUERY, PROVE, PAGE, PER_PAGE, ORDER]),
    ("block_search", &[QUERY, PAGE, PER_PAGE, ORDER]),
    ("abci_info", &[]),
    (
        "abci_query",
        &[
            Param("path", &["\"\"", "\"/key\"", "\"/val\""]),
            Param("data", &["\"61\"", "\"6b6579\""]),
            Param("height", &["\"0\"", "$tx0$"]),
            PROVE,
        ],
    ),
    ("check_tx", &[TX]),
    ("broadcast_tx_sync", &[Param("tx", &["\"bm90aGluZw==\"", "\"eD0=\""])]),
    ("broadcast_tx_async", &[Param("tx", &["\"bm90aGluZw==\""])]),
    ("broadcast_tx_commit", &[Param("tx", &["\"bm90aGluZw==\"", "\"eD0=\""])]),
    ("broadcast_evidence", &[Param("evidence", &["null", "{\"type\":\"x\",\"value\":{}}"])]),
    ("subscribe", &[QUERY]),
    ("unsubscribe", &[QUERY]),
    ("unsubscribe_all", &[]),
    ("no_such_route", &[HEIGHT]),
];

/// Values of which many are wrong for any parameter, in JSON.
const JSON: &[&str] = &[
    "null",
    "true",
    "0",
    "1",
    "-1",
    "1.5",
    "1e3",
    "9223372036854775807",
    "9223372036854775808",
    "\"\"",
    "\"0\"",
    "\"1\"",
    "\"-1\"",
    "\"+1\"",
    "\"01\"",
    "\" 1\"",
    "\"1.5\"",
    "\"$above$\"",
    "\"9223372036854775807\"",
    "\"9223372036854775808\"",
    "\"abc\"",
    "\"0x01\"",
    "\"YWJj\"",
    "\"YWJ\"",
    "\"true\"",
    "\"\\u00e9\"",
    "[]",
    "[1]",
    "{}",
    "{\"a\":1}",
];

/// The same in the query of a URI.
const URI: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "+1",
    "01",
    "%201",
    "1.5",
    "1e3",
    "$above$",
    "9223372036854775807",
    "9223372036854775808",
    "%221%22",
    "%220%22",
    "%22%22",
    "%22abc%22",
    "%22abc",
    "abc%22",
    "'abc'",
    "abc",
    "0x",
    "0x01",
    "0x0",
    "0xZZ",
    "0X01",
    "%220x01%22",
    "true",
    "True",
    "1%22",
    "null",
    "[]",
    "{}",
    "%C3%A9",
    "%",
    "%2",
    "a+b",
    "$tx0$",
    "%22$tx0$%22",
    "0x$tx0.hash$",
    "%22$tx0.hash64$%22",
    "$tx0.hash$",
    "0x$tx0.block$",
    "%22$tx0.block64$%22",
];

/// Whole bodies.
const BODIES: &[&str] = &[
    "",
    " ",
    "null",
    "1",
    "\"status\"",
    "{}",
    "[]",
    "[1]",
    "[[]]",
    "{\"jsonrpc\":\"2.0\"",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\"} x",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}}{\"jsonrpc\":\"2.0\"}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":1,\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":null,\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"METHOD\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":2,\"id\":1,\"method\":\"health\",\"params\":{}}",
    "{\"id\":1,\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":-1,\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":9223372036854775807,\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1e3,\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"health\",\"params\":{}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{},\"more\":1}",
    "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}}]",
    "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}},{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"none\",\"params\":{}}]",
    "[{\"jsonrpc\":\"2.0\",\"method\":\"health\",\"params\":{}}]",
    "[{\"jsonrpc\":\"2.0\",\"method\":\"health\",\"params\":{}},{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}}]",
    "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}},{}]",
    "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}},1]",
    "[{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"block\",\"params\":{\"height\":\"$tx0$\"}},{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"commit\",\"params\":[\"$tx0$\"]}]",
];

/// Methods and paths of HTTP that no client should use, with a body.
const OTHERS: &[(&str, &str, &str)] = &[
    ("PUT", "/", "{}"),
    ("DELETE", "/", ""),
    ("PATCH", "/status", "{}"),
    ("OPTIONS", "/", ""),
    ("POST", "/status", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}}"),
    ("POST", "/no_such_route", "{}"),
    ("POST", "/status?height=1", ""),
    ("PUT", "/status", ""),
    ("GET", "/no_such_route", ""),
    ("GET", "/status/", ""),
    ("GET", "/Status", ""),
    ("GET", "/status/more", ""),
    ("GET", "//status", ""),
    ("GET", "/%73tatus", ""),
    ("GET", "/status?", ""),
    ("GET", "/status?&&", ""),
    ("GET", "/block?height=1&height=2", ""),
    ("GET", "/block?Height=1", ""),
    ("GET", "/block?height", ""),
    ("GET", "/block;height=1", ""),
    ("GET", "/block?height=1;2", ""),
    ("GET", "/block?height=1#x", ""),
    ("GET", "/health", "{}"),
    ("GET", "/", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\",\"params\":{}}"),
];

/// All requests: every value for every parameter alone, and `random` further ones of several.
pub(super) fn all(seed: u64, random: usize) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut add = |route, form| requests.push(Request { route, form });
    BODIES.iter().for_each(|body| add("", Form::Post((*body).to_owned())));
    OTHERS.iter().for_each(|(method, path, body)| add("", Form::Other(method, path, body)));
    for (route, params) in ROUTES {
        for whole in
            ["", ",\"params\":null", ",\"params\":[]", ",\"params\":1", ",\"params\":\"a\""]
        {
            add(route, Form::Post(format!("{{{}{whole}}}", head(route))));
        }
        add(route, Form::Get(format!("/{route}")));
        add(route, Form::Get(format!("/{route}?unknown=1")));
        add(route, named(route, &[("unknown", "1")]));
        for (index, param) in params.iter().enumerate() {
            for value in param.1.iter().chain(JSON) {
                add(route, named(route, &with(params, index, value)));
                add(route, named(route, &[(param.0, *value)]));
                add(route, positional(route, &with(params, index, value)));
            }
            for value in URI {
                add(route, Form::Get(format!("/{route}?{}={value}", param.0)));
            }
            for value in param.1 {
                add(route, Form::Get(format!("/{route}?{}={}", param.0, escaped(value))));
            }
        }
        add(route, positional(route, &vec![("", "1"); params.len() + 1]));
    }
    let mut rng = StdRng::seed_from_u64(seed);
    requests.extend((0..random).map(|_| mixed(&mut rng)));
    // What may change the chains comes last.
    requests.sort_by_key(|request| request.route.starts_with("broadcast_tx"));
    requests
}

/// Several parameters, each of any value.
fn mixed(rng: &mut StdRng) -> Request {
    let (route, params) = ROUTES.choose(rng).expect("routes");
    let uri = rng.random_bool(0.5);
    let mut given = Vec::new();
    for param in *params {
        if rng.random_bool(0.2) {
            continue;
        }
        let pool = if uri { URI } else { JSON };
        let good = rng.random_bool(0.6);
        let value = if good { param.1.choose(rng) } else { pool.choose(rng) };
        let value = value.expect("values");
        given.push((param.0, if uri && good { escaped(value) } else { (*value).to_owned() }));
    }
    let pairs: Vec<(&str, &str)> = given.iter().map(|(name, value)| (*name, &**value)).collect();
    let form = match (uri, rng.random_bool(0.5)) {
        (true, _) => {
            let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
            Form::Get(format!("/{route}?{}", pairs.join("&")))
        }
        (false, true) => named(route, &pairs),
        (false, false) => positional(route, &pairs),
    };
    Request { route, form }
}

/// The first good value of each parameter but the one at `index`, which has `value`.
fn with<'a>(params: &[Param], index: usize, value: &'a str) -> Vec<(&'static str, &'a str)> {
    let good = |param: &Param| param.1.first().copied().unwrap_or("null");
    let pairs = params.iter().enumerate();
    pairs.map(|(at, p)| (p.0, if at == index { value } else { good(p) })).collect()
}

fn head(route: &str) -> String {
    format!("\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{route}\"")
}

fn named(route: &str, pairs: &[(&str, &str)]) -> Form {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    Form::Post(format!("{{{},\"params\":{{{}}}}}", head(route), pairs.join(",")))
}

fn positional(route: &str, pairs: &[(&str, &str)]) -> Form {
    let values: Vec<&str> = pairs.iter().map(|(_, value)| *value).collect();
    Form::Post(format!("{{{},\"params\":[{}]}}", head(route), values.join(",")))
}

/// A value in JSON, as it stands in a URI: what is not plain is percent-encoded, but for the `$` around names.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'$' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_thousand_requests_meet_every_route_in_every_encoding_and_are_the_same_for_a_seed() {
        let requests = all(1, 500);
        assert!(requests.len() > 4_000, "{}", requests.len());
        assert_eq!(requests, all(1, 500));
        for (route, params) in ROUTES {
            let of = |form: fn(&Form) -> bool| {
                requests
                    .iter()
                    .filter(|request| request.route == *route && form(&request.form))
                    .count()
            };
            assert!(of(|form| matches!(form, Form::Get(_))) > 0, "{route}");
            assert!(of(|form| matches!(form, Form::Post(_))) > params.len() * JSON.len());
        }
    }
}
