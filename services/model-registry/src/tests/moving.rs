//! Uploads that go on, signed addresses, numbers that are brought along, and what the
//! namespace of a model does to it.

use super::artifacts::file;
use super::together::put;
use super::*;
use model_operations::app::{self, Outbox, Registry};
use models_api::v1::trust_service_client::TrustServiceClient;
use service_error::Code;

impl House {
    async fn open_upload(
        &self,
        who: &Who,
        files: Vec<wire::UploadFile>,
    ) -> wire::BeginUploadResponse {
        let request = wire::BeginUploadRequest { namespace: "ml".into(), files, resume: true };
        self.artifacts().begin_upload(self.by(who, request)).await.unwrap().into_inner()
    }

    async fn put_part(&self, who: &Who, upload_id: &str, bytes: &[u8]) {
        let piece = wire::UploadPartsRequest {
            upload_id: upload_id.into(),
            data: bytes.to_vec(),
            last: true,
            ..Default::default()
        };
        let request = self.by(who, futures::stream::iter([piece]));
        let mut acks = self.artifacts().upload_parts(request).await.unwrap().into_inner();
        acks.message().await.unwrap().expect("an acknowledgement");
    }

    /// The use cases without a wire, over the same rows.
    pub(super) fn registry(&self) -> Registry {
        let tokens = self.identity.tokens();
        let outbox = Outbox::new(self.store.clone(), self.identity.transport(), tokens.clone());
        let catalog = app::Catalog::new(self.catalog.transport(), tokens);
        let settings = Settings::default();
        Registry::new(self.store.clone(), self.grants.clone(), outbox, catalog, settings).unwrap()
    }
}

#[tokio::test]
async fn an_upload_of_the_same_files_goes_on() {
    in_each_house(async |house| {
        let (ana, bob) = (house.ana().await, Who::user());
        let id = house.catalog.namespace("ml");
        house.grant(&bob, Resource::namespace(id.uuid()), Level::Write).await;
        let files = || vec![file("a", b"12345"), file("b", b"67")];
        let first = house.open_upload(&ana, files()).await;
        assert!(!first.resumed);
        house.put_part(&ana, &first.upload_id, b"12345").await;
        let again = house.open_upload(&ana, files()).await;
        assert!(again.resumed && again.upload_id == first.upload_id);
        let mut other = files();
        other.swap(0, 1);
        assert!(!house.open_upload(&ana, other).await.resumed, "other places");
        let request =
            wire::BeginUploadRequest { namespace: "ml".into(), files: files(), resume: true };
        let theirs = async || {
            let begun = house.artifacts().begin_upload(house.by(&bob, request.clone())).await;
            begun.map(tonic::Response::into_inner)
        };
        eventually(async || theirs().await.is_ok()).await;
        assert_ne!(theirs().await.unwrap().upload_id, first.upload_id, "another's");
        let abort = wire::AbortUploadRequest { upload_id: first.upload_id.clone() };
        house.artifacts().abort_upload(house.by(&ana, abort)).await.unwrap();
        assert!(!house.open_upload(&ana, files()).await.resumed, "it was given up");
    })
    .await;
}

