//! The program itself: homes, processes and what they say.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A node that is asked to stop has ended within this.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(2);

/// The program with its arguments, and nothing of this process's environment that it reads.
pub(crate) fn tercet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tercet"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TERCET_") {
            command.env_remove(name);
        }
    }
    command
}

/// Waits for the end of a process; one that does not end is killed, and the test fails.
pub(crate) fn end(child: Child, patience: Duration) -> Output {
    let pid = i32::try_from(child.id()).expect("a process id");
    let (sender, ended) = channel();
    std::thread::spawn(move || drop(sender.send(child.wait_with_output())));
    match ended.recv_timeout(patience) {
        Ok(output) => output.expect("its output"),
        Err(_) => {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            panic!("it has not ended: {:?}", ended.recv());
        }
    }
}

pub(crate) fn run(args: &[&str]) -> Output {
    end(tercet(args).spawn().expect("it runs"), PATIENCE)
}

/// Runs a command that must succeed, and returns what it prints.
pub(crate) fn done(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command that must fail, and returns its one line without the `error: `.
pub(crate) fn refused(args: &[&str]) -> String {
    let output = run(args);
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    let line = text.trim_end().strip_prefix("error: ");
    line.unwrap_or_else(|| panic!("{args:?}: {text}")).to_owned()
}

/// A home as `tercet init` makes it.
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    _folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h");
        let home = Home { path, _folder: folder };
        done(&["init", "--home", home.arg(), "--chain-id", "test-chain", "--moniker", "m"]);
        home
    }

    pub(crate) fn arg(&self) -> &str {
        self.path.to_str().expect("text")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn genesis(&self) -> PathBuf {
        self.file("config/genesis.json")
    }

    /// Changes the genesis by text.
    pub(crate) fn change_genesis(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.genesis()).expect("a genesis");
        assert!(text.contains(from), "{text}");
        fs::write(self.genesis(), text.replace(from, to)).expect("written");
    }

    /// Where its RPC listens: on a socket in the home, so that no port is needed.
    pub(crate) fn rpc(&self) -> String {
        format!("unix://{}", self.file("rpc.sock").display())
    }

    /// The arguments of a start that takes no port that another may have.
    pub(crate) fn start_args<'a>(&'a self, rpc: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let own = ["start", "--home", self.arg(), "--rpc.laddr", rpc, "--p2p.laddr", "127.0.0.1:0"];
        [own.as_slice(), more].concat()
    }

    /// Starts a node that must not start.
    pub(crate) fn refuses(&self, more: &[&str]) -> String {
        refused(&self.start_args(&self.rpc(), more))
    }
}

/// What stands before lines of standard error in [`Node::log`].
pub(crate) const ERRORS: &str = "on standard error: ";

/// Sends each line on, until the end.
pub(crate) fn forward(from: impl Read + Send + 'static, prefix: &'static str, to: Sender<String>) {
    let lines = BufReader::new(from).lines().map_while(Result::ok);
    std::thread::spawn(move || {
        lines.map(|line| format!("{prefix}{line}")).all(|line| to.send(line).is_ok())
    });
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) child: Option<Child>,
    pub(crate) rpc: PathBuf,
    /// Where it accepts peers.
    pub(crate) peers: SocketAddr,
    pub(crate) log: Receiver<String>,
}

impl Node {
    pub(crate) fn start(home: &Home, more: &[&str]) -> Node {
        let rpc = home.rpc();
        // A node that was killed leaves its socket.
        let _ = fs::remove_file(home.file("rpc.sock"));
        let mut child = tercet(&home.start_args(&rpc, more)).spawn().expect("it runs");
        let (sender, log) = channel();
        forward(child.stdout.take().expect("its output"), "", sender.clone());
        forward(child.stderr.take().expect("its errors"), ERRORS, sender);
        let peers = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Node { child: Some(child), rpc: home.file("rpc.sock"), peers, log };
        // Clients and peers are accepted at about the same time.
        let is_peers: fn(&str) -> bool = |line| line.contains("accepting peers");
        let is_clients: fn(&str) -> bool = |line| line.contains("rpc laddr=");
        let first = node.log_line(|line| is_peers(line) || is_clients(line));
        let second = node.log_line(if is_peers(&first) { is_clients } else { is_peers });
        let line = if is_peers(&first) { first } else { second };
        let address = line.split("address=").nth(1).expect("an address").trim();
        node.peers = address.parse().expect("an address");
        node
    }

    /// Waits for a line of the log.
    pub(crate) fn log_line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("it is not in the log: {seen:#?}"));
            if wanted(&line) {
                return line;
            }
            seen.push(line);
        }
    }

    /// What it answers to this body of a POST.
    pub(crate) fn post(&self, body: &[u8]) -> String {
        post(&self.rpc, body)
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(id).expect("a process id"));
        nix::sys::signal::kill(pid, signal).expect("it runs");
    }

    /// Asks it to stop, which it must do in time, without an error.
    pub(crate) fn stop(mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let output = end(self.child.take().expect("it runs"), STOP_MAX);
        let errors: Vec<String> = self.log.iter().filter(|line| line.starts_with(ERRORS)).collect();
        assert_eq!((output.status.code(), errors), (Some(0), Vec::new()), "{output:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the RPC on this socket answers to this body of a POST.
pub(crate) fn post(rpc: &std::path::Path, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(rpc).expect("connected");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // The node may answer and close before it has read all of a large body.
    let _ = stream.write_all(body);
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    reply
}
