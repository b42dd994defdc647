//! The same rows on both databases.

#![allow(clippy::unwrap_used, reason = "tests")]

use ids::{DatasetId, PrincipalId, UploadId};
use service_error::Code;
use sql_store::testing::databases;

use super::{Media, Store, Upload, migration_status, revert};

async fn stores() -> (tempfile::TempDir, Vec<(sql_store::SqlSettings, Store)>) {
    let dir = tempfile::tempdir().unwrap();
    let mut stores = Vec::new();
    for settings in databases(dir.path()).await.unwrap() {
        let store = Store::open(&settings, "memory://").await.unwrap();
        store.migrate().await.unwrap();
        stores.push((settings, store));
    }
    (dir, stores)
}

#[tokio::test]
async fn migrations_go_up_down_and_up() {
    let (_dir, stores) = stores().await;
    for (settings, store) in stores {
        revert(&settings, None).await.unwrap();
        assert!(migration_status(&settings).await.unwrap().iter().all(|m| !m.applied));
        store.migrate().await.unwrap();
        assert!(migration_status(&settings).await.unwrap().iter().all(|m| m.applied));
    }
}

#[tokio::test]
async fn replicas_that_rotate_at_once_agree_on_one_key() {
    let (_dir, stores) = stores().await;
    for (_, store) in stores {
        let rings =
            futures::future::try_join_all((0..4).map(|_| store.rotate_keys())).await.unwrap();
        let sealed = rings[0].seal("ticket", &7).unwrap();
        for ring in &rings {
            assert_eq!(ring.open::<i32>("ticket", &sealed), Ok(7));
        }
        assert_eq!(store.key_ring().await.unwrap().open::<i32>("ticket", &sealed), Ok(7));
    }
}

#[tokio::test]
async fn media_come_and_go_with_their_upload() {
    let (_dir, stores) = stores().await;
    for (_, store) in stores {
        let (dataset, principal) = (DatasetId::new(), PrincipalId::new());
        let upload = Upload { id: UploadId::new(), dataset, principal, address: "a/b".into() };
        store.add_upload(&upload).await.unwrap();
        assert_eq!(store.upload(upload.id, principal).await.unwrap(), upload);
        let other = store.upload(upload.id, PrincipalId::new()).await.unwrap_err();
        assert_eq!(other.code(), Code::NotFound);
        let media = Media {
            dataset,
            content_hash: [7; 32],
            upload: upload.id,
            byte_count: 3,
            mime_type: "image/png".into(),
            committed: false,
        };
        store.add_media(&media).await.unwrap();
        store.add_media(&media).await.unwrap();
        assert_eq!(store.media(dataset, &[7; 32]).await.unwrap(), std::slice::from_ref(&media));
        store.commit_media(upload.id).await.unwrap();
        assert!(store.media(dataset, &[7; 32]).await.unwrap()[0].committed);
        store.forget_uploads(&[upload.id]).await.unwrap();
        assert!(store.media(dataset, &[7; 32]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn of_two_replicas_one_does_the_work_until_its_lease_ends() {
    const LONG: i64 = 60_000_000;
    let (_dir, stores) = stores().await;
    for (_, store) in stores {
        let ours = store.take_lease("flush:a", LONG).await.unwrap().unwrap();
        assert_eq!(store.take_lease("flush:a", LONG).await.unwrap(), None);
        assert!(store.take_lease("flush:b", LONG).await.unwrap().is_some(), "other work");
        assert!(store.renew_lease(&ours, -1).await.unwrap(), "and so it has ended");
        let theirs = store.take_lease("flush:a", LONG).await.unwrap().unwrap();
        assert!(theirs.epoch > ours.epoch);
        assert!(!store.renew_lease(&ours, LONG).await.unwrap(), "a lower epoch is refused");
        store.end_lease(&ours).await.unwrap();
        assert_eq!(store.take_lease("flush:a", LONG).await.unwrap(), None, "it ends its own only");
        store.end_lease(&theirs).await.unwrap();
        store.forget_leases(sql_store::now_micros()).await.unwrap();
        assert!(store.take_lease("flush:a", LONG).await.unwrap().is_some());
        assert_eq!(store.take_lease("flush:b", LONG).await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_many_that_ask_at_once_one_gets_the_lease() {
    let (_dir, stores) = stores().await;
    for (_, store) in stores {
        let asked = (0..8).map(|_| store.take_lease("compact", 60_000_000));
        let got = futures::future::try_join_all(asked).await.unwrap();
        assert_eq!(got.iter().flatten().count(), 1);
    }
}

#[tokio::test]
async fn what_is_left_of_a_dataset_is_told_and_forgotten() {
    let (_dir, stores) = stores().await;
    for (_, store) in stores {
        let (dataset, principal) = (DatasetId::new(), PrincipalId::new());
        let upload = Upload { id: UploadId::new(), dataset, principal, address: "a/b".into() };
        store.add_upload(&upload).await.unwrap();
        let media = Media {
            dataset,
            content_hash: [7; 32],
            upload: upload.id,
            byte_count: 3,
            mime_type: "image/png".into(),
            committed: true,
        };
        store.add_media(&media).await.unwrap();
        let uploads = [upload.id, UploadId::new()].into();
        assert_eq!(store.media_keys(&uploads).await.unwrap(), [media.object_key()].into());
        let hashes = [vec![7; 32], vec![8; 32]];
        assert_eq!(store.known_hashes(&hashes).await.unwrap(), [vec![7; 32]].into());
        store.forget_dataset(dataset).await.unwrap();
        assert!(store.media_keys(&uploads).await.unwrap().is_empty());
        assert!(store.known_hashes(&hashes).await.unwrap().is_empty());
        assert_eq!(store.upload(upload.id, principal).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn saved_filters_have_one_name_and_one_writer_at_a_time() {
    let (_dir, stores) = stores().await;
    for (_, store) in stores {
        let (dataset, other, by) = (DatasetId::new(), DatasetId::new(), PrincipalId::new());
        let wide = store.add_filter(dataset, by, ("wide", "width > 1", "")).await.unwrap();
        let again = store.add_filter(dataset, by, ("wide", "width > 2", "")).await.unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists);
        store.add_filter(other, by, ("wide", "width > 3", "")).await.unwrap();
        store.add_filter(dataset, by, ("Games", "section = 'games'", "all")).await.unwrap();
        let names = ["wide".to_owned(), "gone".to_owned()];
        let texts = store.saved_texts(dataset, &names).await.unwrap();
        assert_eq!(texts, [("wide".to_owned(), "width > 1".to_owned())].into());
        let listed = store.saved_filters(dataset, "", 10).await.unwrap();
        assert_eq!(listed.len(), 2);
        let rest = store.saved_filters(dataset, &listed[0].name, 10).await.unwrap();
        assert_eq!(rest, listed[1..], "the next page begins after a name");
        let changed = store.change_filter(dataset, wide.clone()).await.unwrap().unwrap();
        assert_eq!(changed.revision, 2);
        assert_eq!(store.change_filter(dataset, wide).await.unwrap(), None, "a revision behind");
        store.forget_filter(dataset, "wide").await.unwrap();
        let gone = store.forget_filter(dataset, "wide").await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
        store.forget_dataset(dataset).await.unwrap();
        assert!(store.saved_filters(dataset, "", 10).await.unwrap().is_empty());
        assert_eq!(store.saved_filter(other, "wide").await.unwrap().filter, "width > 3");
    }
}
