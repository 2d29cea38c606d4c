//! `tercet keys`: shows and makes the keys of a home.

use super::context::{Context, Global};
use super::home_files::KeyKind;
use super::{home_files, say};
use clap::{Args, Subcommand, ValueEnum};
use tercet_config::{KeyType, NodeKey, ValidatorKey};

/// Flags of `keys`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the public sides of the node's keys.
    Show,
    /// Make a key. One that exists is never overwritten: move it away first.
    Generate {
        /// Which key.
        which: Which,
        /// The kind of a validator key.
        #[arg(long = "key-type", short = 'k', alias = "key_type", value_enum, default_value_t)]
        key_type: KeyKind,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// What peers know the node by.
    Node,
    /// What votes.
    Validator,
}

impl Keys {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let context = global.load(&[])?;
        match self.action {
            Action::Show => show(&context),
            Action::Generate { which, key_type } => generate(&context, which, key_type.into()),
        }
    }
}

fn show(context: &Context) -> anyhow::Result<()> {
    let Context { home, loaded } = context;
    let node = NodeKey::read(&home.node_key_file(&loaded.config))?;
    let validator = ValidatorKey::read(&home.validator_key_file(&loaded.config))?;
    say(&format!("node id     {}", node.id()))?;
    say(&format!("address     {}", validator.address_hex()))?;
    say(&format!("public key  {}", validator.public_json()))
}

fn generate(context: &Context, which: Which, kind: KeyType) -> anyhow::Result<()> {
    let Context { home, loaded } = context;
    let config = &loaded.config;
    home.ensure(config)?;
    let path = match which {
        Which::Node => {
            let path = home.node_key_file(config);
            NodeKey::generate()?.create(&path)?;
            path
        }
        Which::Validator => {
            home_files::new_validator(home, config, kind)?;
            home.validator_key_file(config)
        }
    };
    say(&format!("made {}", path.display()))
}
