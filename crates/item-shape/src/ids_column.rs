//! The id column of items: UUIDs as they came, one spelling a dataset.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use service_error::ServiceError;
use uuid::Uuid;

/// The field's metadata that says how ids are spelled.
const FORM_KEY: &str = "quarry.id_form";

/// How a dataset spells its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdForm {
    /// 16 bytes.
    Bytes,
    /// Text with hyphens, lower case.
    Hyphenated,
    /// Text without hyphens, lower case.
    Simple,
}

impl IdForm {
    /// As the dataset's schema says.
    pub fn of(field: &Field) -> Option<Self> {
        match field.data_type() {
            DataType::FixedSizeBinary(16) => Some(Self::Bytes),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let simple = field.metadata().get(FORM_KEY).is_some_and(|form| form == "simple");
                Some(if simple { Self::Simple } else { Self::Hyphenated })
            }
            _ => None,
        }
    }

    /// As the first id of a new dataset is spelled.
    pub fn noted(field: Field, ids: Option<&ArrayRef>) -> Field {
        let text = ids.and_then(|ids| {
            cast(ids, &DataType::Utf8).ok().filter(|_| IdForm::of(&field) != Some(Self::Bytes))
        });
        let simple = text.is_some_and(|text| {
            text.as_string_opt::<i32>()
                .and_then(|t| t.iter().flatten().next())
                .is_some_and(|id| id.trim().len() == 32)
        });
        if !simple {
            return field;
        }
        let mut metadata = field.metadata().clone();
        metadata.insert(FORM_KEY.to_owned(), "simple".to_owned());
        field.with_metadata(metadata)
    }

    pub fn spell(self, id: Uuid) -> String {
        if self == Self::Simple { id.simple().to_string() } else { id.hyphenated().to_string() }
    }

    fn is_spelled(self, text: &str) -> bool {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let bytes = text.as_bytes();
        match self {
            Self::Bytes => false,
            Self::Simple => bytes.len() == 32 && bytes.iter().all(|b| digit(*b)),
            Self::Hyphenated => {
                bytes.len() == 36
                    && bytes.iter().enumerate().all(|(i, b)| {
                        if matches!(i, 8 | 13 | 18 | 23) { *b == b'-' } else { digit(*b) }
                    })
            }
        }
    }
}

/// A key as the dataset spells its ids; `None` if it is no UUID.
pub fn spelled_id(field: &Field, key: &str) -> Option<String> {
    let id = item_schema::parse_id(key).ok()?;
    Some(IdForm::of(field)?.spell(id))
}

/// Keys that were given, in the dataset's type and spelling.
///
/// # Errors
/// An id that is none, or a key that its type cannot hold.
pub fn keys(
    given: &ArrayRef,
    field: &Field,
    profile: item_schema::Profile,
) -> Result<ArrayRef, ServiceError> {
    let is_id =
        profile == item_schema::Profile::Items && field.name() == item_schema::DEFAULT_KEY_COLUMN;
    if is_id {
        return normalised(given, field);
    }
    if given.data_type() == field.data_type() {
        return Ok(Arc::clone(given));
    }
    if !blocks::can_adapt(given.data_type(), field.data_type()) {
        let message =
            format!("is {} and the dataset's column is {}", given.data_type(), field.data_type());
        return Err(ServiceError::invalid(field.name(), message).reason("SCHEMA_MISMATCH"));
    }
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    arrow::compute::cast_with_options(given, field.data_type(), &options)
        .map_err(|error| ServiceError::invalid(field.name(), error).reason("VALUE_DOES_NOT_FIT"))
}

/// New ids in a dataset's form.
pub(crate) fn made(count: usize, field: &Field) -> Result<ArrayRef, ServiceError> {
    rebuilt((0..count).map(|_| Ok(item_schema::new_id())), field)
}

/// The same id in every row.
pub(crate) fn repeated(id: Uuid, count: usize, field: &Field) -> Result<ArrayRef, ServiceError> {
    rebuilt((0..count).map(|_| Ok(id)), field)
}

