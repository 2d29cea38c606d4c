//! Applications in processes of their own, one a node: started before it, restarted when they die, stopped after it.
//!
//! A keeper does that: a process that is this program again, in the home of its node (`keep-app`, hidden), so that `up --detach` can
//! leave the network to itself. The application is a shell command in a process group of its own, which is signalled as a whole.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::layout::LayoutError;
use crate::process::{is_of, tail};
use crate::state::{Net, Node, StateError};
use crate::table::say;

/// Where the path of the application's Unix socket stands in a command.
pub(crate) const SOCKET: &str = "{socket}";
/// Where its address stands, where it listens on TCP.
const TCP: &str = "{tcp}";
/// The port of an application lies so far above that of its node's RPC.
const TCP_ABOVE_RPC: u16 = 8;
/// Where the node's home stands in a command.
const HOME: &str = "{home}";
/// The longest path of a Unix socket in bytes (`sun_path` of Linux, with the zero behind it).
const SOCKET_PATH_MAX: usize = 107;
/// How long an application may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);
/// How long an application may take to end after SIGTERM, and its keeper longer than that.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPER_TIMEOUT: Duration = Duration::from_secs(7);
/// Pause before an application is started again: the first, and the longest where it dies again and again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// An application that lived for this long died of something new.
const LIVED: Duration = Duration::from_secs(5);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of the application's log that are shown.
const LAST_LINES: usize = 5;

/// Why applications cannot be handled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// The description of the network cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The keeper or the application cannot be started.
    #[error("cannot start {0}")]
    Start(String, #[source] io::Error),
    /// An application does not listen.
    #[error(
        "the application of {name} does not listen at {socket} within {secs} s: {command}; its log ends:\n{log}"
    )]
    Silent {
        /// The node.
        name: String,
        /// Where it should.
        socket: String,
        /// Seconds waited.
        secs: u64,
        /// The command.
        command: String,
        /// Its last lines.
        log: String,
    },
    /// There is no application to kill.
    #[error(
        "{0} has no application of its own that runs: start the network with `up --app-command`"
    )]
    None(String),
}

/// Where the application of a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listens {
    /// At this Unix socket.
    Unix(PathBuf),
    /// At this TCP address.
    Tcp(SocketAddr),
}

impl Listens {
    /// As the command has it; none where the node's RPC has no port that leaves room above it.
    pub(crate) fn of(node: &Node, command: &str) -> Option<Self> {
        if !command.contains(TCP) {
            return Some(Self::Unix(Files::of(&node.home).socket));
        }
        let mut address: SocketAddr = node.rpc.parse().ok()?;
        address.set_port(address.port().checked_add(TCP_ABOVE_RPC)?);
        Some(Self::Tcp(address))
    }

    /// As `proxy_app` has it.
    pub(crate) fn proxy_app(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(address) => format!("tcp://{address}"),
        }
    }

    /// What the arguments of an application name that listens here.
    fn mark(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp(address) => address.to_string(),
        }
    }

    fn takes_connections(&self) -> bool {
        match self {
            Self::Unix(path) => UnixStream::connect(path).is_ok(),
            Self::Tcp(address) => TcpStream::connect(address).is_ok(),
        }
    }
}

/// Files of an application in its node's home.
pub(crate) struct Files {
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// The number of its process group.
    group: PathBuf,
    /// What its arguments name, where that is not the socket.
    mark: PathBuf,
    home: PathBuf,
}

impl Files {
    /// Of the node with this home.
    pub(crate) fn of(home: &Path) -> Self {
        Self {
            socket: home.join("app.sock"),
            log: home.join("app.log.txt"),
            group: home.join("app.pid"),
            mark: home.join("app.address"),
            home: home.to_owned(),
        }
    }

    /// The command with the names in it.
    fn fill(&self, command: &str) -> String {
        let socket = self.socket.display().to_string();
        command.replace(SOCKET, &socket).replace(HOME, &self.home.display().to_string())
    }

    /// The process group of the application, where it is sure that it is one: its leader's arguments name where it listens.
    pub(crate) fn running(&self) -> Option<Pid> {
        let group: i32 = fs::read_to_string(&self.group).ok()?.trim().parse().ok()?;
        let arguments = fs::read(format!("/proc/{group}/cmdline")).ok()?;
        let mark = fs::read_to_string(&self.mark).ok().filter(|mark| !mark.is_empty());
        let mark = mark.map_or_else(|| self.socket.as_os_str().into(), OsString::from);
        let mark = mark.as_bytes();
        let named = arguments.windows(mark.len()).any(|part| part == mark);
        named.then(|| Pid::from_raw(group))
    }
}

