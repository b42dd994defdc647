//! Files that are not what they say: an error that says so, never a panic.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use filter::Pruned;
use futures::TryStreamExt;
use service_error::{Code, ServiceError};

use super::{Shelf, location, plan_of, reading, rows, scramble};
use crate::{BlockLocation, BlockReader, BlockRows, ReaderSettings, ScanPlan};

/// All rows, and how many pass a filter.
async fn read(
    shelf: &Shelf,
    location: BlockLocation,
    schema: SchemaRef,
) -> Result<(RecordBatch, u64), ServiceError> {
    // A reader of its own: nothing is cached.
    let reader = BlockReader::new(shelf.store.inner(), &ReaderSettings::default());
    let block = [BlockRows::from(location.clone())];
    let plan = ScanPlan { batch_bytes: 1 << 20, ..plan_of(&block, &schema) };
    let batches: Vec<RecordBatch> = reader.scan(plan).try_collect().await?;
    let found = concat_batches(&schema, &batches).unwrap();
    let reading = reading(Some("width > 5 AND title:\"9\""), &schema);
    let count = reader.count(&block, &reading, |_| Pruned::Maybe).await?;
    Ok((found, count))
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
    assert_eq!(read(&shelf, good, batch.schema()).await.unwrap().0.num_rows(), 9_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_data_loss_and_never_data() {
    let shelf = Shelf::new().await;
    let batch = rows(0..9_000);
    let written = shelf.write(std::slice::from_ref(&batch), Some("id")).await.unwrap().remove(0);
    let object = shelf.store.get(&written.object_key).await.unwrap();
    let honest = read(&shelf, location(&written), batch.schema()).await.unwrap();
    let tail = written.byte_count - written.footer_length;
    let mut refused = 0;
    for round in 0..120u64 {
        let mut bytes = object.to_vec();
        let (from, length) =
            if round % 3 > 0 { (0, written.byte_count) } else { (tail, written.footer_length) };
        let at = usize::try_from(from + scramble(round) % length).unwrap();
        bytes[at] ^= 1 << (round % 8);
        shelf.store.put(&written.object_key, Bytes::from(bytes)).await.unwrap();
        match read(&shelf, location(&written), batch.schema()).await {
            Err(error) => {
                assert_eq!(error.code(), Code::DataLoss, "byte {at}: {error}");
                assert!(error.message().contains(&written.object_key));
                refused += 1;
            }
            // A bloom filter that nobody asked.
            Ok(found) => assert_eq!(found, honest, "byte {at}"),
        }
    }
    assert!(refused > 80, "{refused} of 120");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_another_writer_is_no_block() {
    let shelf = Shelf::new().await;
    let batch = rows(0..100);
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let byte_count = bytes.len() as u64;
    shelf.store.put("foreign", Bytes::from(bytes)).await.unwrap();
    let place = BlockLocation {
        object_key: "foreign".into(),
        row_count: 100,
        byte_count,
        footer_length: byte_count.min(2_000),
    };
    let error = read(&shelf, place, batch.schema()).await.unwrap_err();
    assert_eq!(error.code(), Code::DataLoss, "{error}");
}
