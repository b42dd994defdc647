//! How much one answer holds: gRPC's clients take 4 MiB unless they are told otherwise.

use arrow::array::RecordBatch;
use blocks::slice_bytes;
use catalog_api::v1::Column;
use cells::items_of;
use items_api::v1::Item;
use prost::Message;
use service_error::ServiceError;

/// Encoded bytes of an answer; what is left of 4 MiB is for tokens and headers.
const ANSWER_BYTES_MAX: usize = 3_800_000;
/// Tag and length of a row.
const ROW_BYTES: usize = 6;
/// Rows of one message of a stream.
const MESSAGE_ROWS: usize = 500;
/// Memory of the rows that are shown at once for a stream.
const SHOWN_BYTES: usize = 4 << 20;

/// What is left of an answer.
pub struct Room {
    left: usize,
    is_empty: bool,
}

impl Room {
    /// Of an answer that names these columns.
    pub fn beside(columns: &[Column]) -> Self {
        let columns: usize = columns.iter().map(|column| column.encoded_len() + ROW_BYTES).sum();
        Self { left: ANSWER_BYTES_MAX.saturating_sub(columns), is_empty: true }
    }

    /// Takes the room of a row that comes so often; false: there is none. The first row always
    /// has some, or nobody could ever read it.
    pub fn take(&mut self, item: &Item, times: usize) -> bool {
        let bytes = (item.encoded_len() + ROW_BYTES).saturating_mul(times);
        let fits = bytes <= self.left || (self.is_empty && times == 1);
        if fits {
            self.left = self.left.saturating_sub(bytes);
            self.is_empty = false;
        }
        fits
    }
}

/// How many of these rows fit, one after the other; one at least.
pub fn fitting<'a>(columns: &[Column], items: impl Iterator<Item = &'a Item>) -> usize {
    let mut room = Room::beside(columns);
    items.take_while(|item| room.take(item, 1)).count()
}

/// Rows that do not fit, and what to do.
pub fn too_much(what: &str) -> ServiceError {
    let message = format!(
        "the rows take more than {ANSWER_BYTES_MAX} bytes: ask for fewer {what} or columns at \
         once, or read them with Flight"
    );
    ServiceError::exhausted(message).reason("ANSWER_TOO_LARGE").with("bytes_max", ANSWER_BYTES_MAX)
}

/// The rows of a batch as messages of a stream.
pub fn messages(
    batch: RecordBatch,
    items_profile: bool,
) -> impl Iterator<Item = Result<Vec<Item>, ServiceError>> {
    let rows = batch.num_rows();
    let step = rows.saturating_mul(SHOWN_BYTES) / slice_bytes(&batch).max(1);
    let step = step.clamp(1, MESSAGE_ROWS);
    let steps = (0..rows).step_by(step);
    let shown = steps.map(move |begin| {
        items_of(&batch.slice(begin, step.min(rows - begin)), items_profile).map(split)
    });
    shown.flat_map(|split| match split {
        Ok(messages) => messages.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    })
}

fn split(items: Vec<Item>) -> Vec<Vec<Item>> {
    let (mut messages, mut rest) = (Vec::new(), items);
    while !rest.is_empty() {
        let after = rest.split_off(fitting(&[], rest.iter()));
        messages.push(std::mem::replace(&mut rest, after));
    }
    messages
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn messages_end_by_their_bytes_and_hold_every_row_once() {
        let texts: StringArray = (0..300)
            .map(|n| Some(if n == 7 { "y".repeat(5 << 20) } else { "x".repeat(n * 300) }))
            .collect();
        let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap();
        let whole = items_of(&batch, false).unwrap();
        let sent: Vec<Vec<Item>> = messages(batch, false).collect::<Result<_, _>>().unwrap();
        assert_eq!(sent.concat(), whole);
        for message in &sent {
            let bytes: usize = message.iter().map(|item| item.encoded_len() + ROW_BYTES).sum();
            assert!(message.len() == 1 || bytes <= ANSWER_BYTES_MAX, "{} rows", message.len());
        }
        assert!(sent.len() >= 5, "{}", sent.len());
    }

    #[test]
    fn one_row_always_fits_and_once() {
        let large = Item {
            values: vec![catalog_api::v1::Value {
                kind: Some(catalog_api::v1::value::Kind::StringValue("x".repeat(5 << 20))),
            }],
        };
        assert_eq!(fitting(&[], [&large, &large].into_iter()), 1);
        assert!(!Room::beside(&[]).take(&large, 2));
    }
}
