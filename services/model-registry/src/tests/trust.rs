//! What is known of files before they are loaded: headers, verdicts, signatures;
//! and what stages make of it.

use models_api::v1::trust_service_client::TrustServiceClient;
use service_error::Code;

use super::*;

const HOSTILE: &[u8] = b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.";
const CLEAN: &[u8] = b"\x80\x02ccollections\nOrderedDict\n)R.";
const CUSTOM: &[u8] = b"\x80\x02cmine.models\nRanker\n)R.";
/// What PyPI's `model-signing` made of the files below.
const SIGNATURE: &[u8] = include_bytes!("../../../../crates/model-signatures/fixtures/p256.sig");
const OTHERS: &[u8] = include_bytes!("../../../../crates/model-signatures/fixtures/p384.sig");
const KEY: &str = include_str!("../../../../crates/model-signatures/fixtures/p256.pub");
const SIGNED: [(&str, &[u8]); 3] =
    [("weights.bin", b"weights\n"), ("sub/config.json", b"config\n"), ("sub.txt", b"x")];

/// What `model-signing` made of the files below with Sigstore's public service.
const KEYLESS: &[u8] =
    include_bytes!("../../../../crates/model-signatures/fixtures/sigstore/v1.0.0.sig");
const SIGSTORE: &str =
    include_str!("../../../../crates/model-signatures/fixtures/sigstore/trusted_root.json");
const SIGNED_KEYLESS: [(&str, &[u8]); 2] = [("signme-1", b"signme-1"), ("signme-2", b"signme-2")];
const PROVIDER: &str = "https://sigstore.verify.ibm.com/oauth2";

impl House {
    pub(super) fn trust(&self) -> TrustServiceClient<Transport> {
        TrustServiceClient::new(self.transport.clone())
    }

    async fn scan(
        &self,
        who: &Who,
        version: &str,
    ) -> Result<wire::ScanVersionResponse, ServiceError> {
        let request = wire::ScanVersionRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: version.into(),
        };
        Ok(self.trust().scan_version(self.by(who, request)).await?.into_inner())
    }

    async fn sign(
        &self,
        who: &Who,
        version: &str,
        bundle: &[u8],
    ) -> Result<wire::Signature, ServiceError> {
        let request = wire::AddSignatureRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: version.into(),
            bundle: bundle.to_vec(),
            path: String::new(),
        };
        let added = self.trust().add_signature(self.by(who, request)).await?;
        Ok(added.into_inner().signature.unwrap())
    }

    async fn trust_key(&self, who: &Who, pem: &str) -> Result<wire::SigningKey, ServiceError> {
        let request = wire::AddSigningKeyRequest {
            namespace: "ml".into(),
            name: "release".into(),
            pem: pem.into(),
            ..Default::default()
        };
        let added = self.trust().add_signing_key(self.by(who, request)).await?;
        Ok(added.into_inner().key.unwrap())
    }

    async fn trust_identity(
        &self,
        who: &Who,
        identity: &str,
        trusted_root: &str,
    ) -> Result<wire::SigningKey, ServiceError> {
        let request = wire::AddSigningKeyRequest {
            namespace: "ml".into(),
            trusted_root: trusted_root.into(),
            identity: identity.into(),
            identity_provider: PROVIDER.into(),
            ..Default::default()
        };
        let added = self.trust().add_signing_key(self.by(who, request)).await?;
        Ok(added.into_inner().key.unwrap())
    }

    async fn kinds_of_events(&self, who: &Who) -> Vec<wire::EventKind> {
        let request = wire::ListEventsRequest { namespace: "ml".into(), ..Default::default() };
        let listed = self.events().list_events(self.by(who, request)).await.unwrap();
        listed.into_inner().events.iter().map(wire::Event::kind).collect()
    }
}

fn verify(version: &str) -> wire::VerifySignaturesRequest {
    wire::VerifySignaturesRequest {
        namespace: "ml".into(),
        model: "m".into(),
        version: version.into(),
    }
}

#[tokio::test]
async fn more_unclean_files_than_are_told_are_counted() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let names: Vec<String> = (0..101).map(|at| format!("{at}.pkl")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, HOSTILE)).collect();
        house.with_files(&ana, "m", &many).await;
        let told = house.scan(&ana, "1").await.unwrap();
        assert_eq!((told.unclean_count, told.files.len()), (101, 100));
    })
    .await;
}

