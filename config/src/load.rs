//! Reads `config.toml`, then variables, then flags: each overrides what came before.

use crate::config::Config;
use crate::home::Home;
use crate::keys::{self, KEYS, same_name};
use crate::unused::{SILENT, TABLES, UNUSED};
use crate::value::Raw;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// What every variable begins with.
pub const ENV_PREFIX: &str = "TERCET_";

/// Variables of the prefix that are no keys of the configuration.
const ENV_OTHERS: [&str; 5] =
    ["TERCET_CHECK_ABCI", "TERCET_HOME", "TERCET_NO_APT", "TERCET_TESTNET_DIR", "TERCET_VECTORS"];

/// A name is offered in place of an unknown one from this similarity on.
const SIMILAR: f64 = 0.7;

/// A configuration and what its owner should know about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line for each setting that has no effect.
    pub warnings: Vec<String>,
}

/// Why a configuration cannot be used. One line, with the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// File and line.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// No such key.
    #[error("{place}: unknown key {key:?}{}", hint(.nearest.as_deref()))]
    Unknown {
        /// File and line, flag or variable.
        place: String,
        /// The key.
        key: String,
        /// A known key with nearly that name.
        nearest: Option<String>,
    },
    /// A key with a value that it does not take.
    #[error("{place}: {key}: {reason}")]
    Value {
        /// File and line, flag or variable.
        place: String,
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Keys that do not fit each other.
    #[error("configuration: {0}")]
    Conflict(String),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; docs/operator.md lists the keys".to_owned(),
        |nearest| format!("; did you mean {nearest:?}?"),
    )
}

impl Loaded {
    /// The file of a home; without one, the defaults.
    ///
    /// # Errors
    /// Where the file cannot be read, or says what it may not.
    pub fn from_home(home: &Home) -> Result<Loaded, ConfigError> {
        let path = home.config_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => Loaded::from_text(&text, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Loaded::default()),
            Err(error) => Err(ConfigError::Read { path, error }),
        }
    }

    /// The text of a file; `path` is for messages only.
    ///
    /// # Errors
    /// Where it is no TOML, has an unknown key, or a value that its key does not take.
    pub fn from_text(text: &str, path: &Path) -> Result<Loaded, ConfigError> {
        let place = |at: usize| format!("{} line {}", path.display(), line(text, at));
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            place: place(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        })?;
        let mut entries = Vec::new();
        flatten("", table.get_ref(), &mut entries);
        entries.sort_by_key(|entry| entry.at);
        let mut loaded = Loaded::default();
        for entry in &entries {
            loaded.put(&entry.path, &entry.raw, &place(entry.at))?;
        }
        Ok(loaded)
    }

    /// Takes the variables whose names begin with [`ENV_PREFIX`]: `TERCET_RPC_LADDR` is `rpc.laddr`.
    ///
    /// # Errors
    /// Where a value is none that its key takes. An unknown variable gives a warning: it may be somebody else's.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            if !name.starts_with(ENV_PREFIX) || ENV_OTHERS.contains(&name.as_str()) {
                continue;
            }
            let place = format!("variable {name}");
            match names().find(|path| variable(path) == name) {
                Some(path) => self.put(path, &Raw::Text(value), &place)?,
                None => self.warn(format!("{place} is no key of the configuration")),
            }
        }
        Ok(())
    }

    /// Sets one key, as a flag does: `rpc.laddr` to `tcp://0.0.0.0:26657`. `-` and `_` in names are the same.
    ///
    /// # Errors
    /// Where there is no such key, or it does not take the value.
    pub fn set(&mut self, path: &str, value: &str) -> Result<(), ConfigError> {
        self.put(path, &Raw::Text(value.to_owned()), "command line")
    }

    /// Checks what no key can check alone.
    ///
    /// # Errors
    /// With what does not fit, and what to change.
    pub fn check(&self) -> Result<(), ConfigError> {
        crate::check::check(&self.config).map_err(ConfigError::Conflict)
    }

    fn warn(&mut self, line: String) {
        if !self.warnings.contains(&line) {
            self.warnings.push(line);
        }
    }

    fn put(&mut self, path: &str, raw: &Raw, place: &str) -> Result<(), ConfigError> {
        if let Some(key) = keys::find(path) {
            let value = |reason| ConfigError::Value {
                place: place.to_owned(),
                key: key.path.to_owned(),
                reason,
            };
            return (key.set)(&mut self.config, raw).map_err(value);
        }
        if let Some(unused) = UNUSED.iter().find(|unused| same_name(unused.path, path)) {
            if let Some(warning) = unused.warning(raw) {
                self.warn(format!("{place}: {warning}"));
            }
            return Ok(());
        }
        if let Some((table, instead)) = TABLES.iter().find(|(table, _)| within(table, path)) {
            self.warn(format!("[{table}] has no effect in Tercet: {instead}"));
            return Ok(());
        }
        if SILENT.contains(&path) {
            return Ok(());
        }
        Err(ConfigError::Unknown {
            place: place.to_owned(),
            key: path.to_owned(),
            nearest: nearest(path),
        })
    }
}

impl Config {
    /// See [`Loaded::set`]; what it would warn of is lost.
    ///
    /// # Errors
    /// As there.
    pub fn set(&mut self, path: &str, value: &str) -> Result<(), ConfigError> {
        let mut loaded = Loaded { config: std::mem::take(self), warnings: Vec::new() };
        let result = loaded.set(path, value);
        *self = loaded.config;
        result
    }
}

/// One `key = value` of a file.
struct Entry {
    path: String,
    raw: Raw,
    /// Where the key stands, in bytes.
    at: usize,
}

fn flatten(section: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (name, value) in table {
        let name_text = name.get_ref();
        let path = match section {
            "" => name_text.to_string(),
            section => format!("{section}.{name_text}"),
        };
        match value.get_ref() {
            DeValue::Table(inner) => flatten(&path, inner, entries),
            value => entries.push(Entry { path, raw: Raw::of(value), at: name.span().start }),
        }
    }
}

/// The line of a byte, from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

fn within(table: &str, path: &str) -> bool {
    path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// All names, those without meaning here too.
fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.path).chain(UNUSED.iter().map(|unused| unused.path))
}

/// The variable of a key.
fn variable(path: &str) -> String {
    format!("{ENV_PREFIX}{}", path.replace(['.', '-'], "_").to_ascii_uppercase())
}

/// The known name most like `path`: it may lack its section, stand in another, or be misspelt.
fn nearest(path: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |known: &str| {
        let whole = strsim::jaro_winkler(known, path);
        let name = if last(known) == last(path) { 0.95 } else { 0.0 };
        whole.max(name) - if strsim::damerau_levenshtein(known, path) > 12 { 0.1 } else { 0.0 }
    };
    let scored = names().map(|known| (likeness(known), known));
    let (score, known) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= SIMILAR).then(|| known.to_owned())
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
