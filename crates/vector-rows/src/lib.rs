//! Arrow batches as points.

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, GenericListArray, OffsetSizeTrait, RecordBatch,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use payload_index::{Kind, Payload, Value};

/// Why rows cannot be taken at all.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// No such column.
    #[error("no column {name:?}; there are {known}")]
    NoColumn {
        /// As asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A column that holds no vectors.
    #[error("column {0:?} is {1}; vectors are lists of f16, f32 or f64")]
    NoVectors(String, DataType),
    /// A column that tells no items apart.
    #[error("column {0:?} is {1}; ids are texts, numbers, times or UUIDs")]
    NoIds(String, DataType),
    /// A column that holds no texts.
    #[error("column {0:?} is {1}, not text")]
    NoTexts(String, DataType),
    /// A column that cannot be payload.
    #[error("column {0:?} is {1}, which is not filtered by, or not exactly")]
    NoPayload(String, DataType),
    /// Arrow's own.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// One row: a point, or why it is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The item's id; empty if it is null.
    pub item_id: String,
    /// Its numbers.
    pub vector: Result<Vec<f32>, String>,
    /// Its other columns.
    pub payload: Result<Payload, String>,
}

/// One row with a text instead of a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRow {
    /// The item's id; empty if it is null.
    pub item_id: String,
    /// Nothing: null.
    pub text: Option<String>,
    /// Its columns.
    pub payload: Result<Payload, String>,
}

/// One row without a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct PayloadRow {
    /// The item's id; empty if it is null.
    pub item_id: String,
    /// Its columns.
    pub payload: Result<Payload, String>,
}

/// Which columns are what.
#[derive(Debug, Clone)]
pub struct Columns {
    id: String,
    /// Of vectors or texts; empty: of neither.
    vector: String,
    payload: PayloadColumns,
}

/// How a column becomes values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PayloadType {
    kind: Kind,
    list: bool,
    uuid: bool,
    /// Some of its values are none of the kind's: it is taken only where it is named.
    wide: bool,
}

/// Columns that become payload.
type PayloadColumns = Vec<(String, PayloadType)>;

/// A payload a row, or what is wrong with it.
type Payloads = Vec<Result<Payload, String>>;

/// A value a row, or what is wrong with it.
type Values = Vec<Result<Option<Value>, String>>;

impl Columns {
    /// Columns of a schema. With no payload named, every other column that can be filtered by
    /// exactly is taken, and the names of the others are answered.
    ///
    /// # Errors
    /// A column that is not there, or not of a type for its use.
    pub fn of(
        schema: &Schema,
        id: &str,
        vector: &str,
        payload: &[String],
    ) -> Result<(Self, Vec<String>), RowsError> {
        id_column_of(schema, id)?;
        let field = column_of(schema, vector)?;
        if !holds_vectors(field.data_type()) {
            return Err(RowsError::NoVectors(vector.to_owned(), field.data_type().clone()));
        }
        let (payload, left_out) = payload_of(schema, payload, |field| field.name() == vector)?;
        Ok((Self { id: id.to_owned(), vector: vector.to_owned(), payload }, left_out))
    }

    /// The same without vectors: columns of points that have theirs. Lists of floats are taken
    /// for vectors, and only where they are named.
    ///
    /// # Errors
    /// A column that is not there, or not of a type for its use.
    pub fn of_payload(
        schema: &Schema,
        id: &str,
        payload: &[String],
    ) -> Result<(Self, Vec<String>), RowsError> {
        id_column_of(schema, id)?;
        let is_vector = |field: &Field| holds_floats(field.data_type());
        let (payload, left_out) = payload_of(schema, payload, is_vector)?;
        Ok((Self { id: id.to_owned(), vector: String::new(), payload }, left_out))
    }

    /// The same for a column of texts, which stays payload.
    ///
    /// # Errors
    /// A column that is not there, or not of a type for its use.
    pub fn of_texts(
        schema: &Schema,
        id: &str,
        text: &str,
        payload: &[String],
    ) -> Result<(Self, Vec<String>), RowsError> {
        let field = column_of(schema, text)?;
        if payload_type(field.data_type()).is_none_or(|t| t.list || t.kind != Kind::Text) {
            return Err(RowsError::NoTexts(text.to_owned(), field.data_type().clone()));
        }
        id_column_of(schema, id)?;
        let mut columns = Self { id: id.to_owned(), vector: text.to_owned(), payload: Vec::new() };
        let mut left_out = Vec::new();
        for field in schema.fields() {
            let wanted = payload.is_empty() || payload.contains(field.name());
            match payload_type(field.data_type()) {
                Some(found)
                    if wanted
                        && field.name() != payload_index::ITEM_ID
                        && !(found.wide && payload.is_empty()) =>
                {
                    columns.payload.push((field.name().clone(), found));
                }
                None if payload.contains(field.name()) => {
                    let data_type = field.data_type().clone();
                    return Err(RowsError::NoPayload(field.name().clone(), data_type));
                }
                _ if wanted => left_out.push(field.name().clone()),
                _ => {}
            }
        }
        Ok((columns, left_out))
    }

