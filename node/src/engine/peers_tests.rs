use super::*;
use tendermint::Hash;
use tendermint::block::parts;

fn id(n: u8) -> BlockId {
    let part_set_header = parts::Header::new(1, Hash::Sha256([n; 32])).expect("one part");
    BlockId { hash: Hash::Sha256([n; 32]), part_set_header }
}

fn peers(count: usize) -> (Peers, Vec<PeerId>) {
    let mut peers = Peers::default();
    let ids: Vec<PeerId> = (0..count).map(|_| PeerId::random()).collect();
    ids.iter().for_each(|id| peers.up(*id, None));
    (peers, ids)
}

#[test]
fn a_body_is_not_sent_twice_while_it_is_under_way() {
    let (mut peers, ids) = peers(2);
    let now = Instant::now();
    peers.sent_body(id(1), now);
    assert!(!peers.may_send_body(ids[0], id(1), now));
    assert!(peers.may_send_body(ids[0], id(2), now));
    assert!(!peers.may_send_body(ids[0], id(2), now + BODY_AGAIN / 2));
    assert!(peers.may_send_body(ids[0], id(2), now + BODY_AGAIN));
    // What was under way on a connection that closed is lost.
    peers.down(&ids[1]);
    peers.up(ids[1], None);
    assert!(peers.may_send_body(ids[1], id(1), now));
}

#[test]
fn a_missing_block_is_asked_of_one_peer_after_the_other() {
    let (mut peers, ids) = peers(3);
    let (now, every) = (Instant::now(), Duration::from_millis(100));
    let asked: Vec<PeerId> =
        (0..3).filter_map(|n| peers.ask_for(id(1), now + every * n, every)).collect();
    let distinct: BTreeSet<&PeerId> = asked.iter().collect();
    assert_eq!((asked.len(), distinct.len()), (3, 3));
    assert_eq!(peers.ask_for(id(1), now + every * 2, every), None);
    assert!(peers.ask_for(id(1), now + every * 3, every).is_some_and(|peer| ids.contains(&peer)));
}

#[test]
fn keys_that_come_and_go_are_forgotten() {
    let mut peers = Peers::default();
    for n in 0..2_000u32 {
        let mut address = [0; 20];
        address[..4].copy_from_slice(&n.to_be_bytes());
        let peer = PeerId::random();
        peers.up(peer, Some(Address::new(address)));
        peers.down(&peer);
    }
    assert!(peers.of_validator.len() <= GONE_MAX + 1);
}

#[test]
fn statuses_in_a_burst_are_answered_once() {
    let (mut peers, ids) = peers(1);
    let (now, height) = (Instant::now(), Height::from(7u32));
    assert!(peers.may_answer(&ids[0], height, now));
    assert!(!peers.may_answer(&ids[0], height, now));
    assert!(peers.may_answer(&ids[0], height.increment(), now));
    assert!(peers.may_answer(&ids[0], height.increment(), now + ANSWER_AGAIN));
}

#[test]
fn what_is_remembered_of_peers_and_frames_is_bounded() {
    let (mut peers, now) = (Peers::default(), Instant::now());
    let status = crate::wire::samples::status();
    for n in 0..20_000u32 {
        let peer = PeerId::random();
        peers.is_copy(&n.to_be_bytes());
        peers.may_send_body(peer, id(1), now);
        if n % 20 == 0 {
            let mut address = [0; 20];
            address[..4].copy_from_slice(&n.to_be_bytes());
            peers.status(&peer, &status, None);
            peers.up(peer, Some(Address::new(address)));
            peers.down(&peer);
        }
    }
    assert!(peers.came.len() <= COPIED_MAX, "{}", peers.came.len());
    assert_eq!(peers.bodies.len(), BODIES_MAX.get());
    assert_eq!(peers.early.len(), EARLY_MAX.get());
    assert!(peers.of_validator.len() <= GONE_MAX + 1, "{}", peers.of_validator.len());
    assert!(peers.by_id.is_empty() && peers.seen.cap() == SEEN_MAX);
}

/// Nobody signs a block, so anyone can make some for others to pass on.
#[test]
fn blocks_that_nothing_names_are_passed_on_a_few_times_a_height() {
    let mut peers = Peers::default();
    for _ in 0..3 {
        let passed = (0..100).filter(|_| peers.may_relay_unnamed()).count();
        assert_eq!(passed, UNNAMED_RELAYED_MAX);
        peers.new_height();
    }
}
