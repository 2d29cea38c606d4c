//! The keys as a command line offers them.

use crate::config::Config;
use crate::keys::KEYS;
use crate::unused::UNUSED;
use crate::value::Setting;

/// A key that a flag of the same name may set, see [`crate::Loaded::set`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The key, which is the flag's name: `rpc.laddr`.
    pub path: &'static str,
    /// What it is for; empty where the key means nothing here.
    pub doc: &'static str,
    /// The default, as in the file.
    pub default: String,
    /// Whether it may stand without a value, which means `true`.
    pub switch: bool,
    /// Whether the key means anything here.
    pub means_something: bool,
}

/// All of them, in the order of the file, and then CometBFT's keys that mean nothing here.
#[must_use]
pub fn flags() -> Vec<Flag> {
    let defaults = Config::default();
    let meaning = KEYS.iter().map(|key| Flag {
        path: key.path,
        doc: key.doc,
        default: (key.show)(&defaults),
        switch: (key.kind)() == bool::KIND,
        means_something: true,
    });
    let unused = UNUSED.iter().map(|unused| Flag {
        path: unused.path,
        doc: "",
        default: String::new(),
        switch: unused.is_switch(),
        means_something: false,
    });
    meaning.chain(unused).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_and_values_are_told_apart() {
        let flags = flags();
        let switch = |path: &str| flags.iter().find(|flag| flag.path == path).map(|f| f.switch);
        assert_eq!(switch("consensus.create_empty_blocks"), Some(true));
        assert_eq!(switch("consensus.create_empty_blocks_interval"), Some(false));
        assert_eq!(switch("rpc.unsafe"), Some(true));
        assert_eq!(switch("p2p.send_rate"), Some(false));
        assert_eq!(switch("version"), None);
    }
}
