//! Which rows of a row group pass a filter, column after column: the cheap
//! tests first, the next column only for rows that are left.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use filter::Filter;
use roaring::RoaringBitmap;
use service_error::ServiceError;

use crate::access::{Access, Group};
use crate::error::arrow_error;
use crate::hot::Indexed;
use crate::index::{RowHashes, ValueIndex, indexable};
use crate::rows::Rows;

/// With at most this part of the rows left, only they are read.
const FEW: usize = 8;
/// Memory of columns that are judged at once.
const JUDGED_BYTES: usize = 64 << 20;

/// A filter made ready for many row groups.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    parts: Arc<Vec<Part>>,
}

/// One of the tests that all must pass.
#[derive(Debug)]
struct Part {
    filter: Filter,
    /// Its columns as the dataset has them.
    schema: SchemaRef,
    /// Where it is a text or bytes that must equal a value.
    equals: Option<ArrayRef>,
}

impl Judge {
    pub fn new(filter: &Filter, dataset: &Schema) -> Result<Self, ServiceError> {
        let part = |filter: Filter| {
            let schema = filter_schema(&filter, dataset)?;
            let equals = match (filter.columns(), filter.required_values().as_slice()) {
                ([only], [(column, value)]) if only == column => {
                    let wide = value.data_type().primitive_width().is_none();
                    let same = schema.field(0).data_type() == value.data_type();
                    let text =
                        wide && same && value.data_type() != &arrow::datatypes::DataType::Boolean;
                    text.then(|| Arc::clone(value))
                }
                _ => None,
            };
            Ok(Part { filter, schema, equals })
        };
        let parts: Result<Vec<Part>, ServiceError> =
            filter.conjuncts().into_iter().map(part).collect();
        Ok(Self { parts: Arc::new(parts?) })
    }

    /// The rows out of `rows` that pass.
    pub fn rows(&self, access: &Access, group: &Group, rows: Rows) -> Result<Rows, ServiceError> {
        let mut left = rows;
        for part in self.parts.iter() {
            if left.is_empty() {
                break;
            }
            left = part.rows(access, group, left)?;
        }
        Ok(left)
    }
}

impl Part {
    fn rows(&self, access: &Access, group: &Group, left: Rows) -> Result<Rows, ServiceError> {
        let field = match self.schema.fields().as_ref() {
            [only] if self.filter.columns().len() == 1 => Some(Arc::clone(only)),
            _ => None,
        };
        let before = self.asked_before(access, group);
        if let Some(field) = &field
            && let Some(found) = self.by_index(access, group, field)?
        {
            access.tally.index();
            return Ok(left.and(found));
        }
        let few = left.len() * FEW <= group.rows;
        if let (Some(value), true, false) = (&self.equals, before, few)
            && let Some(found) = self.by_hash(access, group, value)?
        {
            return self.among(access, group, &left.and(found));
        }
        // Texts are compared one by one, even those in memory.
        if few && (self.equals.is_some() || !access.is_whole(group, &self.schema)) {
            return self.among(access, group, &left);
        }
        let steps = access.steps(group, &Rows::All(group.rows), &self.schema, JUDGED_BYTES);
        if steps.len() > 1 {
            return self.among(access, group, &left);
        }
        let batch = access.whole(group, &self.schema)?;
        let mask = self.filter.evaluate(&batch).map_err(|e| arrow_error(group.file.key(), e))?;
        Ok(left.and(Rows::Mask(mask.values().clone())))
    }

    /// Whether the column was looked at before: a table of its hashes takes longer to
    /// make than one look at its values.
    fn asked_before(&self, access: &Access, group: &Group) -> bool {
        let own = group.file.metadata().schema();
        let Some(first) = self.schema.fields().first() else { return false };
        let Ok(column) = own.index_of(first.name()) else { return false };
        let place = group.place(column);
        match indexable(own.field(column).data_type()) {
            true => access.hot.index(place).is_some(),
            false => access.hot.whole(place).is_some(),
        }
    }

    /// Judges chosen rows only.
    fn among(&self, access: &Access, group: &Group, rows: &Rows) -> Result<Rows, ServiceError> {
        let mut passing = RoaringBitmap::new();
        for step in access.steps(group, rows, &self.schema, JUDGED_BYTES) {
            let batch = access.rows(group, &step, &self.schema)?;
            let mask =
                self.filter.evaluate(&batch).map_err(|e| arrow_error(group.file.key(), e))?;
            let numbers: UInt32Array = step.numbers();
            for at in mask.values().set_indices() {
                // Ascending, as steps and their rows are.
                let _ = passing.try_push(numbers.value(at));
            }
        }
        Ok(Rows::Set(passing))
    }

    /// By the column's index. One is made when the column is asked about for
    /// the second time.
    fn by_index(
        &self,
        access: &Access,
        group: &Group,
        field: &Field,
    ) -> Result<Option<Rows>, ServiceError> {
        let own = group.file.metadata().schema();
        let Ok(column) = own.index_of(field.name()) else { return Ok(None) };
        if !indexable(own.field(column).data_type()) {
            return Ok(None);
        }
        let failed = |error| arrow_error(group.file.key(), error);
        let place = group.place(column);
        match access.hot.index(place) {
            Some(Indexed::Ready(index)) => index.passing(&self.filter, field).map_err(failed),
            Some(Indexed::Pointless) => Ok(None),
            None => {
                access.hot.put_index(place, Indexed::Seen);
                Ok(None)
            }
            Some(Indexed::Seen) => {
                let Some(array) = access.hot.whole(place) else { return Ok(None) };
                let index = ValueIndex::of(&array).map_err(failed)?.map(Arc::new);
                let answer = match &index {
                    Some(index) => index.passing(&self.filter, field).map_err(failed)?,
                    None => None,
                };
                let made = index.map_or(Indexed::Pointless, Indexed::Ready);
                access.hot.put_index(place, made);
                Ok(answer)
            }
        }
    }

    /// Rows that may equal the value, by a table of the column's hashes.
    fn by_hash(
        &self,
        access: &Access,
        group: &Group,
        value: &ArrayRef,
    ) -> Result<Option<Rows>, ServiceError> {
        let own = group.file.metadata().schema();
        let Ok(column) = own.index_of(self.schema.field(0).name()) else { return Ok(None) };
        if own.field(column).data_type() != value.data_type() {
            return Ok(None);
        }
        let failed = |error| arrow_error(group.file.key(), error);
        let place = group.place(column);
        let table = match access.hot.hashes(place) {
            Some(table) => table,
            None => {
                let steps = access.steps(group, &Rows::All(group.rows), &self.schema, JUDGED_BYTES);
                if steps.len() > 1 {
                    return Ok(None);
                }
                let batch = access.whole(group, &self.schema)?;
                let table = RowHashes::of(batch.column(0)).map_err(failed)?.map(Arc::new);
                access.hot.put_hashes(place, table.clone());
                table
            }
        };
        let Some(table) = table else { return Ok(None) };
        access.tally.index();
        Ok(Some(Rows::Set(table.candidates(value).map_err(failed)?)))
    }
}

/// The columns that a filter looks at, as the dataset has them.
pub(crate) fn filter_schema(filter: &Filter, dataset: &Schema) -> Result<SchemaRef, ServiceError> {
    let fields: Result<Vec<_>, _> =
        filter.columns().iter().map(|name| dataset.field_with_name(name).cloned()).collect();
    let fields = fields
        .map_err(|error| ServiceError::internal(format!("the filter does not fit: {error}")))?;
    Ok(Arc::new(Schema::new(fields)))
}
