//! Commits that touch the blocks that are there: deletions, removals, the
//! watermark, rollback.

use roaring::RoaringBitmap;
use service_error::Code;

use super::*;

pub(super) async fn with_rows(house: &House, rows: &[i64]) -> (Who, String) {
    let ana = Who::user();
    house.namespace(&ana, "vision").await;
    let dataset = house.dataset(&ana, "vision", "icons").await.id;
    house.put(&ana, &dataset, Put::append(rows)).await.unwrap();
    (ana, dataset)
}

fn positions(rows: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    rows.iter().copied().collect::<RoaringBitmap>().serialize_into(&mut bytes).unwrap();
    bytes
}

pub(super) fn deletion(block: &wire::Block, rows: &[u32]) -> wire::BlockDeletion {
    wire::BlockDeletion {
        block_id: block.id.clone(),
        deletion_revision: block.deletion_revision,
        positions: positions(rows),
    }
}

pub(super) fn removal(block: &wire::Block) -> wire::BlockRemoval {
    wire::BlockRemoval { block_id: block.id.clone(), deletion_revision: block.deletion_revision }
}

/// Commits a change of mode merge onto `base`.
pub(super) async fn merge(
    house: &House,
    who: &Who,
    dataset: &str,
    base: i64,
    change: wire::CommitVersionRequest,
) -> Result<wire::CommitVersionResponse, ServiceError> {
    let upload = house.open_upload(who, by_id(dataset)).await?.upload_id;
    let blocks =
        change.blocks.iter().map(|like| block(&upload, like.row_count)).collect::<Vec<_>>();
    let mode = match wire::CommitMode::try_from(change.mode) {
        Ok(wire::CommitMode::Unspecified) | Err(_) => wire::CommitMode::Merge,
        Ok(mode) => mode,
    };
    let request = wire::CommitVersionRequest {
        upload_id: upload,
        mode: mode.into(),
        base_snapshot: base,
        blocks,
        ..change
    };
    house.commit(who, request).await
}

pub(super) fn unnamed(deletions: Vec<wire::BlockDeletion>) -> wire::CommitVersionRequest {
    wire::CommitVersionRequest { deletions, unnamed: true, ..Default::default() }
}

#[tokio::test]
async fn deleted_rows_are_of_a_snapshot_and_no_version() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10, 20]).await;
        let blocks = house.blocks(&ana, &dataset, 1, 0).await;
        let change = unnamed(vec![deletion(&blocks[0], &[3, 4])]);
        let done = merge(&house, &ana, &dataset, 1, change).await.unwrap();
        assert_eq!((done.version, done.snapshot), (None, 2));
        let head = house.head(&ana, &dataset, None).await.unwrap();
        assert_eq!((head.snapshot, head.version, head.row_count), (2, 1, 28));
        let now = house.blocks(&ana, &dataset, 2, 0).await;
        assert_eq!((now[0].deleted_count, now[0].deletion_revision), (2, 2));
        assert_eq!(now[0].deletions, positions(&[3, 4]));
        assert_eq!((now[1].row_begin, now[1].deletion_revision), (8, 0));
        assert_eq!(house.blocks(&ana, &dataset, 1, 0).await, blocks, "a snapshot never changes");

        let more = unnamed(vec![deletion(&now[0], &[0])]);
        merge(&house, &ana, &dataset, 2, more).await.unwrap();
        let now = house.blocks(&ana, &dataset, 3, 0).await;
        assert_eq!(
            (now[0].deletions.clone(), now[0].deletion_revision),
            (positions(&[0, 3, 4]), 3)
        );
        // The whole rest: the block is seen no more.
        let rest: Vec<u32> = (1..10).filter(|row| ![3, 4].contains(row)).collect();
        let all = unnamed(vec![deletion(&now[0], &rest)]);
        merge(&house, &ana, &dataset, 3, all).await.unwrap();
        let head = house.head(&ana, &dataset, None).await.unwrap();
        assert_eq!((head.row_count, head.block_count), (20, 1));
        assert_eq!(house.blocks(&ana, &dataset, 4, 0).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn two_deletions_in_one_block_do_not_lose_one() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10, 20]).await;
        let read = house.blocks(&ana, &dataset, 1, 0).await;
        let change = |at: usize, row| unnamed(vec![deletion(&read[at], &[row])]);
        merge(&house, &ana, &dataset, 1, change(0, 1)).await.unwrap();
        let late = merge(&house, &ana, &dataset, 1, change(0, 2)).await.unwrap_err();
        assert_eq!((late.code(), late.reason_text()), (Code::Conflict, "BLOCK_TOUCHED"));
        assert_eq!(late.detail("block"), Some(read[0].id.as_str()));
        // Another block is another matter.
        merge(&house, &ana, &dataset, 1, change(1, 2)).await.unwrap();
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().row_count, 28);
    })
    .await;
}

#[tokio::test]
async fn compaction_beside_a_deletion_brings_no_row_back() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10, 20]).await;
        let read = house.blocks(&ana, &dataset, 1, 0).await;
        let compacted = wire::CommitVersionRequest {
            removals: read.iter().map(removal).collect(),
            blocks: vec![block("", 30)],
            unnamed: true,
            ..Default::default()
        };
        let change = unnamed(vec![deletion(&read[1], &[0])]);
        merge(&house, &ana, &dataset, 1, change.clone()).await.unwrap();
        let late = merge(&house, &ana, &dataset, 1, compacted.clone()).await.unwrap_err();
        assert_eq!(late.reason_text(), "BLOCK_TOUCHED");
        // Computed again it passes; then the deletion is the one that comes late.
        let now = house.blocks(&ana, &dataset, 2, 0).await;
        let again = wire::CommitVersionRequest {
            removals: now.iter().map(removal).collect(),
            blocks: vec![block("", 29)],
            ..compacted
        };
        merge(&house, &ana, &dataset, 2, again).await.unwrap();
        let head = house.head(&ana, &dataset, None).await.unwrap();
        assert_eq!((head.row_count, head.block_count), (29, 1));
        let late = merge(&house, &ana, &dataset, 2, unnamed(vec![deletion(&now[0], &[5])])).await;
        assert_eq!(late.unwrap_err().reason_text(), "BLOCK_TOUCHED");
    })
    .await;
}

