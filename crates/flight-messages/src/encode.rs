//! Batches into Flight messages of a size that every client takes. Rows are not copied: the body
//! of a message is the buffers of a batch's arrays, as Arrow's own servers send them.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder};
use arrow_flight::FlightData;
use blocks::slice_bytes;
use bytes::{BufMut, Bytes, BytesMut};
#[cfg(test)]
use prost::Message as _;
use service_error::ServiceError;

use crate::dictionaries::fitting;

/// gRPC's usual limit is 4 MiB; this leaves room for headers and padding.
const MESSAGE_BYTES_MAX: usize = 3_500_000;
/// What a batch that is too large is cut into.
const PIECE_BYTES: usize = 2 << 20;
/// Shorter buffers are put together: a frame of its own costs more than to copy them.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// A continuation marker and the length of the metadata.
const PREFIX_BYTES: usize = 8;
/// `FlightData.data_header`: field 2, length-delimited.
const HEADER_TAG: u8 = 2 << 3 | 2;
/// `FlightData.data_body`: field 1000, length-delimited.
const BODY_TAG: [u8; 2] = [0xc2, 0x3e];

/// One message.
#[derive(Debug)]
pub struct Encoded {
    /// What `FlightData.data_header` holds.
    pub header: Bytes,
    /// What `FlightData.data_body` holds, in parts.
    pub body: Vec<Bytes>,
}

impl Encoded {
    /// The message as gRPC frames it, in parts: a `FlightData` behind its length.
    pub fn frames(self) -> impl Iterator<Item = Bytes> {
        let body_bytes: usize = self.body.iter().map(Bytes::len).sum();
        let mut fields = BytesMut::with_capacity(self.header.len() + 32);
        fields.put_u8(HEADER_TAG);
        put_varint(&mut fields, self.header.len());
        fields.put_slice(&self.header);
        if body_bytes > 0 {
            fields.put_slice(&BODY_TAG);
            put_varint(&mut fields, body_bytes);
        }
        let mut first = BytesMut::with_capacity(fields.len() + 5);
        first.put_u8(0);
        first.put_u32(u32::try_from(fields.len() + body_bytes).unwrap_or(u32::MAX));
        first.put_slice(&fields);
        std::iter::once(first.freeze()).chain(self.body)
    }
}

impl From<Encoded> for FlightData {
    /// The message in one piece, which costs a copy.
    fn from(message: Encoded) -> Self {
        let (data_header, data_body) = (message.header, message.body.concat().into());
        Self { data_header, data_body, ..Self::default() }
    }
}

fn put_varint(bytes: &mut BytesMut, mut number: usize) {
    while number >= 0x80 {
        bytes.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.put_u8(number as u8);
}

/// Encodes one stream.
pub struct Encoder {
    schema: Encoded,
    encoder: StreamEncoder,
    /// Arrow's encoder says the schema before the first rows; here it was said already.
    says_schema: bool,
}

impl Encoder {
    /// At the head of a stream.
    ///
    /// # Errors
    /// A schema that Arrow's streams do not know.
    pub fn new(schema: &Schema) -> Result<Self, ServiceError> {
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut DictionaryTracker::new(false),
            &IpcWriteOptions::default(),
        );
        let schema_message = Encoded { header: encoded.ipc_message.into(), body: Vec::new() };
        let encoder = StreamEncoder::try_new(schema).map_err(unencodable)?;
        Ok(Self { schema: schema_message, encoder, says_schema: true })
    }

    /// The stream's first message.
    pub fn schema(&self) -> Encoded {
        Encoded { header: self.schema.header.clone(), body: Vec::new() }
    }

    /// A batch as messages: dictionaries that changed, then rows.
    ///
    /// # Errors
    /// Arrays that Arrow's streams do not know.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Encoded>, ServiceError> {
        let mut messages = Vec::with_capacity(1);
        for batch in fitting(batch).map_err(unencodable)? {
            self.add(&batch, &mut messages).map_err(unencodable)?;
        }
        Ok(messages)
    }

    fn add(&mut self, batch: &RecordBatch, messages: &mut Vec<Encoded>) -> Result<(), ArrowError> {
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
        let buffers = self.encoder.encode(batch)?.into_iter();
        let mut stream = Stream { buffers: buffers.filter(|buffer| !buffer.is_empty()).collect() };
        if std::mem::take(&mut self.says_schema) {
            stream.message()?;
        }
        while !stream.buffers.is_empty() {
            messages.push(stream.message()?);
        }
        Ok(())
    }
}

fn unencodable(error: ArrowError) -> ServiceError {
    ServiceError::internal(format!("a batch cannot be encoded: {error}"))
}

/// A buffer that the messages share with its array.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// What Arrow's encoder says: framed messages, in buffers.
struct Stream {
    buffers: VecDeque<Buffer>,
}

impl Stream {
    fn message(&mut self) -> Result<Encoded, ArrowError> {
        let prefix = self.copied(PREFIX_BYTES);
        let length = prefix.get(4..).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let length = length.map_or(0, |bytes| u32::from_le_bytes(bytes) as usize);
        let header = self.copied(length);
        let message = root_as_message(&header)
            .map_err(|error| ArrowError::IpcError(format!("of our own: {error}")))?;
        let bytes = usize::try_from(message.bodyLength()).unwrap_or(0);
        let body = self.parts(bytes);
        Ok(Encoded { header: header.into(), body })
    }

    fn copied(&mut self, bytes: usize) -> Vec<u8> {
        let mut copied = Vec::with_capacity(bytes);
        while let Some(buffer) = self.next(bytes - copied.len()) {
            copied.extend_from_slice(&buffer);
        }
        copied
    }

