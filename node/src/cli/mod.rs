//! The command line of `tercet`: flags and the layout of the home are CometBFT's where it has them.
//!
//! Errors are one line with the remedy, on standard error, and the exit code is 1; `start` has those of [`crate::node::End`].

mod client;
mod context;
mod flags;
mod home_files;
mod init;
mod inspect;
mod keys;
mod light;
mod logging;
mod moved;
mod query;
mod replay;
mod reset;
mod rollback;
mod show_node_id;
mod show_validator;
mod start;
mod status;
mod testnet;
#[cfg(test)]
mod tests;
mod tx;
mod version;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use context::Global;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// A validator node: PBFT consensus, and from outside a CometBFT 0.38 node.
#[derive(Debug, Parser)]
#[command(
    name = "tercet",
    version,
    arg_required_else_help = true,
    args_override_self = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
A chain of one validator, in two terminals:
  tercet init                        config, keys and a genesis in ~/.tercet
  tercet start                       runs until Ctrl-C
  tercet tx send \"name=alice\"        waits until the transaction is in a block
  tercet query name                  alice
  tercet status                      what the node says of itself
Several machines: tercet testnet --v 4 --starting-ip-address 10.0.0.1
Every key of config.toml is a flag of start (--rpc.laddr) and a variable (TERCET_RPC_LADDR).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a home: configuration, keys, and a genesis with this validator alone.
    Init(init::Init),
    /// Run the node.
    #[command(visible_alias = "node", alias = "run")]
    Start(start::Start),
    /// Make the homes of a network.
    Testnet(testnet::Testnet),
    /// Verify a chain from one trusted height without running a node.
    Light(Box<light::Light>),
    /// Print what a running node says of itself, as JSON.
    Status(status::Status),
    /// Send transactions.
    Tx(tx::Tx),
    /// Ask the application for a key.
    Query(query::Query),
    /// Show or make keys.
    Keys(keys::Keys),
    /// Print the id that peers know the node by.
    #[command(alias = "show_node_id")]
    ShowNodeId(show_node_id::ShowNodeId),
    /// Print the validator's public key as a genesis holds it.
    #[command(alias = "show_validator")]
    ShowValidator(show_validator::ShowValidator),
    /// Remove the chain's data; keys and the signing watermark stay.
    #[command(visible_alias = "reset-state", alias = "reset_state")]
    Reset(reset::Reset),
    /// Put the state of a stopped node back by one height.
    Rollback(rollback::Rollback),
    /// Serve the data of a stopped node over RPC.
    Inspect(inspect::Inspect),
    /// Execute stored blocks again on an application, and find the first difference.
    Replay(replay::Replay),
    /// Print versions.
    Version(version::Version),
    /// CometBFT's name of `reset --unsafe`.
    #[command(hide = true, alias = "unsafe_reset_all")]
    UnsafeResetAll(reset::ResetAll),
    #[command(hide = true, alias = "unsafe_reset_priv_validator")]
    UnsafeResetPrivValidator(moved::Rest),
    #[command(hide = true, alias = "replay_console")]
    ReplayConsole(moved::Rest),
    #[command(hide = true, alias = "gen_validator")]
    GenValidator(moved::Rest),
    #[command(hide = true, alias = "gen_node_key")]
    GenNodeKey(moved::Rest),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error),
    };
    match run(&cli) {
        Ok(code) => code,
        Err(error) if is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // As above.
            let _ = writeln!(io::stderr(), "error: {}", one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Help and versions as they are; anything else is an error, of which the first part is enough: the rest repeats the help.
fn unparsed(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell where the output is gone.
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::FAILURE
        }
        _ => {
            let _ = writeln!(io::stderr(), "{}", usage(&error.render().to_string()));
            ExitCode::FAILURE
        }
    }
}

/// The parser's text without what the help says too, and which help that is.
fn usage(text: &str) -> String {
    let (what, rest) = text.split_once("Usage: ").unwrap_or((text, "tercet"));
    let what = what.split("For more information").next().unwrap_or_default();
    let command = rest.split_whitespace().take_while(|word| word.starts_with(char::is_alphabetic));
    let command = command.collect::<Vec<_>>().join(" ");
    format!("{}; see {command} --help", one_line(what).replace(":, ", ": "))
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    let done = match &cli.command {
        Command::Start(start) => return start.run(global),
        Command::Tx(tx) => return tx.run(),
        Command::Query(query) => return query.run(),
        Command::Replay(replay) => return replay.run(global),
        Command::Init(init) => init.run(global),
        Command::Testnet(testnet) => testnet.run(),
        Command::Light(light) => light.run(global),
        Command::Status(status) => status.run(),
        Command::Keys(keys) => keys.run(global),
        Command::ShowNodeId(show) => show.run(global),
        Command::ShowValidator(show) => show.run(global),
        Command::Reset(reset) => reset.run(global),
        Command::Version(version) => version.run(),
        Command::Rollback(rollback) => rollback.run(global),
        Command::Inspect(inspect) => inspect.run(global),
        Command::UnsafeResetAll(reset) => reset.run(global),
        Command::UnsafeResetPrivValidator(_) => moved::unsafe_reset_priv_validator(),
        Command::ReplayConsole(_) => moved::replay_console(),
        Command::GenValidator(_) => moved::gen_validator(),
        Command::GenNodeKey(_) => moved::gen_node_key(),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Prints a line for the user or the next program.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

/// Whether the reader of the output has gone, as `head` does.
fn is_closed(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}
