//! Columns that grow cell by cell from text or JSON. A cell that does not fit
//! its type is refused with words, never bent to fit: nothing is truncated,
//! rounded or wrapped.

mod parse;

pub(crate) use parse::{is_date, is_timestamp, quoted};

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    FixedSizeBinaryBuilder, Float64Builder, Int64Builder, ListArray, NullBufferBuilder,
    StringBuilder, StructArray, Time64NanosecondBuilder, UInt64Builder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

use crate::json::Json;

/// One column under construction.
pub(crate) struct Column {
    field: FieldRef,
    store: Store,
}

/// What is grown. Narrow numbers grow as wide ones, range-checked, and are
/// cast when the batch is finished.
enum Store {
    Bool(BooleanBuilder),
    Int {
        cells: Int64Builder,
        min: i64,
        max: i64,
    },
    Uint {
        cells: UInt64Builder,
        max: u64,
    },
    Float(Float64Builder),
    Decimal {
        cells: Decimal128Builder,
        precision: u8,
        scale: i8,
    },
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Fixed {
        cells: FixedSizeBinaryBuilder,
        size: i32,
    },
    Date(Date32Builder),
    Time(Time64NanosecondBuilder),
    /// In the unit of the type, without its zone.
    Stamp {
        cells: Int64Builder,
        unit: TimeUnit,
    },
    List {
        child: Box<Column>,
        ends: Vec<i32>,
        valid: NullBufferBuilder,
        fixed: Option<usize>,
    },
    Struct {
        children: Vec<Column>,
        valid: NullBufferBuilder,
    },
}

impl Column {
    /// An empty column, or why its type cannot be read from text.
    pub(crate) fn new(field: &FieldRef) -> Result<Self, String> {
        Ok(Self { store: Store::new(field.data_type())?, field: Arc::clone(field) })
    }

    pub(crate) fn append_null(&mut self) {
        match &mut self.store {
            Store::Bool(cells) => cells.append_null(),
            Store::Int { cells, .. } | Store::Stamp { cells, .. } => cells.append_null(),
            Store::Uint { cells, .. } => cells.append_null(),
            Store::Float(cells) => cells.append_null(),
            Store::Decimal { cells, .. } => cells.append_null(),
            Store::Text(cells) => cells.append_null(),
            Store::Bytes(cells) => cells.append_null(),
            Store::Fixed { cells, .. } => cells.append_null(),
            Store::Date(cells) => cells.append_null(),
            Store::Time(cells) => cells.append_null(),
            Store::List { child, ends, valid, fixed } => {
                (0..fixed.unwrap_or(0)).for_each(|_| child.append_null());
                ends.push(
                    ends.last().copied().unwrap_or(0)
                        + i32::try_from(fixed.unwrap_or(0)).unwrap_or(0),
                );
                valid.append_null();
            }
            Store::Struct { children, valid } => {
                children.iter_mut().for_each(Self::append_null);
                valid.append_null();
            }
        }
    }

    /// A cell of a CSV file; nested types are written as JSON.
    pub(crate) fn append_text(&mut self, text: &str) -> Result<(), String> {
        match &mut self.store {
            Store::Bool(cells) => cells.append_value(parse::boolean(text)?),
            Store::Int { cells, min, max } => cells.append_value(parse::int(text, *min, *max)?),
            Store::Uint { cells, max } => cells.append_value(parse::uint(text, *max)?),
            Store::Float(cells) => cells.append_value(parse::float(text)?),
            Store::Decimal { cells, precision, scale } => {
                cells.append_value(parse::decimal(text, *precision, *scale)?)
            }
            Store::Text(cells) => cells.append_value(text),
            Store::Bytes(cells) => cells.append_value(parse::bytes(text)?),
            Store::Fixed { cells, size } => {
                let bytes = parse::fixed(text, *size)?;
                cells.append_value(bytes).map_err(|err| err.to_string())?;
            }
            Store::Date(cells) => cells.append_value(parse::date(text)?),
            Store::Time(cells) => cells.append_value(parse::time(text)?),
            Store::Stamp { cells, unit } => cells.append_value(parse::timestamp(text, *unit)?),
            Store::List { .. } | Store::Struct { .. } => {
                let json = serde_json::from_str::<Json>(text)
                    .map_err(|err| format!("{} is not JSON: {err}", parse::quoted(text)))?;
                return self.append_json(&json);
            }
        }
        Ok(())
    }

    /// A cell of a JSON file.
    pub(crate) fn append_json(&mut self, json: &Json) -> Result<(), String> {
        match (&mut self.store, json) {
            (_, Json::Null) => self.append_null(),
            (Store::Text(cells), Json::Text(text)) => cells.append_value(text),
            (Store::Text(cells), other) => cells.append_value(other.to_string()),
            (Store::Bool(cells), Json::Bool(value)) => cells.append_value(*value),
            (Store::Int { cells, min, max }, Json::Int(value))
                if *value >= *min && *value <= *max =>
            {
                cells.append_value(*value)
            }
            (Store::Uint { cells, max }, Json::Uint(value)) if *value <= *max => {
                cells.append_value(*value)
            }
            (Store::Float(cells), Json::Float(value)) => cells.append_value(*value),
            // Whole numbers up to 2^53 are exact as floats.
            (Store::Float(cells), Json::Int(value)) if value.unsigned_abs() <= 1 << 53 => {
                cells.append_value(*value as f64)
            }
            (Store::List { .. }, Json::List(items)) => return self.append_list(items),
            (Store::Struct { .. }, Json::Object(fields)) => return self.append_struct(fields),
            (Store::List { .. } | Store::Struct { .. } | Store::Bool(_), other) => {
                return Err(format!(
                    "{} is not {}",
                    parse::quoted(&other.to_string()),
                    parse::type_text(self.field.data_type())
                ));
            }
            (_, Json::Text(text)) => return self.append_text(text),
            (_, Json::Int(_) | Json::Uint(_) | Json::Float(_)) => {
                return self.append_text(&json.to_string());
            }
            (_, other) => {
                return Err(format!(
                    "{} is not {}",
                    parse::quoted(&other.to_string()),
                    parse::type_text(self.field.data_type())
                ));
            }
        }
        Ok(())
    }

