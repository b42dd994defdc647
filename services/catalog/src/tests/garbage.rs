//! The end of snapshots, datasets and objects that nothing names.

use service_error::Code;

use super::merges::{deletion, merge, removal, unnamed, with_rows};
use super::*;

fn without_leases() -> Settings {
    Settings { snapshot_lease_seconds: 0, deleted_retention_seconds: 0, ..Settings::default() }
}

impl House {
    async fn expire(&self) -> (i64, i64) {
        let (mut after, mut total) = (String::new(), (0, 0));
        loop {
            let request = wire::ExpireSnapshotsRequest { after_dataset_id: after, page_size: 1 };
            let request = self.by(&Who::service(ITEM_STORE), request);
            let expired = self.garbage().expire_snapshots(request).await.unwrap().into_inner();
            total = (total.0 + expired.snapshots, total.1 + expired.blocks);
            after = expired.last_dataset_id;
            if after.is_empty() {
                return total;
            }
        }
    }

    async fn doomed(&self) -> (Vec<String>, Vec<String>) {
        let request = self.by(&Who::service(ITEM_STORE), wire::ListDoomedRequest::default());
        let doomed = self.garbage().list_doomed(request).await.unwrap().into_inner();
        (doomed.object_keys, doomed.dataset_ids)
    }

    async fn gone(&self, (object_keys, dataset_ids): (Vec<String>, Vec<String>)) {
        let request = wire::ConfirmGoneRequest { object_keys, dataset_ids };
        self.garbage().confirm_gone(self.by(&Who::service(ITEM_STORE), request)).await.unwrap();
    }

    async fn purge(&self) -> Vec<String> {
        let request = self.by(&Who::service(ITEM_STORE), wire::PurgeDatasetsRequest::default());
        self.garbage().purge_datasets(request).await.unwrap().into_inner().dataset_ids
    }

    async fn judge(&self, objects: Vec<wire::ListedObject>) -> Vec<wire::Verdict> {
        let request = self.by(&Who::service(ITEM_STORE), wire::JudgeObjectsRequest { objects });
        let judged = self.garbage().judge_objects(request).await.unwrap().into_inner();
        assert_eq!(judged.upload_lease_seconds, 600);
        judged.verdicts().collect()
    }

    async fn find(
        &self,
        who: &Who,
        dataset: &str,
        (key, body): (&str, &[u8]),
    ) -> Result<Option<wire::CommitVersionResponse>, ServiceError> {
        let request = wire::FindCommitRequest {
            dataset_id: dataset.into(),
            idempotency_key: key.into(),
            body_hash: body.to_vec(),
        };
        let found = self.manifest().find_commit(self.by(&who.via(ITEM_STORE), request)).await?;
        Ok(found.into_inner().commit)
    }
}

