use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A proxy between two nodes of which the second answers every byte with the next higher.
struct Rig {
    proxy: Proxy,
    /// Where the first dials the second.
    link: SocketAddr,
}

impl Rig {
    async fn new() -> Rig {
        // Any two ports whose followers are free.
        loop {
            let second = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let ports = [&free, &second].map(|at| at.local_addr().expect("an address").port());
            let (Ok(proxy), Some(link)) = (Proxy::start(&ports), port(ports[0], 1)) else {
                continue;
            };
            tokio::spawn(answer(second));
            return Rig { proxy, link: (Ipv4Addr::LOCALHOST, link).into() };
        }
    }

    fn set(&self, change: impl Fn(&mut Rules)) {
        let mut rules = Rules::default();
        change(&mut rules);
        self.proxy.set(rules);
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.link).await.expect("connected")
    }
}

async fn answer(second: TcpListener) {
    while let Ok((mut stream, _)) = second.accept().await {
        tokio::spawn(async move {
            while let Ok(byte) = stream.read_u8().await {
                stream.write_u8(byte + 1).await.expect("written");
            }
        });
    }
}

/// Whether nothing comes within a moment.
async fn silent(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn a_cut_of_one_direction_holds_what_is_sent_and_leaves_the_other() {
    let rig = Rig::new().await;
    let mut stream = rig.dial().await;
    stream.write_u8(1).await.expect("written");
    assert_eq!(stream.read_u8().await.expect("an answer"), 2);
    rig.set(|rules| rules.on(&[1], &[0], |flow| flow.cut = true));
    stream.write_u8(2).await.expect("written");
    assert!(silent(&mut stream).await);
    rig.set(|_| {});
    assert_eq!(stream.read_u8().await.expect("what was held back"), 3);
    rig.set(|rules| rules.on(&[0], &[1], |flow| flow.cut = true));
    stream.write_u8(3).await.expect("written");
    assert!(silent(&mut stream).await);
    rig.set(|_| {});
    assert_eq!(stream.read_u8().await.expect("what was held back"), 4);
}

#[tokio::test]
async fn connections_from_before_a_reset_end_and_later_ones_stay() {
    let rig = Rig::new().await;
    let mut stream = rig.dial().await;
    stream.write_u8(1).await.expect("written");
    assert_eq!(stream.read_u8().await.expect("an answer"), 2);
    let before = now_ms() + 1;
    rig.set(|rules| rules.between(&[0], &[1], |flow| flow.reset_before = before));
    assert!(stream.read_u8().await.is_err());
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut later = rig.dial().await;
    later.write_u8(5).await.expect("written");
    assert_eq!(later.read_u8().await.expect("an answer"), 6);
}

#[tokio::test]
async fn refused_dials_are_accepted_again_afterwards() {
    let rig = Rig::new().await;
    rig.set(|rules| rules.on(&[0], &[1], |flow| flow.refuse = true));
    while TcpStream::connect(rig.link).await.is_ok() {
        tokio::task::yield_now().await;
    }
    rig.set(|_| {});
    while TcpStream::connect(rig.link).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bytes_take_as_long_as_the_delay_and_the_rate_say() {
    let rig = Rig::new().await;
    rig.set(|rules| rules.on(&[0], &[1], |flow| flow.delay_ms = (60, 60)));
    let mut stream = rig.dial().await;
    let start = tokio::time::Instant::now();
    stream.write_u8(1).await.expect("written");
    stream.read_u8().await.expect("an answer");
    assert!(start.elapsed() >= Duration::from_millis(60));
    rig.set(|rules| rules.on(&[1], &[0], |flow| flow.bytes_per_second = 20));
    let start = tokio::time::Instant::now();
    stream.write_u8(1).await.expect("written");
    stream.read_u8().await.expect("an answer");
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[test]
fn rules_are_read_as_they_were_written() {
    let mut rules = Rules::default();
    rules.on(&[0, 1], &[1, 2], |flow| flow.cut = true);
    rules.on(&[0], &[2], |flow| flow.delay_ms = (1, 2));
    let text = serde_json::to_string(&rules).expect("written");
    assert_eq!(serde_json::from_str::<Rules>(&text).expect("read"), rules);
    let cut = Flow { cut: true, ..Flow::default() };
    assert_eq!(rules.flow(0, 1), cut);
    assert_eq!(rules.flow(0, 2), Flow { delay_ms: (1, 2), ..cut });
    assert_eq!(rules.flow(1, 1), Flow::default());
    assert_eq!(rules.flow(2, 0), Flow::default());
}