#[tokio::test]
async fn the_watermark_moves_from_what_was_read_and_never_back() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10]).await;
        let flush = |from, to| wire::CommitVersionRequest {
            blocks: vec![block("", 1)],
            watermark: Some(wire::WatermarkMove { from, to }),
            unnamed: true,
            ..Default::default()
        };
        merge(&house, &ana, &dataset, 1, flush(0, 7)).await.unwrap();
        assert_eq!(house.head(&ana, &dataset, None).await.unwrap().watermark, 7);
        let stale = merge(&house, &ana, &dataset, 2, flush(0, 9)).await.unwrap_err();
        assert_eq!(stale.reason_text(), "HEAD_MOVED");
        let back = merge(&house, &ana, &dataset, 2, flush(7, 6)).await.unwrap_err();
        assert_eq!(back.field_name(), Some("watermark"));
        // An append between: the flush is computed again, whatever it touches.
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();
        let stale = merge(&house, &ana, &dataset, 2, flush(7, 9)).await.unwrap_err();
        assert_eq!(stale.reason_text(), "HEAD_MOVED");
        let head = house.head(&ana, &dataset, None).await.unwrap();
        assert_eq!((head.watermark, head.row_count), (7, 12), "an append keeps the watermark");
    })
    .await;
}

#[tokio::test]
async fn a_rollback_sees_what_was_seen() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10, 20]).await;
        let read = house.blocks(&ana, &dataset, 1, 0).await;
        let change = unnamed(vec![deletion(&read[0], &[3, 4])]);
        merge(&house, &ana, &dataset, 1, change).await.unwrap();
        house.put(&ana, &dataset, Put::overwrite(&[7])).await.unwrap();
        let back = |to| wire::CommitVersionRequest {
            mode: wire::CommitMode::Rollback.into(),
            rollback_snapshot: to,
            message: "back".into(),
            ..Default::default()
        };
        let rows = async |snapshot| {
            let blocks = house.blocks(&ana, &dataset, snapshot, 0).await;
            blocks.iter().map(|b| (b.id.clone(), b.deletions.clone())).collect::<Vec<_>>()
        };
        for (to, count, at) in [(2, 28, 4), (1, 30, 5), (3, 7, 6), (2, 28, 7)] {
            let done = merge(&house, &ana, &dataset, at - 1, back(to)).await.unwrap();
            let version = done.version.unwrap();
            assert_eq!((version.snapshot, version.row_count), (at, count));
            let (again, then) = (rows(at).await, rows(to).await);
            let deleted = |of: &[(String, Vec<u8>)]| {
                of.iter()
                    .map(|(id, bytes)| {
                        let set = RoaringBitmap::deserialize_from(&bytes[..]).unwrap_or_default();
                        (id.clone(), set)
                    })
                    .collect::<Vec<_>>()
            };
            assert_eq!(deleted(&again), deleted(&then), "to {to}");
        }
        let nowhere = merge(&house, &ana, &dataset, 7, back(99)).await.unwrap_err();
        assert_eq!(nowhere.code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_settled_upload_has_committed_or_never_will() {
    in_each_house(async |house| {
        let (ana, dataset) = with_rows(&house, &[10]).await;
        let settle = async |upload: &str| {
            let request = wire::SettleUploadRequest { upload_id: upload.into() };
            let by_item_store = house.by(&Who::service(ITEM_STORE), request);
            house.manifest().settle_upload(by_item_store).await.unwrap().into_inner()
        };
        let upload = house.open_upload(&ana, by_id(&dataset)).await.unwrap().upload_id;
        assert!(!settle(&upload).await.committed);
        let late = house.commit(&ana, Put::append(&[1]).request(&upload, 1)).await.unwrap_err();
        assert_eq!(late.reason_text(), "UPLOAD_ABORTED");

        let upload = house.open_upload(&ana, by_id(&dataset)).await.unwrap().upload_id;
        let read = house.blocks(&ana, &dataset, 1, 0).await;
        let request = wire::CommitVersionRequest {
            upload_id: upload.clone(),
            mode: wire::CommitMode::Merge.into(),
            base_snapshot: 1,
            affected_rows: 2,
            ..unnamed(vec![deletion(&read[0], &[1, 2])])
        };
        let first = house.commit(&ana, request.clone()).await.unwrap();
        let settled = settle(&upload).await;
        assert_eq!((settled.committed, settled.snapshot), (true, first.snapshot));
        let again = house.commit(&ana, request).await.unwrap();
        assert_eq!((again.snapshot, again.affected_rows, again.replayed), (2, 2, true));
        let theirs =
            house.by(&ana.via(ITEM_STORE), wire::SettleUploadRequest { upload_id: upload });
        let refused = house.manifest().settle_upload(theirs).await.unwrap_err();
        assert_eq!(ServiceError::from(refused).code(), Code::PermissionDenied);
    })
    .await;
}
