//! Where something listens or is dialled: `tcp://host:port` or `unix:///path`, as in CometBFT.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An address of CometBFT's configuration. Without a scheme it is TCP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A TCP (or, for peers over QUIC, UDP) port.
    Tcp {
        /// A name or an IP address, IPv6 without brackets; `0.0.0.0` where none was given.
        host: String,
        /// The port; 0 takes a free one.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: write \"tcp://host:port\" or \"unix:///path\"")]
pub struct ListenError(String);

impl Listen {
    /// A TCP address.
    #[must_use]
    pub fn tcp(host: &str, port: u16) -> Listen {
        Listen::Tcp { host: host.to_owned(), port }
    }

    /// `host:port` of a TCP address, with IPv6 in brackets; none for another.
    #[must_use]
    pub fn host_port(&self) -> Option<String> {
        match self {
            Listen::Tcp { host, port } if host.contains(':') => Some(format!("[{host}]:{port}")),
            Listen::Tcp { host, port } => Some(format!("{host}:{port}")),
            Listen::Unix(_) => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Unix(path) => write!(f, "unix://{}", path.display()),
            tcp => write!(f, "tcp://{}", tcp.host_port().unwrap_or_default()),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Listen, ListenError> {
        let wrong = || ListenError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            let path = (!path.is_empty()).then(|| PathBuf::from(path));
            return path.map(Listen::Unix).ok_or_else(wrong);
        }
        let place = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let bad = |character: char| character.is_whitespace() || "/@[]".contains(character);
        if host.contains("://") || bracketed.unwrap_or(host).contains(bad) {
            return Err(wrong());
        }
        if bracketed.is_none() && host.contains(':') {
            return Err(wrong());
        }
        let host = bracketed.unwrap_or(if host.is_empty() { "0.0.0.0" } else { host });
        Ok(Listen::tcp(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_in_cometbft() {
        for (text, read) in [
            ("tcp://127.0.0.1:26657", Listen::tcp("127.0.0.1", 26657)),
            ("127.0.0.1:26657", Listen::tcp("127.0.0.1", 26657)),
            (":26660", Listen::tcp("0.0.0.0", 26660)),
            ("tcp://[::1]:1", Listen::tcp("::1", 1)),
            ("tcp://node-0.example.com:0", Listen::tcp("node-0.example.com", 0)),
            ("unix:///run/app.sock", Listen::Unix("/run/app.sock".into())),
        ] {
            assert_eq!(text.parse(), Ok(read.clone()), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "tcp://",
            "localhost",
            "tcp://host",
            "host:65536",
            "udp://a:1",
            "::1:5",
            "unix://",
            "id@host:1",
        ] {
            let error = text.parse::<Listen>().expect_err(text);
            assert!(error.to_string().contains("tcp://host:port"), "{error}");
        }
    }
}
