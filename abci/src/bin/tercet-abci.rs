//! `tercet-abci`: the kvstore as a process of its own, and a small client for any ABCI 2.0 application.

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tendermint_proto::v0_38::abci::response_process_proposal::ProposalStatus;
use tendermint_proto::v0_38::abci::{
    RequestCheckTx, RequestEcho, RequestFinalizeBlock, RequestInfo, RequestPrepareProposal,
    RequestProcessProposal, RequestQuery, ResponseQuery,
};
use tercet_abci::kvstore::{Durability, KvStore};
use tercet_abci::remote::{self, Address, Protocol, Settings, Stop};
use tercet_abci::{Application, Role, grpc, socket};

const EXAMPLES: &str = "\
Examples:
  tercet-abci kvstore --persist ./app                    serves the kvstore on port 26658
  tercet start --proxy_app tcp://127.0.0.1:26658         a node that drives it
  tercet-abci check-tx name=satoshi                      is this transaction valid?
  tercet-abci query name                                 what is stored there?
  echo 'info' | tercet-abci batch                        commands from a file or a pipe
  tercet-abci kvstore --abci grpc                        the same by gRPC, as all commands
  tercet start --abci grpc --proxy_app tcp://127.0.0.1:26658

Transactions, keys and data are \"text\", 0xHEX, or text without quotes.";

/// The kvstore as a process of its own, and a client for any ABCI 2.0 application
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// Where the application listens: tcp://HOST:PORT or unix://PATH.
    #[arg(long, global = true, default_value = "tcp://127.0.0.1:26658")]
    address: Address,
    /// What is spoken there: socket or grpc.
    #[arg(
        long = "abci",
        alias = "transport",
        global = true,
        default_value_t,
        value_name = "PROTOCOL"
    )]
    protocol: Protocol,
    /// The height that finalize-block tells (default: that after the application's last one; CometBFT's abci-cli always says 0).
    #[arg(long, global = true, value_name = "HEIGHT")]
    block_height: Option<i64>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the key-value store until it is stopped.
    Kvstore(KvstoreArgs),
    /// Read commands from the terminal, one a line.
    Console,
    /// Read commands from standard input, and show each before its answer; the first that fails ends it.
    Batch,
    #[command(flatten)]
    Call(Call),
}

#[derive(Debug, Args)]
struct KvstoreArgs {
    /// Keep the data in this folder, synced at each block (default: a folder that is removed at the end).
    #[arg(long, value_name = "FOLDER")]
    persist: Option<PathBuf>,
    /// Make a snapshot every so many heights, of which the last 10 are kept (0: none).
    #[arg(long, value_name = "HEIGHTS", default_value_t = 0)]
    snapshot_interval: u64,
}

/// A call, spelt as in CometBFT's console or as an argument.
#[derive(Debug, Subcommand)]
enum Call {
    /// Have the application say it back.
    Echo {
        /// What to say.
        message: Option<String>,
    },
    /// Where the application is.
    Info,
    /// Whether a transaction is valid.
    #[command(alias = "check_tx")]
    CheckTx {
        /// The transaction.
        tx: String,
    },
    /// Which of these transactions a primary should propose.
    #[command(alias = "prepare_proposal")]
    PrepareProposal {
        /// The transactions.
        txs: Vec<String>,
    },
    /// Whether a block of these transactions is acceptable.
    #[command(alias = "process_proposal")]
    ProcessProposal {
        /// The transactions.
        txs: Vec<String>,
    },
    /// Execute a block of these transactions, at the height after the last one.
    #[command(alias = "finalize_block", alias = "finalize")]
    FinalizeBlock {
        /// The transactions.
        txs: Vec<String>,
    },
    /// Make the executed block durable.
    Commit,
    /// Read a value.
    Query {
        /// The key.
        key: String,
        /// What is asked of the application (kvstore: /key, /val, /verify-chainid).
        #[arg(long, default_value = "/store")]
        path: String,
        /// At which height; 0: the last.
        #[arg(long, default_value_t = 0)]
        height: i64,
        /// With a proof.
        #[arg(long)]
        prove: bool,
    },
}

/// A line of a console.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(subcommand)]
    call: Call,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads it where standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Kvstore(args) => serve(cli, args),
        Command::Console => console(&mut Client::connect(cli)?),
        Command::Batch => batch(&mut Client::connect(cli)?),
        Command::Call(command) => Client::connect(cli)?.call(command),
    }
}

fn serve(cli: &Cli, args: &KvstoreArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_ansi(std::io::stdout().is_terminal()).init();
    let temporary = match &args.persist {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("a temporary folder")?),
    };
    let folder = args.persist.clone().or(temporary.as_ref().map(|folder| folder.path().into()));
    let folder = folder.context("a folder for the data")?;
    let durability = if args.persist.is_some() { Durability::Synced } else { Durability::Buffered };
    let app = KvStore::open(&folder, durability)?.snapshots_every(args.snapshot_interval);
    let ready = |address: &Address| {
        tracing::info!(%address, abci = %cli.protocol, data = %folder.display(), "the kvstore is ready");
    };
    let cannot = || format!("cannot listen at {}", cli.address);
    match cli.protocol {
        Protocol::Socket => {
            let server = socket::Server::bind(&cli.address).with_context(cannot)?;
            ready(server.address());
            server.serve(&app)?;
        }
        Protocol::Grpc => {
            let server = grpc::Server::bind(&cli.address).with_context(cannot)?;
            ready(server.address());
            server.serve(&app)?;
        }
    }
    Ok(())
}

/// A connection of its own to an application that must be there.
struct Client {
    app: Box<dyn Application>,
    block_height: Option<i64>,
}

