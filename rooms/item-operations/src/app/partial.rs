//! Upserts that lack columns: a row that is there keeps its values in them, a new
//! one has none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use blocks::{BlockWriter, ScanPlan, ScanRange, WrittenBlock};
use futures::TryStreamExt;
use service_error::ServiceError;
use sql_store::now_micros;

use crate::app::App;
use crate::app::commit::location;
use crate::app::edits::refreshed;
use crate::app::reading::Opened;
use crate::app::view::View;

/// Memory of a batch that is completed at once.
const BATCH_BYTES: usize = 4 << 20;

/// Columns of a dataset that a put does not bring.
pub fn lacking(opened: &Opened, put: &Schema) -> Vec<String> {
    let fields = opened.schema.fields().iter();
    let lacks = |name: &&String| put.field_with_name(name).is_err();
    fields.map(|field| field.name()).filter(lacks).cloned().collect()
}

/// The dataset's schema where the named columns may be null.
pub fn relaxed(schema: &SchemaRef, lacking: &[String]) -> SchemaRef {
    if lacking.is_empty() {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().map(|field| match lacking.contains(field.name()) {
        true => Arc::new(field.as_ref().clone().with_nullable(true)),
        false => Arc::clone(field),
    });
    let fields: Vec<FieldRef> = fields.collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

impl App {
    /// Writes the rows of a put's blocks anew, with what the rows that they
    /// replace have in the columns that the put lacks.
    ///
    /// # Errors
    /// As the object store fails.
    pub async fn write_completed(
        &self,
        opened: &Opened,
        view: &View,
        (new, lacking): (&[WrittenBlock], &[String]),
        writer: &mut BlockWriter,
    ) -> Result<(), ServiceError> {
        let ranges = new.iter().map(|block| {
            let location = location(block);
            ScanRange { rows: 0..location.row_count, location, deleted: None }
        });
        // As the put's blocks were written.
        let schema = relaxed(&opened.schema, lacking);
        let plan = ScanPlan {
            ranges: ranges.collect(),
            schema: Arc::clone(&schema),
            dataset_schema: schema,
            filter: None,
            limit: None,
            batch_bytes: BATCH_BYTES,
            tally: Arc::default(),
            table_rows: None,
        };
        let mut brought = std::pin::pin!(self.reader.scan(plan));
        while let Some(batch) = brought.try_next().await? {
            writer.write(self.completed(opened, view, &batch, lacking).await?).await?;
        }
        Ok(())
    }

    async fn completed(
        &self,
        opened: &Opened,
        view: &View,
        brought: &RecordBatch,
        lacking: &[String],
    ) -> Result<RecordBatch, ServiceError> {
        let absent = || ServiceError::internal("the put's blocks lack their key");
        let keys = brought.column_by_name(&opened.key).ok_or_else(absent)?;
        let wanted = opened.project(lacking)?;
        let present = self.rows_of(opened, view, keys, &wanted).await?;
        let mut next = 0..;
        let places: Vec<(usize, usize)> = present
            .there
            .iter()
            .enumerate()
            .map(|(row, there)| match there {
                true => (1, next.next().unwrap_or(0)),
                false => (0, row),
            })
            .collect();
        let failed = |error| ServiceError::internal(format!("a row cannot be completed: {error}"));
        let fields = opened.schema.fields().iter().zip(brought.columns());
        let columns = fields.map(|(field, own)| -> Result<ArrayRef, ServiceError> {
            let Some(kept) = present.batch.column_by_name(field.name()) else {
                return Ok(Arc::clone(own));
            };
            let column = interleave(&[own.as_ref(), kept.as_ref()], &places).map_err(failed)?;
            if column.null_count() > 0 && !field.is_nullable() {
                let message = "is missing, and a row that is new needs it";
                return Err(ServiceError::invalid(field.name(), message).reason("COLUMN_MISSING"));
            }
            Ok(column)
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(Arc::clone(&opened.schema), columns).map_err(failed)?;
        if !opened.items_profile {
            return Ok(rows);
        }
        // When a row was changed and the ratio of its sides, the server knows.
        let touched = opened.schema.fields().iter().map(|field| field.name().as_str());
        let touched: Vec<&str> =
            touched.filter(|name| !lacking.iter().any(|lacks| lacks == name)).collect();
        refreshed(opened, rows, &touched, now_micros())
    }
}
