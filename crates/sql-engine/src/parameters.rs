//! Parameters of a prepared statement: what it wants, and rows of values.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::binary::type_union_resolution;
use service_error::ServiceError;

use crate::error::sql_error;

/// The most parameters of a statement.
const PARAMETERS_MAX: usize = 1_000;

/// Values for one run of a statement, the first for `$1`.
#[derive(Debug, Clone, Default)]
pub struct Parameters(pub(crate) Vec<ScalarValue>);

/// Each row of batches of one schema as the parameters of one run. The values of a parameter
/// have one type in all of them: those of a union are cast to what they have in common.
///
/// # Errors
/// A column of a type that is no value; a union whose values have nothing in common.
pub fn parameter_rows(batches: &[RecordBatch]) -> Result<Vec<Parameters>, ServiceError> {
    let mut rows = Vec::new();
    for batch in batches {
        for at in 0..batch.num_rows() {
            let value = |column: &ArrayRef| ScalarValue::try_from_array(column, at).map(plain);
            let row: Result<_, _> = batch.columns().iter().map(value).collect();
            rows.push(Parameters(row.map_err(sql_error)?));
        }
    }
    let columns = rows.first().map_or(0, |row| row.0.len());
    for column in 0..columns {
        unify(&mut rows, column)?;
    }
    Ok(rows)
}

/// What a union holds.
fn plain(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Union(Some((_, value)), ..) => plain(*value),
        ScalarValue::Union(None, ..) => ScalarValue::Null,
        other => other,
    }
}

/// Casts the values of a parameter to one type.
fn unify(rows: &mut [Parameters], column: usize) -> Result<(), ServiceError> {
    let mut types: Vec<DataType> = Vec::new();
    for row in rows.iter() {
        let data_type = row.0[column].data_type();
        if data_type != DataType::Null && !types.contains(&data_type) {
            types.push(data_type);
        }
    }
    let refused = || {
        let names: Vec<String> = types.iter().map(ToString::to_string).collect();
        let message = format!(
            "${} has values of types that have nothing in common: {}; bind one type",
            column + 1,
            names.join(", ")
        );
        ServiceError::invalid("parameters", message).reason("SQL_PARAMETERS")
    };
    let kinds = types.iter().map(kind);
    if kinds.clone().zip(kinds.skip(1)).any(|(one, next)| one != next) {
        return Err(refused());
    }
    let wanted = match types.as_slice() {
        [] => return Ok(()),
        [only] => only.clone(),
        many => type_union_resolution(many).ok_or_else(refused)?,
    };
    for row in rows {
        if row.0[column].data_type() != wanted {
            row.0[column] = row.0[column].cast_to(&wanted).map_err(sql_error)?;
        }
    }
    Ok(())
}

/// Types of one kind are cast into each other without a change of meaning.
fn kind(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 0,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => 1,
        other if other.is_numeric() => 2,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => 3,
        DataType::Boolean => 4,
        _ => 5,
    }
}

/// The parameters that a plan has, in order; a type that cannot be told is
/// null's.
pub(crate) fn wanted(plan: &LogicalPlan) -> Result<SchemaRef, ServiceError> {
    let known = plan.get_parameter_types().map_err(sql_error)?;
    let mut numbers = Vec::with_capacity(known.len());
    for name in known.keys() {
        let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let number = number.filter(|number| (1..=PARAMETERS_MAX).contains(number));
        numbers.push(number.ok_or_else(|| {
            let message = format!("{name} is no parameter; write $1, $2, … or ?");
            ServiceError::invalid("query", message).reason("SQL_INVALID")
        })?);
    }
    let last = numbers.iter().copied().max().unwrap_or(0);
    let field = |number: usize| {
        let name = format!("${number}");
        let data_type = known.get(&name).cloned().flatten().unwrap_or(DataType::Null);
        Field::new(name, data_type, true)
    };
    Ok(Arc::new(Schema::new((1..=last).map(field).collect::<Vec<_>>())))
}

/// The plan with its parameters replaced.
pub(crate) fn bound(
    plan: LogicalPlan,
    parameters: &Parameters,
) -> Result<LogicalPlan, ServiceError> {
    let wanted = wanted(&plan)?.fields().len();
    let given = parameters.0.len();
    if wanted != given {
        let message = format!("has {wanted} parameters and {given} values were given");
        return Err(ServiceError::invalid("query", message).reason("SQL_PARAMETERS"));
    }
    if given == 0 {
        return Ok(plan);
    }
    plan.with_param_values(parameters.0.clone()).map_err(sql_error)
}
