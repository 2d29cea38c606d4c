//! The home folder: where a node's files are.

use crate::config::Config;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The folder in the user's home where nothing else is said.
const DEFAULT: &str = ".tercet";
/// The permissions of folders, as in CometBFT.
const MODE: u32 = 0o700;

/// A home folder. Paths in a configuration are absolute or start here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

/// A home that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nothing says where it is.
    #[error("no home folder: give --home or set TERCET_HOME")]
    Nowhere,
    /// A folder cannot be made.
    #[error("cannot create {}", .path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl Home {
    /// The home at this path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Home {
        Home(path.into())
    }

    /// The flag, else the variable, else `~/.tercet`.
    ///
    /// # Errors
    /// Where the user has no home folder either.
    pub fn choose(flag: Option<PathBuf>) -> Result<Home, HomeError> {
        Home::of(flag, std::env::var_os("TERCET_HOME"), std::env::var_os("HOME"))
    }

    fn of(
        flag: Option<PathBuf>,
        variable: Option<OsString>,
        user: Option<OsString>,
    ) -> Result<Home, HomeError> {
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        let variable = variable.map(PathBuf::from).filter(given);
        let user = user.map(PathBuf::from).filter(given).map(|user| user.join(DEFAULT));
        flag.filter(given).or(variable).or(user).map(Home).ok_or(HomeError::Nowhere)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path of the configuration from here.
    #[must_use]
    pub fn join(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    /// `config/`.
    #[must_use]
    pub fn config_dir(&self) -> PathBuf {
        self.0.join("config")
    }

    /// `config/config.toml`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config_dir().join("config.toml")
    }

    /// `data/`, or where `db_dir` says.
    #[must_use]
    pub fn data_dir(&self, config: &Config) -> PathBuf {
        self.join(&config.db_dir)
    }

    /// `config/genesis.json`, or where `genesis_file` says.
    #[must_use]
    pub fn genesis_file(&self, config: &Config) -> PathBuf {
        self.join(&config.genesis_file)
    }

    /// `config/node_key.json`, or where `node_key_file` says.
    #[must_use]
    pub fn node_key_file(&self, config: &Config) -> PathBuf {
        self.join(&config.node_key_file)
    }

    /// `config/priv_validator_key.json`, or where `priv_validator_key_file` says.
    #[must_use]
    pub fn validator_key_file(&self, config: &Config) -> PathBuf {
        self.join(&config.priv_validator_key_file)
    }

    /// `data/priv_validator_state.json`, or where `priv_validator_state_file` says.
    #[must_use]
    pub fn sign_state_file(&self, config: &Config) -> PathBuf {
        self.join(&config.priv_validator_state_file)
    }

    /// Certificate and key of the RPC, where it speaks TLS: from `config/`, as in CometBFT.
    #[must_use]
    pub fn tls_files(&self, config: &Config) -> Option<(PathBuf, PathBuf)> {
        let (cert, key) = (&config.rpc.tls_cert_file, &config.rpc.tls_key_file);
        let given = !cert.as_os_str().is_empty() && !key.as_os_str().is_empty();
        given.then(|| (self.config_dir().join(cert), self.config_dir().join(key)))
    }

    /// The audit log, where it has a file of its own.
    #[must_use]
    pub fn audit_log(&self, config: &Config) -> Option<PathBuf> {
        let path = &config.instrumentation.audit_log;
        (!path.as_os_str().is_empty()).then(|| self.join(path))
    }

    /// Makes the folders that are missing, for the owner only.
    ///
    /// # Errors
    /// Where one cannot be made.
    pub fn ensure(&self, config: &Config) -> Result<(), HomeError> {
        for path in [self.0.clone(), self.config_dir(), self.data_dir(config)] {
            let made = DirBuilder::new().recursive(true).mode(MODE).create(&path);
            made.map_err(|error| HomeError::Create { path, error })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_flag_goes_before_the_variable_and_that_before_the_default() {
        let home = |flag: &str, variable: &str, user: &str| {
            let home = Home::of(Some(flag.into()), Some(variable.into()), Some(user.into()));
            home.map(|home| home.0.display().to_string())
        };
        assert_eq!(home("/a", "/b", "/c").expect("a home"), "/a");
        assert_eq!(home("", "/b", "/c").expect("a home"), "/b");
        assert_eq!(home("", "", "/c").expect("a home"), "/c/.tercet");
        assert!(home("", "", "").expect_err("none").to_string().contains("--home"));
    }

    #[test]
    fn folders_are_made_for_the_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::new(folder.path().join("a/b"));
        home.ensure(&Config::default()).expect("folders");
        home.ensure(&Config::default()).expect("folders that exist are fine");
        for path in [home.path().to_owned(), home.config_dir(), home.path().join("data")] {
            let mode = std::fs::metadata(&path).expect("a folder").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn absolute_paths_stay_what_they_are() {
        let mut config = Config::default();
        config.set("genesis_file", "/etc/chain/genesis.json").expect("a path");
        config.set("instrumentation.audit_log", "data/audit.log").expect("a path");
        let home = Home::new("/h");
        assert_eq!(home.genesis_file(&config), Path::new("/etc/chain/genesis.json"));
        assert_eq!(home.node_key_file(&config), Path::new("/h/config/node_key.json"));
        assert_eq!(home.audit_log(&config), Some("/h/data/audit.log".into()));
        assert_eq!(home.audit_log(&Config::default()), None);
    }
}
