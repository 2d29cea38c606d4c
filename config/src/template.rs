//! `config.toml` with comments, and the same as a table for the operator's guide.

use crate::config::Config;
use crate::keys::{KEYS, SECTIONS};

const HEAD: &str = "\
# Configuration of a Tercet node, in CometBFT's format. Restart the node after a change.
#
# Flags override variables (TERCET_RPC_LADDR for laddr in [rpc]), and those override this file.
# Paths are absolute or start at the home folder. Durations are written \"300ms\", \"10s\", \"1m30s\".
# Files of CometBFT 0.38 work as they are: what means nothing here gives a warning at start.
";

impl Config {
    /// The file that says the same, with a comment for every key.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let defaults = Config::default();
        let mut out = HEAD.to_owned();
        for (section, heading) in SECTIONS {
            out.push_str(&format!("\n{}\n# {heading}\n{}\n", "#".repeat(60), "#".repeat(60)));
            if !section.is_empty() {
                out.push_str(&format!("[{section}]\n"));
            }
            for key in KEYS.iter().filter(|key| key.parts().0 == section) {
                let (doc, kind, default) = (key.doc, (key.kind)(), (key.show)(&defaults));
                let (name, value) = (key.parts().1, (key.show)(self));
                out.push_str(&format!(
                    "\n# {doc}\n# {kind}; default {default}\n{name} = {value}\n"
                ));
            }
        }
        out
    }
}

/// All keys that mean something, as a Markdown table: for the operator's guide.
#[must_use]
pub fn keys_as_markdown() -> String {
    let defaults = Config::default();
    let mut out = String::from("| Key | Default | What |\n|---|---|---|\n");
    for key in KEYS {
        let default = (key.show)(&defaults).replace('|', "\\|");
        out.push_str(&format!(
            "| `{}` | `{default}` | {} |\n",
            key.path,
            key.doc.replace('|', "\\|")
        ));
    }
    out
}
