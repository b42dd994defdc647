//! Runs that pass a filter.

use mlflow_wire::proto::{SearchRuns, search_runs};
use mlflow_wire::search::{
    Clause, Comparator, Entity, Operand, Order, RUNS, order_by, parse, python_list,
};
use mlflow_wire::{ErrorCode, MlflowError, Result, names};

use crate::experiments::{lifecycles, results_max};
use crate::runs::{RUN_COLUMNS, RUN_TAGS, RunRow};
use crate::search::{Column, Kind, Listing, Paged, compare, text_exists, whole};
use crate::sql::Values;
use crate::{Scope, Tracking};

const RUN_PARAMS: (&str, &str) = ("run_param", "run_id");
/// A status as a filter and an order see it.
const STATUS: &str = "CASE r.status WHEN 1 THEN 'RUNNING' WHEN 2 THEN 'SCHEDULED' WHEN 3 THEN 'FINISHED' \
                      WHEN 4 THEN 'FAILED' WHEN 5 THEN 'KILLED' ELSE '' END";

impl Tracking {
    /// A page of the runs of some experiments that pass a filter.
    ///
    /// # Errors
    /// A filter, order, size or token that is none.
    pub async fn search_runs(
        &self,
        scope: &Scope,
        asked: &SearchRuns,
    ) -> Result<search_runs::Response> {
        let size = results_max(asked.max_results().into())?;
        let clauses = parse(&RUNS, asked.filter())?;
        let mut values = Values::default();
        let (joins, columns) = orders(&asked.order_by, &mut values)?;
        let experiments: Result<Vec<i64>> =
            asked.experiment_ids.iter().map(|id| names::experiment_id(id)).collect();
        let mut conditions = vec![
            format!("r.namespace_id = {}", values.add(scope.namespace.uuid())),
            format!("r.experiment_id IN ({})", values.list(experiments?)),
            lifecycles("r", asked.run_view_type()).to_owned(),
        ];
        for clause in &clauses {
            conditions.push(self.run_condition(clause, &mut values)?);
        }
        let listing = Listing {
            name: format!(
                "runs:{}:{:?}:{}:{:?}",
                scope.namespace,
                asked.experiment_ids,
                asked.filter(),
                asked.order_by
            ),
            token: asked.page_token(),
            size,
            columns: RUN_COLUMNS,
            from: format!("run r{joins}"),
            conditions,
            values,
            paged: Paged { columns },
        };
        let (rows, next_page_token) = listing.read::<RunRow>(&self.sql).await?;
        let runs = self.whole_runs(rows).await?;
        Ok(search_runs::Response { runs, next_page_token })
    }

    fn run_condition(&self, clause: &Clause, values: &mut Values) -> Result<String> {
        let backend = self.sql.backend();
        match clause.entity {
            Entity::Tag => text_exists(backend, RUN_TAGS, "r.id", clause, values),
            Entity::Param => text_exists(backend, RUN_PARAMS, "r.id", clause, values),
            Entity::Metric => metric_exists(clause, values, |value, values| {
                compare(backend, "m.value", clause.comparator, value, values)
            }),
            Entity::Dataset => {
                let (join, column) = match clause.key.as_str() {
                    "context" => (
                        " JOIN run_input_tag g ON g.run_id = i.run_id AND g.dataset_id = i.dataset_id \
                         AND g.key = 'mlflow.data.context'",
                        "g.value",
                    ),
                    "digest" => ("", "d.digest"),
                    _ => ("", "d.name"),
                };
                let value = compare(backend, column, clause.comparator, &clause.value, values)?;
                Ok(format!(
                    "EXISTS (SELECT 1 FROM run_input i JOIN run_dataset d ON d.id = i.dataset_id{join} \
                     WHERE i.run_id = r.id AND {value})"
                ))
            }
            Entity::Attribute => {
                let column = attribute(&clause.key);
                let value = if RUNS.numeric.contains(&clause.key.as_str()) {
                    match &clause.value {
                        Operand::Float(number) => Operand::Float(*number),
                        value => Operand::Int(whole(value, &clause.key)?),
                    }
                } else {
                    clause.value.clone()
                };
                compare(backend, column, clause.comparator, &value, values)
            }
        }
    }
}

