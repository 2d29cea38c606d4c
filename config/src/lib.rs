//! Node configuration, genesis and keys of Tercet, in CometBFT's formats.
//!
//! `config.toml` becomes a [`Loaded`] with its [`Config`], `genesis.json` a [`Genesis`], and a [`Home`] says where all
//! files are. Nothing here runs a node; errors are one line with the place and the remedy.

mod address;
mod check;
mod config;
mod duration;
mod files;
mod flags;
mod genesis;
mod home;
mod key_file;
mod keys;
mod load;
mod peers;
mod sign_state;
mod template;
mod unused;
mod validator_secret;
mod value;
mod words;

pub use address::{Listen, ListenError};
pub use config::{
    AbciProtocol, Config, ConsensusConfig, EMPTY_BLOCK_INTERVAL, Indexer, InstrumentationConfig,
    LogFormat, LogLevel, MempoolConfig, MempoolKind, P2pConfig, ProxyApp, RpcConfig, Transport,
    TxIndexConfig,
};
pub use duration::{DURATION_MAX, DurationError, format_duration, parse_duration};
pub use flags::{Flag, flags};
pub use genesis::{
    BLOCK_BYTES_MAX, CHAIN_ID_BYTES_MAX, ChainParams, Genesis, GenesisError, GenesisValidator,
    INITIAL_HEIGHT_MAX, PRIMARY_TERM, TOTAL_POWER_MAX, VALIDATORS_MAX,
};
pub use home::{Home, HomeError};
pub use key_file::{KeyError, NodeKey, ValidatorKey, address_of};
pub use load::{ConfigError, ENV_PREFIX, Loaded};
pub use peers::{NodeIdText, PeerText, PeerTextError};
pub use sign_state::{SignState, SignStateError};
pub use template::keys_as_markdown;
pub use validator_secret::{KeyType, ValidatorSecret};
pub use words::WordError;
