//! Values of the configuration that are one of a few words.

use crate::address::Listen;
use crate::config::{AbciProtocol, Indexer, LogFormat, LogLevel, MempoolKind, ProxyApp, Transport};
use std::fmt;
use std::str::FromStr;

/// Not one of the words that the key takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {expected}")]
pub struct WordError {
    given: String,
    expected: &'static str,
}

fn wrong<T>(given: &str, expected: &'static str) -> Result<T, WordError> {
    Err(WordError { given: given.to_owned(), expected })
}

impl FromStr for ProxyApp {
    type Err = WordError;

    fn from_str(text: &str) -> Result<ProxyApp, WordError> {
        match text {
            "kvstore" => Ok(ProxyApp::Kvstore),
            "persistent_kvstore" => Ok(ProxyApp::PersistentKvstore),
            "noop" => Ok(ProxyApp::Noop),
            address => address.parse().map(ProxyApp::Socket).or_else(|_| {
                wrong(address, "\"kvstore\", \"persistent_kvstore\", \"noop\" or an address such as \"tcp://127.0.0.1:26658\"")
            }),
        }
    }
}

impl fmt::Display for ProxyApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyApp::Kvstore => f.write_str("kvstore"),
            ProxyApp::PersistentKvstore => f.write_str("persistent_kvstore"),
            ProxyApp::Noop => f.write_str("noop"),
            ProxyApp::Socket(address) => Listen::fmt(address, f),
        }
    }
}

impl FromStr for AbciProtocol {
    type Err = WordError;

    fn from_str(text: &str) -> Result<AbciProtocol, WordError> {
        match text {
            "socket" => Ok(AbciProtocol::Socket),
            "grpc" => Ok(AbciProtocol::Grpc),
            _ => wrong(text, "\"socket\" or \"grpc\""),
        }
    }
}

impl fmt::Display for AbciProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AbciProtocol::Socket => "socket",
            AbciProtocol::Grpc => "grpc",
        })
    }
}

impl FromStr for Indexer {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Indexer, WordError> {
        match text {
            "kv" => Ok(Indexer::Kv),
            "null" => Ok(Indexer::Null),
            "psql" => wrong(text, "supported yet; use \"kv\" or \"null\""),
            _ => wrong(text, "\"kv\" or \"null\""),
        }
    }
}

impl fmt::Display for Indexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Indexer::Kv => "kv",
            Indexer::Null => "null",
        })
    }
}

impl FromStr for MempoolKind {
    type Err = WordError;

    fn from_str(text: &str) -> Result<MempoolKind, WordError> {
        match text {
            "flood" | "" => Ok(MempoolKind::Flood),
            "nop" => Ok(MempoolKind::Nop),
            _ => wrong(text, "\"flood\" or \"nop\""),
        }
    }
}

impl fmt::Display for MempoolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MempoolKind::Flood => "flood",
            MempoolKind::Nop => "nop",
        })
    }
}

impl FromStr for LogFormat {
    type Err = WordError;

    fn from_str(text: &str) -> Result<LogFormat, WordError> {
        match text {
            "plain" => Ok(LogFormat::Plain),
            "json" => Ok(LogFormat::Json),
            _ => wrong(text, "\"plain\" or \"json\""),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Plain => "plain",
            LogFormat::Json => "json",
        })
    }
}

impl FromStr for Transport {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Transport, WordError> {
        match text {
            "tcp" => Ok(Transport::Tcp),
            "quic" => Ok(Transport::Quic),
            _ => wrong(text, "\"tcp\" or \"quic\""),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Quic => "quic",
        })
    }
}

/// The levels, CometBFT's `none` among them.
const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "none"];

/// CometBFT's names of modules, and where the same work is done here.
const MODULES: [(&str, &[&str]); 8] = [
    ("consensus", &["tercet_node::engine", "tercet_consensus"]),
    ("p2p", &["tercet_node::network"]),
    ("mempool", &["tercet_node::mempool"]),
    ("state", &["tercet_node::execution", "tercet_node::store"]),
    ("proxy", &["tercet_node::execution"]),
    ("blocksync", &["tercet_node::sync"]),
    ("rpc-server", &["tercet_node::rpc"]),
    ("audit", &["audit"]),
];

impl LogLevel {
    /// The same for `tracing`'s `EnvFilter`. Modules of CometBFT that do not exist here say nothing.
    #[must_use]
    pub fn directives(&self) -> String {
        let mut directives = Vec::new();
        let mut rest = "info";
        for part in self.0.split(',') {
            let (module, level) = part.split_once(':').unwrap_or(("*", part));
            let level = if level == "none" { "off" } else { level };
            if module == "*" {
                rest = level;
            }
            let places = MODULES.iter().find(|(name, _)| *name == module);
            let places = places.map_or(&[][..], |(_, places)| places);
            directives.extend(places.iter().map(|place| format!("{place}={level}")));
        }
        directives.insert(0, rest.to_owned());
        directives.join(",")
    }
}

impl FromStr for LogLevel {
    type Err = WordError;

    fn from_str(text: &str) -> Result<LogLevel, WordError> {
        let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let level = |part: &str| {
            let level = part.split_once(':').map_or(part, |(_, level)| level);
            LEVELS.contains(&level)
        };
        if plain.split(',').all(level) {
            return Ok(LogLevel(plain));
        }
        wrong(text, "a level (trace, debug, info, warn, error, none) or \"module:level,*:level\"")
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cometbft_log_levels_become_filters() {
        for (level, filter) in [
            ("info", "info"),
            ("none", "off"),
            ("p2p:debug", "info,tercet_node::network=debug"),
            (
                "main:info, consensus:debug, *:error",
                "error,tercet_node::engine=debug,tercet_consensus=debug",
            ),
        ] {
            let level: LogLevel = level.parse().expect("a level");
            assert_eq!(level.directives(), filter);
        }
    }

    #[test]
    fn other_words_are_refused_with_those_that_are_known() {
        let error = "loud".parse::<LogLevel>().expect_err("no level").to_string();
        assert!(error.contains("debug"), "{error}");
        let error = "udp".parse::<Transport>().expect_err("no transport").to_string();
        assert_eq!(error, "\"udp\" is not \"tcp\" or \"quic\"");
        assert!("xml".parse::<LogFormat>().is_err());
        assert!("http".parse::<AbciProtocol>().is_err());
        assert!("counter".parse::<ProxyApp>().is_err());
    }
}