/// Refuses a command that cannot work.
pub(crate) fn check(command: &str, homes: &[PathBuf]) -> Result<(), LayoutError> {
    if command.contains(SOCKET) == command.contains(TCP) {
        return Err(LayoutError::Setting(format!(
            "--app-command must say {SOCKET} where the path of the application's socket goes, such as \
             'abci-cli kvstore --address unix://{SOCKET}', or {TCP} where host and port go, such as \
             'abci-cli kvstore --address tcp://{TCP}'"
        )));
    }
    let longest = homes.iter().map(|home| Files::of(home).socket.as_os_str().len()).max();
    match longest.is_some_and(|longest| longest > SOCKET_PATH_MAX) {
        false => Ok(()),
        true => Err(LayoutError::Setting(format!(
            "the paths of sockets would be longer than {SOCKET_PATH_MAX} bytes: choose a shorter --dir"
        ))),
    }
}

/// Starts the applications of all nodes, and waits until they listen. What was started is stopped again where one does not.
pub(crate) async fn start_all(net: &mut Net) -> Result<Vec<Child>, AppError> {
    let Some(command) = net.app_command.clone() else { return Ok(Vec::new()) };
    // Those that an earlier run left behind have the sockets.
    stop_all(&net.nodes).await;
    let started = try_start_all(net, &command).await;
    if started.is_err() {
        stop_all(&net.nodes).await;
    }
    started
}

async fn try_start_all(net: &mut Net, command: &str) -> Result<Vec<Child>, AppError> {
    let mut keepers = Vec::new();
    for node in &mut net.nodes {
        let keeper = start(node, command)?;
        node.keeper = Some(keeper.id());
        keepers.push(keeper);
    }
    for node in &net.nodes {
        listens(node, command).await?;
    }
    Ok(keepers)
}

/// Starts the keeper of a node's application.
fn start(node: &Node, command: &str) -> Result<Child, AppError> {
    let failed = |error| AppError::Start(format!("the application of {}", node.name()), error);
    let listens = Listens::of(node, command).ok_or_else(|| failed(no_address(node)))?;
    let files = Files::of(&node.home);
    fs::write(&files.mark, listens.mark()).map_err(failed)?;
    let command = command.replace(TCP, &listens.mark());
    let log = OpenOptions::new().create(true).append(true).open(&files.log);
    let log = log.map_err(failed)?;
    let mut keeper = Command::new(std::env::current_exe().map_err(failed)?);
    keeper.arg("keep-app").arg(&node.home).arg(command).process_group(0).stdin(Stdio::null());
    let err = log.try_clone().map_err(failed)?;
    keeper.stdout(log).stderr(err).spawn().map_err(failed)
}

fn no_address(node: &Node) -> io::Error {
    io::Error::other(format!("the RPC address {} leaves no port above it", node.rpc))
}

