//! A process within a budget, stopped as soon as a line says enough.

use anyhow::Context;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often the output is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this code; none: by a signal.
    Code(Option<i32>),
    /// Stopped, because its budget was used up.
    Late,
}

/// What came of a process.
pub(crate) struct Watched {
    pub(crate) end: End,
    /// All that it printed.
    pub(crate) output: String,
}

/// Runs `command` with its output in `log`, for at most `budget` and no longer than to the first whole line that `enough` accepts.
///
/// # Errors
/// Where it cannot be started or its output not read.
pub(crate) fn watch(
    mut command: Command,
    log: &Path,
    budget: Duration,
    enough: impl Fn(&str) -> bool,
) -> anyhow::Result<Watched> {
    let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = out.try_clone()?;
    // A group of its own, so that what it starts ends with it.
    command.stdin(Stdio::null()).stdout(out).stderr(errors).process_group(0);
    let program = command.get_program().display().to_string();
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let started = Instant::now();
    let end = loop {
        let ended = child.try_wait()?;
        let output = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
        if let Some(status) = ended {
            return Ok(Watched { end: End::Code(status.code()), output });
        }
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        if whole.lines().any(&enough) {
            break End::Code(None);
        }
        if started.elapsed() >= budget {
            break End::Late;
        }
        std::thread::sleep(LOOK);
    };
    stop(&mut child)?;
    Ok(Watched { end, output: String::from_utf8_lossy(&std::fs::read(log)?).into_owned() })
}

fn stop(child: &mut Child) -> anyhow::Result<()> {
    let group = Pid::from_raw(i32::try_from(child.id())?);
    // It may have ended by itself meanwhile.
    let _ = killpg(group, Signal::SIGKILL);
    child.wait()?;
    Ok(())
}