#[tokio::test]
async fn snapshots_that_are_no_version_go_with_what_only_they_saw() {
    in_each_house_with(without_leases(), async |house| {
        let (ana, dataset) = with_rows(&house, &[10, 20]).await;
        let first = house.blocks(&ana, &dataset, 1, 0).await;
        // 2: rows go; 3: a block is written anew; 4: it is written anew again; 5: rows go.
        let change = unnamed(vec![deletion(&first[0], &[3])]);
        merge(&house, &ana, &dataset, 1, change).await.unwrap();
        for base in [2, 3] {
            let now = house.blocks(&ana, &dataset, base, 0).await;
            let rewritten = now.iter().find(|block| block.row_count != 20).unwrap();
            let change = wire::CommitVersionRequest {
                removals: vec![removal(rewritten)],
                blocks: vec![block("", 9)],
                ..unnamed(Vec::new())
            };
            merge(&house, &ana, &dataset, base, change).await.unwrap();
        }
        let now = house.blocks(&ana, &dataset, 4, 0).await;
        let middle = house.blocks(&ana, &dataset, 3, 0).await;
        let middle = middle.iter().find(|block| block.row_count == 9).unwrap();
        merge(&house, &ana, &dataset, 4, unnamed(vec![deletion(&now[0], &[0])])).await.unwrap();
        let head = house.head(&ana, &dataset, None).await.unwrap();
        let seen = house.blocks(&ana, &dataset, 5, 0).await;

        assert_eq!(house.expire().await, (3, 1), "2, 3 and 4; the block that only 3 saw");
        assert_eq!(house.expire().await, (0, 0), "once");
        assert_eq!(house.doomed().await.0, std::slice::from_ref(&middle.object_key));
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap(), head);
        assert_eq!(house.blocks(&ana, &dataset, 5, 0).await, seen, "the head is what it was");
        assert_eq!(house.blocks(&ana, &dataset, 1, 0).await, first, "and so is the version");
        let gone = house.head(&ana, &dataset, Some(3)).await.unwrap_err();
        assert_eq!((gone.code(), gone.reason_text()), (Code::FailedPrecondition, "SNAPSHOT_GONE"));
        assert!(gone.message().contains("snapshot 3 of vision/icons"), "{gone}");
        let never = house.head(&ana, &dataset, Some(6)).await.unwrap_err();
        assert_eq!(never.code(), Code::NotFound);

        // Later commits go on from the same revisions, and back to the version.
        let change = unnamed(vec![deletion(&seen[0], &[1])]);
        assert_eq!(merge(&house, &ana, &dataset, 5, change).await.unwrap().snapshot, 6);
        let back = wire::CommitVersionRequest {
            mode: wire::CommitMode::Rollback.into(),
            rollback_snapshot: 1,
            ..Default::default()
        };
        merge(&house, &ana, &dataset, 6, back).await.unwrap();
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().row_count, 30);
        house.gone(house.doomed().await).await;
        assert_eq!(house.doomed().await, (Vec::new(), Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_outlives_its_replacement_by_the_lease() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10]).await;
        for base in 1..4 {
            let now = house.blocks(&ana, &dataset, base, 0).await;
            let row = u32::try_from(base).unwrap();
            merge(&house, &ana, &dataset, base, unnamed(vec![deletion(&now[0], &[row])]))
                .await
                .unwrap();
        }
        assert_eq!(house.expire().await, (0, 0));
        assert_eq!(house.head(&ana, &dataset, Some(2)).await.unwrap().row_count, 9);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_dataset_leaves_its_id_and_nothing_else() {
    in_each_house_with(without_leases(), async |house| {
        let (ana, dataset) = with_rows(&house, &[10, 20]).await;
        house.put(&ana, &dataset, Put { key: "k", ..Put::append(&[5]) }).await.unwrap();
        let open = house.open_upload(&ana, by_id(&dataset)).await.unwrap().upload_id;
        assert!(house.purge().await.is_empty(), "a live one stays");
        let request =
            wire::DeleteDatasetRequest { namespace: "vision".into(), name: "icons".into() };
        house.datasets().delete_dataset(house.by(&ana, request)).await.unwrap();
        assert_eq!(house.purge().await, std::slice::from_ref(&dataset));
        assert!(house.purge().await.is_empty(), "once");
        assert_eq!(house.doomed().await.1, std::slice::from_ref(&dataset));
        let late = house.commit(&ana, Put::append(&[1]).request(&open, 0)).await.unwrap_err();
        assert_eq!(late.code(), Code::NotFound);
        let key = format!("{dataset}/{open}/x.parquet");
        let object = |upload: &str| wire::ListedObject {
            dataset_id: dataset.clone(),
            upload_id: upload.into(),
            object_key: key.clone(),
        };
        let unheard_of = ids::UploadId::new().to_string();
        let verdicts = house.judge(vec![object(&open), object(&unheard_of)]).await;
        assert_eq!(verdicts, [wire::Verdict::Garbage, wire::Verdict::Garbage]);
        house.gone(house.doomed().await).await;
        assert!(house.doomed().await.1.is_empty());
        assert_ne!(house.dataset(&ana, "vision", "icons").await.id, dataset, "the name is free");
    })
    .await;
}

#[tokio::test]
async fn only_what_nothing_can_name_is_garbage() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10]).await;
        let listed = |upload: &str, key: &str| wire::ListedObject {
            dataset_id: dataset.clone(),
            upload_id: upload.into(),
            object_key: key.into(),
        };
        let live = house.blocks(&ana, &dataset, 1, 0).await[0].object_key.clone();
        let committed = live.split('/').nth(1).unwrap().to_owned();
        let open = house.open_upload(&ana, by_id(&dataset)).await.unwrap().upload_id;
        let unheard_of = ids::UploadId::new().to_string();
        let elsewhere = wire::ListedObject {
            dataset_id: ids::DatasetId::new().to_string(),
            ..listed(&unheard_of, "x")
        };
        let objects = vec![
            listed(&committed, &live),
            listed(&committed, "left over of an earlier try"),
            listed(&open, "yet to be committed"),
            listed(&unheard_of, "forgotten long ago"),
            elsewhere,
            wire::ListedObject {
                dataset_id: ids::DatasetId::new().to_string(),
                ..listed(&committed, "not where the upload is")
            },
        ];
        use wire::Verdict::{Garbage, Kept, Unknown};
        assert_eq!(house.judge(objects).await, [Kept, Garbage, Kept, Garbage, Unknown, Unknown]);
        let mine = house.by(&ana, wire::JudgeObjectsRequest::default());
        let refused = house.garbage().judge_objects(mine).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    })
    .await;
}

