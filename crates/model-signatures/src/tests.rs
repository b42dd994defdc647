//! Bundles that PyPI's `model-signing` 1.1.1 wrote, of a model of three files,
//! and what was done to them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::{Anchor, AnchorKind, Bundle, Resource, SignatureError};

const P256: &[u8] = include_bytes!("../fixtures/p256.sig");
const P384: &[u8] = include_bytes!("../fixtures/p384.sig");
const P521: &[u8] = include_bytes!("../fixtures/p521.sig");
const LEAF: &[u8] = include_bytes!("../fixtures/leaf.sig");
const SERVER: &[u8] = include_bytes!("../fixtures/server.sig");
/// Signed with the signature in the model's own directory.
const INSIDE: &[u8] = include_bytes!("../fixtures/inside.sig");
/// 2026-11-26.
const NOW: u64 = 1_795_651_200;

fn anchor(pem: &str) -> Anchor {
    Anchor::parse(pem).unwrap()
}

fn p256() -> Anchor {
    anchor(include_str!("../fixtures/p256.pub"))
}

fn p384() -> Anchor {
    anchor(include_str!("../fixtures/p384.pub"))
}

fn root() -> Anchor {
    anchor(include_str!("../fixtures/root.pem"))
}

fn file(name: &str, bytes: &str) -> Resource {
    Resource { name: name.into(), digest: Sha256::digest(bytes).into() }
}

fn files() -> Vec<Resource> {
    vec![
        file("weights.bin", "weights\n"),
        file("sub/config.json", "config\n"),
        file("sub.txt", "x"),
    ]
}

