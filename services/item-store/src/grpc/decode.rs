//! Flight messages into batches. Whatever a client sends, the answer is rows
//! or an error that says what is wrong.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::FlightData;
use bytes::Bytes;
use service_error::ServiceError;

/// Decodes one stream.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
}

/// What a message held.
#[derive(Debug)]
pub(super) enum Message {
    Rows(RecordBatch),
    /// A dictionary, or metadata alone.
    Nothing,
}

impl Decoder {
    /// From a stream's first message, the schema.
    pub fn of(first: &FlightData) -> Result<Self, ServiceError> {
        let schema = guarded(|| {
            let message = root_as_message(&first.data_header).map_err(malformed)?;
            let schema = message.header_as_schema().ok_or_else(|| {
                ArrowError::ParseError("the first message must be the schema".to_owned())
            })?;
            Ok(fb_to_schema(schema))
        })?;
        Ok(Self { schema: Arc::new(schema), dictionaries: HashMap::new() })
    }

    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A message's rows. The body is not copied where it is aligned.
    pub fn decode(&mut self, header: Bytes, body: Bytes) -> Result<Message, ServiceError> {
        if header.is_empty() {
            return Ok(Message::Nothing);
        }
        let (schema, dictionaries) = (&self.schema, &mut self.dictionaries);
        guarded(|| {
            let message = root_as_message(&header).map_err(malformed)?;
            let absent = || ArrowError::ParseError("a message without its header".to_owned());
            match message.header_type() {
                MessageHeader::RecordBatch => {
                    let batch = message.header_as_record_batch().ok_or_else(absent)?;
                    if batch.compression().is_some() {
                        return Err(ArrowError::ParseError(
                            "compressed IPC bodies are not taken; send them plain".to_owned(),
                        ));
                    }
                    let body = Buffer::from(body);
                    read_record_batch(
                        &body,
                        batch,
                        Arc::clone(schema),
                        dictionaries,
                        None,
                        &message.version(),
                    )
                    .map(Message::Rows)
                }
                MessageHeader::DictionaryBatch => {
                    let batch = message.header_as_dictionary_batch().ok_or_else(absent)?;
                    if batch.data().is_some_and(|data| data.compression().is_some()) {
                        return Err(ArrowError::ParseError(
                            "compressed IPC bodies are not taken; send them plain".to_owned(),
                        ));
                    }
                    read_dictionary(
                        &Buffer::from(body),
                        batch,
                        schema,
                        dictionaries,
                        &message.version(),
                    )?;
                    Ok(Message::Nothing)
                }
                MessageHeader::NONE => Ok(Message::Nothing),
                other => Err(ArrowError::ParseError(format!("an unexpected message: {other:?}"))),
            }
        })
    }
}

fn malformed(error: impl std::fmt::Display) -> ArrowError {
    ArrowError::ParseError(format!("the IPC message is malformed: {error}"))
}

/// Arrow's readers panic on some bytes that no writer makes.
fn guarded<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ServiceError> {
    let wrong = |why: String| ServiceError::invalid("data", why).reason("INVALID_ARROW_DATA");
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| wrong(error.to_string())),
        Err(_) => Err(wrong("the IPC message lies about its buffers".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::encode::Encoder;
    use super::*;
    use arrow::array::StringArray;
    use service_error::Code;

    #[test]
    fn no_bytes_panic() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("abc"), None, Some("ä")]));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", texts, true)]).unwrap();
        let mut encoder = Encoder::new();
        let schema = encoder.schema(&batch.schema());
        let good = encoder.batch(&batch).unwrap().remove(0);
        for part in 0..2 {
            let bytes = if part == 0 { good.data_header.clone() } else { good.data_body.clone() };
            for at in 0..bytes.len() {
                let mut changed = bytes.to_vec();
                changed[at] ^= 0xFF;
                let (header, body) = match part {
                    0 => (changed.into(), good.data_body.clone()),
                    _ => (good.data_header.clone(), changed.into()),
                };
                let mut decoder = Decoder::of(&schema).unwrap();
                if let Err(error) = decoder.decode(header, body) {
                    assert_eq!(error.code(), Code::InvalidArgument);
                }
            }
        }
        assert!(Decoder::of(&good).is_err());
        assert!(Decoder::of(&FlightData::default()).is_err());
    }

    #[test]
    fn a_short_body_is_an_error() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["abcdef"; 100]));
        let batch = RecordBatch::try_from_iter([("t", texts)]).unwrap();
        let mut encoder = Encoder::new();
        let schema = encoder.schema(&batch.schema());
        let good = encoder.batch(&batch).unwrap().remove(0);
        let mut decoder = Decoder::of(&schema).unwrap();
        let error = decoder.decode(good.data_header, good.data_body.slice(..64)).unwrap_err();
        assert!(error.reason_is("INVALID_ARROW_DATA"));
    }
}