    /// The columns that become payload.
    #[must_use]
    pub fn payload(&self) -> Vec<String> {
        self.payload.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The rows of a batch of texts.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn text_rows(&self, batch: &RecordBatch) -> Result<Vec<TextRow>, RowsError> {
        let (ids, payload) = self.ids_and_payload(batch)?;
        let found = texts(self.column(batch, &self.vector)?)?;
        let rows = ids.into_iter().zip(found).zip(payload);
        Ok(rows.map(|((item_id, text), payload)| TextRow { item_id, text, payload }).collect())
    }

    /// The columns that are read.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![self.id.clone()];
        names.extend((!self.vector.is_empty()).then(|| self.vector.clone()));
        names.extend(self.payload.iter().map(|(name, _)| name.clone()));
        names.sort();
        names.dedup();
        names
    }

    /// The rows of a batch.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn rows(&self, batch: &RecordBatch) -> Result<Vec<Row>, RowsError> {
        let (ids, payload) = self.ids_and_payload(batch)?;
        let vectors = vectors(self.column(batch, &self.vector)?)?;
        let rows = ids.into_iter().zip(vectors).zip(payload);
        Ok(rows.map(|((item_id, vector), payload)| Row { item_id, vector, payload }).collect())
    }

    /// The rows of a batch without their vectors.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn payload_rows(&self, batch: &RecordBatch) -> Result<Vec<PayloadRow>, RowsError> {
        let (ids, payload) = self.ids_and_payload(batch)?;
        let rows = ids.into_iter().zip(payload);
        Ok(rows.map(|(item_id, payload)| PayloadRow { item_id, payload }).collect())
    }

    fn column<'a>(&self, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, RowsError> {
        batch.column_by_name(name).ok_or_else(|| RowsError::NoColumn {
            name: name.to_owned(),
            known: known(batch.schema_ref()),
        })
    }

    fn ids_and_payload(&self, batch: &RecordBatch) -> Result<(Vec<String>, Payloads), RowsError> {
        let ids = texts(self.column(batch, &self.id)?)?;
        let mut payload: Vec<Result<Vec<(String, Value)>, String>> =
            vec![Ok(Vec::new()); batch.num_rows()];
        for (name, payload_type) in &self.payload {
            let values = values(self.column(batch, name)?, payload_type)?;
            for (row, value) in payload.iter_mut().zip(values) {
                match (&mut *row, value) {
                    (Ok(fields), Ok(value)) => fields.extend(value.map(|v| (name.clone(), v))),
                    (Ok(_), Err(wrong)) => *row = Err(format!("{name:?} {wrong}")),
                    (Err(_), _) => {}
                }
            }
        }
        let payload = payload
            .into_iter()
            .map(|row| Payload::new(row?).map_err(|error| error.to_string()))
            .collect();
        Ok((ids.into_iter().map(Option::unwrap_or_default).collect(), payload))
    }
}

/// The item ids of a batch; nothing where they are null.
///
/// # Errors
/// A batch without the column.
pub fn item_ids(batch: &RecordBatch, id: &str) -> Result<Vec<Option<String>>, RowsError> {
    let schema = batch.schema();
    let at = schema
        .index_of(id)
        .map_err(|_| RowsError::NoColumn { name: id.to_owned(), known: known(&schema) })?;
    texts(batch.column(at))
}

fn column_of<'a>(schema: &'a Schema, name: &str) -> Result<&'a Field, RowsError> {
    schema
        .field_with_name(name)
        .map_err(|_| RowsError::NoColumn { name: name.to_owned(), known: known(schema) })
}

/// The column of ids, if its texts tell items apart.
fn id_column_of<'a>(schema: &'a Schema, name: &str) -> Result<&'a Field, RowsError> {
    let field = column_of(schema, name)?;
    let is_blob = |of: &DataType| match of {
        DataType::FixedSizeBinary(width) => *width != 16,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null => true,
        other => other.is_nested(),
    };
    let data_type = field.data_type();
    let is_no_id = match data_type {
        DataType::Dictionary(_, values) => is_blob(values),
        other => is_blob(other),
    };
    if is_no_id {
        return Err(RowsError::NoIds(name.to_owned(), data_type.clone()));
    }
    Ok(field)
}