#[tokio::test]
async fn a_commit_is_found_by_its_key_and_by_nobody_else() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10]).await;
        let put = Put { key: "once", body: b"rows", ..Put::append(&[5]) };
        let done = house.put(&ana, &dataset, put).await.unwrap();
        let found = house.find(&ana, &dataset, ("once", b"rows")).await.unwrap().unwrap();
        assert!(found.replayed);
        assert_eq!((found.version, found.snapshot), (done.version, done.snapshot));
        let other = house.find(&ana, &dataset, ("once", b"others")).await.unwrap_err();
        assert_eq!(other.reason_text(), "IDEMPOTENCY_KEY_REUSED");
        assert_eq!(house.find(&ana, &dataset, ("never", b"rows")).await.unwrap(), None);
        assert_eq!(house.find(&ana, &dataset, ("", b"")).await.unwrap(), None);
        let stranger = Who::user();
        let hidden = house.find(&stranger, &dataset, ("once", b"rows")).await.unwrap_err();
        assert_eq!(hidden.code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_was_deleted_is_known_from_one_that_never_was() {
    use wire::Verdict::{Garbage, Kept, Unknown};
    in_each_house(async |house| {
        let ana = Who::user();
        let made = async |name: &str| {
            let request = wire::CreateNamespaceRequest { name: name.into(), ..Default::default() };
            let made = house.namespaces().create_namespace(house.by(&ana, request)).await.unwrap();
            made.into_inner().namespace.unwrap().id
        };
        let (kept, gone) = (made("kept").await, made("gone").await);
        let delete = wire::DeleteNamespaceRequest { name: "gone".into() };
        house.namespaces().delete_namespace(house.by(&ana, delete)).await.unwrap();
        let again = made("gone").await;
        let unheard_of = ids::NamespaceId::new().to_string();
        let ids = vec![gone, kept, unheard_of, again];
        let request = wire::JudgeNamespacesRequest { namespace_ids: ids.clone() };
        let asked = house.by(&Who::service("model-registry"), request.clone());
        let judged = house.garbage().judge_namespaces(asked).await.unwrap().into_inner();
        let verdicts: Vec<_> = judged.namespaces.iter().map(|one| one.verdict()).collect();
        assert_eq!(verdicts, [Garbage, Kept, Unknown, Kept], "the name is another's now");
        let timed: Vec<_> = judged.namespaces.iter().map(|one| one.delete_time.is_some()).collect();
        assert_eq!(timed, [true, false, false, false]);
        let refused = house.garbage().judge_namespaces(house.by(&ana, request)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        let many = wire::JudgeNamespacesRequest { namespace_ids: vec![ids[1].clone(); 1_001] };
        let asked = house.by(&Who::service("model-registry"), many);
        let refused: ServiceError =
            house.garbage().judge_namespaces(asked).await.unwrap_err().into();
        assert_eq!(refused.field_name(), Some("namespace_ids"));
    })
    .await;
}
