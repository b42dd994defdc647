//! Batches of a put into the dataset's schema.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit};
use blocks::conform;
use item_schema::Profile;
use service_error::ServiceError;
use uuid::Uuid;

use crate::fit::{check_fit, check_storable};
use crate::ids_column::{IdForm, made, normalised, repeated};

/// Columns of items that the server fills when a put lacks them.
const FILLED: [&str; 7] =
    ["id", "dataset_id", "aspect_ratio", "is_favorite", "is_flagged", "created_at", "updated_at"];

/// The form of ids is told by the first of them.
const IDS_SEEN_MAX: usize = 64;

/// The schema of a dataset that a put makes.
#[derive(Debug, Clone)]
pub struct NewShape {
    /// Told by the columns unless given.
    pub profile: Profile,
    /// With the core columns of items that the put lacks.
    pub schema: SchemaRef,
    /// `None`: the dataset has no key.
    pub key: Option<String>,
}

/// The shape of a dataset made from a put's schema and its first batch.
///
/// # Errors
/// `InvalidArgument` naming a column that can't be stored, does not fit its
/// profile, or can't be the key.
pub fn new_shape(
    put: &Schema,
    first: Option<&RecordBatch>,
    profile: Option<Profile>,
    key_column: &str,
) -> Result<NewShape, ServiceError> {
    check_storable(put)?;
    let profile = profile.unwrap_or_else(|| item_schema::detect_profile(put));
    let schema = match profile {
        Profile::Table => Arc::new(put.clone()),
        Profile::Items => {
            let whole = item_schema::items_schema(Some(put)).map_err(|error| {
                let field = error.column.clone().unwrap_or_else(|| "schema".to_owned());
                ServiceError::invalid(&field, error).reason("INVALID_SCHEMA")
            })?;
            let ids = first.and_then(|batch| batch.column_by_name("id"));
            let ids = ids.map(|ids| ids.slice(0, ids.len().min(IDS_SEEN_MAX)));
            let fields = whole.fields().iter().map(|field| {
                if field.name() == "id" {
                    IdForm::noted(Field::clone(field), ids.as_ref())
                } else {
                    Field::clone(field)
                }
            });
            Arc::new(Schema::new_with_metadata(
                fields.collect::<Vec<_>>(),
                whole.metadata().clone(),
            ))
        }
    };
    let key = match key_column {
        "" => item_schema::default_key(&schema).map(str::to_owned),
        named => {
            let field = schema.field_with_name(named).map_err(|_| {
                ServiceError::invalid("key_column", format!("there is no column {named:?}"))
            })?;
            if !item_schema::is_orderable(field.data_type()) {
                let message = format!("{named:?} is {}, which has no order", field.data_type());
                return Err(ServiceError::invalid("key_column", message));
            }
            Some(named.to_owned())
        }
    };
    Ok(NewShape { profile, schema, key })
}

/// Shapes the batches of one put.
#[derive(Debug)]
pub struct Incoming {
    schema: SchemaRef,
    profile: Profile,
    dataset: Uuid,
    /// When the put began, microseconds UTC.
    now: i64,
}

impl Incoming {
    /// For a put of batches with the schema `put` into a dataset.
    ///
    /// # Errors
    /// As [`check_fit`].
    pub fn new(
        put: &Schema,
        schema: SchemaRef,
        profile: Profile,
        dataset: Uuid,
        now: i64,
    ) -> Result<Self, ServiceError> {
        let items = profile == Profile::Items;
        check_fit(put, &schema, &|name| items && FILLED.contains(&name))?;
        Ok(Self { schema, profile, dataset, now })
    }

    /// A batch in the dataset's schema. Columns that fit are not copied.
    ///
    /// # Errors
    /// `InvalidArgument` naming the column: a null where none may be, a number
    /// that does not fit, an id that is none.
    pub fn shape(&self, batch: &RecordBatch) -> Result<RecordBatch, ServiceError> {
        let whole = match self.profile {
            Profile::Table => batch.clone(),
            Profile::Items => self.fill(batch)?,
        };
        conform(&whole, &self.schema)
            .map_err(|error| ServiceError::invalid("rows", error).reason("VALUE_DOES_NOT_FIT"))
    }

    fn fill(&self, batch: &RecordBatch) -> Result<RecordBatch, ServiceError> {
        let mut fields: Vec<Arc<Field>> = batch.schema_ref().fields().iter().cloned().collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let mut set = |name: &str, array: ArrayRef| {
            let field = Arc::new(Field::new(name, array.data_type().clone(), true));
            match fields.iter().position(|field| field.name() == name) {
                Some(at) => (fields[at], columns[at]) = (field, array),
                None => {
                    fields.push(field);
                    columns.push(array);
                }
            }
        };
        for name in FILLED {
            let Ok(own) = self.schema.field_with_name(name) else { continue };
            let given = batch.column_by_name(name);
            if let Some(array) = self.filled(name, own, given, batch)? {
                set(name, array);
            }
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows)
            .map_err(|error| ServiceError::invalid("rows", error))
    }

