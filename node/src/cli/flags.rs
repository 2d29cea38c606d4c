//! Every key of the configuration as a flag, under the name that it has in CometBFT: `--rpc.laddr`.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use std::sync::LazyLock;
use tercet_config::{Flag, flags};

/// What stands above the flags in the help.
const HEADING: &str = "Keys of config.toml";

/// The keys that flags have set, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConfigFlags(pub(super) Vec<(String, String)>);

/// The keys that are flags of `start`, each with its other spelling; those of every command are in
/// [`super::context::Global`].
static OWN: LazyLock<Vec<(Flag, Option<String>)>> = LazyLock::new(|| {
    let own = flags().into_iter();
    let own = own.filter(|flag| !matches!(flag.path, "log_level" | "log_format"));
    own.map(|flag| (flag.clone(), other_spelling(flag.path))).collect()
});

fn argument((flag, other): &'static (Flag, Option<String>)) -> Arg {
    let help = match (flag.default.as_str(), flag.means_something) {
        (_, false) => "No effect in Tercet.".to_owned(),
        (default, true) => format!("{} [default: {default}]", flag.doc),
    };
    let argument = Arg::new(flag.path)
        .long(flag.path)
        .action(ArgAction::Set)
        .value_name(if flag.switch { "BOOL" } else { "VALUE" })
        .hide(!flag.means_something)
        .help_heading(HEADING)
        .help(help);
    let argument = other.iter().fold(argument, |argument, other| argument.alias(other.as_str()));
    if flag.switch {
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument.allow_hyphen_values(true)
    }
}

/// The name with `-` for `_`, or the reverse: `--p2p.external-address` is CometBFT's.
fn other_spelling(path: &str) -> Option<String> {
    let other = if path.contains('_') { path.replace('_', "-") } else { path.replace('-', "_") };
    (other != path).then_some(other)
}

impl FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ConfigFlags, Error> {
        let mut flags = ConfigFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for (flag, _) in OWN.iter() {
            if matches.value_source(flag.path) != Some(ValueSource::CommandLine) {
                continue;
            }
            let value = matches.get_one::<String>(flag.path);
            let value = value.ok_or_else(|| Error::new(ErrorKind::MissingRequiredArgument))?;
            self.0.push((flag.path.to_owned(), value.clone()));
        }
        Ok(())
    }
}

impl Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        command.args(OWN.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        ConfigFlags::augment_args(command)
    }
}
