//! The log: what `log_level` and `log_format` say, on standard output, and the audit log where it has a file of its own.

use anyhow::Context as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Mutex;
use tercet_config::{Config, LogFormat};
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

/// The target of discarded messages.
const AUDIT: &str = "audit";

fn is_audit(metadata: &Metadata<'_>) -> bool {
    metadata.target() == AUDIT
}

/// Starts logging.
pub(super) fn start(config: &Config, audit: Option<&Path>) -> anyhow::Result<()> {
    let directives = config.log_level.directives();
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(&directives)
        .with_context(|| format!("log_level {:?}", config.log_level.to_string()))?;
    let has_file = audit.is_some();
    let elsewhere = filter_fn(move |metadata| !(has_file && is_audit(metadata)));
    let log = lines(config.log_format, io::stdout, io::stdout().is_terminal());
    let mut layers = vec![log.with_filter(filter).with_filter(elsewhere).boxed()];
    if let Some(path) = audit {
        let file = Mutex::new(open(path)?);
        layers.push(lines(config.log_format, file, false).with_filter(filter_fn(is_audit)).boxed());
    }
    Registry::default().with(layers).try_init().context("cannot start the log")
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

fn lines<W>(format: LogFormat, to: W, colours: bool) -> Lines
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(to).with_ansi(colours);
    match format {
        LogFormat::Plain => layer.with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| format!("instrumentation.audit_log: cannot open {}", path.display()))
}