#[tokio::test]
async fn a_verdict_is_bound_to_bytes_and_known_the_next_time() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let files: [(&str, &[u8]); 3] =
            [("model.pkl", HOSTILE), ("good.pkl", CLEAN), ("README.md", b"It is a model.")];
        house.with_files(&ana, "m", &files).await;
        assert_eq!(
            house.get_version(&ana, "m", "1").await.unwrap().scan(),
            wire::ScanVerdict::None
        );
        let done = house.scan(&ana, "1").await.unwrap();
        assert_eq!((done.verdict(), done.file_count), (wire::ScanVerdict::Dangerous, 3));
        assert_eq!((done.scanned_count, done.unclean_count, done.files.len()), (3, 1, 1));
        let finding = &done.files[0].findings[0];
        assert_eq!((&*finding.reason, &*finding.global), ("DANGEROUS_GLOBAL", "os.system"));
        assert_eq!(finding.offset, 2);
        let version = house.get_version(&ana, "m", "1").await.unwrap();
        assert_eq!(version.scan(), wire::ScanVerdict::Dangerous);
        let again = house.scan(&ana, "1").await.unwrap();
        assert_eq!((again.verdict(), again.scanned_count), (wire::ScanVerdict::Dangerous, 0));
        // The same bytes in another version are known; under another kind of name
        // they are another file.
        house.with_files(&ana, "m", &[("again.pkl", HOSTILE), ("x.bin", CLEAN)]).await;
        let other = house.scan(&ana, "2").await.unwrap();
        assert_eq!((other.file_count, other.scanned_count), (2, 1));
        let get = wire::GetScanRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            page_size: 2,
            page_token: String::new(),
        };
        let page = house.trust().get_scan(house.by(&ana, get.clone())).await.unwrap().into_inner();
        assert_eq!(page.verdict(), wire::ScanVerdict::Dangerous);
        let paths: Vec<_> = page.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["README.md", "good.pkl"]);
        let rest = wire::GetScanRequest { page_token: page.next_page_token, ..get };
        let rest = house.trust().get_scan(house.by(&ana, rest)).await.unwrap().into_inner();
        assert_eq!((rest.files.len(), rest.files[0].findings.len()), (1, 1));
        assert!(rest.next_page_token.is_empty());
        let search = wire::SearchVersionsRequest {
            namespace: "ml".into(),
            filter: "scan = 'dangerous'".into(),
            ..Default::default()
        };
        let found = house.versions().search_versions(house.by(&ana, search)).await.unwrap();
        assert_eq!(found.into_inner().versions.len(), 2);
        let kinds = house.kinds_of_events(&ana).await;
        let scans = kinds.iter().filter(|kind| **kind == wire::EventKind::VersionScanned).count();
        assert_eq!(scans, 3);
    })
    .await;
}

#[tokio::test]
async fn a_stage_demands_a_clean_scan_and_a_signature() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.with_files(&ana, "m", &SIGNED).await;
        house.with_files(&ana, "m", &[("model.pkl", CUSTOM)]).await;
        let prod = wire::Stage {
            name: "prod".into(),
            require_scan: true,
            require_signature: true,
            ..Default::default()
        };
        let set = wire::SetStagesRequest { namespace: "ml".into(), stages: vec![prod] };
        house.lifecycle().set_stages(house.by(&ana, set)).await.unwrap();
        let go = async |version: &str| {
            let request = wire::TransitionStageRequest {
                namespace: "ml".into(),
                model: "m".into(),
                version: version.into(),
                stage: "prod".into(),
                ..Default::default()
            };
            let moved = house.lifecycle().transition_stage(house.by(&ana, request)).await;
            moved.map(drop).map_err(ServiceError::from)
        };
        let lacks = go("1").await.unwrap_err();
        assert_eq!(lacks.reason_text(), "STAGE_GATE");
        assert!(lacks.message().contains("not scanned") && lacks.message().contains("signature"));
        assert_eq!(house.scan(&ana, "1").await.unwrap().verdict(), wire::ScanVerdict::Clean);
        assert!(!go("1").await.unwrap_err().message().contains("scan"));

        // Kept, but of somebody whom nobody trusts here.
        let unknown = house.sign(&ana, "1", SIGNATURE).await.unwrap();
        assert!(!unknown.verified && !unknown.message.is_empty(), "{unknown:?}");
        assert!(go("1").await.unwrap_err().message().contains("a verified signature"));
        let none = house.trust().verify_signatures(house.by(&ana, verify("1"))).await.unwrap_err();
        assert_eq!(ServiceError::from(none).reason_text(), "NOT_SIGNED");
        let key = house.trust_key(&ana, KEY).await.unwrap();
        assert_eq!(key.kind(), wire::SigningKeyKind::PublicKey);
        let now = house.trust().verify_signatures(house.by(&ana, verify("1"))).await.unwrap();
        let now = now.into_inner().signatures;
        assert_eq!((now.len(), now[0].verified, &now[0].id), (1, true, &unknown.id));
        assert_eq!(now[0].key_fingerprint, key.fingerprint);
        assert!(house.get_version(&ana, "m", "1").await.unwrap().signed);
        go("1").await.unwrap();

        // A class of one's own is not clean, and a signature of other files is none.
        assert_eq!(house.scan(&ana, "2").await.unwrap().verdict(), wire::ScanVerdict::Unknown);
        assert!(go("2").await.unwrap_err().message().contains("it is unknown"));
        let other = house.sign(&ana, "2", SIGNATURE).await.unwrap_err();
        assert_eq!(
            (other.code(), other.reason_text()),
            (Code::FailedPrecondition, "SIGNATURE_OTHER_FILES")
        );

        // Who trusts a key no longer trusts what it signed no longer.
        let delete = wire::DeleteSigningKeyRequest {
            namespace: "ml".into(),
            fingerprint: key.fingerprint.clone(),
        };
        let gone = house.trust().delete_signing_key(house.by(&ana, delete.clone())).await.unwrap();
        assert_eq!(gone.into_inner().signature_count, 1);
        assert!(!house.get_version(&ana, "m", "1").await.unwrap().signed);
        let twice = house.trust().delete_signing_key(house.by(&ana, delete)).await.unwrap_err();
        assert_eq!(twice.code(), tonic::Code::NotFound);
        let kinds = house.kinds_of_events(&ana).await;
        assert_eq!(kinds.iter().filter(|kind| **kind == wire::EventKind::VersionSigned).count(), 3);
    })
    .await;
}