/// The columns that are named, or all that can be filtered by but some, and those left out.
fn payload_of(
    schema: &Schema,
    named: &[String],
    but: impl Fn(&Field) -> bool,
) -> Result<(PayloadColumns, Vec<String>), RowsError> {
    let mut columns = Vec::new();
    let mut left_out = Vec::new();
    for name in named {
        let data_type = column_of(schema, name)?.data_type();
        let found = payload_type(data_type)
            .ok_or_else(|| RowsError::NoPayload(name.clone(), data_type.clone()))?;
        columns.push((name.clone(), found));
    }
    if named.is_empty() {
        for field in schema.fields().iter().filter(|field| !but(field)) {
            match payload_type(field.data_type()) {
                Some(found) if field.name() != payload_index::ITEM_ID && !found.wide => {
                    columns.push((field.name().clone(), found));
                }
                _ => left_out.push(field.name().clone()),
            }
        }
    }
    Ok((columns, left_out))
}

fn known(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).take(60).collect();
    names.join(", ")
}

fn holds_vectors(data_type: &DataType) -> bool {
    element_of(data_type).is_some_and(|of| of.is_floating() || of.is_integer())
}

fn holds_floats(data_type: &DataType) -> bool {
    element_of(data_type).is_some_and(DataType::is_floating)
}

fn element_of(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::FixedSizeList(element, _)
        | DataType::List(element)
        | DataType::LargeList(element) => Some(element.data_type()),
        _ => None,
    }
}

fn scalar_kind(data_type: &DataType) -> Option<Kind> {
    Some(match data_type {
        DataType::Boolean => Kind::Bool,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Kind::Float,
        data_type if data_type.is_integer() => Kind::Int,
        DataType::Timestamp(..) => Kind::Time,
        DataType::Date32 | DataType::Date64 => Kind::Date,
        _ => return None,
    })
}

/// Whether a type has values that its kind does not: a row that has one is an error.
const fn is_wide(data_type: &DataType) -> bool {
    matches!(data_type, DataType::UInt64 | DataType::Timestamp(TimeUnit::Nanosecond, _))
}

fn payload_type(data_type: &DataType) -> Option<PayloadType> {
    match data_type {
        DataType::Dictionary(_, values) => payload_type(values),
        DataType::FixedSizeBinary(16) => {
            Some(PayloadType { kind: Kind::Text, list: false, uuid: true, wide: false })
        }
        DataType::List(element) | DataType::LargeList(element) => {
            let kind = scalar_kind(element.data_type())?;
            let wide = is_wide(element.data_type());
            Some(PayloadType { kind, list: true, uuid: false, wide })
        }
        data_type => {
            let kind = scalar_kind(data_type)?;
            Some(PayloadType { kind, list: false, uuid: false, wide: is_wide(data_type) })
        }
    }
}

/// Ids as text: UUIDs with hyphens, numbers in digits.
fn texts(array: &ArrayRef) -> Result<Vec<Option<String>>, RowsError> {
    let text = |at: usize| -> Result<Option<String>, RowsError> {
        if array.is_null(at) {
            return Ok(None);
        }
        if let Some(bytes) = array.as_fixed_size_binary_opt().filter(|b| b.value_length() == 16) {
            let id = uuid::Uuid::from_slice(bytes.value(at));
            return Ok(id.ok().map(|id| id.hyphenated().to_string()));
        }
        Ok(Some(array_value_to_string(array, at)?))
    };
    (0..array.len()).map(text).collect()
}

fn vectors(array: &ArrayRef) -> Result<Vec<Result<Vec<f32>, String>>, RowsError> {
    if let Some(lists) = array.as_fixed_size_list_opt() {
        let width = usize::try_from(lists.value_length()).unwrap_or(0);
        let values = floats(lists.values())?;
        let bounds = |at: usize| (at * width, (at + 1) * width);
        return Ok((0..lists.len()).map(|at| vector(lists, &values, at, bounds(at))).collect());
    }
    if let Some(lists) = array.as_list_opt::<i32>() {
        return of_lists(lists);
    }
    let lists = array
        .as_list_opt::<i64>()
        .ok_or_else(|| RowsError::NoVectors(String::new(), array.data_type().clone()))?;
    of_lists(lists)
}

