//! The columns that every items dataset knows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use crate::SchemaError;

/// What a well-known column holds. Data may bring it in any type of the kind
/// and gets that type back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// A UUID, as text or 16 bytes.
    Id,
    /// Text of any Arrow flavour.
    Text,
    /// A whole number.
    Integer,
    /// A width or height: a whole number, 32 bits of it in new datasets.
    Pixels,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time.
    Time,
}

impl ColumnKind {
    /// Whether a column of this kind may have the type.
    #[must_use]
    pub fn takes(self, kind: &DataType) -> bool {
        match self {
            Self::Id => is_text(kind) || *kind == DataType::FixedSizeBinary(16),
            Self::Text => is_text(kind),
            Self::Integer | Self::Pixels => kind.is_integer(),
            Self::Number => kind.is_numeric(),
            Self::Boolean => *kind == DataType::Boolean,
            Self::Time => {
                matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
            }
        }
    }

    /// The type that a new dataset gives the column.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Id | Self::Text => DataType::Utf8,
            Self::Integer => DataType::Int64,
            Self::Pixels => DataType::Int32,
            Self::Number => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Id => "a UUID: text or 16 bytes",
            Self::Text => "text",
            Self::Integer | Self::Pixels => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Time => "a timestamp or a date",
        }
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// A well-known column of the items profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemColumn {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
}

const fn column(name: &'static str, kind: ColumnKind) -> ItemColumn {
    ItemColumn { name, kind }
}

impl ItemColumn {
    /// The column as a new dataset declares it. Only the id is never null.
    #[must_use]
    pub fn field(&self) -> Field {
        Field::new(self.name, self.kind.data_type(), self.name != "id")
    }

    /// Whether a column of this name may have the type.
    ///
    /// # Errors
    /// Names the column and what it must hold.
    pub fn check(&self, field: &Field) -> Result<(), SchemaError> {
        if self.kind.takes(field.data_type()) {
            return Ok(());
        }
        let word = self.kind.word();
        let message = format!("of an items dataset must be {word}, not {}", field.data_type());
        Err(SchemaError::at(self.name, message))
    }
}

/// The fifteen columns that make data items.
pub const CORE_COLUMNS: [ItemColumn; 15] = [
    column("id", ColumnKind::Id),
    column("dataset_id", ColumnKind::Id),
    column("external_id", ColumnKind::Text),
    column("title", ColumnKind::Text),
    column("description", ColumnKind::Text),
    column("image_url", ColumnKind::Text),
    column("thumbnail_url", ColumnKind::Text),
    column("width", ColumnKind::Pixels),
    column("height", ColumnKind::Pixels),
    column("aspect_ratio", ColumnKind::Number),
    column("tags_json", ColumnKind::Text),
    column("is_favorite", ColumnKind::Boolean),
    column("metadata_json", ColumnKind::Text),
    column("created_at", ColumnKind::Time),
    column("updated_at", ColumnKind::Time),
];

/// Columns about the file behind an item and its quality.
pub const SMALL_DATASET_COLUMNS: [ItemColumn; 8] = [
    column("file_path", ColumnKind::Text),
    column("mime_type", ColumnKind::Text),
    column("file_size_bytes", ColumnKind::Integer),
    // Seconds, of audio and video.
    column("duration", ColumnKind::Number),
    column("caption", ColumnKind::Text),
    column("is_flagged", ColumnKind::Boolean),
    // From 0 to 100.
    column("quality_score", ColumnKind::Number),
    // BLAKE3-256 in hexadecimal.
    column("content_hash", ColumnKind::Text),
];

/// Whether a text column holds JSON: declared so, or named so.
#[must_use]
pub fn is_json(field: &Field) -> bool {
    let declared =
        field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.json");
    is_text(field.data_type()) && (declared || field.name().ends_with("_json"))
}

/// The well-known column of a name.
#[must_use]
pub fn item_column(name: &str) -> Option<&'static ItemColumn> {
    CORE_COLUMNS.iter().chain(&SMALL_DATASET_COLUMNS).find(|column| column.name == name)
}

/// The schema of an items dataset with `user` columns: those first, with the
/// types they bring, then the core columns that are missing; without any, all
/// well-known columns.
///
/// # Errors
/// A well-known column of a type that does not fit.
pub fn items_schema(user: Option<&Schema>) -> Result<SchemaRef, SchemaError> {
    let Some(user) = user else {
        let all = CORE_COLUMNS.iter().chain(&SMALL_DATASET_COLUMNS).map(ItemColumn::field);
        return Ok(Arc::new(Schema::new(all.collect::<Vec<_>>())));
    };
    for field in user.fields() {
        if let Some(column) = item_column(field.name()) {
            column.check(field)?;
        }
    }
    let missing = CORE_COLUMNS.iter().filter(|column| user.field_with_name(column.name).is_err());
    let mut fields: Vec<FieldRef> = user.fields().iter().cloned().collect();
    fields.extend(missing.map(|column| Arc::new(column.field())));
    Ok(Arc::new(Schema::new_with_metadata(fields, user.metadata().clone())))
}