#[tokio::test]
async fn an_address_says_where_the_door_is_and_no_longer_than_it_may() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let upload = house.open_upload(&ana, vec![file("w", b"weights")]).await.upload_id;
        house.put_part(&ana, &upload, b"weights").await;
        let commit = wire::CommitUploadRequest { upload_id: upload.clone() };
        house.artifacts().commit_upload(house.by(&ana, commit)).await.unwrap();
        let request =
            wire::CreateVersionRequest { upload_id: upload, create_model: true, ..new("m") };
        house.register(&ana, request).await.unwrap();
        let asked = |path: &str, seconds| wire::SignDownloadRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            path: path.into(),
            seconds,
        };
        let sign = async |request: tonic::Request<wire::SignDownloadRequest>| {
            house.artifacts().sign_download(request).await.map(tonic::Response::into_inner)
        };
        let signed = sign(house.by(&ana, asked("w", 0))).await.unwrap();
        assert!(!signed.direct && signed.url.starts_with("/api/2.0/"), "{signed:?}");
        assert!(!signed.url.contains(&ana.principal.to_string()), "it is sealed");
        let mut request = house.by(&ana, asked("w", 60));
        request.metadata_mut().insert("x-quarry-origin", "https://q.example".parse().unwrap());
        let signed = sign(request).await.unwrap();
        assert!(signed.url.starts_with("https://q.example/api/2.0/"), "{signed:?}");
        for (path, seconds, code) in [
            ("w", -1, Code::InvalidArgument),
            ("w", 43_201, Code::InvalidArgument),
            ("../w", 0, Code::InvalidArgument),
            ("none", 0, Code::NotFound),
        ] {
            let refused = sign(house.by(&ana, asked(path, seconds))).await.unwrap_err();
            assert_eq!(ServiceError::from(refused).code(), code, "{path} {seconds}");
        }
        let stranger = sign(house.by(&Who::user(), asked("w", 0))).await.unwrap_err();
        assert_eq!(ServiceError::from(stranger).code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_number_is_brought_along_above_all_that_were_given() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        let create = async |number| {
            let request = wire::CreateVersionRequest { number, ..new("m") };
            house.register(&ana, request).await
        };
        assert_eq!(create(5).await.unwrap().number, 5);
        assert_eq!(create(0).await.unwrap().number, 6);
        for taken in [1, 5, 6] {
            let refused = create(taken).await.unwrap_err();
            assert_eq!(refused.reason_text(), "VERSION_NUMBER_TAKEN", "{taken}");
        }
        assert_eq!(create(-2).await.unwrap_err().field_name(), Some("number"));
        let model = house.get_model(&ana, "m").await.unwrap();
        assert_eq!((model.latest_version, model.version_count), (6, 2));
        assert_eq!(create(9).await.unwrap().number, 9);
        assert_eq!(house.get_version(&ana, "m", "latest").await.unwrap().number, 9);
    })
    .await;
}

#[tokio::test]
async fn identity_knows_what_lies_in_a_namespace_and_what_in_the_trash() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let model = house.model(&ana, "m").await;
        let namespace = house.catalog.namespace("ml").to_string();
        let parent = || {
            let told = house.identity.resources();
            let of = |put: &&identity_api::v1::PutResourceRequest| {
                put.resource.as_ref().is_some_and(|resource| resource.id == model.id)
            };
            told.iter().rev().find(of).unwrap().parent.clone().map(|parent| parent.id)
        };
        assert_eq!(parent(), Some(namespace.clone()));
        let delete = wire::DeleteModelRequest { namespace: "ml".into(), name: "m".into() };
        house.models().delete_model(house.by(&ana, delete)).await.unwrap();
        assert_eq!(parent(), None);
        let restore = wire::RestoreModelRequest { id: model.id.clone() };
        house.models().restore_model(house.by(&ana, restore)).await.unwrap();
        assert_eq!(parent(), Some(namespace));
    })
    .await;
}

#[tokio::test]
async fn models_do_not_outlive_their_namespace() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let model = house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        let registry = house.registry();
        assert_eq!(registry.leave_gone_namespaces().await.unwrap(), 0);
        // The name is given anew: it is another namespace.
        house.catalog.drop_namespace("ml");
        house.catalog.namespace("ml");
        assert_eq!(registry.leave_gone_namespaces().await.unwrap(), 1);
        assert_eq!(registry.leave_gone_namespaces().await.unwrap(), 0);
        let restore = wire::RestoreModelRequest { id: model.id.clone() };
        let refused = house.models().restore_model(house.by(&ana, restore)).await.unwrap_err();
        assert_eq!(ServiceError::from(refused).reason_text(), "NAMESPACE_GONE");
    })
    .await;
}

