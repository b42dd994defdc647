//! Bundles that `model-signing` made with Sigstore's public service, and what was
//! done to them. Where all else must hold, a log of our own signs it anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::{Signed, Sigstore, Subject, WireEntry};
use crate::anchor::P256;
use crate::bundle::wrapped;
use crate::{Anchor, AnchorKind, Bundle, KeylessError, Resource, SignatureError};

const BUNDLE: &[u8] = include_bytes!("../../fixtures/sigstore/v1.0.0.sig");
const LATER: &[u8] = include_bytes!("../../fixtures/sigstore/v1.1.0.sig");
const ROOT: &str = include_str!("../../fixtures/sigstore/trusted_root.json");
const STAGING: &str = include_str!("../../fixtures/sigstore/staging_root.json");
const IDENTITY: &str = "stefanb@us.ibm.com";
const ISSUER: &str = "https://sigstore.verify.ibm.com/oauth2";
/// 2026-11-26.
const NOW: u64 = 1_795_651_200;

fn anchor(root: &Json) -> Anchor {
    Anchor::sigstore(&root.to_string(), IDENTITY, ISSUER).unwrap()
}

fn genuine() -> Anchor {
    Anchor::sigstore(ROOT, IDENTITY, ISSUER).unwrap()
}

fn json_of(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap()
}

fn outcome(bundle: &Json, anchors: &[Anchor]) -> Result<String, SignatureError> {
    let read = Bundle::read(&serde_json::to_vec(bundle).unwrap())?;
    read.verify(anchors, NOW).map(|signer| signer.certificate)
}

