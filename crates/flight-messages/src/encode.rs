//! Batches into Flight messages of a size that every client takes.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_flight::FlightData;
use blocks::slice_bytes;
use service_error::ServiceError;

/// gRPC's usual limit is 4 MiB; this leaves room for headers and padding.
const MESSAGE_BYTES_MAX: usize = 3_500_000;
/// What a batch that is too large is cut into.
const PIECE_BYTES: usize = 2 << 20;

/// Encodes one stream.
#[derive(Debug)]
pub struct Encoder {
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    options: IpcWriteOptions,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// At the head of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            generator: IpcDataGenerator::default(),
            dictionaries: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
        }
    }

    /// The stream's first message.
    pub fn schema(&mut self, schema: &Schema) -> FlightData {
        let encoded = self.generator.schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut self.dictionaries,
            &self.options,
        );
        encoded.into()
    }

    /// A batch as messages: dictionaries that changed, then rows.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ServiceError> {
        let mut messages = Vec::with_capacity(1);
        self.add(batch, &mut messages).map_err(|error| {
            ServiceError::internal(format!("a batch cannot be encoded: {error}"))
        })?;
        Ok(messages)
    }

    fn add(
        &mut self,
        batch: &RecordBatch,
        messages: &mut Vec<FlightData>,
    ) -> Result<(), ArrowError> {
        let (bytes, rows) = (slice_bytes(batch), batch.num_rows());
        if bytes > MESSAGE_BYTES_MAX && rows > 1 {
            let step = (rows * PIECE_BYTES / bytes).clamp(1, rows / 2);
            let mut begin = 0;
            while begin < rows {
                let count = step.min(rows - begin);
                self.add(&batch.slice(begin, count), messages)?;
                begin += count;
            }
            return Ok(());
        }
        let (dictionaries, encoded) = self.generator.encode(
            batch,
            &mut self.dictionaries,
            &self.options,
            &mut Default::default(),
        )?;
        messages.extend(dictionaries.into_iter().map(FlightData::from));
        messages.push(encoded.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{Decoder, Message};
    use arrow::array::{Array, ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    fn round_trip(batch: &RecordBatch) -> (usize, RecordBatch) {
        let mut encoder = Encoder::new();
        let schema = encoder.schema(&batch.schema());
        let mut decoder = Decoder::of(&schema).unwrap();
        let messages = encoder.batch(batch).unwrap();
        let count = messages.len();
        let mut found = Vec::new();
        for message in messages {
            assert!(message.data_body.len() < 4 << 20);
            if let Message::Rows(rows) =
                decoder.decode(message.data_header, message.data_body).unwrap()
            {
                found.push(rows);
            }
        }
        (count, arrow::compute::concat_batches(&batch.schema(), &found).unwrap())
    }

    #[test]
    fn large_batches_are_cut_by_their_bytes() {
        let texts: StringArray = (0..20_000).map(|n| Some("x".repeat(n % 1_000))).collect();
        let numbers: Int64Array = (0..20_000).collect();
        let batch = RecordBatch::try_from_iter([
            ("t", Arc::new(texts) as ArrayRef),
            ("n", Arc::new(numbers)),
        ])
        .unwrap();
        let (count, back) = round_trip(&batch);
        assert!(count >= 4, "{count}");
        assert_eq!(back, batch);
    }

    #[test]
    fn dictionaries_stay_dictionaries() {
        let words: DictionaryArray<Int32Type> =
            (0..1_000).map(|n| Some(if n % 2 == 0 { "a" } else { "b" })).collect();
        let batch = RecordBatch::try_from_iter([("w", Arc::new(words) as ArrayRef)]).unwrap();
        let (_, back) = round_trip(&batch);
        assert_eq!(back.schema(), batch.schema());
        assert_eq!(back.column(0).len(), 1_000);
    }

    #[test]
    fn one_row_is_never_cut() {
        let texts = StringArray::from(vec!["x".repeat(3 << 20)]);
        let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap();
        assert_eq!(round_trip(&batch).0, 1);
    }
}
