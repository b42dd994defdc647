//! Flight messages into batches. Whatever a client sends, the answer is rows
//! or an error that says what is wrong.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::FlightData;
use bytes::Bytes;
use service_error::ServiceError;

/// What the dictionaries of one stream may take.
const DICTIONARY_BYTES_MAX: usize = 64 << 20;
/// Rows beyond what a message's bytes hold: of a column of nulls.
const UNHELD_ROWS_MAX: usize = 1 << 24;
/// Elements of lists beyond what a message's bytes hold.
const UNHELD_ELEMENTS_MAX: usize = 1 << 26;

/// Decodes one stream.
#[derive(Debug, Clone)]
pub struct Decoder {
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Bytes of each of them.
    held: HashMap<i64, usize>,
}

/// What a message held.
#[derive(Debug)]
pub enum Message {
    /// Rows of the stream's schema.
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
        Ok(Self { schema: Arc::new(schema), dictionaries: HashMap::new(), held: HashMap::new() })
    }

    /// The stream's schema.
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A message's rows. The body is not copied where it is aligned.
    pub fn decode(&mut self, header: Bytes, body: Bytes) -> Result<Message, ServiceError> {
        if header.is_empty() {
            return Ok(Message::Nothing);
        }
        let (schema, dictionaries, held) = (&self.schema, &mut self.dictionaries, &mut self.held);
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
                    check_columns(schema, batch.nodes().map_or(0, |nodes| nodes.len()))?;
                    let body = Buffer::from(body);
                    let rows = read_record_batch(
                        &body,
                        batch,
                        Arc::clone(schema),
                        dictionaries,
                        None,
                        &message.version(),
                    )?;
                    check_lengths(&rows, body.len())?;
                    Ok(Message::Rows(rows))
                }
                MessageHeader::DictionaryBatch => {
                    let batch = message.header_as_dictionary_batch().ok_or_else(absent)?;
                    if batch.data().is_some_and(|data| data.compression().is_some()) {
                        return Err(ArrowError::ParseError(
                            "compressed IPC bodies are not taken; send them plain".to_owned(),
                        ));
                    }
                    hold(held, batch.id(), batch.isDelta(), body.len())?;
                    // Copied: a slice would keep the whole message in memory.
                    read_dictionary(
                        &Buffer::from(&body[..]),
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

/// Refuses a message of other columns than the schema's: Arrow's reader takes
/// the first and drops the others unseen.
fn check_columns(schema: &SchemaRef, found: usize) -> Result<(), ArrowError> {
    let expected = schema.fields().iter().map(|field| nodes(field.data_type())).sum::<usize>();
    if found == expected {
        return Ok(());
    }
    Err(ArrowError::ParseError(format!(
        "a message has {found} columns, nested ones among them, and the schema {expected}"
    )))
}

/// The arrays of a column: itself and what is nested in it.
fn nodes(data_type: &DataType) -> usize {
    let below = match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => nodes(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| nodes(field.data_type())).sum(),
        DataType::Union(fields, _) => {
            fields.iter().map(|(_, field)| nodes(field.data_type())).sum()
        }
        DataType::RunEndEncoded(ends, values) => {
            nodes(ends.data_type()) + nodes(values.data_type())
        }
        _ => 0,
    };
    1 + below
}

/// Dictionaries stay in memory as long as the stream, outside of the budget of
/// messages.
fn hold(
    held: &mut HashMap<i64, usize>,
    id: i64,
    is_more: bool,
    body_bytes: usize,
) -> Result<(), ArrowError> {
    let of_one = held.entry(id).or_default();
    *of_one = if is_more { of_one.saturating_add(body_bytes) } else { body_bytes };
    let bytes = held.values().fold(0, |sum: usize, bytes| sum.saturating_add(*bytes));
    if bytes <= DICTIONARY_BYTES_MAX {
        return Ok(());
    }
    Err(ArrowError::ParseError(format!(
        "the dictionaries of the put take {bytes} bytes; at most {DICTIONARY_BYTES_MAX} are taken. \
         Send columns of many values plain, not as a dictionary"
    )))
}

/// Refuses more rows or elements than the bytes of a message can hold, one bit
/// each: nulls alone have no bytes, and any number of them could be claimed.
fn check_lengths(batch: &RecordBatch, body_bytes: usize) -> Result<(), ArrowError> {
    let held = body_bytes.saturating_mul(8);
    let claimed = batch.columns().iter().map(|column| claimed(&column.to_data()));
    let rows = batch.num_rows();
    if rows > held.saturating_add(UNHELD_ROWS_MAX)
        || claimed.max().unwrap_or(0) > held.saturating_add(UNHELD_ELEMENTS_MAX)
    {
        return Err(ArrowError::ParseError(format!(
            "a message of {body_bytes} bytes claims more rows or elements than it can hold"
        )));
    }
    Ok(())
}

/// The most elements below a column; nulls weigh as if each had 8 bytes.
fn claimed(data: &ArrayData) -> usize {
    let below = |child: &ArrayData| {
        let weight = if child.data_type() == &DataType::Null { 64 } else { 1 };
        claimed(child).max(child.len().saturating_mul(weight))
    };
    if matches!(data.data_type(), DataType::Dictionary(..)) {
        return 0;
    }
    data.child_data().iter().map(below).max().unwrap_or(0)
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
    use super::*;
    use crate::encode::sent;
    use arrow::array::{DictionaryArray, Int32Array, LargeListArray, NullArray, StringArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;
    use service_error::Code;

    #[test]
    fn no_bytes_panic() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("abc"), None, Some("ä")]));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", texts, true)]).unwrap();
        let (schema, mut good) = sent(&batch);
        let good = good.remove(0);
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

    fn decoded(columns: &[(&str, ArrayRef)]) -> Result<(), ServiceError> {
        let batch = RecordBatch::try_from_iter(columns.to_vec()).unwrap();
        let (schema, messages) = sent(&batch);
        let mut decoder = Decoder::of(&schema).unwrap();
        for message in messages {
            decoder.decode(message.data_header, message.data_body)?;
        }
        Ok(())
    }

    #[test]
    fn nulls_without_bytes_are_bounded() {
        let rows = |count| -> ArrayRef { Arc::new(NullArray::new(count)) };
        decoded(&[("n", rows(1 << 20))]).unwrap();
        let error = decoded(&[("n", rows(1 << 40))]).unwrap_err();
        assert!(error.reason_is("INVALID_ARROW_DATA"), "{error}");
        let lists = |count: usize| -> ArrayRef {
            let field = Arc::new(Field::new_list_field(DataType::Null, true));
            let offsets = OffsetBuffer::from_lengths([count]);
            Arc::new(LargeListArray::new(field, offsets, rows(count), None))
        };
        decoded(&[("l", lists(1 << 16))]).unwrap();
        assert!(decoded(&[("l", lists(1 << 40))]).is_err());
    }

    #[test]
    fn dictionaries_that_stay_in_memory_are_bounded() {
        let words: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(24 << 20)]));
        let column = |_| -> ArrayRef {
            let keys = Int32Array::from(vec![0]);
            Arc::new(DictionaryArray::try_new(keys, Arc::clone(&words)).unwrap())
        };
        let columns: Vec<ArrayRef> = (0..3).map(column).collect();
        let named: Vec<(&str, ArrayRef)> = ["a", "b", "c"].into_iter().zip(columns).collect();
        decoded(&named[..2]).unwrap();
        let error = decoded(&named).unwrap_err();
        assert!(error.message().contains("plain"), "{error}");
    }

    #[test]
    fn a_message_of_other_columns_is_an_error() {
        let rows = |names: &[&'static str]| {
            let column = |_| -> ArrayRef { Arc::new(Int32Array::from(vec![1])) };
            let columns = names.iter().map(|name| (*name, column(name)));
            RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap()
        };
        let (one, two) = (rows(&["a"]), rows(&["a", "b"]));
        for (said, other) in [(&one, &two), (&two, &one)] {
            let mut decoder = Decoder::of(&sent(said).0).unwrap();
            let message = sent(other).1.remove(0);
            let error = decoder.decode(message.data_header, message.data_body).unwrap_err();
            assert!(error.reason_is("INVALID_ARROW_DATA"), "{error}");
        }
    }

    #[test]
    fn a_short_body_is_an_error() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["abcdef"; 100]));
        let batch = RecordBatch::try_from_iter([("t", texts)]).unwrap();
        let (schema, mut good) = sent(&batch);
        let good = good.remove(0);
        let mut decoder = Decoder::of(&schema).unwrap();
        let error = decoder.decode(good.data_header, good.data_body.slice(..64)).unwrap_err();
        assert!(error.reason_is("INVALID_ARROW_DATA"));
    }
}
