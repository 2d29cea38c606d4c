//! From what a file, a flag or a variable says to typed fields, and back to TOML for the template.

use crate::address::Listen;
use crate::config::{AbciProtocol, Indexer, LogFormat, LogLevel, MempoolKind, ProxyApp, Transport};
use crate::duration::{format_duration, parse_duration};
use crate::peers::{NodeIdText, PeerText};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// A value as somebody wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// A string of the file, or any flag or variable.
    Text(String),
    /// A whole number.
    Integer(i128),
    /// `true` or `false`.
    Bool(bool),
    /// An array of strings.
    List(Vec<String>),
    /// What no key takes; its TOML name.
    Other(&'static str),
}

impl Raw {
    pub(crate) fn of(value: &DeValue<'_>) -> Raw {
        match value {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Boolean(bool) => Raw::Bool(*bool),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                i128::from_str_radix(&digits, number.radix())
                    .map_or(Raw::Other("number"), Raw::Integer)
            }
            DeValue::Array(items) => {
                let items = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                items.collect::<Option<_>>().map_or(Raw::Other("mixed array"), Raw::List)
            }
            other => Raw::Other(other.type_str()),
        }
    }

    /// The text of a scalar: CometBFT reads `"4"` where it wants a number, and the reverse.
    fn text(&self) -> Option<String> {
        match self {
            Raw::Text(text) => Some(text.trim().to_owned()),
            Raw::Integer(number) => Some(number.to_string()),
            Raw::Bool(bool) => Some(bool.to_string()),
            Raw::List(_) | Raw::Other(_) => None,
        }
    }

    /// How the value looks in a message.
    pub(crate) fn shown(&self) -> String {
        match self {
            Raw::Text(text) => format!("{text:?}"),
            Raw::List(items) => format!("{items:?}"),
            Raw::Other(name) => format!("a {name}"),
            scalar => scalar.text().unwrap_or_default(),
        }
    }

    /// Whether both say the same: numbers, durations and lists in whatever form.
    pub(crate) fn same(&self, other: &Raw) -> bool {
        if self == other {
            return true;
        }
        if let (Ok(mine), Ok(theirs)) = (Vec::<String>::read(self), Vec::<String>::read(other))
            && mine == theirs
        {
            return true;
        }
        let (Some(mine), Some(theirs)) = (self.text(), other.text()) else { return false };
        let durations = (parse_duration(&mine), parse_duration(&theirs));
        mine == theirs || matches!(durations, (Ok(mine), Ok(theirs)) if mine == theirs)
    }
}

/// A type of field.
pub(crate) trait Setting: Sized {
    /// What to write, in words: for the table of keys.
    const KIND: &'static str;
    /// Reads it.
    fn read(raw: &Raw) -> Result<Self, String>;
    /// Writes it as TOML.
    fn write(&self) -> String;
}

fn expected<T: Setting>(raw: &Raw) -> String {
    format!("{} is not {}", raw.shown(), T::KIND)
}