    /// What a column that the server knows becomes; `None`: as it is.
    fn filled(
        &self,
        name: &str,
        own: &Field,
        given: Option<&ArrayRef>,
        batch: &RecordBatch,
    ) -> Result<Option<ArrayRef>, ServiceError> {
        let rows = batch.num_rows();
        let into = |array: &dyn Array| {
            cast(array, own.data_type())
                .map(Some)
                .map_err(|error| ServiceError::invalid(name, error))
        };
        match (name, given) {
            ("id", Some(ids)) => normalised(ids, own).map(Some),
            ("id", None) => made(rows, own).map(Some),
            (_, Some(_)) => Ok(None),
            ("dataset_id", None) if IdForm::of(own).is_some() => {
                repeated(self.dataset, rows, own).map(Some)
            }
            ("created_at" | "updated_at", None) => {
                let now =
                    TimestampMicrosecondArray::from_value(self.now, rows).with_timezone("UTC");
                if matches!(own.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _))
                    || own.data_type().is_temporal()
                {
                    return into(&now);
                }
                Ok(None)
            }
            ("is_favorite" | "is_flagged", None) => into(&BooleanArray::from(vec![false; rows])),
            ("aspect_ratio", None) => match ratio(batch) {
                Some(ratio) => into(&ratio),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

/// Width over height, where both are there.
fn ratio(batch: &RecordBatch) -> Option<Float64Array> {
    let number = |name: &str| cast(batch.column_by_name(name)?, &DataType::Float64).ok();
    let (width, height) = (number("width")?, number("height")?);
    let pairs =
        width.as_primitive::<Float64Type>().iter().zip(height.as_primitive::<Float64Type>().iter());
    Some(pairs.map(|(w, h)| Some(w? / h.filter(|h| *h > 0.0)?)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Int32Array, Int64Array, StringArray};

    fn images() -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([
            ("title", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef, true),
            ("width", Arc::new(Int32Array::from(vec![400, 300])), true),
            ("height", Arc::new(Int32Array::from(vec![200, 0])), true),
        ])
        .unwrap()
    }

    #[test]
    fn items_get_ids_dates_and_ratios() {
        let batch = images();
        let shape = new_shape(&batch.schema(), Some(&batch), Some(Profile::Items), "").unwrap();
        assert_eq!((shape.key.as_deref(), shape.schema.fields().len()), (Some("id"), 15));
        let dataset = Uuid::now_v7();
        let incoming =
            Incoming::new(&batch.schema(), shape.schema, Profile::Items, dataset, 1_000_000)
                .unwrap();
        let out = incoming.shape(&batch).unwrap();
        let text = |name: &str| out.column_by_name(name).unwrap().as_string::<i32>().clone();
        assert_ne!(text("id").value(0), text("id").value(1));
        assert_eq!(text("dataset_id").value(1), dataset.to_string());
        let ratio =
            out.column_by_name("aspect_ratio").unwrap().as_primitive::<Float64Type>().clone();
        assert_eq!(ratio.value(0), 2.0);
        assert!(ratio.is_null(1));
        assert_eq!(out.column_by_name("created_at").unwrap().null_count(), 0);
        assert_eq!(out.column_by_name("external_id").unwrap().null_count(), 2);
        let favorite = out.column_by_name("is_favorite").unwrap().as_boolean();
        assert_eq!((favorite.null_count(), favorite.true_count()), (0, 0));
    }

    #[test]
    fn tables_are_left_as_they_are() {
        let batch = images();
        let shape = new_shape(&batch.schema(), Some(&batch), None, "").unwrap();
        assert_eq!((shape.profile, shape.key), (Profile::Table, None));
        let incoming =
            Incoming::new(&batch.schema(), shape.schema, Profile::Table, Uuid::nil(), 0).unwrap();
        assert_eq!(incoming.shape(&batch).unwrap(), batch);
        assert!(new_shape(&batch.schema(), None, None, "nothing").is_err());
    }

    #[test]
    fn numbers_that_do_not_fit_name_their_column() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
        let put = RecordBatch::try_from_iter([(
            "n",
            Arc::new(Int64Array::from(vec![1 << 40])) as ArrayRef,
        )])
        .unwrap();
        let incoming =
            Incoming::new(&put.schema(), schema, Profile::Table, Uuid::nil(), 0).unwrap();
        let error = incoming.shape(&put).unwrap_err();
        assert!(error.message().contains("\"n\""), "{error}");
    }
}
