//! strace, attached to a running node: makes its system calls fail or slow.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long it may take to attach, and how often that is looked at.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// Why a process cannot be traced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TracerError {
    /// There is no strace.
    #[error("needs strace")]
    Missing,
    /// It does not attach.
    #[error("needs the right to trace processes")]
    Refused,
}

/// strace, until this is dropped.
#[derive(Debug)]
pub(crate) struct Tracer(Child);

impl Tracer {
    /// Attaches it with these arguments to all threads of a process.
    pub(crate) async fn attach(pid: u32, arguments: &[&str]) -> Result<Tracer, TracerError> {
        let child = Command::new("strace")
            .args(["-f", "-qqq", "-o", "/dev/null"])
            .args(arguments)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let tracer = Tracer(child.map_err(|_| TracerError::Missing)?);
        let start = Instant::now();
        while !is_traced(pid) {
            if start.elapsed() > ATTACHED_WITHIN {
                return Err(TracerError::Refused);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It lets the process go on SIGTERM.
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}