/// Ids in the dataset's type and spelling; nulls become new ids. An array that
/// is right already is taken as it is.
pub(crate) fn normalised(ids: &ArrayRef, field: &Field) -> Result<ArrayRef, ServiceError> {
    let Some(form) = IdForm::of(field) else { return Ok(Arc::clone(ids)) };
    if form == IdForm::Bytes
        && ids.data_type() == &DataType::FixedSizeBinary(16)
        && ids.null_count() == 0
    {
        return Ok(Arc::clone(ids));
    }
    if let Some(bytes) = ids.as_fixed_size_binary_opt() {
        let rows = (0..bytes.len()).map(|row| {
            if bytes.is_null(row) {
                Ok(item_schema::new_id())
            } else {
                item_schema::parse_id_bytes(bytes.value(row))
            }
        });
        return rebuilt(rows, field);
    }
    let as_text =
        cast(ids, &DataType::Utf8).map_err(|error| ServiceError::invalid(field.name(), error))?;
    let text = as_text.as_string::<i32>();
    let right = text.null_count() == 0 && text.iter().flatten().all(|id| form.is_spelled(id));
    if right {
        return cast(ids, field.data_type())
            .map_err(|error| ServiceError::invalid(field.name(), error));
    }
    let rows =
        text.iter().map(|id| id.map_or_else(|| Ok(item_schema::new_id()), item_schema::parse_id));
    rebuilt(rows, field)
}

fn rebuilt<I>(ids: I, field: &Field) -> Result<ArrayRef, ServiceError>
where
    I: Iterator<Item = Result<Uuid, item_schema::SchemaError>>,
{
    let refused = |error: String| ServiceError::invalid(field.name(), error).reason("INVALID_ID");
    let ids: Vec<Uuid> =
        ids.collect::<Result<_, _>>().map_err(|error| refused(error.to_string()))?;
    let form = IdForm::of(field).unwrap_or(IdForm::Hyphenated);
    if form == IdForm::Bytes {
        if ids.is_empty() {
            return Ok(arrow::array::new_empty_array(field.data_type()));
        }
        let array = FixedSizeBinaryArray::try_from_iter(ids.iter().map(Uuid::as_bytes));
        return Ok(Arc::new(array.map_err(|error| refused(error.to_string()))?));
    }
    let text = StringArray::from_iter_values(ids.iter().map(|id| form.spell(*id)));
    cast(&text, field.data_type()).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ID: &str = "01932d3e-7b2a-7c1f-9f00-000000000001";

    fn texts(ids: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(ids.to_vec()))
    }

    #[test]
    fn ids_that_are_right_are_not_touched() {
        let field = Field::new("id", DataType::Utf8, false);
        let ids = texts(&[Some(ID)]);
        let out = normalised(&ids, &field).unwrap();
        assert_eq!(
            out.as_string::<i32>().value(0).as_ptr(),
            ids.as_string::<i32>().value(0).as_ptr()
        );
    }

    #[test]
    fn ids_without_hyphens_keep_their_form() {
        let simple = ID.replace('-', "");
        let ids = texts(&[Some(&simple)]);
        let field = IdForm::noted(Field::new("id", DataType::Utf8, false), Some(&ids));
        assert_eq!(normalised(&ids, &field).unwrap().as_string::<i32>().value(0), simple);
        // Later puts are spelled like the first one.
        assert_eq!(
            normalised(&texts(&[Some(ID)]), &field).unwrap().as_string::<i32>().value(0),
            simple
        );
    }

    #[test]
    fn missing_ids_are_made_and_wrong_ones_refused() {
        let field = Field::new("id", DataType::Utf8, false);
        let out = normalised(&texts(&[None, Some(&ID.to_uppercase())]), &field).unwrap();
        assert_eq!(out.null_count(), 0);
        assert_eq!(out.as_string::<i32>().value(1), ID);
        let error = normalised(&texts(&[Some("seven")]), &field).unwrap_err();
        assert!(error.message().contains("seven") && error.field_name() == Some("id"), "{error}");
    }

    #[test]
    fn bytes_and_text_meet() {
        let field = Field::new("id", DataType::FixedSizeBinary(16), false);
        let out = normalised(&texts(&[Some(ID)]), &field).unwrap();
        assert_eq!(out.as_fixed_size_binary().value(0), ID.parse::<Uuid>().unwrap().as_bytes());
        let back = normalised(&out, &Field::new("id", DataType::Utf8, false)).unwrap();
        assert_eq!(back.as_string::<i32>().value(0), ID);
    }
}
