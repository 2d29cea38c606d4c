//! What all commands share: where the home is, and its configuration.

use clap::Args;
use std::path::PathBuf;
use tercet_config::{Home, Loaded};

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Global {
    /// The home folder [default: ~/.tercet].
    #[arg(long, global = true, value_name = "FOLDER", env = "TERCET_HOME", hide_env_values = true)]
    pub(super) home: Option<PathBuf>,
    /// What is logged: trace, debug, info, warn, error, none, or by module: "p2p:debug,*:info".
    #[arg(long = "log_level", alias = "log-level", global = true, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    /// How it is logged: plain or json.
    #[arg(long = "log_format", alias = "log-format", global = true, value_name = "FORMAT")]
    pub(super) log_format: Option<String>,
    /// CometBFT's flag for stack traces of errors; there are none here.
    #[arg(long, global = true, hide = true)]
    pub(super) trace: bool,
}

/// A home with its configuration.
pub(super) struct Context {
    pub(super) home: Home,
    pub(super) loaded: Loaded,
}

impl Global {
    /// The home.
    pub(super) fn home(&self) -> anyhow::Result<Home> {
        Ok(Home::choose(self.home.clone())?)
    }

    /// Reads the file, the variables and the flags, each before the one that it overrides.
    pub(super) fn load(&self, flags: &[(String, String)]) -> anyhow::Result<Context> {
        let home = self.home()?;
        let mut loaded = Loaded::from_home(&home)?;
        let variables = std::env::vars_os();
        let text = |text: std::ffi::OsString| text.into_string().ok();
        loaded
            .environment(variables.filter_map(|(name, value)| Some((text(name)?, text(value)?))))?;
        let logs = [("log_level", &self.log_level), ("log_format", &self.log_format)];
        for (path, value) in logs {
            if let Some(value) = value {
                loaded.set(path, value)?;
            }
        }
        for (path, value) in flags {
            loaded.set(path, value)?;
        }
        Ok(Context { home, loaded })
    }
}
