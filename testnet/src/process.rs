//! The nodes' processes: start, signal, observe, stop. Nothing is signalled before it is sure that
//! the process is the node that the network's description says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::state::Node;
use tercet_abci::grammar;

/// How long a node may take to end after SIGTERM.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an ending process is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often a process is looked at whose arguments are not there yet, and the pause between.
const EXEC_LOOKS_MAX: u32 = 50;
const EXEC_LOOK: Duration = Duration::from_millis(1);
/// How much of a log's end is read to show its last lines.
const TAIL_BYTES: u64 = 16 * 1024;

/// Why a node's process cannot be handled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The program cannot be started.
    #[error("cannot start {0}: build it with `make`, or name it with --node-binary")]
    Start(String, #[source] io::Error),
    /// The log cannot be opened.
    #[error("cannot write {0}")]
    Log(String, #[source] io::Error),
    /// The node has no running process.
    #[error("{0} is not running: `tercet-testnet restart` starts it")]
    NotRunning(String),
    /// The node is running already.
    #[error("{0} is running already")]
    Running(String),
    /// The signal was refused by the system.
    #[error("cannot signal {0}")]
    Signal(String, #[source] Errno),
}

/// Starts a node in a process group of its own, so that Ctrl-C in the terminal does not reach it;
/// its output goes to the end of its log. It watches the order of its calls to the application, which the audit looks for.
pub(crate) fn start(binary: &Path, node: &Node) -> Result<Child, ProcessError> {
    if running(node).is_some() {
        return Err(ProcessError::Running(node.name()));
    }
    let log = node.log();
    let log_error = |error| ProcessError::Log(log.display().to_string(), error);
    let out = OpenOptions::new().create(true).append(true).open(&log).map_err(log_error)?;
    let err = out.try_clone().map_err(log_error)?;
    Command::new(binary)
        .arg("start")
        .arg("--home")
        .arg(&node.home)
        .env(grammar::VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(|error| ProcessError::Start(binary.display().to_string(), error))
}

/// The node's process, where it really runs: a process with that id whose arguments name the home.
pub(crate) fn running(node: &Node) -> Option<u32> {
    is_of(node.pid?, &node.home)
}

/// The process, where it really runs and its arguments name the home.
pub(crate) fn is_of(pid: u32, home: &Path) -> Option<u32> {
    let home = home.as_os_str().as_bytes();
    for _ in 0..EXEC_LOOKS_MAX {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        if !arguments.is_empty() {
            return arguments.split(|byte| *byte == 0).any(|arg| arg == home).then_some(pid);
        }
        // Without arguments it ends, has ended and waits to be reaped, or only just begins.
        if is_zombie(pid)? {
            return None;
        }
        std::thread::sleep(EXEC_LOOK);
    }
    None
}

/// Whether the process has ended and waits to be reaped; nothing where there is no such process.
fn is_zombie(pid: u32) -> Option<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())?;
    Some(matches!(state, 'Z' | 'X'))
}

/// Whether a killed process still lets go of what it has: its arguments are gone, but some of its
/// threads are not, and with them its files and their locks.
fn is_ending(pid: u32) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline"));
    if !arguments.is_ok_and(|arguments| arguments.is_empty()) {
        return false;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    threads > 1 || is_zombie(pid) == Some(false)
}

/// Sends a signal to the node's process.
pub(crate) fn signal(node: &Node, signal: Signal) -> Result<(), ProcessError> {
    let pid = running(node).ok_or_else(|| ProcessError::NotRunning(node.name()))?;
    let pid = i32::try_from(pid).map_err(|_| ProcessError::NotRunning(node.name()))?;
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(ProcessError::NotRunning(node.name())),
        Err(errno) => Err(ProcessError::Signal(node.name(), errno)),
    }
}

/// Waits until the node's process has ended and holds nothing any more; whether it did in time.
pub(crate) async fn ended(node: &Node, within: Duration) -> bool {
    let start = Instant::now();
    while running(node).is_some() || node.pid.is_some_and(is_ending) {
        if start.elapsed() > within {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// Stops all nodes: SIGTERM, and SIGKILL to those that are still there after 10 s. Returns the
/// names of those that had to be killed.
pub(crate) async fn stop_all(nodes: &[Node]) -> Vec<String> {
    for node in nodes {
        // A paused process takes the signal only once it goes on.
        let _ = signal(node, Signal::SIGTERM);
        let _ = signal(node, Signal::SIGCONT);
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut killed = Vec::new();
    for node in nodes {
        if ended(node, deadline.saturating_duration_since(Instant::now())).await {
            continue;
        }
        if signal(node, Signal::SIGKILL).is_ok() {
            killed.push(node.name());
        }
        ended(node, STOP_TIMEOUT).await;
    }
    killed
}

/// Memory in use (resident set) in bytes.
pub(crate) fn memory_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Processor time used so far, as the system counts it: in hundredths of a second.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which ends with the last parenthesis, field 3 comes first.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(14)? + ticks(15)?) * 10))
}

/// The last lines of a log, oldest first.
pub(crate) fn tail(log: &Path, lines: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = all.len().saturating_sub(lines);
    all.iter().skip(from).map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn sleeper(home: &Path) -> (Child, Node) {
        let child = Command::new("sh")
            .args(["-c", "read line", "sh"])
            .arg(home)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("started");
        let mut node = crate::state::tests::net(&["127.0.0.1:1".to_owned()]).nodes.remove(0);
        node.home = home.to_owned();
        node.pid = Some(child.id());
        (child, node)
    }

    #[tokio::test]
    async fn only_the_process_that_has_the_home_is_signalled() {
        let home = PathBuf::from("/tmp/a home of this test");
        let (mut child, mut node) = sleeper(&home);
        assert_eq!(running(&node), Some(child.id()));
        assert!(memory_bytes(child.id()).is_some());
        assert!(cpu_time(child.id()).is_some());
        node.home = PathBuf::from("/tmp/a home");
        assert!(matches!(signal(&node, Signal::SIGKILL), Err(ProcessError::NotRunning(_))));
        node.home = home;
        signal(&node, Signal::SIGSTOP).expect("ours");
        assert!(matches!(start(Path::new("sh"), &node), Err(ProcessError::Running(_))));
        let waiter = std::thread::spawn(move || child.wait());
        assert!(stop_all(std::slice::from_ref(&node)).await.is_empty());
        assert!(waiter.join().expect("joined").is_ok());
        assert!(matches!(signal(&node, Signal::SIGKILL), Err(ProcessError::NotRunning(_))));
    }

    #[test]
    fn the_last_lines_of_a_log_are_shown() {
        let dir = tempfile::tempdir().expect("folder");
        let log = dir.path().join("log.txt");
        assert!(tail(&log, 2).is_empty());
        fs::write(&log, "one\ntwo\n\nthree\n").expect("written");
        assert_eq!(tail(&log, 2), ["two", "three"]);
    }
}
