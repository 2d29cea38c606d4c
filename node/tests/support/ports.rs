//! Ports that nobody takes between the choice and the use: they lie below those that the system gives to outgoing connections.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A free port of this process's own.
pub(crate) fn free_port() -> u16 {
    let own = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below COUNT");
    // A big stride keeps the processes of one run, whose numbers are near each other, apart.
    let start = u32::from(own) * 379;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + step) % u32::from(COUNT)).expect("below COUNT");
        let port = FIRST + offset;
        let free = TcpListener::bind(("127.0.0.1", port)).and(UdpSocket::bind(("127.0.0.1", port)));
        if free.is_ok() {
            return port;
        }
    }
}