    fn append_list(&mut self, items: &[Json]) -> Result<(), String> {
        let Store::List { child, ends, valid, fixed } = &mut self.store else {
            return Ok(());
        };
        if let Some(size) = fixed.filter(|size| *size != items.len()) {
            return Err(format!("the list has {} entries, its type {size}", items.len()));
        }
        for item in items {
            child.append_json(item)?;
        }
        let end = i64::from(ends.last().copied().unwrap_or(0))
            + i64::try_from(items.len()).unwrap_or(i64::MAX);
        ends.push(
            i32::try_from(end)
                .map_err(|_| "the lists of one batch have over 2^31 entries".to_owned())?,
        );
        valid.append_non_null();
        Ok(())
    }

    fn append_struct(&mut self, fields: &[(String, Json)]) -> Result<(), String> {
        let Store::Struct { children, valid } = &mut self.store else {
            return Ok(());
        };
        if let Some((name, _)) =
            fields.iter().find(|(name, _)| !children.iter().any(|child| child.field.name() == name))
        {
            return Err(format!(
                "no field {name:?} in its type; give the column's type by --schema"
            ));
        }
        for child in children {
            match fields.iter().find(|(name, _)| name == child.field.name()) {
                Some((name, value)) => {
                    child.append_json(value).map_err(|err| format!("{name}: {err}"))?
                }
                None => child.append_null(),
            }
        }
        valid.append_non_null();
        Ok(())
    }

    /// The cells so far, as the column's type; the column is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let wide: ArrayRef = match &mut self.store {
            Store::Bool(cells) => Arc::new(cells.finish()),
            Store::Int { cells, .. } | Store::Stamp { cells, .. } => Arc::new(cells.finish()),
            Store::Uint { cells, .. } => Arc::new(cells.finish()),
            Store::Float(cells) => Arc::new(cells.finish()),
            Store::Decimal { cells, .. } => Arc::new(cells.finish()),
            Store::Text(cells) => Arc::new(cells.finish()),
            Store::Bytes(cells) => Arc::new(cells.finish()),
            Store::Fixed { cells, .. } => Arc::new(cells.finish()),
            Store::Date(cells) => Arc::new(cells.finish()),
            Store::Time(cells) => Arc::new(cells.finish()),
            Store::List { child, ends, valid, .. } => {
                let mut offsets = vec![0];
                offsets.append(ends);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let values = child.finish()?;
                Arc::new(ListArray::try_new(
                    Arc::clone(&child.field),
                    offsets,
                    values,
                    valid.finish(),
                )?)
            }
            Store::Struct { children, valid } => {
                let fields: Fields =
                    children.iter().map(|child| Arc::clone(&child.field)).collect();
                let length = valid.len();
                let arrays =
                    children.iter_mut().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields, arrays, valid.finish(), length)?)
            }
        };
        if wide.data_type() == self.field.data_type() {
            Ok(wide)
        } else {
            cast(&wide, self.field.data_type())
        }
    }
}

impl Store {
    fn new(kind: &DataType) -> Result<Self, String> {
        let int = |min, max| Self::Int { cells: Int64Builder::new(), min, max };
        let uint = |max| Self::Uint { cells: UInt64Builder::new(), max };
        Ok(match kind {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int8 => int(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => int(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => int(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => int(i64::MIN, i64::MAX),
            DataType::UInt8 => uint(u8::MAX.into()),
            DataType::UInt16 => uint(u16::MAX.into()),
            DataType::UInt32 => uint(u32::MAX.into()),
            DataType::UInt64 => uint(u64::MAX),
            DataType::Float32 | DataType::Float64 => Self::Float(Float64Builder::new()),
            DataType::Decimal128(precision, scale) => Self::Decimal {
                cells: Decimal128Builder::new().with_data_type(kind.clone()),
                precision: *precision,
                scale: *scale,
            },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(StringBuilder::new())
            }
            DataType::Dictionary(_, value) => return Self::new(value),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Self::Bytes(BinaryBuilder::new())
            }
            DataType::FixedSizeBinary(size) => {
                Self::Fixed { cells: FixedSizeBinaryBuilder::new(*size), size: *size }
            }
            DataType::Date32 | DataType::Date64 => Self::Date(Date32Builder::new()),
            DataType::Time32(_) | DataType::Time64(_) => Self::Time(Time64NanosecondBuilder::new()),
            DataType::Timestamp(unit, _) => Self::Stamp { cells: Int64Builder::new(), unit: *unit },
            DataType::List(item) | DataType::LargeList(item) => Self::list(item, None)?,
            DataType::FixedSizeList(item, size) => Self::list(item, usize::try_from(*size).ok())?,
            DataType::Struct(fields) => Self::Struct {
                children: fields.iter().map(Column::new).collect::<Result<_, _>>()?,
                valid: NullBufferBuilder::new(0),
            },
            other => {
                return Err(format!(
                    "the type {other} cannot be read from text; use parquet or arrow"
                ));
            }
        })
    }

    fn list(item: &Arc<Field>, fixed: Option<usize>) -> Result<Self, String> {
        let child = Box::new(Column::new(item)?);
        Ok(Self::List { child, ends: Vec::new(), valid: NullBufferBuilder::new(0), fixed })
    }
}

#[cfg(test)]
mod tests;