    fn parts(&mut self, bytes: usize) -> Vec<Bytes> {
        let (mut parts, mut short, mut left) = (Vec::new(), BytesMut::new(), bytes);
        while let Some(buffer) = self.next(left) {
            left -= buffer.len();
            if buffer.len() <= COPIED_BYTES_MAX {
                short.extend_from_slice(&buffer);
                continue;
            }
            if !short.is_empty() {
                parts.push(short.split().freeze());
            }
            parts.push(Bytes::from_owner(Shared(buffer)));
        }
        if !short.is_empty() {
            parts.push(short.freeze());
        }
        parts
    }

    /// The next buffer, or as much of it as is wanted.
    fn next(&mut self, bytes: usize) -> Option<Buffer> {
        if bytes == 0 {
            return None;
        }
        let buffer = self.buffers.pop_front()?;
        if buffer.len() <= bytes {
            return Some(buffer);
        }
        self.buffers.push_front(buffer.slice(bytes));
        Some(buffer.slice_with_length(0, bytes))
    }
}

/// A batch's schema and its messages, as a client takes them.
#[cfg(test)]
pub(crate) fn sent(batch: &RecordBatch) -> (FlightData, Vec<FlightData>) {
    let mut encoder = Encoder::new(&batch.schema()).unwrap_or_else(|error| panic!("{error}"));
    let read = |message: Encoded| {
        let frame: Vec<u8> = message.frames().flatten().collect();
        let length = u32::try_from(frame.len() - 5).map(u32::to_be_bytes);
        assert_eq!((frame[0], length.as_ref().map(<[u8; 4]>::as_slice)), (0, Ok(&frame[1..5])));
        FlightData::decode(&frame[5..]).unwrap_or_else(|error| panic!("{error}"))
    };
    let messages = encoder.batch(batch).unwrap_or_else(|error| panic!("{error}"));
    (read(encoder.schema()), messages.into_iter().map(read).collect())
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
        let (schema, messages) = sent(batch);
        let mut decoder = Decoder::of(&schema).unwrap();
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

    /// A table that is read again comes in batches that name one large dictionary.
    #[test]
    fn large_dictionaries_go_out_in_parts() {
        let texts: StringArray = (0..131_072).map(|n| Some(format!("{n:>40}"))).collect();
        let texts: ArrayRef = Arc::new(texts);
        for (keys, parts) in [((0..131_072).collect::<Vec<i32>>(), 8), (vec![7; 131_072], 1)] {
            let keys = arrow::array::Int32Array::from(keys);
            let words = DictionaryArray::<Int32Type>::new(keys, Arc::clone(&texts));
            let numbers: Int64Array = (0..131_072).collect();
            let batch = RecordBatch::try_from_iter([
                ("w", Arc::new(words) as ArrayRef),
                ("n", Arc::new(numbers)),
            ])
            .unwrap();
            let (count, back) = round_trip(&batch);
            assert!(count <= parts * 2, "{count} messages");
            assert_eq!(back.schema(), batch.schema());
            let plain = |batch: &RecordBatch| {
                arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap()
            };
            assert_eq!(&plain(&back), &plain(&batch));
            assert_eq!(back.column(1), batch.column(1));
        }
    }

    #[test]
    fn rows_of_a_dictionary_are_cut_by_what_they_name() {
        let texts: StringArray = (0..30_000).map(|n| Some(format!("{n:>40}"))).collect();
        let keys: arrow::array::Int32Array = (0..500_000).map(|n| Some(n % 30_000)).collect();
        let words = DictionaryArray::<Int32Type>::new(keys, Arc::new(texts));
        let numbers: Int64Array = (0..500_000).collect();
        let batch = RecordBatch::try_from_iter([
            ("w", Arc::new(words) as ArrayRef),
            ("n", Arc::new(numbers)),
        ])
        .unwrap();
        // 6 MB of rows and 1.4 MB of values, said once.
        let (count, back) = round_trip(&batch);
        assert!((3..=6).contains(&count), "{count} messages");
        assert_eq!(back.column(1), batch.column(1));
    }

    #[test]
    fn columns_without_bytes_end_a_message() {
        let texts = StringArray::from(vec![""; 3]);
        let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap();
        assert_eq!(round_trip(&batch), (1, batch.clone()));
        let none = RecordBatch::new_empty(batch.schema());
        assert_eq!(round_trip(&none), (1, none.clone()));
    }

    #[test]
    fn one_row_is_never_cut() {
        let texts = StringArray::from(vec!["x".repeat(3 << 20)]);
        let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap();
        assert_eq!(round_trip(&batch).0, 1);
    }

    #[test]
    fn rows_are_not_copied() {
        let numbers: Int64Array = (0..10_000).collect();
        let array = Arc::new(numbers);
        let batch = RecordBatch::try_from_iter([("n", Arc::clone(&array) as ArrayRef)]).unwrap();
        let mut encoder = Encoder::new(&batch.schema()).unwrap();
        let sent = encoder.batch(&batch.slice(1_000, 5_000)).unwrap().remove(0);
        let within = array.values().inner().as_slice().as_ptr_range();
        assert!(
            sent.body.iter().any(|part| part.len() == 40_000 && within.contains(&part.as_ptr()))
        );
    }

    #[test]
    fn a_changed_dictionary_is_said_again() {
        let words = |word: &str| -> RecordBatch {
            let array: DictionaryArray<Int32Type> = (0..10).map(|_| Some(word)).collect();
            RecordBatch::try_from_iter([("w", Arc::new(array) as ArrayRef)]).unwrap()
        };
        let mut encoder = Encoder::new(&words("a").schema()).unwrap();
        let counts = ["a", "a", "b"].map(|word| encoder.batch(&words(word)).unwrap().len());
        assert_eq!(counts, [2, 1, 2]);
    }
}
