//! What an edit makes of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Schema};
use catalog_api::v1::Value;
use cells::{cell, column_of};
use item_schema::Profile;
use item_shape::Incoming;
use service_error::ServiceError;

use crate::app::reading::Opened;
use crate::model::tags;

const TAGS_MAX: usize = 1_000;

/// Cells by column.
pub type Cells = BTreeMap<String, Value>;

/// One change to a row.
#[derive(Debug, Clone, PartialEq)]
pub enum RowChange {
    /// Columns get these cells; null where there is none.
    Patch(Cells),
    /// Tags are added, then taken off.
    Tags {
        /// Added unless there.
        add: Vec<String>,
        /// Taken off.
        remove: Vec<String>,
    },
}

impl RowChange {
    /// A patch of the columns of a mask; of those that have cells if it is empty.
    ///
    /// # Errors
    /// A cell outside the mask; nothing to change.
    pub fn patch(cells: Cells, mask: &[String]) -> Result<Self, ServiceError> {
        if mask.is_empty() {
            if cells.is_empty() {
                return Err(ServiceError::invalid("cells", "there is nothing to change"));
            }
            return Ok(Self::Patch(cells));
        }
        if let Some(odd) = cells.keys().find(|name| !mask.contains(name)) {
            let message = format!("{odd:?} is not in update_mask");
            return Err(ServiceError::invalid("cells", message));
        }
        let cell = |name: &String| (name.clone(), cells.get(name).cloned().unwrap_or_default());
        Ok(Self::Patch(mask.iter().map(cell).collect()))
    }

    /// A change of tags.
    ///
    /// # Errors
    /// No tag at all, an empty one, or too many.
    pub fn tags(add: Vec<String>, remove: Vec<String>) -> Result<Self, ServiceError> {
        if add.is_empty() && remove.is_empty() {
            return Err(ServiceError::invalid("add", "name tags to add or to remove"));
        }
        if add.len() + remove.len() > TAGS_MAX {
            return Err(ServiceError::invalid("add", format!("at most {TAGS_MAX} tags at once")));
        }
        if add.iter().any(|tag| tag.trim().is_empty()) {
            return Err(ServiceError::invalid("add", "a tag must not be empty"));
        }
        Ok(Self::Tags { add, remove })
    }

    /// The columns that it touches, each of which the dataset must have.
    fn columns(&self, opened: &Opened) -> Result<Vec<&str>, ServiceError> {
        Ok(match self {
            Self::Patch(cells) => cells.keys().map(String::as_str).collect(),
            Self::Tags { .. } => vec![tags::column(&opened.schema)?],
        })
    }

    /// It may give a row another value in a unique column; some the server changes besides.
    pub fn touches_unique(&self, opened: &Opened) -> bool {
        let touched = self.columns(opened).unwrap_or_default();
        let is_made = |name: &String| {
            opened.items_profile && matches!(name.as_str(), "updated_at" | "aspect_ratio")
        };
        opened.unique.iter().any(|name| touched.contains(&name.as_str()) || is_made(name))
    }

    /// Refuses a change that no row of the dataset can take.
    ///
    /// # Errors
    /// `InvalidArgument` naming the column.
    pub fn check(&self, opened: &Opened) -> Result<(), ServiceError> {
        for name in self.columns(opened)? {
            if opened.schema.field_with_name(name).is_err() {
                return Err(absent(opened, name));
            }
            if name == opened.key {
                let message = format!("{name:?} is the key and can't be changed");
                return Err(ServiceError::invalid("cells", message));
            }
        }
        Ok(())
    }

    /// The value that a column gets in a row; `None`: it keeps its own.
    fn value(
        &self,
        opened: &Opened,
        column: &str,
        now: &ArrayRef,
        row: usize,
    ) -> Result<Option<Value>, ServiceError> {
        match self {
            Self::Patch(cells) => Ok(cells.get(column).cloned()),
            Self::Tags { add, remove } if column == tags::column(&opened.schema)? => {
                let is_list = matches!(now.data_type(), DataType::List(_) | DataType::LargeList(_));
                tags::changed(cell(now, row)?, is_list, (add, remove)).map(Some)
            }
            Self::Tags { .. } => Ok(None),
        }
    }

    /// Every row of a batch after the change.
    pub fn apply(
        &self,
        opened: &Opened,
        batch: &RecordBatch,
        now: i64,
    ) -> Result<RecordBatch, ServiceError> {
        apply(opened, batch, &vec![self; batch.num_rows()], now)
    }
}

