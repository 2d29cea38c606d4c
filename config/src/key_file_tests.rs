//! The key files.

use super::*;
use crate::validator_secret::{PRIVATE_SECP256K1, PUBLIC, PUBLIC_SECP256K1};
use std::os::unix::fs::PermissionsExt as _;

/// The key of RFC 8032's first test, as CometBFT writes it.
const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const POINT: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn known() -> (String, String) {
    let public = hex::decode(POINT).expect("hexadecimal");
    let private = [hex::decode(SEED).expect("hexadecimal"), public.clone()].concat();
    (STANDARD.encode(private), STANDARD.encode(public))
}

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.json");
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

#[test]
fn the_files_of_cometbft_are_read() {
    let (private, public) = known();
    let address =
        hex::encode_upper(&Sha256::digest(hex::decode(POINT).expect("hexadecimal"))[..20]);
    let priv_key = format!(r#"{{"type":"{PRIVATE}","value":"{private}"}}"#);
    let (_folder, path) = written(&format!(r#"{{"priv_key":{priv_key}}}"#));
    let node = NodeKey::read(&path).expect("a key");
    assert_eq!(node.id(), address.to_ascii_lowercase());
    assert_eq!(hex::encode(node.secret().as_slice()), SEED);
    let (_folder, path) = written(&format!(
        r#"{{"address":"{address}","pub_key":{{"type":"{PUBLIC}","value":"{public}"}},"priv_key":{priv_key}}}"#
    ));
    let validator = ValidatorKey::read(&path).expect("a key");
    assert_eq!(validator.address_hex(), address);
    assert_eq!(hex::encode(validator.public().to_bytes()), POINT);
    assert_eq!(validator.public_json(), format!(r#"{{"type":"{PUBLIC}","value":"{public}"}}"#));
    assert!(
        matches!(validator.secret(), ValidatorSecret::Ed25519(key) if hex::encode(key.to_bytes()) == SEED)
    );
}

#[test]
fn the_node_id_of_cometbfts_dockerchain_validator_key_is_its_address() {
    let key = STANDARD.decode("bNNlGls5R25wC3Sd8720F/3+7IZBhXcD22MNFtPk/v0=").expect("base64");
    let key: [u8; 32] = key.try_into().expect("32 bytes");
    assert_eq!(hex::encode_upper(address_of(&key)), "2DD9F44FD9067555C322243C3C913BA7B51D2BE0");
}

#[test]
fn written_keys_are_read_back_and_private() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node_key.json");
    let node = NodeKey::read_or_create(&path).expect("made");
    assert_eq!(NodeKey::read_or_create(&path).expect("read").id(), node.id());
    assert!(matches!(node.create(&path), Err(KeyError::Exists(_))));
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let path = folder.path().join("priv_validator_key.json");
    let validator = ValidatorKey::generate(KeyType::Ed25519).expect("a key");
    validator.create(&path).expect("written");
    assert_eq!(ValidatorKey::read(&path).expect("read").public(), validator.public());
    assert_ne!(
        ValidatorKey::generate(KeyType::Ed25519).expect("another").public(),
        validator.public()
    );
}

#[test]
fn nothing_prints_a_secret() {
    let node = NodeKey::generate().expect("a key");
    let validator = ValidatorKey::generate(KeyType::Ed25519).expect("a key");
    assert_eq!(format!("{node:?}"), format!("NodeKey({})", node.id()));
    assert_eq!(format!("{validator:?}"), format!("ValidatorKey({})", validator.address_hex()));
    let (private, _) = known();
    let (_folder, path) = written(&format!(r#"{{"priv_key":{{"type":5,"value":"{private}"}}}}"#));
    let error = NodeKey::read(&path).expect_err("no key");
    assert!(!format!("{error:?}{error}").contains(&private[..8]), "{error:?}");
}

#[test]
fn what_is_no_key_is_refused_in_one_line() {
    let (private, public) = known();
    let mut bytes = STANDARD.decode(&private).expect("base64");
    bytes[40] ^= 1;
    let torn = STANDARD.encode(&bytes);
    let key = |kind: &str, value: &str| {
        format!(r#"{{"priv_key":{{"type":"{kind}","value":"{value}"}}}}"#)
    };
    for (text, reason) in [
        (String::new(), "CometBFT's format"),
        ("{}".into(), "CometBFT's format"),
        (key("PrivKey", &private), "must be"),
        (key(PRIVATE, "*"), "base64"),
        (key(PRIVATE, &public), "64"),
        (key(PRIVATE, &torn), "belong together"),
        (" ".repeat(70_000), "70000 bytes"),
    ] {
        let (_folder, path) = written(&text);
        for error in [
            NodeKey::read(&path).expect_err(reason).to_string(),
            ValidatorKey::read(&path).expect_err(reason).to_string(),
        ] {
            assert!(error.contains(reason) && !error.contains('\n'), "{error}");
        }
    }
    let missing = NodeKey::read(Path::new("/nowhere/node_key.json")).expect_err("none");
    assert!(missing.to_string().contains("tercet init"), "{missing}");
}

#[test]
fn a_validator_key_whose_parts_do_not_fit_is_refused() {
    let (private, _) = known();
    let priv_key = format!(r#""priv_key":{{"type":"{PRIVATE}","value":"{private}"}}"#);
    let other = STANDARD.encode([7; 32]);
    for (parts, reason) in [
        (format!(r#""address":"{}""#, "00".repeat(20)), "is not that of priv_key"),
        (format!(r#""pub_key":{{"type":"{PUBLIC}","value":"{other}"}}"#), "does not belong"),
    ] {
        let (_folder, path) = written(&format!("{{{parts},{priv_key}}}"));
        let error = ValidatorKey::read(&path).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// The key of CometBFT's `secpDataTable`, in the file that CometBFT 0.38 writes for `--key-type secp256k1`.
#[test]
fn a_secp256k1_validator_key_of_cometbft_is_read_and_written() {
    let secret = "a96e62ed3955e65be32703f12d87b6b5cf26039ecfa948dc5107a495418e5330";
    let public = "02950e1cdfcb133d6024109fd489f734eeb4502418e538c28481f22bce276f248c";
    let base64 = |text: &str| STANDARD.encode(hex::decode(text).expect("hexadecimal"));
    let (private, point) = (base64(secret), base64(public));
    let (_folder, path) = written(&format!(
        r#"{{"address":"7C2BB42A8BE69791EC763E51F5A49BCD41E82237","pub_key":{{"type":"{PUBLIC_SECP256K1}","value":"{point}"}},"priv_key":{{"type":"{PRIVATE_SECP256K1}","value":"{private}"}}}}"#
    ));
    let key = ValidatorKey::read(&path).expect("a key");
    assert_eq!(hex::encode(key.public().to_bytes()), public);
    let again = path.with_file_name("again.json");
    key.create(&again).expect("written");
    assert_eq!(ValidatorKey::read(&again).expect("read").public(), key.public());
    let (_folder, path) = written(&format!(
        r#"{{"priv_key":{{"type":"{PRIVATE_SECP256K1}","value":"{}"}}}}"#,
        STANDARD.encode([1; 31])
    ));
    let error = ValidatorKey::read(&path).expect_err("short").to_string();
    assert!(error.contains("31 bytes where a secp256k1 key has 32"), "{error}");
}

#[test]
fn secp256k1_keys_are_made_and_sign() {
    use k256::ecdsa::signature::Verifier as _;
    let key = ValidatorKey::generate(KeyType::Secp256k1).expect("a key");
    let signature = key.secret().sign(b"message");
    let PublicKey::Secp256k1(public) = key.public() else { panic!("a secp256k1 key") };
    let signature = k256::ecdsa::Signature::from_slice(&signature).expect("r and s");
    assert!(public.verify(b"message", &signature).is_ok());
    assert_eq!(signature.normalize_s(), None, "the lower s");
}