/// The condition that a run's metric compares so; what is no number differs
/// from every number and compares otherwise with none.
fn metric_exists(
    clause: &Clause,
    values: &mut Values,
    compared: impl Fn(&Operand, &mut Values) -> Result<String>,
) -> Result<String> {
    let key = values.add(clause.key.clone());
    let value = compared(&real(&clause.value), values)?;
    let holds = if clause.comparator == Comparator::NotEqual {
        format!("({value} OR m.nan = 1)")
    } else {
        format!("{value} AND m.nan = 0")
    };
    Ok(format!(
        "EXISTS (SELECT 1 FROM run_metric_last m WHERE m.run_id = r.id AND m.key = {key} AND {holds})"
    ))
}

#[allow(clippy::cast_precision_loss, reason = "metrics are reals")]
pub(crate) fn real(value: &Operand) -> Operand {
    match value {
        Operand::Int(number) => Operand::Float(*number as f64),
        other => other.clone(),
    }
}

fn attribute(key: &str) -> &'static str {
    match key {
        "run_id" => "r.id",
        "run_name" => "r.name",
        "user_id" => "r.user_id",
        "artifact_uri" => "r.artifact_uri",
        "end_time" => "r.end_ms",
        "status" => STATUS,
        _ => "r.start_ms",
    }
}

/// The joins and columns of an order; what has no value comes last.
fn orders(asked: &[String], values: &mut Values) -> Result<(String, Vec<Column>)> {
    let mut joins = String::new();
    let mut columns = Vec::new();
    let mut seen: Vec<(Entity, String)> = Vec::new();
    for (at, text) in asked.iter().enumerate() {
        let order = order_by(&RUNS, text)?;
        if seen.contains(&(order.entity, order.key.clone())) {
            return Err(MlflowError::new(
                ErrorCode::InternalError,
                format!("`order_by` contains duplicate fields: {}", python_list(asked)),
            ));
        }
        order_columns(&order, at, &mut joins, &mut columns, values)?;
        seen.push((order.entity, order.key));
    }
    if !seen.contains(&(Entity::Attribute, "start_time".to_owned())) {
        columns.push(Column::new("r.start_ms", false, Kind::Integer));
    }
    columns.push(Column::new("r.id", true, Kind::Text));
    Ok((joins, columns))
}

fn order_columns(
    order: &Order,
    at: usize,
    joins: &mut String,
    columns: &mut Vec<Column>,
    values: &mut Values,
) -> Result<()> {
    let table = match order.entity {
        Entity::Attribute => {
            match order.key.as_str() {
                "start_time" => {
                    columns.push(Column::new("r.start_ms", order.ascending, Kind::Integer))
                }
                "end_time" => {
                    columns.push(Column::new(
                        "CASE WHEN r.end_ms IS NULL THEN 1 ELSE 0 END",
                        true,
                        Kind::Integer,
                    ));
                    columns.push(Column::new(
                        "COALESCE(r.end_ms, 0)",
                        order.ascending,
                        Kind::Integer,
                    ));
                }
                key => columns.push(Column::new(attribute(key), order.ascending, Kind::Text)),
            }
            return Ok(());
        }
        Entity::Metric => "run_metric_last",
        Entity::Tag => "run_tag",
        Entity::Param => "run_param",
        Entity::Dataset => {
            return Err(MlflowError::invalid("Invalid identifier type 'dataset'"));
        }
    };
    let key = values.add(order.key.clone());
    joins.push_str(&format!(
        " LEFT JOIN {table} o{at} ON o{at}.run_id = r.id AND o{at}.key = {key}"
    ));
    let (rank, none, kind) = if order.entity == Entity::Metric {
        let rank =
            format!("CASE WHEN o{at}.nan = 1 THEN 1 WHEN o{at}.value IS NULL THEN 2 ELSE 0 END");
        (rank, "0.0", Kind::Real)
    } else {
        (format!("CASE WHEN o{at}.value IS NULL THEN 1 ELSE 0 END"), "''", Kind::Text)
    };
    columns.push(Column::new(rank, true, Kind::Integer));
    columns.push(Column::new(format!("COALESCE(o{at}.value, {none})"), order.ascending, kind));
    Ok(())
}