fn refusal(bundle: &Json, anchor: &Anchor) -> KeylessError {
    match outcome(bundle, std::slice::from_ref(anchor)) {
        Err(SignatureError::Keyless(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// The genuine bundle with something done to it.
fn changed(change: impl Fn(&mut Json)) -> Json {
    let mut bundle = json_of(BUNDLE);
    change(&mut bundle);
    bundle
}

fn entry(bundle: &mut Json) -> &mut Json {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

/// One bit of bytes in base64 is another.
fn flip(place: &mut Json, at: usize) {
    let mut bytes = STANDARD.decode(place.as_str().unwrap()).unwrap();
    bytes[at] ^= 1;
    *place = STANDARD.encode(bytes).into();
}

fn rename(bundle: &mut Json) {
    let place = &mut bundle["dsseEnvelope"]["payload"];
    let text = String::from_utf8(STANDARD.decode(place.as_str().unwrap()).unwrap()).unwrap();
    *place = STANDARD.encode(text.replace("v1.0.0-sigstore", "v1.0.0-sigstorf")).into();
}

/// A log of our own.
struct Log(EcdsaKeyPair);

impl Log {
    fn new() -> Self {
        let (rng, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let key = EcdsaKeyPair::generate_pkcs8(kind, &rng).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &rng).unwrap())
    }

    fn key(&self) -> Vec<u8> {
        [P256, self.0.public_key().as_ref()].concat()
    }

    fn id(&self) -> Vec<u8> {
        Sha256::digest(self.key()).to_vec()
    }

    fn sign(&self, message: &str) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
    }

    /// An anchor that trusts this log and no other.
    fn anchor(&self) -> Anchor {
        let mut root: Json = serde_json::from_str(ROOT).unwrap();
        root["tlogs"][0]["publicKey"]["rawBytes"] = STANDARD.encode(self.key()).into();
        root["tlogs"][0]["logId"]["keyId"] = STANDARD.encode(self.id()).into();
        anchor(&root)
    }

    /// Logs a bundle's entry as it is now: the only one of its tree.
    fn logs(&self, bundle: &mut Json) {
        let entry = entry(bundle);
        let body = entry["canonicalizedBody"].as_str().unwrap().to_owned();
        let (id, time) = (self.id(), entry["integratedTime"].as_str().unwrap().to_owned());
        let promise = format!(
            r#"{{"body":"{body}","integratedTime":{time},"logID":"{}","logIndex":7}}"#,
            hex::encode(&id)
        );
        let leaf = [&[0], STANDARD.decode(body).unwrap().as_slice()].concat();
        let root = STANDARD.encode(Sha256::digest(leaf));
        let note = format!("log.example - 1\n1\n{root}\n");
        let signature = STANDARD.encode([&id[..4], &self.sign(&note)].concat());
        entry["logId"]["keyId"] = STANDARD.encode(&id).into();
        entry["logIndex"] = "7".into();
        entry["inclusionPromise"]["signedEntryTimestamp"] =
            STANDARD.encode(self.sign(&promise)).into();
        let envelope = format!("{note}\n\u{2014} log.example {signature}\n");
        entry["inclusionProof"] = json!({
            "treeSize": "1", "rootHash": root, "checkpoint": {"envelope": envelope},
        });
    }
}

/// The body of an entry, changed.
fn edit_body(bundle: &mut Json, change: impl Fn(&mut Json)) {
    let place = &mut entry(bundle)["canonicalizedBody"];
    let mut body = json_of(&STANDARD.decode(place.as_str().unwrap()).unwrap());
    change(&mut body);
    *place = STANDARD.encode(body.to_string()).into();
}

#[test]
fn an_identity_vouches_for_what_it_signed() {
    let files: Vec<Resource> = ["signme-1", "signme-2"]
        .map(|name| Resource { name: name.into(), digest: Sha256::digest(name).into() })
        .into();
    for bundle in [BUNDLE, LATER] {
        let read = Bundle::read(bundle).unwrap();
        read.compare(&files).unwrap();
        let other = Anchor::sigstore(STAGING, IDENTITY, ISSUER).unwrap();
        let signer = read.verify(&[other, genuine()], NOW).unwrap();
        assert_eq!(signer.anchor, genuine().fingerprint());
        let said = format!("{IDENTITY} (issuer {ISSUER}, log entry ");
        assert!(signer.certificate.starts_with(&said), "{}", signer.certificate);
    }
    let nobody = outcome(&json_of(BUNDLE), &[]).unwrap_err();
    assert!(matches!(nobody, SignatureError::UnknownSigner(_)), "{nobody}");
    assert!(nobody.is_stranger());
}

#[test]
fn another_identity_issuer_or_sigstore_is_a_stranger() {
    let bundle = json_of(BUNDLE);
    let found = |root: &str, identity: &str, issuer: &str| {
        let error = refusal(&bundle, &Anchor::sigstore(root, identity, issuer).unwrap());
        assert!(error.is_stranger(), "{error}");
        error
    };
    // A name is compared whole.
    for identity in ["stefanb@us.ibm.co", "tefanb@us.ibm.com", "STEFANB@us.ibm.com"] {
        let error = found(ROOT, identity, ISSUER);
        assert!(matches!(&error, KeylessError::OtherIdentity { .. }), "{error}");
        assert!(error.to_string().contains(IDENTITY), "{error}");
    }
    let error = found(ROOT, IDENTITY, "https://accounts.example.com");
    assert!(matches!(error, KeylessError::OtherIssuer { .. }), "{error}");
    assert_eq!(found(STAGING, IDENTITY, ISSUER), KeylessError::UnknownLog);
    // The log is known, the authority is another's or of another time.
    let staging: Json = serde_json::from_str(STAGING).unwrap();
    let mut root: Json = serde_json::from_str(ROOT).unwrap();
    let ours = root["certificateAuthorities"].take();
    root["certificateAuthorities"] = json!([ours[0]]);
    assert_eq!(found(&root.to_string(), IDENTITY, ISSUER), KeylessError::UnknownAuthority);
    root["certificateAuthorities"] = json!([ours[1]]);
    root["certificateAuthorities"][0]["validFor"]["end"] = "2025-05-03T01:34:45Z".into();
    assert_eq!(found(&root.to_string(), IDENTITY, ISSUER), KeylessError::UnknownAuthority);
    root["certificateAuthorities"][0]["validFor"]["end"] = "2025-05-03T01:34:46Z".into();
    outcome(&bundle, &[anchor(&root)]).unwrap();
    // Another authority of the same name did not sign it.
    root["certificateAuthorities"] = staging["certificateAuthorities"].clone();
    let error = refusal(&bundle, &anchor(&root));
    assert!(matches!(error, KeylessError::Chain(_)), "{error}");
}

type Case = (fn(&mut Json), KeylessError);

fn refuse_each(cases: &[Case]) {
    for (at, (change, expected)) in cases.iter().enumerate() {
        assert_eq!(refusal(&changed(change), &genuine()), *expected, "case {at}");
    }
}

#[test]
fn each_part_is_refused_by_its_name() {
    let other = KeylessError::OtherEntry;
    refuse_each(&[
        (rename, other("it is about another payload")),
        (
            |bundle| flip(&mut bundle["dsseEnvelope"]["signatures"][0]["sig"], 40),
            other("it is about another signature"),
        ),
        (
            |bundle| flip(&mut entry(bundle)["inclusionPromise"]["signedEntryTimestamp"], 40),
            KeylessError::EntryTimestamp,
        ),
        (
            |bundle| entry(bundle)["integratedTime"] = "1746236087".into(),
            KeylessError::EntryTimestamp,
        ),
        (|bundle| entry(bundle)["logIndex"] = "206344182".into(), KeylessError::EntryTimestamp),
        (|bundle| flip(&mut entry(bundle)["canonicalizedBody"], 200), KeylessError::EntryTimestamp),
        (|bundle| flip(&mut entry(bundle)["logId"]["keyId"], 0), KeylessError::UnknownLog),
    ]);
    let certificate = |change: fn(&mut Json)| {
        let bundle = changed(|bundle| {
            change(&mut bundle["verificationMaterial"]["certificate"]["rawBytes"])
        });
        refusal(&bundle, &genuine())
    };
    let flipped = certificate(|place| flip(place, 700));
    assert!(matches!(flipped, KeylessError::Chain(_)), "{flipped}");
    assert_eq!(certificate(|place| *place = "AAAA".into()), KeylessError::Certificate);
    // One that was made months later, for the same identity.
    let later = certificate(|place| {
        *place = json_of(LATER)["verificationMaterial"]["certificate"]["rawBytes"].take();
    });
    assert!(matches!(later, KeylessError::CertificateTime(_)), "{later}");
}

#[test]
fn a_proof_is_refused_by_its_parts() {
    refuse_each(&[
        (
            |bundle| flip(&mut entry(bundle)["inclusionProof"]["hashes"][3], 9),
            KeylessError::InclusionProof,
        ),
        (
            |bundle| flip(&mut entry(bundle)["inclusionProof"]["rootHash"], 9),
            KeylessError::InclusionProof,
        ),
        (
            |bundle| entry(bundle)["inclusionProof"]["logIndex"] = "84439918".into(),
            KeylessError::InclusionProof,
        ),
        (
            |bundle| drop(entry(bundle)["inclusionProof"]["hashes"].as_array_mut().unwrap().pop()),
            KeylessError::InclusionProof,
        ),
        (
            |bundle| {
                let note = &mut entry(bundle)["inclusionProof"]["checkpoint"]["envelope"];
                *note = note.as_str().unwrap().replace("ajBE", "ajBF").into();
            },
            KeylessError::Checkpoint,
        ),
        (
            |bundle| {
                let note = &mut entry(bundle)["inclusionProof"]["checkpoint"]["envelope"];
                *note = note.as_str().unwrap().replace("84439920", "84439921").into();
            },
            KeylessError::Checkpoint,
        ),
        (
            |bundle| {
                let note = &mut entry(bundle)["inclusionProof"]["checkpoint"]["envelope"];
                *note = note.as_str().unwrap().replace("rekor.sigstore.dev - ", "x - ").into();
            },
            KeylessError::Checkpoint,
        ),
    ]);
}

#[test]
fn a_certificate_must_be_logged_too() {
    let bundle = json_of(BUNDLE);
    let with = |change: fn(&mut Json)| {
        let mut root: Json = serde_json::from_str(ROOT).unwrap();
        change(&mut root["ctlogs"][1]);
        refusal(&bundle, &anchor(&root))
    };
    assert_eq!(with(|log| flip(&mut log["logId"]["keyId"], 0)), KeylessError::NoCertificateLog);
    let wrong = KeylessError::CertificateTimestamp;
    let other =
        |log: &mut Json| log["publicKey"]["rawBytes"] = STANDARD.encode(Log::new().key()).into();
    assert_eq!(with(other), wrong);
    let end = |log: &mut Json| log["publicKey"]["validFor"]["end"] = "2025-05-03T01:34:45Z".into();
    assert_eq!(with(end), wrong);
    // A certificate that is not made to sign code: the authority's own.
    let root: Json = serde_json::from_str(ROOT).unwrap();
    let chain = &root["certificateAuthorities"][1]["certChain"]["certificates"];
    let above = STANDARD.decode(chain[0]["rawBytes"].as_str().unwrap()).unwrap();
    let above = Certificate::read(&above).unwrap();
    assert_eq!(above.check_usage(), Err(KeylessError::Usage));
    assert_eq!(above.check_logged(above.key, &[]), Err(KeylessError::NoCertificateLog));
    assert_eq!((above.identities(), above.issuer()), (vec![], None));
}

#[test]
fn what_a_log_signs_anew_still_has_to_agree() {
    let log = Log::new();
    let anew = |change: &dyn Fn(&mut Json)| {
        let bundle = changed(|bundle| {
            change(bundle);
            log.logs(bundle);
        });
        outcome(&bundle, &[log.anchor()])
    };
    anew(&|_| ()).unwrap();
    let refused = |change: &dyn Fn(&mut Json)| match anew(change) {
        Err(SignatureError::Keyless(error)) => error,
        other => panic!("{other:?}"),
    };
    // Ten minutes later; and after the time that we have.
    for (time, sooner) in [("1746236687", true), ("1746236085", true), ("1896236085", false)] {
        let error = refused(&|bundle| entry(bundle)["integratedTime"] = time.into());
        assert_eq!(matches!(error, KeylessError::CertificateTime(_)), sooner, "{error}");
        assert_eq!(matches!(error, KeylessError::EntryTime(_)), !sooner, "{error}");
    }
    // An entry about the payload that was changed too: then the signature tells.
    let error = refused(&|bundle| {
        rename(bundle);
        let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        let digest = hex::encode(Sha256::digest(payload));
        edit_body(bundle, |body| body["spec"]["payloadHash"]["value"] = digest.clone().into());
    });
    assert_eq!(error, KeylessError::Signature);
    // Somebody else's entry, or one of another kind.
    let theirs =
        json_of(LATER)["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"].take();
    let error = refused(&|bundle| entry(bundle)["canonicalizedBody"] = theirs.clone());
    assert_eq!(error, KeylessError::OtherEntry("it is about another payload"));
    let theirs = json_of(&STANDARD.decode(theirs.as_str().unwrap()).unwrap());
    let verifier = &theirs["spec"]["signatures"][0]["verifier"];
    let about = |change: &dyn Fn(&mut Json)| refused(&|bundle| edit_body(bundle, change));
    for (error, said) in [
        (
            about(&|body| body["spec"]["signatures"][0]["verifier"] = verifier.clone()),
            "it is about another certificate",
        ),
        (
            about(&|body| body["kind"] = "intoto".into()),
            "it is of another kind than the bundle says",
        ),
        (about(&|body| body["spec"]["signatures"] = json!([])), "it has not one signature"),
        (about(&|body| *body = json!({})), "it can't be read"),
    ] {
        assert_eq!(error, KeylessError::OtherEntry(said));
    }
}

#[test]
fn other_kinds_are_refused_by_their_names() {
    type Case = (fn(&mut Json), &'static str);
    let unsupported: [Case; 3] = [
        (
            |entry| entry["kindVersion"] = json!({"kind": "intoto", "version": "0.0.2"}),
            "intoto 0.0.2",
        ),
        (|entry| drop(entry.as_object_mut().unwrap().remove("inclusionPromise")), "RFC 3161"),
        (|entry| entry["integratedTime"] = "0".into(), "RFC 3161"),
    ];
    for (change, said) in unsupported {
        let error = outcome(&changed(|bundle| change(entry(bundle))), &[genuine()]).unwrap_err();
        assert!(matches!(error, SignatureError::Unsupported(_)), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let malformed: [fn(&mut Json); 6] = [
        |bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([]),
        |bundle| {
            let twice = entry(bundle).clone();
            bundle["verificationMaterial"]["tlogEntries"] = json!([twice, twice]);
        },
        |bundle| drop(entry(bundle).as_object_mut().unwrap().remove("inclusionProof")),
        |bundle| entry(bundle)["inclusionProof"]["hashes"] = json!(vec!["AAAA"; 65]),
        |bundle| entry(bundle)["logIndex"] = "-1".into(),
        |bundle| entry(bundle)["canonicalizedBody"] = STANDARD.encode(vec![0; 70_000]).into(),
    ];
    for change in malformed {
        let error = outcome(&changed(change), &[genuine()]).unwrap_err();
        assert!(matches!(error, SignatureError::Malformed(_)), "{error}");
    }
}

#[test]
fn anchors_are_kept_as_texts() {
    let anchor = genuine();
    assert_eq!(anchor.kind(), AnchorKind::Sigstore);
    let stored = Anchor::stored(&anchor.text()).unwrap();
    assert_eq!((&stored, stored.fingerprint()), (&anchor, anchor.fingerprint()));
    let other = Anchor::sigstore(ROOT, "other", ISSUER).unwrap();
    assert_ne!(other.fingerprint(), anchor.fingerprint());
    for (identity, issuer) in [("", ISSUER), (IDENTITY, ""), (&"x".repeat(1_001), ISSUER)] {
        assert!(Anchor::sigstore(ROOT, identity, issuer).is_err());
    }
    let changes: [fn(&mut Json); 9] = [
        |root| root["mediaType"] = "x".into(),
        |root| root["tlogs"] = json!([]),
        |root| root["ctlogs"] = json!([]),
        |root| root["certificateAuthorities"] = json!([]),
        |root| root["certificateAuthorities"][0]["certChain"]["certificates"] = json!([]),
        |root| {
            flip(
                &mut root["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"],
                1,
            )
        },
        |root| {
            drop(root["tlogs"][0]["publicKey"]["validFor"].as_object_mut().unwrap().remove("start"))
        },
        |root| root["tlogs"][0]["publicKey"]["validFor"]["start"] = "yesterday".into(),
        |root| root["tlogs"][0]["publicKey"]["rawBytes"] = "!".into(),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut root: Json = serde_json::from_str(ROOT).unwrap();
        change(&mut root);
        assert!(Anchor::sigstore(&root.to_string(), IDENTITY, ISSUER).is_err(), "change {at}");
    }
    assert!(Anchor::sigstore(&" ".repeat(40_000), IDENTITY, ISSUER).is_err());
    assert!(Anchor::stored("{}").is_err());
}

/// What verifies a bundle of sigstore-conformance: its statement is of no model.
fn conforms(bundle: &[u8], identity: &str) -> Result<String, KeylessError> {
    let mut json = json_of(bundle);
    let text = |place: &Json| STANDARD.decode(place.as_str().unwrap()).unwrap();
    let certificate = text(&json["verificationMaterial"]["certificate"]["rawBytes"]);
    let payload = text(&json["dsseEnvelope"]["payload"]);
    let signature = text(&json["dsseEnvelope"]["signatures"][0]["sig"]);
    let entry: WireEntry = serde_json::from_value(entry(&mut json).take()).unwrap();
    let subject = Subject {
        payload_digest: &Sha256::digest(&payload).into(),
        signature: &signature,
        certificate: &certificate,
    };
    let entry = entry.read().unwrap();
    let signed = Signed { entry: &entry, subject, message: &wrapped(&payload) };
    let issuer = "https://token.actions.githubusercontent.com";
    Sigstore::new(ROOT, identity, issuer).unwrap().verify(signed, NOW)
}

#[test]
fn bundles_of_the_conformance_suite_are_told_apart() {
    let identity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
    let good = include_bytes!("../../fixtures/sigstore/uri.json");
    assert!(conforms(good, identity).unwrap().starts_with(identity));
    let prefix = conforms(good, &identity[..identity.len() - 1]);
    assert!(matches!(prefix, Err(KeylessError::OtherIdentity { .. })), "{prefix:?}");
    let other = KeylessError::OtherEntry;
    let envelope = include_bytes!("../../fixtures/sigstore/uri_envelope.json");
    assert_eq!(conforms(envelope, identity), Err(other("it is about another payload")));
    let signature = include_bytes!("../../fixtures/sigstore/uri_signature.json");
    assert_eq!(conforms(signature, identity), Err(other("it is about another signature")));
    let invalid = include_bytes!("../../fixtures/sigstore/uri_invalid.json");
    assert_eq!(conforms(invalid, identity), Err(other("it is about another signature")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_changes_nothing_that_counts(at in 0_usize..8_000, byte in any::<u8>()) {
        let mut bytes = BUNDLE.to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let Ok(read) = Bundle::read(&bytes) else { return Ok(()) };
        if read.verify(&[genuine()], NOW).is_ok() {
            prop_assert_eq!((read.model(), read.file_count()), ("v1.0.0-sigstore", 2));
        }
    }

    #[test]
    fn any_certificate_is_answered(at in 0_usize..800, byte in any::<u8>(), keep in 0_usize..800) {
        let bundle = json_of(BUNDLE);
        let der = bundle["verificationMaterial"]["certificate"]["rawBytes"].as_str().unwrap();
        let mut der = STANDARD.decode(der).unwrap();
        let at = at % der.len();
        der[at] = byte;
        der.truncate(keep);
        if let Ok(certificate) = Certificate::read(&der) {
            let _ = (certificate.check_usage(), certificate.identities(), certificate.issuer());
            prop_assert!(certificate.check_logged(certificate.key, &[]).is_err());
        }
    }
}