fn of_lists<O: OffsetSizeTrait>(
    lists: &GenericListArray<O>,
) -> Result<Vec<Result<Vec<f32>, String>>, RowsError> {
    let values = floats(lists.values())?;
    let bounds = |at: usize| {
        let offsets = lists.value_offsets();
        (offsets[at].as_usize(), offsets[at + 1].as_usize())
    };
    Ok((0..lists.len()).map(|at| vector(lists, &values, at, bounds(at))).collect())
}

fn vector(
    lists: &dyn Array,
    values: &Float32Array,
    at: usize,
    (begin, end): (usize, usize),
) -> Result<Vec<f32>, String> {
    if lists.is_null(at) {
        return Err("has no vector".to_owned());
    }
    if values.null_count() > 0 && (begin..end).any(|value| values.is_null(value)) {
        return Err("its vector holds a null".to_owned());
    }
    Ok(values.values()[begin..end].to_vec())
}

fn floats(array: &ArrayRef) -> Result<Float32Array, RowsError> {
    Ok(cast(array, &DataType::Float32)?.as_primitive::<Float32Type>().clone())
}

fn values(array: &ArrayRef, to: &PayloadType) -> Result<Values, RowsError> {
    if to.uuid {
        return Ok(texts(array)?.into_iter().map(|text| Ok(text.map(Value::Text))).collect());
    }
    let array = match array.data_type() {
        DataType::Dictionary(_, inner) => cast(array, inner)?,
        _ => ArrayRef::clone(array),
    };
    if !to.list {
        return scalars(&array, to.kind);
    }
    let of = |at: usize, elements: ArrayRef| -> Result<Result<Option<Value>, String>, RowsError> {
        if array.is_null(at) {
            return Ok(Ok(None));
        }
        let found: Result<Vec<_>, String> = scalars(&elements, to.kind)?.into_iter().collect();
        Ok(found.map(|found| Some(Value::List(found.into_iter().flatten().collect()))))
    };
    if let Some(lists) = array.as_list_opt::<i32>() {
        return (0..lists.len()).map(|at| of(at, lists.value(at))).collect();
    }
    match array.as_list_opt::<i64>() {
        Some(lists) => (0..lists.len()).map(|at| of(at, lists.value(at))).collect(),
        None => Ok(vec![Ok(None); array.len()]),
    }
}

/// The values, each as it is or an error.
fn scalars(array: &ArrayRef, kind: Kind) -> Result<Values, RowsError> {
    let nanos = match array.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Some(array.as_primitive::<TimestampNanosecondType>())
        }
        _ => None,
    };
    let is_fine = |at: usize| nanos.is_some_and(|nanos| nanos.value(at) % 1_000 != 0);
    // A cast makes null of what the other type does not have.
    macro_rules! gather {
        ($cast:expr, $make:expr) => {{
            let cast = $cast;
            let value = |at: usize| match (array.is_valid(at), cast.is_valid(at)) {
                (false, _) => Ok(None),
                (true, true) if !is_fine(at) => Ok(Some($make(cast.value(at)))),
                _ => Err(inexact(array, at)),
            };
            (0..array.len()).map(value).collect()
        }};
    }
    Ok(match kind {
        Kind::Bool => gather!(array.as_boolean(), Value::Bool),
        Kind::Int => {
            let wide = cast(array, &DataType::Int64)?;
            gather!(wide.as_primitive::<Int64Type>(), Value::Int)
        }
        Kind::Float => {
            let wide = cast(array, &DataType::Float64)?;
            gather!(wide.as_primitive::<Float64Type>(), Value::Float)
        }
        Kind::Text => {
            let plain = cast(array, &DataType::Utf8)?;
            gather!(plain.as_string::<i32>(), |text: &str| Value::Text(text.to_owned()))
        }
        Kind::Time => {
            let unit = DataType::Timestamp(TimeUnit::Microsecond, None);
            let zoned = matches!(array.data_type(), DataType::Timestamp(_, Some(_)));
            let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let micros = cast(array, if zoned { &utc } else { &unit })?;
            gather!(micros.as_primitive::<TimestampMicrosecondType>(), Value::Time)
        }
        Kind::Date => {
            let days = cast(array, &DataType::Date32)?;
            gather!(days.as_primitive::<Date32Type>(), Value::Date)
        }
    })
}

fn inexact(array: &ArrayRef, at: usize) -> String {
    let shown = array_value_to_string(array, at).unwrap_or_default();
    format!(
        "is {shown}: payload holds whole numbers up to {} and times of whole microseconds",
        i64::MAX
    )
}

/// How many coordinates each vector of a column has, if the type says.
#[must_use]
pub fn width(data_type: &DataType) -> Option<i32> {
    match data_type {
        DataType::FixedSizeList(_, width) => Some(*width),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
