//! Files that are not what they say: an error that says so, never a panic.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use filter::Filter;
use futures::TryStreamExt;
use service_error::{Code, ServiceError};

use super::{Shelf, location, rows, scramble};
use crate::{BlockLocation, BlockReader, ReaderSettings, ScanPlan, ScanRange};

async fn read(
    shelf: &Shelf,
    location: BlockLocation,
    schema: SchemaRef,
) -> Result<usize, ServiceError> {
    // A reader of its own: nothing is cached.
    let reader = BlockReader::new(shelf.store.inner(), &ReaderSettings::default());
    let rows = 0..location.row_count;
    let plan = ScanPlan {
        ranges: vec![ScanRange { location: location.clone(), rows }],
        schema: schema.clone(),
        dataset_schema: schema.clone(),
        filter: None,
        limit: None,
        batch_bytes: 1 << 20,
    };
    let found: usize = reader
        .scan(plan)
        .try_fold(0, |sum, batch| async move { Ok(sum + batch.num_rows()) })
        .await?;
    let filter = Arc::new(Filter::parse("width > 5 AND title:\"9\"", &schema).unwrap());
    reader.count(&location, filter, schema).await?;
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_file_is_data_loss() {
    let shelf = Shelf::new().await;
    let batch = rows(0..9_000);
    let written = shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap().remove(0);
    let object = shelf.store.get(&written.object_key).await.unwrap();
    for keep in [0, 1, 7, object.len() / 2, object.len() - 1] {
        shelf.store.put(&written.object_key, object.slice(..keep)).await.unwrap();
        let error = read(&shelf, location(&written), batch.schema()).await.unwrap_err();
        assert_eq!(error.code(), Code::DataLoss, "{keep}: {error}");
        assert!(error.message().contains(&written.object_key));
    }
    shelf.store.delete(&written.object_key).await.unwrap();
    let error = read(&shelf, location(&written), batch.schema()).await.unwrap_err();
    assert_eq!(error.code(), Code::DataLoss, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_disagrees_is_data_loss() {
    let shelf = Shelf::new().await;
    let batch = rows(0..9_000);
    let written = shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap().remove(0);
    let good = location(&written);
    for wrong in [
        BlockLocation { row_count: 8_999, ..good.clone() },
        BlockLocation { footer_length: 0, ..good.clone() },
        BlockLocation { footer_length: 64, ..good.clone() },
        BlockLocation { footer_length: u64::MAX, ..good.clone() },
        BlockLocation { byte_count: good.byte_count + 1, ..good.clone() },
        BlockLocation { byte_count: good.byte_count - 1, ..good.clone() },
    ] {
        let error = read(&shelf, wrong.clone(), batch.schema()).await.unwrap_err();
        assert_eq!(error.code(), Code::DataLoss, "{wrong:?}: {error}");
    }
    assert_eq!(read(&shelf, good, batch.schema()).await.unwrap(), 9_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_never_panic() {
    let shelf = Shelf::new().await;
    let batch = rows(0..3_000);
    let written = shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap().remove(0);
    let object = shelf.store.get(&written.object_key).await.unwrap();
    let tail = written.byte_count - written.footer_length;
    for round in 0..150u64 {
        let mut bytes = object.to_vec();
        // Mostly in the footer, where lies are told.
        let (from, length) =
            if round % 4 == 0 { (0, written.byte_count) } else { (tail, written.footer_length) };
        let at = usize::try_from(from + scramble(round) % length).unwrap();
        bytes[at] ^= 1 << (round % 8);
        shelf.store.put(&written.object_key, Bytes::from(bytes)).await.unwrap();
        if let Err(error) = read(&shelf, location(&written), batch.schema()).await {
            assert_eq!(error.code(), Code::DataLoss, "byte {at}: {error}");
        }
    }
}
