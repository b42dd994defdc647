//! Commits: moved, refused, repeated, raced.

use futures::future::join_all;
use service_error::Code;

use super::merges::merge;
use super::*;

async fn with_dataset(house: &House) -> (Who, String) {
    let ana = Who::user();
    house.namespace(&ana, "vision").await;
    let dataset = house.dataset(&ana, "vision", "icons").await;
    (ana, dataset.id)
}

#[tokio::test]
async fn versions_are_numbered_and_carry_totals_and_parents() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        let first =
            house.put(&ana, &dataset, Put::append(&[10, 20])).await.unwrap().version.unwrap();
        assert_eq!((first.number, first.parent, first.row_count, first.block_count), (1, 0, 30, 2));
        let second = house.put(&ana, &dataset, Put::append(&[5])).await.unwrap().version.unwrap();
        assert_eq!(
            (second.number, second.parent, second.row_count, second.block_count),
            (2, 1, 35, 3)
        );
        let third = house.put(&ana, &dataset, Put::overwrite(&[7])).await.unwrap().version.unwrap();
        assert_eq!((third.number, third.parent, third.row_count, third.block_count), (3, 2, 7, 1));
        assert_eq!(third.author, ana.principal.to_string());
        assert_eq!(house.get(&ana, "vision", "icons").await.unwrap().latest.unwrap(), third);

        let request = wire::ListVersionsRequest {
            namespace: "vision".into(),
            dataset: "icons".into(),
            page_size: 2,
            ..Default::default()
        };
        let page = house
            .datasets()
            .list_versions(house.by(&ana, request.clone()))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(page.versions, [third, second]);
        let request = wire::ListVersionsRequest { page_token: page.next_page_token, ..request };
        let page =
            house.datasets().list_versions(house.by(&ana, request)).await.unwrap().into_inner();
        assert_eq!((page.versions, page.next_page_token.as_str()), (vec![first], ""));
    })
    .await;
}

#[tokio::test]
async fn an_append_moves_onto_a_later_head_unless_its_keys_were_compared() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();

        let moved =
            house.put(&ana, &dataset, Put { base: Some(1), ..Put::append(&[1]) }).await.unwrap();
        assert_eq!(moved.version.unwrap().row_count, 3);

        let stale = Put { base: Some(1), keys_checked: true, ..Put::append(&[1]) };
        let refused = house.put(&ana, &dataset, stale).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason_text()), (Code::Conflict, "HEAD_MOVED"));
        assert_eq!(refused.detail("head_snapshot"), Some("3"));

        // A later head that added nothing (an emptied dataset) is no conflict.
        house.put(&ana, &dataset, Put::overwrite(&[])).await.unwrap();
        let fits = Put { base: Some(3), keys_checked: true, ..Put::append(&[4]) };
        assert_eq!(house.put(&ana, &dataset, fits).await.unwrap().version.unwrap().row_count, 4);
    })
    .await;
}

#[tokio::test]
async fn an_overwrite_is_never_moved() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();
        let upload = house.open_upload(&ana, by_id(&dataset)).await.unwrap();
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();
        let stale = Put::overwrite(&[9]).request(&upload.upload_id, upload.head.unwrap().snapshot);
        let refused = house.commit(&ana, stale.clone()).await.unwrap_err();
        assert_eq!(refused.reason_text(), "HEAD_MOVED");
        // Computed again, the same upload may still commit.
        let again = wire::CommitVersionRequest { base_snapshot: 2, ..stale };
        assert_eq!(house.commit(&ana, again).await.unwrap().version.unwrap().row_count, 9);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_commit_answers_what_the_first_did() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        let put = Put { key: "k1", body: b"hash", ..Put::append(&[3]) };
        let first = house.put(&ana, &dataset, put.clone()).await.unwrap();
        assert!(!first.replayed);
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();

        let again = house.put(&ana, &dataset, put.clone()).await.unwrap();
        assert_eq!((again.version, again.replayed), (first.version.clone(), true));
        assert_eq!(
            house.head(&ana, &dataset, None).await.unwrap().row_count,
            4,
            "nothing was added twice"
        );

        let other =
            house.put(&ana, &dataset, Put { body: b"other", ..put.clone() }).await.unwrap_err();
        assert_eq!(other.reason_text(), "IDEMPOTENCY_KEY_REUSED");
        assert_eq!(other.field_name(), Some("idempotency_key"));
        let elsewhere = house.dataset(&ana, "vision", "other").await;
        assert!(
            !house.put(&ana, &elsewhere.id, put).await.unwrap().replayed,
            "a key is of one dataset"
        );
    })
    .await;
}

