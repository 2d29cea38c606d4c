use super::*;
use tendermint::Hash;
use tendermint::block::parts;

fn id(n: u8) -> BlockId {
    let part_set_header = parts::Header::new(1, Hash::Sha256([n; 32])).expect("one part");
    BlockId { hash: Hash::Sha256([n; 32]), part_set_header }
}

/// No validator is one of the height.
const NOBODY: fn(&Address) -> bool = |_| false;

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
        (0..3).filter_map(|n| peers.ask_for(id(1), NOBODY, now + every * n, every)).collect();
    let distinct: BTreeSet<&PeerId> = asked.iter().collect();
    assert_eq!((asked.len(), distinct.len()), (3, 3));
    assert_eq!(peers.ask_for(id(1), NOBODY, now + every * 2, every), None);
    let again = peers.ask_for(id(1), NOBODY, now + every * 3, every);
    assert!(again.is_some_and(|peer| ids.contains(&peer)));
}

/// A stranger who says that he has every block must not be asked before those who have it, nor forty of them: each costs half a timeout.
/// Where only a stranger has it, as a sentry may, his turn comes too.
#[test]
fn a_missing_block_is_asked_of_validators_before_strangers_who_say_they_have_it() {
    let asked = |validators_have: usize, count: u32| {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let status = |has: bool| Status {
            blocks: has.then(|| id(1)).into_iter().collect(),
            ..crate::wire::samples::status()
        };
        let (members, outsider) =
            ([1u8, 2, 3].map(|n| Address::new([n; 20])), Address::new([9; 20]));
        for (n, member) in members.into_iter().chain([outsider]).enumerate() {
            let peer = PeerId::random();
            peers.up(peer, Some(member));
            peers.status(&peer, &status(n < validators_have || n == 3), None);
        }
        for _ in 0..39 {
            let peer = PeerId::random();
            peers.up(peer, None);
            peers.status(&peer, &status(true), None);
        }
        let mut strangers = BTreeSet::new();
        let mut ask = |n| {
            let member = |validator: &Address| members.contains(validator);
            let every = Duration::from_millis(100);
            let peer = peers.ask_for(id(1), member, now + every * n, every).expect("somebody");
            let validator = peers.validator(&peer).filter(|v| members.contains(v));
            assert!(validator.is_some() || strangers.insert(peer), "another stranger each time");
            match validator {
                None => 's',
                Some(v) if members.iter().position(|m| *m == v) < Some(validators_have) => 'V',
                Some(_) => 'v',
            }
        };
        (0..count).map(&mut ask).collect::<String>()
    };
    assert_eq!(asked(3, 8), "VVVsVVVs");
    assert_eq!(asked(1, 10), "Vsvsvs".to_owned() + "Vsvs");
    assert_eq!(asked(0, 6), "vsvsvs");
}

#[test]
fn relays_are_found_out_anew_a_moment_after_the_last_time() {
    let (mut peers, ids) = peers(3);
    let (now, status) = (Instant::now(), crate::wire::samples::status());
    assert!(peers.relays(now).is_some_and(|map| map.is_empty()), "nobody was heard");
    assert_eq!((peers.relays(now), peers.relays_due()), (None, None), "nothing is new");
    peers.status(&ids[0], &status, None);
    assert_eq!((peers.relays(now), peers.relays_due()), (None, Some(now + RELAYS_AGAIN)));
    assert!(peers.relays(now + RELAYS_AGAIN).is_some_and(|map| !map.is_empty()));
    assert_eq!(peers.relays_due(), None);
    peers.down(&ids[1]);
    peers.up(ids[1], None);
    assert_eq!(peers.relays_due(), Some(now + RELAYS_AGAIN * 2));
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
    let (now, height, next) = (Instant::now(), Height::from(7u32), Height::from(8u32));
    assert!(peers.may_answer(&ids[0], (height, height), now));
    assert!(!peers.may_answer(&ids[0], (height, height), now));
    assert!(peers.may_answer(&ids[0], (next, height), now));
    assert!(peers.may_answer(&ids[0], (next, next), now), "it has caught up");
    assert!(!peers.may_answer(&ids[0], (next, height), now));
    assert!(peers.may_answer(&ids[0], (next, next), now + ANSWER_AGAIN));
    // Far away, one height is as good as another.
    let now = now + 2 * ANSWER_AGAIN;
    let far = (1..100u32).chain(1_000..1_100);
    let answered =
        far.filter(|far| peers.may_answer(&ids[0], (Height::from(500u32), (*far).into()), now));
    assert_eq!(answered.count(), 2);
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
