//! Uploads: leased, given up, swept.

use service_error::Code;

use super::*;

async fn with_upload(house: &House) -> (Who, String, String) {
    let ana = Who::user();
    house.namespace(&ana, "vision").await;
    let dataset = house.dataset(&ana, "vision", "icons").await.id;
    let upload = house.open_upload(&ana, by_id(&dataset)).await.unwrap().upload_id;
    (ana, dataset, upload)
}

async fn sweep(house: &House) -> Vec<String> {
    let request = house.by(&Who::service(ITEM_STORE), wire::SweepUploadsRequest::default());
    let swept = house.manifest().sweep_uploads(request).await.unwrap().into_inner();
    swept.uploads.into_iter().map(|upload| upload.upload_id).collect()
}

async fn renew(house: &House, who: &Who, upload: &str) -> Result<(), ServiceError> {
    let request = wire::RenewUploadRequest { upload_id: upload.into() };
    house.manifest().renew_upload(house.by(&who.via(ITEM_STORE), request)).await?;
    Ok(())
}

async fn abort(house: &House, who: &Who, upload: &str) -> Result<(), ServiceError> {
    let request = wire::AbortUploadRequest { upload_id: upload.into() };
    house.manifest().abort_upload(house.by(&who.via(ITEM_STORE), request)).await?;
    Ok(())
}

#[tokio::test]
async fn an_expired_upload_is_swept_and_its_late_commit_fails() {
    let at_once = Settings { upload_lease_seconds: 0, ..Settings::default() };
    in_each_house_with(at_once, async |house| {
        let (ana, dataset, upload) = with_upload(&house).await;
        assert_eq!(sweep(&house).await, std::slice::from_ref(&upload));
        let late = house.commit(&ana, Put::append(&[1]).request(&upload, 0)).await.unwrap_err();
        assert_eq!((late.code(), late.reason_text()), (Code::FailedPrecondition, "UPLOAD_ABORTED"));
        assert_eq!(renew(&house, &ana, &upload).await.unwrap_err().reason_text(), "UPLOAD_ABORTED");
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().snapshot, 0);

        // Named until its objects are gone.
        assert_eq!(sweep(&house).await, std::slice::from_ref(&upload));
        let gone = wire::ConfirmSweptRequest { upload_ids: vec![upload] };
        house.manifest().confirm_swept(house.by(&Who::service(ITEM_STORE), gone)).await.unwrap();
        assert!(sweep(&house).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_upload_within_its_lease_is_left_alone_and_a_committed_one_for_good() {
    in_each_house(async |house| {
        let (ana, _, upload) = with_upload(&house).await;
        assert!(sweep(&house).await.is_empty());
        renew(&house, &ana, &upload).await.unwrap();
        house.commit(&ana, Put::append(&[1]).request(&upload, 0)).await.unwrap();
        assert!(sweep(&house).await.is_empty());
        assert_eq!(
            abort(&house, &ana, &upload).await.unwrap_err().reason_text(),
            "UPLOAD_COMMITTED"
        );
        assert_eq!(
            renew(&house, &ana, &upload).await.unwrap_err().reason_text(),
            "UPLOAD_COMMITTED"
        );
        let confirm = wire::ConfirmSweptRequest { upload_ids: vec![upload.clone()] };
        house.manifest().confirm_swept(house.by(&Who::service(ITEM_STORE), confirm)).await.unwrap();
        let found = house.store.find_upload(upload.parse().unwrap()).await.unwrap();
        assert_eq!(found.state, crate::model::UploadState::Committed);
    })
    .await;
}

#[tokio::test]
async fn a_given_up_upload_is_swept_without_waiting() {
    in_each_house(async |house| {
        let (ana, _, upload) = with_upload(&house).await;
        abort(&house, &ana, &upload).await.unwrap();
        abort(&house, &ana, &upload).await.unwrap();
        assert_eq!(sweep(&house).await, [upload]);
    })
    .await;
}

#[tokio::test]
async fn an_upload_belongs_to_who_opened_it() {
    in_each_house(async |house| {
        let (ana, dataset, upload) = with_upload(&house).await;
        let eve = Who::admin();
        assert_eq!(renew(&house, &eve, &upload).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(abort(&house, &eve, &upload).await.unwrap_err().code(), Code::NotFound);
        let stolen = house.commit(&eve, Put::append(&[1]).request(&upload, 0)).await.unwrap_err();
        assert_eq!(stolen.code(), Code::NotFound);
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().snapshot, 0);
    })
    .await;
}

#[tokio::test]
async fn of_a_sweep_and_a_commit_one_wins() {
    let at_once = Settings { upload_lease_seconds: 0, ..Settings::default() };
    in_each_house_with(at_once, async |house| {
        let (ana, dataset, _) = with_upload(&house).await;
        for round in 1..=10 {
            let upload = house.open_upload(&ana, by_id(&dataset)).await.unwrap();
            let base = upload.head.unwrap().snapshot;
            let request = Put::append(&[1]).request(&upload.upload_id, base);
            let (swept, committed) = tokio::join!(sweep(&house), house.commit(&ana, request));
            assert_ne!(swept.contains(&upload.upload_id), committed.is_ok(), "round {round}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_commit_to_a_deleted_dataset_fails() {
    in_each_house(async |house| {
        let (ana, _, upload) = with_upload(&house).await;
        let delete =
            wire::DeleteDatasetRequest { namespace: "vision".into(), name: "icons".into() };
        house.datasets().delete_dataset(house.by(&ana, delete)).await.unwrap();
        let late = house.commit(&ana, Put::append(&[1]).request(&upload, 0)).await.unwrap_err();
        assert_eq!(late.code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_retry_under_a_new_upload_gives_that_one_up() {
    in_each_house(async |house| {
        let (ana, dataset, first) = with_upload(&house).await;
        let put = Put { key: "k", body: b"b", ..Put::append(&[1]) };
        house.commit(&ana, put.request(&first, 0)).await.unwrap();
        let second = house.open_upload(&ana, by_id(&dataset)).await.unwrap().upload_id;
        assert!(house.commit(&ana, put.request(&second, 0)).await.unwrap().replayed);
        assert_eq!(sweep(&house).await, [second], "its blocks are garbage");
    })
    .await;
}

#[tokio::test]
async fn old_keys_and_swept_uploads_are_forgotten() {
    let at_once = Settings { upload_lease_seconds: 0, ..Settings::default() };
    in_each_house_with(at_once, async |house| {
        let (ana, dataset, _) = with_upload(&house).await;
        let put = Put { key: "k", body: b"b", ..Put::append(&[1]) };
        house.put(&ana, &dataset, put.clone()).await.unwrap();
        let now = sql_store::now_micros();
        house.store.forget_old(now, now).await.unwrap();
        assert!(house.put(&ana, &dataset, put.clone()).await.unwrap().replayed, "within its days");
        let in_eight_days = now + 8 * 24 * 3_600 * 1_000_000;
        house.store.forget_old(in_eight_days, now).await.unwrap();
        assert!(!house.put(&ana, &dataset, put).await.unwrap().replayed);
    })
    .await;
}