/// Waits until a node's application takes connections.
async fn listens(node: &Node, command: &str) -> Result<(), AppError> {
    let (files, start) = (Files::of(&node.home), Instant::now());
    let place = Listens::of(node, command);
    while !place.as_ref().is_some_and(Listens::takes_connections) {
        if start.elapsed() > LISTENS_WITHIN || !keeps(node) {
            return Err(AppError::Silent {
                name: node.name(),
                socket: place.map(|place| place.mark()).unwrap_or_default(),
                secs: start.elapsed().as_secs(),
                command: files.fill(command),
                log: tail(&files.log, LAST_LINES).join("\n"),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn keeps(node: &Node) -> bool {
    node.keeper.is_some_and(|keeper| is_of(keeper, &node.home).is_some())
}

/// Starts the keeper of node `index` where the network has applications and this one's is gone.
pub(crate) fn ensure(dir: &Path, index: usize) -> Result<(), AppError> {
    let net = Net::load(dir)?;
    let (node, Some(command)) = (net.node(index)?, &net.app_command) else { return Ok(()) };
    if keeps(node) {
        return Ok(());
    }
    let keeper = start(node, command)?.id();
    Net::update(dir, |net| {
        net.nodes.iter_mut().filter(|n| n.index == index).for_each(|n| n.keeper = Some(keeper));
    })?;
    Ok(())
}

/// Stops the applications of these nodes with their keepers.
pub(crate) async fn stop_all(nodes: &[Node]) {
    let tell = |node: &Node, signal| {
        let keeper = node.keeper.filter(|_| keeps(node)).and_then(|id| i32::try_from(id).ok());
        // One that is gone meanwhile needs no signal.
        keeper.map(|keeper| kill(Pid::from_raw(keeper), signal))
    };
    for node in nodes {
        tell(node, Signal::SIGTERM);
    }
    let start = Instant::now();
    for node in nodes {
        while keeps(node) && start.elapsed() < KEEPER_TIMEOUT {
            tokio::time::sleep(LOOK).await;
        }
        if tell(node, Signal::SIGKILL).is_some() {
            say(&format!(
                "warning: the application of {} did not stop and was killed",
                node.name()
            ));
        }
        let files = Files::of(&node.home);
        if let Some(group) = files.running() {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Kills the application of a node (kill -9 of its process group); its keeper starts it again. The group that was killed.
pub(crate) fn strike(node: &Node) -> Result<Pid, AppError> {
    let none = || AppError::None(node.name());
    let group = Files::of(&node.home).running().ok_or_else(none)?;
    killpg(group, Signal::SIGKILL).map_err(|_| none())?;
    Ok(group)
}

/// Keeps the application of the home running until SIGTERM or Ctrl-C: the hidden command `keep-app`.
pub(crate) async fn keep(home: &Path, command: &str) -> Result<(), AppError> {
    let files = Files::of(home);
    let command = files.fill(command);
    let failed = |error| AppError::Start(command.clone(), error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut pause = PAUSE_MIN;
    loop {
        // What a killed one left behind would keep the next from listening.
        let _ = fs::remove_file(&files.socket);
        let mut shell = tokio::process::Command::new("sh");
        shell.arg("-c").arg(&command).current_dir(home).process_group(0).stdin(Stdio::null());
        let mut app = shell.spawn().map_err(failed)?;
        let group = app.id().unwrap_or_default();
        fs::write(&files.group, group.to_string()).map_err(failed)?;
        let started = Instant::now();
        let ended = tokio::select! {
            status = app.wait() => Some(status.map_err(failed)?),
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        let Some(status) = ended else {
            end(&mut app).await;
            let _ = fs::remove_file(&files.socket);
            let _ = fs::remove_file(&files.group);
            return Ok(());
        };
        if started.elapsed() > LIVED {
            pause = PAUSE_MIN;
        }
        say(&format!("the application ended ({status}), and is started again in {pause:?}"));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Ends an application: SIGTERM, and SIGKILL where that is not enough.
async fn end(app: &mut tokio::process::Child) {
    let Some(group) = app.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else {
        return;
    };
    let _ = killpg(group, Signal::SIGTERM);
    if tokio::time::timeout(STOP_TIMEOUT, app.wait()).await.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = app.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(home: &Path) -> usize {
        fs::read_to_string(home.join("starts")).map_or(0, |text| text.lines().count())
    }

    async fn until(what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(20), "not {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    #[test]
    fn a_command_must_say_where_the_socket_goes_and_paths_must_fit() {
        let short = [PathBuf::from("/tmp/node0")];
        assert!(check("app --address unix://{socket}", &short).is_ok());
        assert!(check("app --address tcp://{tcp}", &short).is_ok());
        for wrong in ["app", "app {tcp} {socket}"] {
            let error = check(wrong, &short).expect_err("no place").to_string();
            assert!(error.contains("{socket}") && error.contains("{tcp}"), "{error}");
        }
        let long = [PathBuf::from(format!("/{}", "x".repeat(SOCKET_PATH_MAX)))];
        let error = check("app {socket}", &long).expect_err("too long").to_string();
        assert!(error.contains("--dir"), "{error}");
    }

    #[test]
    fn the_command_has_the_paths_of_its_home() {
        let files = Files::of(Path::new("/net/node1"));
        assert_eq!(
            files.fill("app --persist {home}/app unix://{socket}"),
            "app --persist /net/node1/app unix:///net/node1/app.sock"
        );
    }

    #[test]
    fn an_application_listens_where_its_command_says() {
        let mut node = crate::state::tests::net(&["127.0.0.1:36011".to_owned()]).nodes.remove(0);
        node.home = PathBuf::from("/net/node0");
        let place = |command| Listens::of(&node, command).expect("a place").proxy_app();
        assert_eq!(place("app unix://{socket}"), "unix:///net/node0/app.sock");
        assert_eq!(place("app tcp://{tcp}"), "tcp://127.0.0.1:36019");
    }

    #[tokio::test]
    async fn an_application_that_is_killed_is_started_again() {
        let dir = tempfile::tempdir().expect("folder");
        let home = dir.path().to_owned();
        // The shell stays the leader of the group, so its arguments name the socket.
        let command = "echo started >> {home}/starts; sleep 1000; : {socket}";
        let kept = home.clone();
        let keeper = tokio::spawn(async move { keep(&kept, command).await });
        let files = Files::of(&home);
        until("started", || starts(&home) == 1 && files.running().is_some()).await;
        let first = files.running().expect("it runs");
        let mut node = crate::state::tests::net(&["127.0.0.1:1".to_owned()]).nodes.remove(0);
        node.home.clone_from(&home);
        assert_eq!(strike(&node).expect("killed"), first);
        until("started again", || {
            starts(&home) == 2 && files.running().is_some_and(|group| group != first)
        })
        .await;
        let second = files.running().expect("it runs");
        keeper.abort();
        killpg(second, Signal::SIGKILL).expect("it was there");
    }

    #[test]
    fn nothing_is_killed_that_is_not_the_application() {
        let dir = tempfile::tempdir().expect("folder");
        let mut node = crate::state::tests::net(&["127.0.0.1:1".to_owned()]).nodes.remove(0);
        node.home = dir.path().to_owned();
        assert!(matches!(strike(&node), Err(AppError::None(_))));
        fs::write(dir.path().join("app.pid"), std::process::id().to_string()).expect("written");
        assert!(matches!(strike(&node), Err(AppError::None(_))));
    }
}
