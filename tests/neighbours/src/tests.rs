//! The neighbours keep to the contracts that they stand for.

use catalog_api::v1 as api;
use catalog_api::v1::datasets_service_client::DatasetsServiceClient;
use catalog_api::v1::garbage_service_client::GarbageServiceClient;
use catalog_api::v1::manifest_service_client::ManifestServiceClient;
use catalog_api::v1::namespaces_service_client::NamespacesServiceClient;
use identity_api::v1 as identity;
use identity_api::v1::audit_service_client::AuditServiceClient;
use identity_api::v1::exchange_service_client::ExchangeServiceClient;
use identity_api::v1::exchange_token_request::Credential;
use identity_api::v1::grant_change::Change;
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::resources_service_client::ResourcesServiceClient;
use ids::BlockId;
use options_api::v1::{Level, ResourceKind};
use roaring::RoaringBitmap;
use service_channel::Transport;
use service_error::{Code, ServiceError};

use super::*;

fn resource(kind: ResourceKind, id: &str) -> identity::Resource {
    identity::Resource { kind: kind.into(), id: id.to_owned() }
}

#[tokio::test]
async fn tokens_name_who_calls_and_for_whom() {
    let identity = Identity::new("item-store");
    let ana = Who::user();
    identity.know("qpat_ana", &ana);
    let mut client = ExchangeServiceClient::new(identity.transport());
    let exchange = |bearer: &str| identity::ExchangeTokenRequest {
        service_secret: SECRET.into(),
        audience: "item-store".into(),
        credential: Some(Credential::Bearer(bearer.into())),
    };
    let unknown = client.exchange_token(exchange("qpat_eve")).await.unwrap_err();
    assert_eq!(ServiceError::from(unknown).reason_text(), "TOKEN_UNKNOWN");
    let jwt = client.exchange_token(exchange("qpat_ana")).await.unwrap().into_inner().jwt;
    let caller = identity.keys().verify(&jwt, "item-store").await.unwrap();
    assert_eq!((caller.principal, caller.service), (ana.principal, false));

    let bearer = identity.tokens().for_caller(&caller, "catalog").await.unwrap();
    let jwt = bearer.header().to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let passed_on = identity.keys().verify(jwt, "catalog").await.unwrap();
    assert_eq!(passed_on.principal, ana.principal);
    assert_eq!(passed_on.actor.as_deref(), Some("item-store"));
    let forged = Identity::new("item-store").token(&ana);
    let request = identity::IssueTokenRequest {
        service_secret: SECRET.into(),
        audience: "catalog".into(),
        subject_token: forged,
    };
    assert!(client.issue_token(request).await.is_err(), "another identity's token");
    let asked = client.get_keys(identity::GetKeysRequest {}).await.unwrap().into_inner();
    let keys = caller::Keys::fixed(&asked.jwks_json).unwrap();
    assert!(keys.verify(&identity.token(&ana), "item-store").await.is_ok());
}

