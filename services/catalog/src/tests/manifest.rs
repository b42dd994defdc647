//! Heads, block pages and statistics.

use service_error::Code;

use super::*;

#[tokio::test]
async fn a_head_is_read_by_id_name_version_and_snapshot() {
    in_each_house(async |house| {
        let ana = Who::user();
        let namespace = house.namespace(&ana, "vision").await;
        let dataset = house.dataset(&ana, "vision", "icons").await;
        let empty = house.head(&ana, &dataset.id, None).await.unwrap();
        assert_eq!((empty.snapshot, empty.version, empty.row_count), (0, 0, 0));
        assert_eq!(empty.namespace_id, namespace.id);
        house.put(&ana, &dataset.id, Put::append(&[4])).await.unwrap();
        house.put(&ana, &dataset.id, Put::append(&[5])).await.unwrap();

        let read = async |at| {
            let request = wire::GetHeadRequest { dataset: Some(by_name("vision", "icons")), at };
            let head = house.manifest().get_head(house.by(&ana.via(ITEM_STORE), request)).await;
            head.map(|head| head.into_inner().head.unwrap()).map_err(ServiceError::from)
        };
        use wire::get_head_request::At;
        let latest = read(None).await.unwrap();
        assert_eq!(
            (latest.snapshot, latest.version, latest.row_count, latest.block_count),
            (2, 2, 9, 2)
        );
        assert_eq!(read(Some(At::Version("latest".into()))).await.unwrap(), latest);
        let first = read(Some(At::Version("1".into()))).await.unwrap();
        assert_eq!((first.snapshot, first.version, first.row_count), (1, 1, 4));
        assert_eq!(read(Some(At::Snapshot(1))).await.unwrap(), first);
        assert_eq!(read(Some(At::Snapshot(0))).await.unwrap().row_count, 0);
        assert_eq!(
            read(Some(At::Version("3".into()))).await.unwrap_err().reason_text(),
            "VERSION_NOT_FOUND"
        );
        assert_eq!(
            read(Some(At::Snapshot(9))).await.unwrap_err().reason_text(),
            "SNAPSHOT_NOT_FOUND"
        );
        assert_eq!(
            read(Some(At::Version("x".into()))).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    })
    .await;
}

#[tokio::test]
async fn blocks_come_in_storage_order_with_their_first_rows() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let dataset = house.dataset(&ana, "vision", "icons").await.id;
        house.put(&ana, &dataset, Put::append(&[3, 1, 4, 1, 5])).await.unwrap();
        house.put(&ana, &dataset, Put::append(&[9, 2])).await.unwrap();
        let shape = |blocks: Vec<wire::Block>| -> Vec<_> {
            blocks
                .iter()
                .map(|block| (block.row_begin, block.row_count, block.snapshot_begin))
                .collect()
        };
        let all = shape(house.blocks(&ana, &dataset, 2, 0).await);
        assert_eq!(
            all,
            [(0, 3, 1), (3, 1, 1), (4, 4, 1), (8, 1, 1), (9, 5, 1), (14, 9, 2), (23, 2, 2)]
        );
        assert_eq!(shape(house.blocks(&ana, &dataset, 2, 1).await), [(14, 9, 2), (23, 2, 2)]);
        assert!(house.blocks(&ana, &dataset, 0, 0).await.is_empty());
        let stats = &house.blocks(&ana, &dataset, 1, 0).await[4].columns;
        assert_eq!(stats, &block("x", 5).columns);

        let request =
            wire::ListBlocksRequest { dataset_id: dataset, snapshot: 9, ..Default::default() };
        let beyond = house
            .manifest()
            .list_blocks(house.by(&ana.via(ITEM_STORE), request))
            .await
            .unwrap_err();
        assert_eq!(beyond.code(), tonic::Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_token_of_one_snapshot_is_no_token_of_another() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let dataset = house.dataset(&ana, "vision", "icons").await.id;
        house.put(&ana, &dataset, Put::append(&[1, 1, 1])).await.unwrap();
        house.put(&ana, &dataset, Put::append(&[1])).await.unwrap();
        let request = wire::ListBlocksRequest {
            dataset_id: dataset,
            snapshot: 1,
            page_size: 2,
            ..Default::default()
        };
        let page = house
            .manifest()
            .list_blocks(house.by(&ana.via(ITEM_STORE), request.clone()))
            .await
            .unwrap();
        let page_token = page.into_inner().next_page_token;
        assert!(!page_token.is_empty());
        let other = wire::ListBlocksRequest { snapshot: 2, page_token, ..request };
        let refused: ServiceError = house
            .manifest()
            .list_blocks(house.by(&ana.via(ITEM_STORE), other))
            .await
            .unwrap_err()
            .into();
        assert_eq!(refused.reason_text(), "PAGE_TOKEN_INVALID");
    })
    .await;
}

#[tokio::test]
async fn statistics_of_a_version_are_those_of_all_its_blocks() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let dataset = house.dataset(&ana, "vision", "icons").await.id;
        let rows: Vec<i64> = (1..=250).collect();
        house.put(&ana, &dataset, Put::append(&rows)).await.unwrap();
        house.put(&ana, &dataset, Put::overwrite(&[2])).await.unwrap();
        let read = async |version: &str| {
            let request = wire::GetVersionRequest {
                namespace: "vision".into(),
                dataset: "icons".into(),
                version: version.into(),
            };
            house.datasets().get_version(house.by(&ana, request)).await.unwrap().into_inner()
        };
        for _ in 0..2 {
            let first = read("1").await;
            assert_eq!(first.columns, block("x", 250).columns);
            assert_eq!(first.version.unwrap().row_count, 250 * 251 / 2);
            assert_eq!(read("latest").await.columns, block("x", 2).columns);
        }
    })
    .await;
}
