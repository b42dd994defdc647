//! Parameters of a prepared statement: what it wants, and rows of values.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use service_error::ServiceError;

use crate::error::sql_error;

/// The most parameters of a statement.
const PARAMETERS_MAX: usize = 1_000;

/// Values for one run of a statement, the first for `$1`.
#[derive(Debug, Clone, Default)]
pub struct Parameters(pub(crate) Vec<ScalarValue>);

/// Each row as the parameters of one run.
///
/// # Errors
/// A column of a type that is no value.
pub fn parameter_rows(batch: &RecordBatch) -> Result<Vec<Parameters>, ServiceError> {
    let row = |at: usize| -> Result<Parameters, ServiceError> {
        let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, at));
        values.collect::<Result<_, _>>().map(Parameters).map_err(sql_error)
    };
    (0..batch.num_rows()).map(row).collect()
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