#[tokio::test]
async fn a_commit_of_a_committed_upload_is_a_repetition_without_any_key() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        let upload = house.open_upload(&ana, by_id(&dataset)).await.unwrap();
        let request = Put::append(&[3]).request(&upload.upload_id, 0);
        let first = house.commit(&ana, request.clone()).await.unwrap();
        let again = house.commit(&ana, request).await.unwrap();
        assert_eq!((again.version, again.replayed), (first.version, true));
    })
    .await;
}

#[tokio::test]
async fn the_first_commit_can_make_its_dataset() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let upload = house.open_upload(&ana, by_name("vision", "new")).await.unwrap();
        assert!(upload.head.is_none());
        assert_eq!(house.get(&ana, "vision", "new").await.unwrap_err().code(), Code::NotFound);

        let create = wire::NewDataset {
            namespace: "vision".into(),
            name: "new".into(),
            arrow_schema: table_schema(),
            ..Default::default()
        };
        let request = wire::CommitVersionRequest {
            create: Some(create),
            ..Put { key: "k", body: b"b", ..Put::append(&[3]) }.request(&upload.upload_id, 0)
        };
        let made = house.commit(&ana, request.clone()).await.unwrap();
        assert_eq!(made.dataset_id, upload.dataset_id);
        let dataset = house.get(&ana, "vision", "new").await.unwrap();
        assert_eq!((dataset.key_column.as_str(), dataset.latest.unwrap().row_count), ("id", 3));
        assert!(house.commit(&ana, request.clone()).await.unwrap().replayed);

        // The same put again, under an upload of its own.
        let retry = house.open_upload(&ana, by_name("vision", "new")).await.unwrap();
        let request = wire::CommitVersionRequest {
            blocks: vec![block(&retry.upload_id, 3)],
            upload_id: retry.upload_id,
            ..request
        };
        assert!(house.commit(&ana, request).await.unwrap().replayed);
    })
    .await;
}

#[tokio::test]
async fn of_two_commits_that_make_one_dataset_one_wins_and_nothing_is_half_made() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let create = wire::NewDataset {
            namespace: "vision".into(),
            name: "new".into(),
            arrow_schema: table_schema(),
            ..Default::default()
        };
        let request = async |broken: bool| {
            let upload = house.open_upload(&ana, by_name("vision", "new")).await.unwrap();
            let mut request =
                Put::append(&[3]).request(&upload.upload_id, if broken { 7 } else { 0 });
            request.create = Some(create.clone());
            request
        };
        let refused = house.commit(&ana, request(true).await).await.unwrap_err();
        assert_eq!(refused.field_name(), Some("base_snapshot"));
        assert_eq!(house.get(&ana, "vision", "new").await.unwrap_err().code(), Code::NotFound);

        let (one, two) = (request(false).await, request(false).await);
        let (one, two) = tokio::join!(house.commit(&ana, one), house.commit(&ana, two));
        let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
        won.unwrap();
        let lost = lost.unwrap_err();
        assert_eq!((lost.code(), lost.reason_text()), (Code::Conflict, "DATASET_EXISTS"));
        assert_eq!(house.get(&ana, "vision", "new").await.unwrap().latest.unwrap().row_count, 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_committers_lose_and_double_nothing() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        let commits =
            (0..16_i64).map(|n| {
                let (house, ana, dataset) = (&house, &ana, &dataset);
                async move {
                    house.put(ana, dataset, Put::append(&[n + 1])).await.unwrap().version.unwrap()
                }
            });
        let mut versions = join_all(commits).await;
        versions.sort_by_key(|version| version.number);
        let numbers: Vec<_> = versions.iter().map(|version| version.number).collect();
        assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
        assert!(versions.windows(2).all(|pair| pair[1].parent == pair[0].number));
        assert!(versions.windows(2).all(|pair| pair[1].snapshot > pair[0].snapshot));
        let head = house.head(&ana, &dataset, None).await.unwrap();
        assert_eq!((head.row_count, head.block_count, head.version), (136, 16, 16));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_overwrites_of_one_head_one_wins() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        let commits = (0..16)
            .map(|_| house.put(&ana, &dataset, Put { base: Some(0), ..Put::overwrite(&[2]) }));
        let (won, lost): (Vec<_>, Vec<_>) =
            join_all(commits).await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 15));
        for error in lost {
            assert_eq!(error.unwrap_err().reason_text(), "HEAD_MOVED");
        }
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().row_count, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_committed_sixteen_times_at_once_is_one_version() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        let put = Put { key: "once", body: b"b", ..Put::append(&[5]) };
        let commits = (0..16).map(|_| house.put(&ana, &dataset, put.clone()));
        let made: Vec<_> = join_all(commits).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(made.iter().filter(|commit| !commit.replayed).count(), 1);
        assert!(made.iter().all(|commit| commit.version == made[0].version));
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().row_count, 5);
    })
    .await;
}