#[tokio::test]
async fn grants_follow_resources_and_reach_whoever_listens() {
    let identity = Identity::new("catalog");
    let (ana, dataset) = (Who::user(), resource(ResourceKind::Dataset, "d"));
    let mut client = ReplicaServiceClient::new(identity.transport());
    let watch = identity::WatchGrantsRequest { since_revision: 0 };
    let mut feed = client.watch_grants(watch).await.unwrap().into_inner();
    assert!(feed.message().await.unwrap().unwrap().reset);
    let put = |event_id: &str, deleted| identity::PutResourceRequest {
        event_id: event_id.into(),
        resource: Some(dataset.clone()),
        parent: Some(resource(ResourceKind::Namespace, "n")),
        owner_id: ana.principal.to_string(),
        deleted,
    };
    let check = identity::CheckAccessRequest {
        principal_id: ana.principal.to_string(),
        resources: vec![dataset.clone()],
        ..Default::default()
    };
    for _ in 0..2 {
        client.put_resource(put("made", false)).await.unwrap();
    }
    let told = feed.message().await.unwrap().unwrap();
    assert!(matches!(told.changes[0].change, Some(Change::Grant(_))));
    let held = client.check_access(check.clone()).await.unwrap().into_inner();
    assert_eq!(held.level(), Level::Owner);
    let mut resources = ResourcesServiceClient::new(identity.transport());
    let parent = Some(resource(ResourceKind::Namespace, "n"));
    let children = identity::CountChildrenRequest { parent };
    let counts = resources.count_children(children.clone()).await.unwrap().into_inner().counts;
    assert_eq!((counts.len(), counts[0].count), (1, 1), "the event was told twice");

    client.put_resource(put("gone", true)).await.unwrap();
    let told = feed.message().await.unwrap().unwrap();
    assert!(matches!(told.changes[0].change, Some(Change::RemovedGrantId(_))));
    let held = client.check_access(check).await.unwrap().into_inner();
    assert_eq!(held.level(), Level::Unspecified);
    assert!(resources.count_children(children).await.unwrap().into_inner().counts.is_empty());
    let newest = client.get_revision(identity::GetRevisionRequest {}).await.unwrap().into_inner();
    assert_eq!(newest.revision, told.revision);
    let later = identity::WatchGrantsRequest { since_revision: told.revision - 1 };
    let first = client.watch_grants(later).await.unwrap().into_inner().message().await;
    let first = first.unwrap().unwrap();
    assert_eq!((first.reset, first.changes), (false, told.changes));
}

#[tokio::test]
async fn denials_are_audited_newest_first() {
    let identity = Identity::new("catalog");
    let mut client = AuditServiceClient::new(identity.transport());
    let denial = |action: &str| identity::Denial {
        principal_id: Who::user().principal.to_string(),
        action: action.into(),
        count: 1,
        ..Default::default()
    };
    let denials = vec![denial("a"), denial("b"), denial("c")];
    client.record_denials(identity::RecordDenialsRequest { denials }).await.unwrap();
    let mut list = identity::ListAuditEventsRequest { page_size: 100, ..Default::default() };
    let page = client.list_audit_events(list.clone()).await.unwrap().into_inner();
    list.page_token = page.next_page_token;
    let rest = client.list_audit_events(list).await.unwrap().into_inner();
    let actions = page.events.iter().chain(&rest.events).map(|event| event.action.as_str());
    assert_eq!(actions.collect::<Vec<_>>(), ["c", "b", "a"]);
    let allowed = identity::ListAuditEventsRequest {
        outcome: identity::Outcome::Allowed.into(),
        ..Default::default()
    };
    assert!(client.list_audit_events(allowed).await.unwrap().into_inner().events.is_empty());
}

/// A catalog with the dataset `n/d`, and commits to it.
struct Committing {
    catalog: Catalog,
    manifest: ManifestServiceClient<Transport>,
    dataset: String,
}

impl Committing {
    fn new() -> Self {
        let catalog = Catalog::new();
        let dataset = catalog.dataset("n/d", 0).to_string();
        let manifest = ManifestServiceClient::new(catalog.transport());
        Self { catalog, manifest, dataset }
    }

    async fn upload(&mut self) -> String {
        let dataset_id = self.dataset.clone();
        let dataset = Some(api::DatasetRef { dataset_id, ..Default::default() });
        let opened = self.manifest.open_upload(api::OpenUploadRequest { dataset }).await.unwrap();
        opened.into_inner().upload_id
    }

    async fn commit(
        &mut self,
        request: api::CommitVersionRequest,
    ) -> Result<api::CommitVersionResponse, ServiceError> {
        let upload_id = self.upload().await;
        let request = api::CommitVersionRequest { upload_id, ..request };
        Ok(self.manifest.commit_version(request).await?.into_inner())
    }

