//! `quarry sql`.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Schema;
use clap::Args;
use futures::{Stream, TryStreamExt};

use super::Context;
use crate::client::sql;
use crate::failure::Failure;
use crate::output::{Format, Printed, RowPrinter, note};

/// Arguments of `sql`.
#[derive(Debug, Args)]
pub struct SqlCommand {
    /// E.g. "select * from quarry.NAMESPACE.DATASET limit 10"; another version is "DATASET@VERSION"
    query: String,
}

impl SqlCommand {
    /// Runs the query and prints its rows as they come.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let flight = sql::find(&client, self.query).await?;
        let is_plan = is_plan(&flight.schema) && context.output.format == Format::Table;
        if is_plan {
            return print_plan(context, flight.batches(&client)).await;
        }
        let mut printer = RowPrinter::new(context.output.format, flight.schema.clone())?;
        let mut batches = std::pin::pin!(flight.batches(&client));
        while let Some(batch) = batches.try_next().await? {
            if printer.batch(&batch)? == Printed::Enough {
                return Ok(());
            }
        }
        if let Some(rows) = printer.finish()? {
            note(&format!("({rows} {})", if rows == 1 { "row" } else { "rows" }));
        }
        Ok(())
    }
}

/// What `EXPLAIN` answers: texts of many lines, which a table would cut.
fn is_plan(schema: &Schema) -> bool {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names == ["plan_type", "plan"]
}

async fn print_plan(
    context: &Context,
    batches: impl Stream<Item = Result<RecordBatch, Failure>>,
) -> Result<(), Failure> {
    let mut batches = std::pin::pin!(batches);
    while let Some(batch) = batches.try_next().await? {
        let (kinds, plans) = (batch.column(0).as_string_opt::<i32>(), batch.column(1));
        let Some((kinds, plans)) = kinds.zip(plans.as_string_opt::<i32>()) else { continue };
        for (kind, plan) in kinds.iter().flatten().zip(plans.iter().flatten()) {
            context.output.text(&format!("{kind}:\n{}", plan.trim_end()))?;
        }
    }
    Ok(())
}
