//! Probed images as batches of the items profile.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    new_null_array,
};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::metadata::Metadata;
use super::{Image, Table};

/// Rows that wait to become a batch.
pub struct ImageRows {
    table: Table,
    schema: SchemaRef,
    images: Vec<Image>,
}

/// The probed columns, then those of the metadata files.
pub(super) fn schema(metadata: &Metadata) -> SchemaRef {
    let table = metadata.table();
    let probed = [
        ("file_path", DataType::Utf8),
        ("title", DataType::Utf8),
        ("caption", DataType::Utf8),
        ("mime_type", DataType::Utf8),
        ("file_size_bytes", DataType::Int64),
        ("width", DataType::Int32),
        ("height", DataType::Int32),
        ("aspect_ratio", DataType::Float64),
        ("content_hash", DataType::Utf8),
    ];
    let mut fields: Vec<_> =
        probed.into_iter().map(|(name, kind)| Arc::new(Field::new(name, kind, true))).collect();
    let more = table
        .schema
        .fields()
        .iter()
        .filter(|field| !matches!(field.name().as_str(), "title" | "caption"));
    fields.extend(more.cloned());
    Arc::new(Schema::new(fields))
}

impl ImageRows {
    pub(super) fn new(table: Table, schema: SchemaRef) -> Self {
        Self { table, schema, images: Vec::new() }
    }

    /// Adds a row; its bytes are no longer needed.
    pub fn push(&mut self, mut image: Image) {
        image.bytes = None;
        self.images.push(image);
    }

    /// Rows that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether no row waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The rows as one batch; none waits afterwards.
    ///
    /// # Errors
    /// The metadata columns cannot be put together.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let images = std::mem::take(&mut self.images);
        let columns = self.schema.fields().iter().map(|field| self.column(&images, field));
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }

    fn column(&self, images: &[Image], field: &Field) -> Result<ArrayRef, ArrowError> {
        let text = |of: fn(&Image) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(images.iter().map(of)))
        };
        Ok(match field.name().as_str() {
            "file_path" => text(|image| image.found.relative.clone()),
            "mime_type" => text(|image| image.mime_type.to_owned()),
            "content_hash" => text(|image| hex::encode(image.content_hash)),
            "title" => self.text_or(images, "title", |image| Some(stem(&image.found.relative)))?,
            "caption" => self.text_or(images, "caption", |image| image.caption.as_deref())?,
            "file_size_bytes" => Arc::new(Int64Array::from_iter_values(
                images.iter().map(|image| image.size.cast_signed()),
            )),
            "width" => Arc::new(Int32Array::from_iter_values(
                images.iter().map(|image| image.width.cast_signed()),
            )),
            "height" => Arc::new(Int32Array::from_iter_values(
                images.iter().map(|image| image.height.cast_signed()),
            )),
            "aspect_ratio" => Arc::new(Float64Array::from_iter_values(
                images.iter().map(|image| f64::from(image.width) / f64::from(image.height)),
            )),
            name => self.told(images, name)?,
        })
    }

    /// The metadata's text, or what the file says where there is none.
    fn text_or(
        &self,
        images: &[Image],
        name: &str,
        own: impl Fn(&Image) -> Option<&str>,
    ) -> Result<ArrayRef, ArrowError> {
        let column = self.told(images, name)?;
        let told = column.as_string_opt::<i32>();
        let cells = images.iter().enumerate().map(|(row, image)| match told {
            Some(told) if told.is_valid(row) => Some(told.value(row)),
            _ => own(image),
        });
        Ok(Arc::new(StringArray::from_iter(cells)))
    }

    fn told(&self, images: &[Image], name: &str) -> Result<ArrayRef, ArrowError> {
        let Some((at, field)) = self.table.schema.column_with_name(name) else {
            return Ok(new_null_array(&DataType::Null, images.len()));
        };
        let absent = new_null_array(field.data_type(), 1);
        let mut arrays: Vec<&dyn Array> =
            self.table.batches.iter().map(|batch| batch.column(at).as_ref()).collect();
        arrays.push(&absent);
        let nowhere = (arrays.len() - 1, 0);
        let rows: Vec<_> = images.iter().map(|image| image.found.row.unwrap_or(nowhere)).collect();
        interleave(&arrays, &rows)
    }
}

impl std::fmt::Debug for ImageRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageRows").field("waiting", &self.images.len()).finish_non_exhaustive()
    }
}

fn stem(relative: &str) -> &str {
    let name = relative.rsplit('/').next().unwrap_or(relative);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