#[tokio::test]
async fn blocks_that_lie_are_refused_and_nothing_stays() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        let upload = house.open_upload(&ana, by_id(&dataset)).await.unwrap();
        let good = Put::append(&[5, 5]).request(&upload.upload_id, 0);
        let foreign = ids::UploadId::new().to_string();
        let lies: [fn(&mut wire::Block); 4] = [
            |block| block.row_count = -1,
            |block| block.content_hash.clear(),
            |block| block.columns[0].column = "none".into(),
            |block| block.id = "x".into(),
        ];
        for lie in lies {
            let mut bent = good.clone();
            lie(&mut bent.blocks[1]);
            assert_eq!(house.commit(&ana, bent).await.unwrap_err().code(), Code::InvalidArgument);
        }
        let mut stolen = good.clone();
        stolen.blocks = vec![block(&foreign, 5)];
        assert_eq!(house.commit(&ana, stolen).await.unwrap_err().field_name(), Some("blocks"));
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().snapshot, 0);
        house.commit(&ana, good.clone()).await.unwrap();

        // Blocks of a committed upload can't be committed again under another.
        let second = house.open_upload(&ana, by_id(&dataset)).await.unwrap();
        let mut reused = Put::append(&[1]).request(&second.upload_id, 1);
        reused.blocks[0].id.clone_from(&good.blocks[0].id);
        assert_eq!(house.commit(&ana, reused).await.unwrap_err().field_name(), Some("blocks"));
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().row_count, 10);
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_looked_at_other_unique_columns_is_computed_again() {
    in_each_house(async |house| {
        let (ana, dataset) = with_dataset(&house).await;
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();
        let about = async || house.get(&ana, "vision", "icons").await.unwrap();
        let change = |columns: &[&str], declares_unique| wire::CommitVersionRequest {
            unique_columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            declares_unique,
            unnamed: true,
            ..Default::default()
        };
        for wrong in [&["none"][..], &["id"], &["n", "n"]] {
            let refused = merge(&house, &ana, &dataset, 1, change(wrong, true)).await.unwrap_err();
            assert_eq!(refused.field_name(), Some("unique_columns"), "{refused}");
        }
        merge(&house, &ana, &dataset, 1, change(&["n"], true)).await.unwrap();
        assert_eq!(about().await.unique_columns, ["n"]);
        // Even what would be moved onto a later head, and what knows that head.
        let before = house.put(&ana, &dataset, Put { base: Some(1), ..Put::append(&[1]) }).await;
        assert!(before.unwrap_err().reason_is("HEAD_MOVED"));
        let unaware = house.put(&ana, &dataset, Put::append(&[1])).await;
        assert!(unaware.unwrap_err().reason_is("HEAD_MOVED"));
        merge(&house, &ana, &dataset, 2, change(&["n"], false)).await.unwrap();
        merge(&house, &ana, &dataset, 3, change(&[], true)).await.unwrap();
        assert!(about().await.unique_columns.is_empty());
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();
    })
    .await;
}