#[tokio::test]
async fn signatures_are_kept_once_and_refused_when_they_lie() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.with_files(&ana, "m", &SIGNED).await;
        let tampered: [(&str, &[u8]); 3] = [("weights.bin", b"weightS\n"), SIGNED[1], SIGNED[2]];
        house.with_files(&ana, "m", &tampered).await;
        house.trust_key(&ana, KEY).await.unwrap();
        house.trust_key(&ana, KEY).await.unwrap();
        let list = wire::ListSigningKeysRequest { namespace: "ml".into() };
        let keys = house.trust().list_signing_keys(house.by(&ana, list)).await.unwrap();
        assert_eq!(keys.into_inner().keys.len(), 1);
        let first = house.sign(&ana, "1", SIGNATURE).await.unwrap();
        let again = house.sign(&ana, "1", SIGNATURE).await.unwrap();
        assert!(first.verified && again.verified);
        assert_eq!(first.id, again.id);
        assert!(!house.sign(&ana, "1", OTHERS).await.unwrap().verified);
        let list = wire::ListSignaturesRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            bundle_of: first.id.clone(),
        };
        let all = house.trust().list_signatures(house.by(&ana, list)).await.unwrap().into_inner();
        assert_eq!(all.signatures.len(), 2);
        assert_eq!(all.signatures[0].bundle, SIGNATURE);
        assert!(all.signatures[1].bundle.is_empty());

        let refused = house.sign(&ana, "2", SIGNATURE).await.unwrap_err();
        assert_eq!(refused.reason_text(), "SIGNATURE_OTHER_FILES");
        assert!(refused.message().contains("weights.bin"), "{refused}");
        let theirs = String::from_utf8(OTHERS.to_vec()).unwrap();
        let forged = String::from_utf8(SIGNATURE.to_vec()).unwrap();
        let sig = |text: &str| {
            text.split("\"sig\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        let forged = forged.replace(&sig(&forged), &sig(&theirs));
        let refused = house.sign(&ana, "1", forged.as_bytes()).await.unwrap_err();
        assert_eq!(refused.reason_text(), "SIGNATURE_WRONG");
        for (bundle, reason) in
            [(b"{}".to_vec(), "BUNDLE_MALFORMED"), (vec![b' '; 4 << 20], "BUNDLE_TOO_LARGE")]
        {
            let refused = house.sign(&ana, "1", &bundle).await.unwrap_err();
            assert_eq!((refused.code(), refused.reason_text()), (Code::InvalidArgument, reason));
        }
        let wrong = house.trust_key(&ana, "hello").await.unwrap_err();
        assert_eq!(wrong.field_name(), Some("pem"));
        let bob = Who::user();
        assert_eq!(house.sign(&bob, "1", SIGNATURE).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(house.trust_key(&bob, KEY).await.unwrap_err().code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn an_identity_signs_without_a_key() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.with_files(&ana, "m", &SIGNED_KEYLESS).await;
        // Another's identity vouches for nothing; what it finds is told.
        let other = house.trust_identity(&ana, "other@example.com", SIGSTORE).await.unwrap();
        let unknown = house.sign(&ana, "1", KEYLESS).await.unwrap();
        assert!(!unknown.verified && unknown.message.contains("stefanb@us.ibm.com"), "{unknown:?}");
        let key = house.trust_identity(&ana, "stefanb@us.ibm.com", SIGSTORE).await.unwrap();
        assert_eq!((key.kind(), key.pem.as_str()), (wire::SigningKeyKind::Sigstore, ""));
        assert_eq!(
            (key.identity_provider.as_str(), key.trusted_root.as_str()),
            (PROVIDER, SIGSTORE)
        );
        assert_ne!(key.fingerprint, other.fingerprint);
        let now = house.trust().verify_signatures(house.by(&ana, verify("1"))).await.unwrap();
        let now = &now.into_inner().signatures[0];
        assert!(now.verified && now.key_fingerprint == key.fingerprint, "{now:?}");
        let said = format!("stefanb@us.ibm.com (issuer {PROVIDER}, log entry 206344181, ");
        assert!(now.message.starts_with(&said), "{now:?}");
        assert!(house.get_version(&ana, "m", "1").await.unwrap().signed);

        // One whose log entry was moved in time, and one that is no keyless bundle.
        let moved =
            String::from_utf8(KEYLESS.to_vec()).unwrap().replace("1746236086", "1746236087");
        let refused = house.sign(&ana, "1", moved.as_bytes()).await.unwrap_err();
        assert_eq!(refused.reason_text(), "SIGNATURE_WRONG");
        assert!(refused.message().contains("log entry's timestamp"), "{refused}");
        let kind = String::from_utf8(KEYLESS.to_vec()).unwrap().replace("\"dsse\"", "\"intoto\"");
        let refused = house.sign(&ana, "1", kind.as_bytes()).await.unwrap_err();
        assert_eq!(refused.reason_text(), "BUNDLE_UNSUPPORTED");

        for (identity, root, field) in
            [("", SIGSTORE, "identity"), ("x", "{}", "trusted_root"), ("x", "", "trusted_root")]
        {
            let refused = house.trust_identity(&ana, identity, root).await.unwrap_err();
            assert_eq!(refused.field_name(), Some(field), "{refused}");
        }
        let both = wire::AddSigningKeyRequest {
            namespace: "ml".into(),
            pem: KEY.into(),
            trusted_root: SIGSTORE.into(),
            ..Default::default()
        };
        let refused = house.trust().add_signing_key(house.by(&ana, both)).await.unwrap_err();
        assert_eq!(ServiceError::from(refused).field_name(), Some("pem"));
        let delete =
            wire::DeleteSigningKeyRequest { namespace: "ml".into(), fingerprint: key.fingerprint };
        house.trust().delete_signing_key(house.by(&ana, delete)).await.unwrap();
        assert!(!house.get_version(&ana, "m", "1").await.unwrap().signed);
    })
    .await;
}

#[tokio::test]
async fn headers_are_read_by_range_and_told_by_pages() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let names: Vec<String> = (0..5)
            .map(|at| {
                let (begin, end) = (at * 8, at * 8 + 8);
                format!(r#""t{at}":{{"dtype":"F32","shape":[2],"data_offsets":[{begin},{end}]}}"#)
            })
            .collect();
        let json = format!("{{{}}}", names.join(","));
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file.extend([1; 40]);
        let files: [(&str, &[u8]); 2] = [("model.safetensors", &file), ("bad.safetensors", b"{}")];
        house.with_files(&ana, "m", &files).await;
        let mut request = wire::InspectFileRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            path: "model.safetensors".into(),
            page_size: 2,
            page_token: String::new(),
        };
        let mut names = Vec::new();
        loop {
            let asked = house.by(&ana, request.clone());
            let page = house.trust().inspect_file(asked).await.unwrap().into_inner();
            assert_eq!(
                (&*page.format, page.tensor_count, page.parameter_count),
                ("safetensors", 5, 10)
            );
            names.extend(page.tensors.into_iter().map(|tensor| tensor.name));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
        let bad = wire::InspectFileRequest {
            path: "bad.safetensors".into(),
            page_token: String::new(),
            ..request
        };
        let error = house.trust().inspect_file(house.by(&ana, bad)).await.unwrap_err();
        let error = ServiceError::from(error);
        assert_eq!(
            (error.code(), error.reason_text()),
            (Code::InvalidArgument, "HEADER_UNREADABLE")
        );
    })
    .await;
}
