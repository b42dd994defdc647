//! Values of a payload, and their bytes in SQL rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::PayloadError;
use crate::bytes::{Reader, Writer};

/// The most fields of one payload.
pub const FIELDS_MAX: usize = 256;
/// The longest name of a field, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// The largest payload of a point, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// Microseconds since 1970 UTC.
    Time(i64),
    /// Days since 1970.
    Date(i32),
    /// Values of one kind, which is not `List`.
    List(Vec<Value>),
}

/// The kind of a column's values, or of its lists' elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Value::Bool`]
    Bool,
    /// [`Value::Int`]
    Int,
    /// [`Value::Float`]
    Float,
    /// [`Value::Text`]
    Text,
    /// [`Value::Time`]
    Time,
    /// [`Value::Date`]
    Date,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnType {
    /// Of values or elements.
    pub kind: Kind,
    /// Lists of them.
    pub list: bool,
}

impl Kind {
    /// Arrow's type.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => DataType::Date32,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Bool => 1,
            Self::Int => 2,
            Self::Float => 3,
            Self::Text => 4,
            Self::Time => 5,
            Self::Date => 6,
        }
    }

    pub(crate) fn of_code(code: u8) -> Result<Self, PayloadError> {
        [Self::Bool, Self::Int, Self::Float, Self::Text, Self::Time, Self::Date]
            .into_iter()
            .find(|kind| kind.code() == code)
            .ok_or(PayloadError::Damaged("a kind of value"))
    }
}

impl ColumnType {
    /// Arrow's type.
    #[must_use]
    pub fn data_type(self) -> DataType {
        let element = self.kind.data_type();
        if self.list {
            DataType::List(Arc::new(Field::new_list_field(element, true)))
        } else {
            element
        }
    }
}

impl Value {
    /// The kind of a value that is no list.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::Text(_) => Kind::Text,
            Self::Time(_) => Kind::Time,
            Self::Date(_) => Kind::Date,
            Self::List(_) => return None,
        })
    }

    /// What a column of such values holds; nothing for an empty list, which fits any.
    #[must_use]
    pub fn column_type(&self) -> Option<ColumnType> {
        match self {
            Self::List(values) => {
                values.first()?.kind().map(|kind| ColumnType { kind, list: true })
            }
            value => value.kind().map(|kind| ColumnType { kind, list: false }),
        }
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::List(values) => {
                out.byte(7);
                out.count(values.len());
                values.iter().for_each(|value| value.write(out));
            }
            value => {
                out.byte(value.kind().map_or(0, Kind::code));
                match value {
                    Self::Bool(b) => out.byte(u8::from(*b)),
                    Self::Int(n) | Self::Time(n) => out.int(*n),
                    Self::Float(n) => out.int(i64::from_ne_bytes(n.to_ne_bytes())),
                    Self::Text(text) => out.text(text),
                    Self::Date(days) => out.int(i64::from(*days)),
                    Self::List(_) => {}
                }
            }
        }
    }

    fn read(from: &mut Reader<'_>, nested: bool) -> Result<Self, PayloadError> {
        let code = from.byte()?;
        if code == 7 && !nested {
            let count = from.count(1)?;
            return (0..count)
                .map(|_| Self::read(from, true))
                .collect::<Result<_, _>>()
                .map(Self::List);
        }
        Ok(match Kind::of_code(code)? {
            Kind::Bool => Self::Bool(from.byte()? != 0),
            Kind::Int => Self::Int(from.int()?),
            Kind::Float => Self::Float(f64::from_ne_bytes(from.int()?.to_ne_bytes())),
            Kind::Text => Self::Text(from.text()?.to_owned()),
            Kind::Time => Self::Time(from.int()?),
            Kind::Date => {
                Self::Date(i32::try_from(from.int()?).map_err(|_| PayloadError::Damaged("a date"))?)
            }
        })
    }
}

/// The named values of a point, by name, each once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    fields: Vec<(String, Value)>,
}

impl Payload {
    /// A payload of these fields.
    ///
    /// # Errors
    /// Too many, a name twice, empty or too long, a list of lists or of several kinds.
    pub fn new(mut fields: Vec<(String, Value)>) -> Result<Self, PayloadError> {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        if fields.len() > FIELDS_MAX {
            return Err(PayloadError::Refused {
                column: String::new(),
                message: format!("{} fields; a payload has at most {FIELDS_MAX}", fields.len()),
            });
        }
        let refused = |column: &str, message: &str| PayloadError::Refused {
            column: column.chars().take(NAME_BYTES_MAX).collect(),
            message: message.to_owned(),
        };
        for (at, (name, value)) in fields.iter().enumerate() {
            let is_bounded = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
            if !is_bounded || name == crate::ITEM_ID || name.contains('\0') {
                return Err(refused(
                    name,
                    "is no name for a field: 1 to 256 bytes, none of them 0, and not item_id",
                ));
            }
            if at > 0 && fields[at - 1].0 == *name {
                return Err(refused(name, "is there twice"));
            }
            if let Value::List(values) = value {
                let kind = values.first().and_then(Value::kind);
                if values.iter().any(|value| value.kind().is_none() || value.kind() != kind) {
                    return Err(refused(name, "is a list of several kinds of values"));
                }
            }
        }
        Ok(Self { fields })
    }

    /// The fields, by name.
    #[must_use]
    pub fn fields(&self) -> &[(String, Value)] {
        &self.fields
    }

    /// A field's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.fields.binary_search_by(|(field, _)| field.as_str().cmp(name)).ok()?;
        Some(&self.fields[at].1)
    }

    /// The payload with the values of some columns replaced by those of another one, which
    /// takes away what that does not have.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_columns(&self, columns: &[String], of: &Self) -> Result<Self, PayloadError> {
        let kept = self.fields.iter().filter(|(name, _)| !columns.contains(name));
        let given = of.fields.iter().filter(|(name, _)| columns.contains(name));
        Self::new(kept.chain(given).cloned().collect())
    }

    /// The payload as bytes; none at all for an empty one.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.fields.is_empty() {
            return Vec::new();
        }
        let mut out = Writer::default();
        out.byte(1);
        out.count(self.fields.len());
        for (name, value) in &self.fields {
            out.text(name);
            value.write(&mut out);
        }
        out.finish()
    }

    /// What [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// Bytes that it did not make.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PayloadError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut from = Reader::new(bytes);
        if from.byte()? != 1 {
            return Err(PayloadError::Damaged("the version of a payload"));
        }
        let count = from.count(2)?;
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            fields.push((from.text()?.to_owned(), Value::read(&mut from, false)?));
        }
        Ok(Self { fields })
    }
}
