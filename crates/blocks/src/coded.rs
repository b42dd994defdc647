//! Texts of few values as dictionaries: what groups rows by them looks at
//! numbers, and memory holds numbers instead of texts.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use service_error::ServiceError;

use crate::access::{Access, Group, pick};
use crate::error::arrow_error;
use crate::index::has_few_values;
use crate::rows::Rows;

/// A schema whose first column, if it is a text, is a dictionary of texts: what
/// looks at row groups gets it so where its values are few.
#[must_use]
pub fn first_coded(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    if let Some(first) = fields.first_mut().filter(|field| is_text(field.data_type())) {
        let coded = dictionary_of(first.data_type());
        *first = Arc::new(first.as_ref().clone().with_data_type(coded));
    }
    Arc::new(Schema::new(fields))
}

/// Columns whose first one, if it was asked for as a dictionary and is none in
/// the file, is read as one where it has few values.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    schema: SchemaRef,
    /// Where the first column is a dictionary: as its values, and all the others.
    parts: Option<(SchemaRef, SchemaRef)>,
}

impl Coded {
    pub fn new(schema: &SchemaRef) -> Self {
        let parts = schema.fields().first().and_then(|first| {
            let DataType::Dictionary(_, values) = first.data_type() else { return None };
            let mut plain: Vec<FieldRef> = schema.fields().iter().cloned().collect();
            let rest = plain.split_off(1);
            plain[0] = Arc::new(first.as_ref().clone().with_data_type(values.as_ref().clone()));
            plain.extend(rest.iter().cloned());
            Some((Arc::new(Schema::new(plain)), Arc::new(Schema::new(rest))))
        });
        Self { schema: Arc::clone(schema), parts }
    }

    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns for chosen rows of a group.
    pub fn rows(
        &self,
        access: &Access,
        group: &Group,
        rows: &Rows,
    ) -> Result<RecordBatch, ServiceError> {
        let Some((plain, rest)) = &self.parts else {
            return access.rows(group, rows, &self.schema);
        };
        let (field, own) = (&self.schema.fields()[0], group.file.metadata().schema());
        let column = match own.index_of(field.name()) {
            Ok(column) if is_text(own.field(column).data_type()) => column,
            _ => return access.rows(group, rows, &self.schema),
        };
        let Some(codes) = access.coded(group, column, field.data_type())? else {
            return access.rows(group, rows, plain);
        };
        let failed = |error| arrow_error(group.file.key(), error);
        let alone = Arc::new(Schema::new(vec![Arc::clone(field)]));
        let whole = RecordBatch::try_new(alone, vec![codes]).map_err(failed)?;
        let first = pick(group, &whole, rows)?;
        let others = access.rows(group, rows, rest)?;
        let columns = first.columns().iter().chain(others.columns()).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(first.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(failed)
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn dictionary_of(values: &DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(values.clone()))
}

impl Access {
    /// All of a text column as a dictionary, kept if there is room; `None` if
    /// its values are many.
    fn coded(
        &self,
        group: &Group,
        column: usize,
        data_type: &DataType,
    ) -> Result<Option<ArrayRef>, ServiceError> {
        let place = group.place(column);
        if let Some(known) = self.hot.codes(place) {
            self.tally.hot(1);
            return Ok(known);
        }
        let failed = |error| arrow_error(group.file.key(), error);
        let texts = match self.hot.whole(place) {
            Some(texts) => texts,
            None => Arc::clone(self.decode(group, &[column], None)?.column(0)),
        };
        let codes = if has_few_values(&texts).map_err(failed)? {
            Some(cast(&texts, data_type).map_err(failed)?)
        } else {
            // Whoever asked reads the texts next.
            self.hot.put_whole(place, texts);
            None
        };
        self.hot.put_codes(place, codes.clone());
        Ok(codes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::datatypes::Field;

    #[test]
    fn the_first_column_alone_is_coded_and_only_if_it_is_a_text() {
        let text = Field::new("word", DataType::Utf8, true);
        let number = Field::new("n", DataType::Int32, true);
        let schema = Arc::new(Schema::new(vec![text.clone(), number.clone()]));
        let coded = first_coded(&schema);
        assert_eq!(coded.field(0).data_type(), &dictionary_of(&DataType::Utf8));
        let (plain, rest) = Coded::new(&coded).parts.unwrap();
        assert_eq!((plain, rest.fields().len(), rest.field(0)), (schema, 1, &number));
        let turned = Arc::new(Schema::new(vec![number, text]));
        assert_eq!(first_coded(&turned), turned);
        assert!(Coded::new(&turned).parts.is_none());
    }
}