/// A bundle with a text in the place of another.
fn changed(bundle: &[u8], change: impl Fn(&mut Json)) -> Vec<u8> {
    let mut json: Json = serde_json::from_slice(bundle).unwrap();
    change(&mut json);
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn a_key_vouches_for_what_it_signed() {
    for (bundle, key) in [(P256, p256()), (P384, p384())] {
        let read = Bundle::read(bundle).unwrap();
        assert_eq!((read.model(), read.file_count()), ("model", 3));
        read.compare(&files()).unwrap();
        let signer = read.verify(&[root(), p256(), p384()], NOW).unwrap();
        assert_eq!((signer.anchor, signer.certificate), (key.fingerprint(), String::new()));
        assert_eq!(key.kind(), AnchorKind::Key);
    }
    let read = Bundle::read(P256).unwrap();
    for others in [vec![], vec![p384(), root()]] {
        assert!(matches!(read.verify(&others, NOW), Err(SignatureError::UnknownSigner(_))));
    }
}

#[test]
fn a_root_vouches_for_who_has_a_certificate() {
    let read = Bundle::read(LEAF).unwrap();
    let signer = read.verify(&[p256(), root()], NOW).unwrap();
    assert_eq!(signer.anchor, root().fingerprint());
    assert!(signer.certificate.starts_with("Example signer (sha256:"), "{}", signer.certificate);
    assert!(matches!(read.verify(&[p256()], NOW), Err(SignatureError::UnknownSigner(_))));
    // Before it was valid; and one that was made for servers.
    assert!(matches!(read.verify(&[root()], 1_000_000), Err(SignatureError::Wrong(_))));
    let server = Bundle::read(SERVER).unwrap();
    assert!(matches!(server.verify(&[root()], NOW), Err(SignatureError::Wrong(_))));
}

#[test]
fn other_files_are_not_what_was_signed() {
    let read = Bundle::read(P256).unwrap();
    let mut tampered = files();
    tampered[0] = file("weights.bin", "weightS\n");
    let mut more = files();
    more.push(file("extra.pkl", ""));
    let fewer = files()[1..].to_vec();
    let mut renamed = files();
    renamed[2].name = "sub2.txt".into();
    for other in [tampered, more, fewer, renamed] {
        assert!(matches!(read.compare(&other), Err(SignatureError::OtherFiles(_))), "{other:?}");
    }
    // The signature itself may lie beside; nothing else may be left out.
    let mut beside = files();
    beside.push(file("model.sig", "…"));
    assert!(read.compare(&beside).is_err());
    Bundle::read(INSIDE).unwrap().compare(&beside).unwrap();
    beside.push(file("model.pkl", "…"));
    assert!(Bundle::read(INSIDE).unwrap().compare(&beside).is_err());
}

#[test]
fn what_was_changed_does_not_hold() {
    let payload = |json: &mut Json, from: &str, to: &str| {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD;
        let place = &mut json["dsseEnvelope"]["payload"];
        let text = String::from_utf8(engine.decode(place.as_str().unwrap()).unwrap()).unwrap();
        assert!(text.contains(from));
        *place = engine.encode(text.replace(from, to)).into();
    };
    // A name of the model is signed too.
    let named = changed(P256, |json| payload(json, "\"model\"", "\"other\""));
    let read = Bundle::read(&named).unwrap();
    assert!(matches!(read.verify(&[p256()], NOW), Err(SignatureError::Wrong(_))));
    // A digest that does not add up to the root's is found before.
    let digest = hex::encode(Sha256::digest("x"));
    let other = hex::encode(Sha256::digest("y"));
    let resource = changed(P256, |json| payload(json, &digest, &other));
    assert!(matches!(Bundle::read(&resource), Err(SignatureError::Malformed(_))));
    // Somebody else's signature under this key's name.
    let theirs: Json = serde_json::from_slice(P384).unwrap();
    let swapped = changed(P256, |json| {
        json["dsseEnvelope"]["signatures"] = theirs["dsseEnvelope"]["signatures"].clone();
    });
    let read = Bundle::read(&swapped).unwrap();
    assert!(matches!(read.verify(&[p256()], NOW), Err(SignatureError::Wrong(_))));
    let unhinted =
        changed(P256, |json| json["verificationMaterial"]["publicKey"] = serde_json::json!({}));
    Bundle::read(&unhinted).unwrap().verify(&[p384(), p256()], NOW).unwrap();
    for damaged in [
        changed(P256, |json| json["mediaType"] = "x".into()),
        changed(P256, |json| json["dsseEnvelope"]["payloadType"] = "x".into()),
        changed(P256, |json| json["dsseEnvelope"]["signatures"] = serde_json::json!([])),
        changed(P256, |json| json["verificationMaterial"] = serde_json::json!({})),
        changed(P256, |json| json["verificationMaterial"] = serde_json::json!({"certificate": {}})),
        changed(P256, |json| payload(json, "\"files\"", "\"shards\"")),
        changed(P256, |json| {
            payload(json, "\"algorithm\": \"sha256\"", "\"algorithm\": \"blake3\"")
        }),
        b"{}".to_vec(),
        b"[".to_vec(),
    ] {
        let error = Bundle::read(&damaged).unwrap_err();
        let known = matches!(error, SignatureError::Malformed(_) | SignatureError::Unsupported(_));
        assert!(known, "{error}");
    }
}

#[test]
fn anchors_are_keys_and_roots() {
    assert_eq!(p256().text(), include_str!("../fixtures/p256.pub"));
    assert_eq!(root().text(), include_str!("../fixtures/root.pem"));
    let unsupported = Anchor::parse(include_str!("../fixtures/p521.pub")).unwrap_err();
    assert!(matches!(unsupported, SignatureError::Unsupported(_)), "{unsupported}");
    let read = Bundle::read(P521).unwrap();
    assert!(matches!(read.verify(&[p256()], NOW), Err(SignatureError::UnknownSigner(_))));
    let two = format!("{}{}", p256().text(), p384().text());
    for wrong in ["", "hello", &two, "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----"] {
        assert!(matches!(Anchor::parse(wrong), Err(SignatureError::Malformed(_))), "{wrong}");
    }
    let private = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
    assert!(Anchor::parse(private).unwrap_err().to_string().contains("private"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_verifies_is_what_was_signed(at in 0_usize..8_000, byte in any::<u8>()) {
        for bundle in [P256, LEAF] {
            let mut bytes = bundle.to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let Ok(read) = Bundle::read(&bytes) else { continue };
            if read.verify(&[p256(), root()], NOW).is_ok() {
                prop_assert_eq!((read.model(), read.file_count()), ("model", 3));
                prop_assert!(read.compare(&files()).is_ok());
            }
        }
    }

    #[test]
    fn any_text_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(Bundle::read(&bytes).is_err());
        let _ = Anchor::parse(&String::from_utf8_lossy(&bytes));
    }
}