/// A column that the dataset has not.
fn absent(opened: &Opened, name: &str) -> ServiceError {
    let known: Vec<&str> =
        opened.schema.fields().iter().map(|f| f.name().as_str()).take(60).collect();
    let mut message = format!("no column {name:?}; there are {}", known.join(", "));
    if opened.items_profile && item_schema::item_column(name).is_some() {
        // Items that were made from other columns have only the core ones beside them.
        message.push_str(
            ". A dataset keeps the columns that it was made with: bring this one with its first rows",
        );
    }
    ServiceError::invalid("cells", message).reason("COLUMN_ABSENT").with("column", name)
}

/// Rows after the change of each.
pub fn apply(
    opened: &Opened,
    rows: &RecordBatch,
    changes: &[&RowChange],
    now: i64,
) -> Result<RecordBatch, ServiceError> {
    let mut touched: Vec<&str> = Vec::new();
    for change in changes {
        touched.extend(change.columns(opened)?);
    }
    touched.sort_unstable();
    touched.dedup();
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (field, own) in opened.schema.fields().iter().zip(rows.columns()) {
        if !touched.contains(&field.name().as_str()) {
            columns.push(Arc::clone(own));
            continue;
        }
        let (mut values, mut places) = (Vec::new(), Vec::with_capacity(changes.len()));
        for (row, change) in changes.iter().enumerate() {
            match change.value(opened, field.name(), own, row)? {
                Some(value) => {
                    places.push((1, values.len()));
                    values.push(value);
                }
                None => places.push((0, row)),
            }
        }
        let values: Vec<&Value> = values.iter().collect();
        let given = column_of(&values, field, opened.items_profile)?;
        let made = interleave(&[own.as_ref(), given.as_ref()], &places);
        columns.push(made.map_err(|error| ServiceError::invalid(field.name(), error))?);
    }
    let patched = RecordBatch::try_new(Arc::clone(&opened.schema), columns)
        .map_err(|error| ServiceError::invalid("cells", error))?;
    if opened.items_profile { refreshed(opened, patched, &touched, now) } else { Ok(patched) }
}

/// What the server knows of a changed item: when, and the ratio of its sides.
pub fn refreshed(
    opened: &Opened,
    patched: RecordBatch,
    touched: &[&str],
    now: i64,
) -> Result<RecordBatch, ServiceError> {
    let sides = touched.contains(&"width") || touched.contains(&"height");
    let is_stale = |name: &str| match name {
        "updated_at" => !touched.contains(&name),
        "aspect_ratio" => sides && !touched.contains(&name),
        _ => false,
    };
    let kept: Vec<usize> = opened
        .schema
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| !is_stale(field.name()))
        .map(|(at, _)| at)
        .collect();
    let failed = |error| ServiceError::internal(format!("a changed row: {error}"));
    let partial = patched.project(&kept).map_err(failed)?;
    shaped(opened, &partial, now)
}

/// A batch in the dataset's schema, with what the server fills in.
pub fn shaped(opened: &Opened, batch: &RecordBatch, now: i64) -> Result<RecordBatch, ServiceError> {
    let profile = if opened.items_profile { Profile::Items } else { Profile::Table };
    let schema = Arc::clone(&opened.schema);
    Incoming::new(batch.schema_ref(), schema, profile, opened.dataset, now)?.shape(batch)
}

/// New rows out of cells, in the dataset's schema.
pub fn made(opened: &Opened, items: &[Cells], now: i64) -> Result<RecordBatch, ServiceError> {
    let named = |name: &str| items.iter().any(|cells| cells.contains_key(name));
    for name in items.iter().flat_map(BTreeMap::keys) {
        RowChange::Patch(Cells::from([(name.clone(), Value::default())]))
            .check(opened)
            .or_else(|error| if *name == opened.key { Ok(()) } else { Err(error) })?;
    }
    let none = Value::default();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for field in opened.schema.fields().iter().filter(|field| named(field.name())) {
        let values: Vec<&Value> =
            items.iter().map(|cells| cells.get(field.name()).unwrap_or(&none)).collect();
        // What is missing may be filled in; what is then still null is refused.
        let open = field.as_ref().clone().with_nullable(true);
        columns.push(column_of(&values, &open, opened.items_profile)?);
        fields.push(open);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(items.len()));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| ServiceError::invalid("cells", error))?;
    if batch.num_columns() == 0 && !opened.items_profile {
        return Err(ServiceError::invalid("cells", "a row needs at least its key"));
    }
    shaped(opened, &batch, now)
}