    async fn blocks(&mut self, snapshot: i64) -> Vec<api::Block> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let dataset_id = self.dataset.clone();
            let list =
                api::ListBlocksRequest { dataset_id, snapshot, page_token, ..Default::default() };
            let page = self.manifest.list_blocks(list).await.unwrap().into_inner();
            all.extend(page.blocks);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }
}

fn append(base_snapshot: i64, blocks: usize) -> api::CommitVersionRequest {
    let block = |_| {
        let id = BlockId::new().to_string();
        api::Block { object_key: format!("{id}.parquet"), id, row_count: 10, ..Default::default() }
    };
    api::CommitVersionRequest {
        mode: api::CommitMode::Append.into(),
        base_snapshot,
        blocks: (0..blocks).map(block).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn commits_meet_the_fences_of_the_real_catalog() {
    let mut on = Committing::new();
    on.commit(append(0, 3)).await.unwrap();
    let first = on.blocks(1).await;
    assert_eq!(first.iter().map(|block| block.row_begin).collect::<Vec<_>>(), [0, 10, 20]);
    let positions = |at: u32| {
        let mut bytes = Vec::new();
        RoaringBitmap::from_iter([at]).serialize_into(&mut bytes).unwrap();
        bytes
    };
    let delete = |at| api::CommitVersionRequest {
        mode: api::CommitMode::Merge.into(),
        deletions: vec![api::BlockDeletion {
            block_id: first[0].id.clone(),
            deletion_revision: 0,
            positions: positions(at),
        }],
        unnamed: true,
        ..append(1, 0)
    };
    let merged = on.commit(delete(4)).await.unwrap();
    assert_eq!((merged.snapshot, merged.version), (2, None));
    assert_eq!(on.commit(delete(5)).await.unwrap_err().reason_text(), "BLOCK_TOUCHED");
    on.commit(append(1, 1)).await.unwrap();
    let checked = api::CommitVersionRequest { keys_checked: true, ..append(2, 1) };
    assert_eq!(on.commit(checked).await.unwrap_err().reason_text(), "HEAD_MOVED");
    let overwrite =
        api::CommitVersionRequest { mode: api::CommitMode::Overwrite.into(), ..append(2, 1) };
    assert_eq!(on.commit(overwrite).await.unwrap_err().reason_text(), "HEAD_MOVED");
    let moved = api::CommitVersionRequest {
        watermark: Some(api::WatermarkMove { from: 7, to: 8 }),
        ..append(3, 0)
    };
    assert_eq!(on.commit(moved).await.unwrap_err().reason_text(), "HEAD_MOVED");
    assert_eq!((on.blocks(1).await, on.blocks(2).await[0].deleted_count), (first, 1));

    let again = api::CommitVersionRequest {
        mode: api::CommitMode::Rollback.into(),
        rollback_snapshot: 1,
        ..append(3, 0)
    };
    let again = on.commit(again).await.unwrap();
    assert_eq!(again.version.map(|version| (version.number, version.row_count)), Some((3, 30)));
    assert_eq!(on.blocks(4).await[0].deletion_revision, 4);
}

#[tokio::test]
async fn an_upload_commits_once_and_not_after_it_was_given_up() {
    let mut on = Committing::new();
    let keyed = |hash: u8| api::CommitVersionRequest {
        idempotency_key: "k".into(),
        body_hash: vec![hash],
        ..append(0, 1)
    };
    let upload_id = on.upload().await;
    let request = api::CommitVersionRequest { upload_id, ..append(0, 1) };
    on.catalog.calls.lose_answers("CommitVersion", 1);
    let lost = on.manifest.commit_version(request.clone()).await.unwrap_err();
    assert_eq!(ServiceError::from(lost).code(), Code::Unavailable);
    let answer = on.manifest.commit_version(request).await.unwrap().into_inner();
    assert_eq!((answer.snapshot, answer.replayed), (1, true));
    assert!(!on.commit(keyed(1)).await.unwrap().replayed);
    assert!(on.commit(keyed(1)).await.unwrap().replayed);
    assert_eq!(on.commit(keyed(2)).await.unwrap_err().reason_text(), "IDEMPOTENCY_KEY_REUSED");

    let given_up = on.upload().await;
    let settle = api::SettleUploadRequest { upload_id: given_up.clone() };
    assert!(!on.manifest.settle_upload(settle).await.unwrap().into_inner().committed);
    let late = api::CommitVersionRequest { upload_id: given_up.clone(), ..append(2, 1) };
    let late = ServiceError::from(on.manifest.commit_version(late).await.unwrap_err());
    assert_eq!(late.reason_text(), "UPLOAD_ABORTED");
    let sweep = api::SweepUploadsRequest::default();
    let swept = on.manifest.sweep_uploads(sweep).await.unwrap().into_inner().uploads;
    assert!(swept.iter().any(|upload| upload.upload_id == given_up));
    let upload_ids = swept.into_iter().map(|upload| upload.upload_id).collect();
    on.manifest.confirm_swept(api::ConfirmSweptRequest { upload_ids }).await.unwrap();
    assert_eq!((on.catalog.abandoned_uploads(), on.catalog.open_uploads()), (0, 1));
}

#[tokio::test]
async fn what_is_deleted_is_purged_and_its_objects_are_garbage() {
    let mut on = Committing::new();
    on.commit(append(0, 1)).await.unwrap();
    let object_key = on.blocks(1).await[0].object_key.clone();
    let mut garbage = GarbageServiceClient::new(on.catalog.transport());
    let object = |object_key: &str, dataset: &str| api::ListedObject {
        dataset_id: dataset.into(),
        object_key: object_key.into(),
        ..Default::default()
    };
    let judge = api::JudgeObjectsRequest {
        objects: vec![
            object(&object_key, &on.dataset),
            object("stray", &on.dataset),
            object("stray", "another"),
        ],
    };
    let verdicts = garbage.judge_objects(judge).await.unwrap().into_inner().verdicts;
    use api::Verdict::{Garbage, Kept, Unknown};
    assert_eq!(verdicts, [Kept, Garbage, Unknown].map(i32::from));
    let mut namespaces = NamespacesServiceClient::new(on.catalog.transport());
    let delete = api::DeleteNamespaceRequest { name: "n".into() };
    let used = namespaces.delete_namespace(delete.clone()).await.unwrap_err();
    assert_eq!(ServiceError::from(used).reason_text(), "NAMESPACE_NOT_EMPTY");
    let mut datasets = DatasetsServiceClient::new(on.catalog.transport());
    let dataset = api::DeleteDatasetRequest { namespace: "n".into(), name: "d".into() };
    datasets.delete_dataset(dataset).await.unwrap();
    let id = on.catalog.namespace("n").to_string();
    namespaces.delete_namespace(delete).await.unwrap();
    let namespace_ids = vec![id, on.catalog.namespace("n").to_string(), on.dataset.clone()];
    let judge = api::JudgeNamespacesRequest { namespace_ids };
    let judged = garbage.judge_namespaces(judge).await.unwrap().into_inner().namespaces;
    let verdicts: Vec<_> = judged.iter().map(api::NamespaceStanding::verdict).collect();
    assert_eq!(verdicts, [Garbage, Kept, Unknown], "a name is given anew, an id is not");
    let purged = garbage.purge_datasets(api::PurgeDatasetsRequest::default()).await.unwrap();
    let dataset_ids = purged.into_inner().dataset_ids;
    assert_eq!(dataset_ids, [on.dataset.clone()]);
    let list = api::ListDoomedRequest::default();
    assert_eq!(garbage.list_doomed(list).await.unwrap().into_inner().dataset_ids, dataset_ids);
    let gone = api::ConfirmGoneRequest { dataset_ids, ..Default::default() };
    garbage.confirm_gone(gone).await.unwrap();
    assert!(garbage.list_doomed(list).await.unwrap().into_inner().dataset_ids.is_empty());
}
