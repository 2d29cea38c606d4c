//! The bytes of every frame, record and signed string, pinned.

use super::{
    Body, Consensus, Frame, Sync, encode_commit, encode_record, encode_transactions, samples,
};
use std::fmt::Write as _;
use tercet_consensus::message::Phase;
use tercet_consensus::sign_bytes;

const GOLDEN: &str = include_str!("golden/v1.txt");

fn actual() -> String {
    let mut text = String::new();
    let mut put = |name: String, bytes: &[u8]| {
        writeln!(text, "{name} {}", hex::encode(bytes)).unwrap();
    };
    let chain = samples::CHAIN_ID;
    let sign = [
        ("proposal", sign_bytes::proposal(chain, &samples::proposal())),
        ("proposal-fresh", sign_bytes::proposal(chain, &samples::fresh().proposal.message)),
        ("prepare", sign_bytes::vote(chain, &samples::plain_vote(1, Phase::Prepare))),
        ("commit", sign_bytes::vote(chain, &samples::plain_vote(1, Phase::Commit))),
        (
            "extension",
            sign_bytes::extension(chain, &samples::plain_vote(1, Phase::Commit), b"extension"),
        ),
        ("view-change", sign_bytes::view_change(chain, &samples::view_change(1))),
        ("view-change-prepared", sign_bytes::view_change(chain, &samples::view_change(0))),
        ("hello", sign_bytes::hello(chain, b"peer id")),
    ];
    for (name, bytes) in sign {
        put(format!("sign/{name}"), &bytes);
    }
    for (name, message) in samples::consensus() {
        match message.encode() {
            Frame::Consensus(bytes) => put(format!("consensus/{name}"), &bytes),
            Frame::Body(_) => panic!("{name} is not of the consensus class"),
        }
    }
    for (name, message) in samples::sync() {
        put(format!("sync/{name}"), &message.encode());
    }
    for (name, record) in samples::records() {
        put(format!("record/{name}"), &encode_record(&record));
    }
    put("body".into(), &Body::encode(&samples::block(5, 2, None)));
    put("commit".into(), &encode_commit(&samples::commit(5, samples::block_id(), true)));
    put("transactions".into(), &encode_transactions(vec!["a=1".into(), "b=2".into()]));
    text
}

#[test]
fn the_formats_are_those_of_version_1() {
    let actual = actual();
    for (golden, actual) in GOLDEN.lines().zip(actual.lines()) {
        assert_eq!(golden, actual, "a format changed: that needs a new version");
    }
    assert!(GOLDEN == actual, "golden/v1.txt lacks lines; all of them:\n{actual}");
}

#[test]
fn every_golden_frame_decodes_to_its_message() {
    for (name, message) in samples::consensus() {
        let Frame::Consensus(bytes) = message.encode() else { panic!("{name}") };
        assert_eq!(Consensus::decode(bytes), Ok(message), "{name}");
    }
    for (name, message) in samples::sync() {
        let limits = super::ResponseLimits { items_max: 2, bytes_max: 1 << 20 };
        assert_eq!(Sync::decode(message.encode(), |_| Some(limits)), Ok(message), "{name}");
    }
    for (name, record) in samples::records() {
        assert_eq!(super::decode_record(encode_record(&record).into()), Ok(record), "{name}");
    }
}