#[tokio::test]
async fn keys_do_not_outlive_their_namespace() {
    const KEY: &str = include_str!("../../../../crates/model-signatures/fixtures/p256.pub");
    in_each_house(async |house| {
        let ana = house.ana().await;
        let request = wire::AddSigningKeyRequest {
            namespace: "ml".into(),
            name: "release".into(),
            pem: KEY.into(),
            ..Default::default()
        };
        let mut trust = TrustServiceClient::new(house.transport.clone());
        trust.add_signing_key(house.by(&ana, request)).await.unwrap();
        let (id, registry) = (house.catalog.namespace("ml"), house.registry());
        registry.reclaim_gone_namespaces(i64::MAX).await.unwrap();
        assert_eq!(house.store.signing_keys(id).await.unwrap().len(), 1);
        house.catalog.drop_namespace("ml");
        house.catalog.namespace("ml");
        registry.reclaim_gone_namespaces(i64::MAX).await.unwrap();
        assert!(house.store.signing_keys(id).await.unwrap().is_empty());
    })
    .await;
}

/// More than is kept in a row.
const LARGE: usize = 100_000;

#[tokio::test]
async fn files_of_runs_do_not_outlive_their_namespace() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let registry = house.registry();
        for path in ["0/run/artifacts/a", "0/run/artifacts/same"] {
            put(&registry, &ana, path, &[1; LARGE]).await;
        }
        let size = i64::try_from(LARGE).unwrap();
        let before = registry.garbage(Some(i64::MAX)).await.unwrap();
        assert_eq!((before.blobs, before.freed_bytes), (0, 0), "it is there");
        let id = house.catalog.namespace("ml");
        house.catalog.drop_namespace("ml");
        // Its name is another's now, which has a file of its own.
        let other = house.catalog.namespace("ml");
        house.grant(&ana, Resource::namespace(other.uuid()), Level::Owner).await;
        // A replica that has asked for neither's name yet.
        let theirs = async || {
            let stages = wire::GetStagesRequest { namespace: "ml".into() };
            house.lifecycle().get_stages(house.by(&ana, stages)).await.is_ok()
        };
        eventually(theirs).await;
        put(&house.registry(), &ana, "0/run/artifacts/a", &[2; LARGE]).await;
        let kept = registry.collect_garbage(Some(0)).await.unwrap();
        assert_eq!((kept.reclaimed_files, kept.freed_bytes), (0, 0), "deleted too lately");
        let would = registry.garbage(Some(i64::MAX)).await.unwrap();
        assert_eq!((would.blobs, would.freed_bytes), (1, size));
        let done = registry.collect_garbage(Some(i64::MAX)).await.unwrap();
        assert_eq!((done.reclaimed_files, done.blobs, done.freed_bytes), (2, 1, size));
        assert!(house.store.tree_files(id, "", "", 10).await.unwrap().is_empty());
        assert_eq!(house.store.tree_files(other, "", "", 10).await.unwrap().len(), 1);
        let again = registry.collect_garbage(Some(i64::MAX)).await.unwrap();
        assert_eq!((again.reclaimed_files, again.freed_bytes), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn what_a_catalog_never_had_is_left_alone() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        put(&house.registry(), &ana, "a", &[1; LARGE]).await;
        let model = house.model(&ana, "m").await;
        // As beside a catalog that was restored from before the namespace was made.
        house.catalog.forget_namespace("ml");
        let registry = house.registry();
        let done = registry.collect_garbage(Some(i64::MAX)).await.unwrap();
        assert_eq!((done.reclaimed_files, done.freed_bytes), (0, 0));
        assert_eq!(registry.leave_gone_namespaces().await.unwrap(), 0);
        assert!(house.store.find_model_by_id(model.id.parse().unwrap()).await.unwrap().is_some());
    })
    .await;
}