/// Reads what is written as one string.
fn scalar<T: Setting>(
    raw: &Raw,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, String> {
    let text = raw.text().ok_or_else(|| expected::<T>(raw))?;
    parse(&text)
}

/// A TOML string; what JSON escapes, TOML understands.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Setting for bool {
    const KIND: &'static str = "true or false";

    fn read(raw: &Raw) -> Result<bool, String> {
        scalar(raw, |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(expected::<bool>(raw)),
        })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    const KIND: &'static str = "a whole number of 0 or more";

    fn read(raw: &Raw) -> Result<u64, String> {
        let digits = |text: &str| text.replace('_', "").parse().map_err(|_| expected::<u64>(raw));
        scalar(raw, digits)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Setting for usize {
    const KIND: &'static str = u64::KIND;

    fn read(raw: &Raw) -> Result<usize, String> {
        usize::try_from(u64::read(raw)?).map_err(|_| expected::<usize>(raw))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    const KIND: &'static str = "a duration such as \"300ms\", \"10s\" or \"1m30s\"";

    fn read(raw: &Raw) -> Result<Duration, String> {
        scalar(raw, |text| {
            parse_duration(text).map_err(|error| match raw {
                // CometBFT takes a bare number for nanoseconds, which nobody means.
                Raw::Integer(_) => format!("{text} has no unit: write for example \"{text}s\""),
                _ => error.to_string(),
            })
        })
    }

    fn write(&self) -> String {
        quoted(&format_duration(*self))
    }
}

impl Setting for String {
    const KIND: &'static str = "a string";

    fn read(raw: &Raw) -> Result<String, String> {
        scalar(raw, |text| Ok(text.to_owned()))
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

impl Setting for PathBuf {
    const KIND: &'static str = "a path, absolute or from the home folder";

    fn read(raw: &Raw) -> Result<PathBuf, String> {
        scalar(raw, |text| Ok(text.into()))
    }

    fn write(&self) -> String {
        quoted(&self.display().to_string())
    }
}

/// CometBFT writes lists of its `[rpc]` as arrays and all others as one string with commas; here both go everywhere, and a
/// flag or variable may hold an array's text.
fn items(raw: &Raw) -> Option<Vec<String>> {
    let items: Vec<String> = match raw {
        Raw::List(items) => items.clone(),
        Raw::Text(text) if text.trim_start().starts_with('[') => {
            let document = format!("list = {text}");
            match DeTable::parse(&document)
                .ok()?
                .get_ref()
                .get("list")
                .map(|v| Raw::of(v.get_ref()))
            {
                Some(Raw::List(items)) => items,
                _ => return None,
            }
        }
        scalar => scalar.text()?.split(',').map(str::to_owned).collect(),
    };
    let items = items.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty());
    Some(items.collect())
}

impl Setting for Vec<String> {
    const KIND: &'static str = "a list of strings";

    fn read(raw: &Raw) -> Result<Vec<String>, String> {
        items(raw).ok_or_else(|| expected::<Vec<String>>(raw))
    }

    fn write(&self) -> String {
        let items: Vec<String> = self.iter().map(|item| quoted(item)).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Types with `FromStr` and `Display` that errors explain, and lists of such, with commas.
macro_rules! parsed {
    ($type:ty, $kind:literal) => {
        impl Setting for $type {
            const KIND: &'static str = $kind;

            fn read(raw: &Raw) -> Result<$type, String> {
                scalar(raw, |text| text.parse().map_err(|error| format!("{error}")))
            }

            fn write(&self) -> String {
                quoted(&self.to_string())
            }
        }
    };
    (list $type:ty, $kind:literal) => {
        impl Setting for Vec<$type> {
            const KIND: &'static str = $kind;

            fn read(raw: &Raw) -> Result<Vec<$type>, String> {
                let items = items(raw).ok_or_else(|| expected::<Vec<$type>>(raw))?;
                let read = items.iter().map(|item| item.parse().map_err(|e| format!("{e}")));
                read.collect()
            }

            fn write(&self) -> String {
                let items: Vec<String> = self.iter().map(ToString::to_string).collect();
                quoted(&items.join(","))
            }
        }
    };
}

parsed!(Listen, "an address: \"tcp://host:port\" or \"unix:///path\"");
parsed!(ProxyApp, "\"kvstore\", \"persistent_kvstore\", \"noop\" or an address");
parsed!(AbciProtocol, "\"socket\" or \"grpc\"");
parsed!(MempoolKind, "\"flood\" or \"nop\"");
parsed!(Indexer, "\"kv\" or \"null\"");
parsed!(LogLevel, "a level, or \"module:level,*:level\"");
parsed!(LogFormat, "\"plain\" or \"json\"");
parsed!(Transport, "\"tcp\" or \"quic\"");
parsed!(list PeerText, "peers with commas between them: \"id@host:port\" or multiaddrs");
parsed!(list NodeIdText, "node ids with commas between them");

impl Setting for Option<Listen> {
    const KIND: &'static str = "an address: \"tcp://host:port\" or \"unix:///path\"; \"\" for none";

    fn read(raw: &Raw) -> Result<Option<Listen>, String> {
        match raw {
            Raw::Text(text) if text.is_empty() => Ok(None),
            raw => Listen::read(raw).map(Some),
        }
    }

    fn write(&self) -> String {
        self.as_ref().map_or_else(|| quoted(""), Listen::write)
    }
}