impl Client {
    fn connect(cli: &Cli) -> anyhow::Result<Client> {
        let settings = Settings { protocol: cli.protocol, ..Settings::default() };
        let mut app = remote::closed(Role::Query, &cli.address, &settings, &Stop::default());
        app.try_reconnect().context(
            "start the application, or say with --address and --abci where it is and what it speaks",
        )?;
        Ok(Client { app, block_height: cli.block_height })
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let words = words(line);
        if words.is_empty() {
            return Ok(());
        }
        match Line::try_parse_from(words) {
            Ok(Line { call }) => self.call(&call),
            Err(error) => anyhow::bail!("{}", error.render().to_string().trim_end()),
        }
    }

    /// Makes a call and shows the answer in the words of CometBFT's `abci-cli`.
    fn call(&mut self, call: &Call) -> anyhow::Result<()> {
        let app = &mut self.app;
        match call {
            Call::Echo { message } => {
                let message = message.clone().unwrap_or_default();
                let answer = app.echo(RequestEcho { message })?;
                answered(0, answer.message.as_bytes(), "")
            }
            Call::Info => {
                let answer = app.info(RequestInfo::default())?;
                answered(0, answer.data.as_bytes(), "")
            }
            Call::CheckTx { tx } => {
                let answer = app.check_tx(RequestCheckTx { tx: bytes(tx)?, r#type: 0 })?;
                answered(answer.code, &answer.data, &answer.log)
            }
            Call::PrepareProposal { txs } => {
                let max_tx_bytes = i64::try_from(remote::MESSAGE_BYTES_MAX).unwrap_or(i64::MAX);
                let txs = all(txs)?;
                let request = RequestPrepareProposal { txs, max_tx_bytes, ..Default::default() };
                for tx in app.prepare_proposal(request)?.txs {
                    answered(0, &[], &format!("Succeeded. Tx: {}", String::from_utf8_lossy(&tx)))?;
                }
                Ok(())
            }
            Call::ProcessProposal { txs } => {
                let request = RequestProcessProposal { txs: all(txs)?, ..Default::default() };
                let status = app.process_proposal(request)?.status;
                answered(0, &[], "")?;
                let name = ProposalStatus::try_from(status).map(|status| status.as_str_name());
                show(&format!("-> status: {}\n", name.unwrap_or("UNKNOWN")))
            }
            Call::FinalizeBlock { txs } => self.finalize(all(txs)?),
            Call::Commit => {
                app.commit()?;
                answered(0, &[], "")
            }
            Call::Query { key, path, height, prove } => {
                let (data, path) = (bytes(key)?, path.clone());
                let request = RequestQuery { data, path, height: *height, prove: *prove };
                let answer = app.query(request)?;
                answered(answer.code, &[], &answer.log)?;
                found(&answer)
            }
        }
    }

    fn finalize(&mut self, txs: Vec<bytes::Bytes>) -> anyhow::Result<()> {
        let height = match self.block_height {
            Some(height) => height,
            None => self.app.info(RequestInfo::default())?.last_block_height + 1,
        };
        let app = &mut self.app;
        let answer =
            app.finalize_block(RequestFinalizeBlock { txs, height, ..Default::default() })?;
        for result in &answer.tx_results {
            answered(result.code, &[], &result.log)?;
        }
        answered(0, &[], "")?;
        show(&format!("-> data.hex: 0x{}\n", hex::encode_upper(&answer.app_hash)))
    }
}

fn console(client: &mut Client) -> anyhow::Result<()> {
    loop {
        show("> ")?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Err(error) = client.line(&line) {
            show(&format!("{error:#}\n"))?;
        }
    }
}

fn batch(client: &mut Client) -> anyhow::Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words = words(&line);
        let Some((command, arguments)) = words.split_first() else { continue };
        show(&format!("> {command} {}\n", arguments.join(" ")))?;
        client.line(&line)?;
        show("\n")?;
    }
    Ok(())
}

/// The words of a line; what stands in double quotes is one word and keeps its quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.trim_end().chars() {
        quoted ^= letter == '"';
        if letter.is_whitespace() && !quoted {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        } else {
            word.push(letter);
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Text, text in quotes, or 0x and hex.
fn bytes(text: &str) -> anyhow::Result<bytes::Bytes> {
    if let Some(digits) = text.strip_prefix("0x") {
        return Ok(hex::decode(digits).with_context(|| format!("{text} is no hex"))?.into());
    }
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Ok(inner.unwrap_or(text).to_owned().into())
}

fn all(txs: &[String]) -> anyhow::Result<Vec<bytes::Bytes>> {
    txs.iter().map(|tx| bytes(tx)).collect()
}

fn answered(code: u32, data: &[u8], log: &str) -> anyhow::Result<()> {
    let code = if code == 0 { "OK".to_owned() } else { code.to_string() };
    show(&format!("-> code: {code}\n"))?;
    if !data.is_empty() {
        let text = String::from_utf8_lossy(data);
        show(&format!("-> data: {text}\n-> data.hex: 0x{}\n", hex::encode_upper(data)))?;
    }
    if !log.is_empty() {
        show(&format!("-> log: {log}\n"))?;
    }
    Ok(())
}

fn found(answer: &ResponseQuery) -> anyhow::Result<()> {
    show(&format!("-> height: {}\n", answer.height))?;
    for (name, bytes) in [("key", &answer.key), ("value", &answer.value)] {
        if !bytes.is_empty() {
            let text = String::from_utf8_lossy(bytes);
            show(&format!("-> {name}: {text}\n-> {name}.hex: {}\n", hex::encode_upper(bytes)))?;
        }
    }
    Ok(())
}

fn show(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
