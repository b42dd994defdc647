//! The order of a block's rows: by key, each key once.

use arrow::array::{Array, RecordBatch};
use arrow::row::Rows;
use service_error::ServiceError;

use crate::error::arrow_error;
use crate::keys::{KeyCodec, prefix, shown};

/// In which order buffered rows go into the block.
#[derive(Debug)]
pub(crate) enum Order {
    /// As they came.
    Arrival,
    /// (batch, row) for each.
    Sorted(Vec<(usize, usize)>),
}

/// Finds the order of rows by a key column, and refuses null and repeated keys.
pub(crate) fn by_key(batches: &[RecordBatch], column: usize) -> Result<Order, ServiceError> {
    let internal = |e| arrow_error("in memory", e);
    let Some(first) = batches.first() else { return Ok(Order::Arrival) };
    let name = first.schema_ref().field(column).name().clone();
    let codec = KeyCodec::new(first.column(column).data_type()).map_err(internal)?;
    let mut keys = Vec::with_capacity(batches.len());
    for batch in batches {
        let array = batch.column(column);
        if array.null_count() > 0 {
            let message = format!("the key column {name:?} holds a null; every row needs a key");
            return Err(ServiceError::invalid(&name, message).reason("KEY_NULL"));
        }
        keys.push(codec.rows(array).map_err(internal)?);
    }
    let repeated =
        |(batch, row): (usize, usize)| duplicate(&name, &shown(batches[batch].column(column), row));
    match arrival_is_sorted(&keys) {
        Arrival::Ascending => return Ok(Order::Arrival),
        Arrival::Repeats(place) => return Err(repeated(place)),
        Arrival::Unsorted => {}
    }
    let total = keys.iter().map(Rows::num_rows).sum();
    let mut order: Vec<(u128, u32, u32)> = Vec::with_capacity(total);
    for (batch, rows) in keys.iter().enumerate() {
        for row in 0..rows.num_rows() {
            let place = (u32::try_from(batch), u32::try_from(row));
            let (Ok(batch), Ok(at)) = place else {
                return Err(ServiceError::internal("a block of more than 4 billion rows"));
            };
            order.push((prefix(rows.row(row).data()), batch, at));
        }
    }
    let key = |entry: &(u128, u32, u32)| keys[entry.1 as usize].row(entry.2 as usize);
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a).cmp(&key(b))));
    for pair in order.windows(2) {
        if pair[0].0 == pair[1].0 && key(&pair[0]) == key(&pair[1]) {
            return Err(repeated((pair[1].1 as usize, pair[1].2 as usize)));
        }
    }
    Ok(Order::Sorted(
        order.into_iter().map(|(_, batch, row)| (batch as usize, row as usize)).collect(),
    ))
}

enum Arrival {
    Ascending,
    Unsorted,
    Repeats((usize, usize)),
}

fn arrival_is_sorted(keys: &[Rows]) -> Arrival {
    let mut before: Option<&[u8]> = None;
    let mut repeats = None;
    for (batch, rows) in keys.iter().enumerate() {
        for row in 0..rows.num_rows() {
            let now = keys[batch].row(row).data();
            match before.map(|before| before.cmp(now)) {
                Some(std::cmp::Ordering::Greater) => return Arrival::Unsorted,
                Some(std::cmp::Ordering::Equal) if repeats.is_none() => {
                    repeats = Some((batch, row))
                }
                _ => {}
            }
            before = Some(now);
        }
    }
    repeats.map_or(Arrival::Ascending, Arrival::Repeats)
}

/// The error of a key that is there twice.
pub(crate) fn duplicate(column: &str, key: &str) -> ServiceError {
    ServiceError::new(
        service_error::Code::AlreadyExists,
        format!("{column}: the put brings the key {key} twice; send each key once"),
    )
    .reason("KEY_EXISTS")
    .field(column)
    .with("key", key)
}
