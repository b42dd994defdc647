//! Logged models that pass a filter.

use mlflow_wire::proto::search_logged_models::OrderBy;
use mlflow_wire::proto::{SearchLoggedModels, search_logged_models};
use mlflow_wire::search::{Clause, Entity, LOGGED_MODELS, Operand, parse};
use mlflow_wire::{MlflowError, Result, names};

use crate::experiments::results_max;
use crate::logged_models::{MODEL_COLUMNS, MODEL_PARAMS, MODEL_TAGS, ModelRow};
use crate::run_search::real;
use crate::search::{Column, Kind, Listing, Paged, compare, text_exists, whole};
use crate::sql::Values;
use crate::{Scope, Tracking};

const RESULTS_DEFAULT: i64 = 100;

impl Tracking {
    /// A page of the logged models of some experiments that pass a filter.
    ///
    /// # Errors
    /// A filter, order, size or token that is none.
    pub async fn search_logged_models(
        &self,
        scope: &Scope,
        asked: &SearchLoggedModels,
    ) -> Result<search_logged_models::Response> {
        if asked.datasets.iter().any(|dataset| dataset.dataset_name().is_empty()) {
            return Err(MlflowError::invalid(
                "`dataset_name` in the `datasets` clause must be specified.",
            ));
        }
        let size = match i64::from(asked.max_results()) {
            0 => results_max(RESULTS_DEFAULT)?,
            size => results_max(size)?,
        };
        let clauses = clauses(asked.filter())?;
        let mut values = Values::default();
        let (joins, columns) = orders(&asked.order_by, &mut values)?;
        let experiments: Result<Vec<i64>> =
            asked.experiment_ids.iter().map(|id| names::experiment_id(id)).collect();
        let mut conditions = vec![
            format!("l.namespace_id = {}", values.add(scope.namespace.uuid())),
            format!("l.experiment_id IN ({})", values.list(experiments?)),
            "l.lifecycle = 1".to_owned(),
        ];
        let on_datasets = datasets(asked, &mut values);
        let mut has_metric = false;
        for clause in &clauses {
            has_metric |= clause.entity == Entity::Metric;
            conditions.push(self.model_condition(clause, &on_datasets, &mut values)?);
        }
        if !has_metric && !on_datasets.is_empty() {
            conditions.push(format!(
                "EXISTS (SELECT 1 FROM logged_model_metric m WHERE m.model_id = l.id{on_datasets})"
            ));
        }
        let listing = Listing {
            name: format!(
                "logged-models:{}:{:?}:{}:{:?}:{:?}",
                scope.namespace,
                asked.experiment_ids,
                asked.filter(),
                asked.order_by,
                asked.datasets
            ),
            token: asked.page_token(),
            size,
            columns: MODEL_COLUMNS,
            from: format!("logged_model l{joins}"),
            conditions,
            values,
            paged: Paged { columns },
        };
        let (rows, next_page_token) = listing.read::<ModelRow>(&self.sql).await?;
        let models = self.whole_models(rows).await?;
        Ok(search_logged_models::Response { models, next_page_token })
    }

    fn model_condition(
        &self,
        clause: &Clause,
        on_datasets: &str,
        values: &mut Values,
    ) -> Result<String> {
        let backend = self.sql.backend();
        match clause.entity {
            Entity::Tag => text_exists(backend, MODEL_TAGS, "l.id", clause, values),
            Entity::Param => text_exists(backend, MODEL_PARAMS, "l.id", clause, values),
            Entity::Metric => {
                let key = values.add(clause.key.clone());
                let value =
                    compare(backend, "m.value", clause.comparator, &real(&clause.value), values)?;
                Ok(format!(
                    "EXISTS (SELECT 1 FROM logged_model_metric m WHERE m.model_id = l.id AND m.key = {key} \
                     AND {value}{on_datasets})"
                ))
            }
            Entity::Attribute => {
                let is_number = LOGGED_MODELS.numeric.contains(&clause.key.as_str());
                let value = match &clause.value {
                    value if is_number => match value {
                        Operand::Float(number) => Operand::Float(*number),
                        value => Operand::Int(whole(value, &clause.key)?),
                    },
                    value => value.clone(),
                };
                let column = match clause.key.as_str() {
                    "creation_time" | "creation_timestamp" => "l.created_at / 1000",
                    "last_updated_time" | "last_updated_timestamp" => "l.updated_at / 1000",
                    key => attribute(key),
                };
                compare(backend, column, clause.comparator, &value, values)
            }
            Entity::Dataset => Err(MlflowError::invalid(
                "Invalid entity type: 'dataset'. Expected one of ['attributes', 'metrics', 'params', 'tags'].",
            )),
        }
    }
}

fn clauses(filter: &str) -> Result<Vec<Clause>> {
    parse(&LOGGED_MODELS, filter).map_err(|error| {
        if error.message().starts_with("Invalid clause(s)") {
            MlflowError::invalid(format!(
                "Invalid filter string: '{filter}'. Expected a list of comparisons separated by 'AND' \
                 (e.g. 'metrics.loss > 0.1 AND params.lr = 0.01')."
            ))
        } else {
            error
        }
    })
}

/// ` AND (…)`: the metric is of one of the datasets; empty without datasets.
fn datasets(asked: &SearchLoggedModels, values: &mut Values) -> String {
    let each: Vec<String> = asked
        .datasets
        .iter()
        .map(|dataset| {
            let name = values.add(dataset.dataset_name());
            let digest = match dataset.dataset_digest() {
                "" => String::new(),
                digest => format!(" AND m.dataset_digest = {}", values.add(digest)),
            };
            format!("(m.dataset_name = {name}{digest})")
        })
        .collect();
    if each.is_empty() { String::new() } else { format!(" AND ({})", each.join(" OR ")) }
}

fn attribute(key: &str) -> &'static str {
    match key {
        "model_id" => "l.id",
        "model_type" => "l.model_type",
        "status" => {
            "CASE l.status WHEN 1 THEN 'PENDING' WHEN 2 THEN 'READY' WHEN 3 THEN 'FAILED' ELSE 'UNSPECIFIED' END"
        }
        "source_run_id" => "l.source_run_id",
        _ => "l.name",
    }
}

fn orders(asked: &[OrderBy], values: &mut Values) -> Result<(String, Vec<Column>)> {
    let mut joins = String::new();
    let mut columns = Vec::new();
    for (at, order) in asked.iter().enumerate() {
        let name = order.field_name();
        if let Some((entity, key)) = name.split_once('.') {
            if entity != "metrics" {
                return Err(MlflowError::invalid(format!(
                    "Invalid order by field name: {name}. Only metrics are supported."
                )));
            }
            joins.push_str(&metric_join(at, key, order, values));
            let rank = format!("CASE WHEN o{at}.value IS NULL THEN 1 ELSE 0 END");
            columns.push(Column::new(rank, true, Kind::Integer));
            let value = format!("COALESCE(o{at}.value, 0.0)");
            columns.push(Column::new(value, order.ascending(), Kind::Real));
            continue;
        }
        let (sql, kind) = match name {
            "creation_time" | "creation_timestamp" => ("l.created_at", Kind::Integer),
            "last_updated_time" | "last_updated_timestamp" => ("l.updated_at", Kind::Integer),
            "status" => ("l.status", Kind::Integer),
            key if LOGGED_MODELS.orders.contains(&key) => (attribute(key), Kind::Text),
            _ => return Err(MlflowError::invalid(format!("Invalid order by field name: {name}"))),
        };
        columns.push(Column::new(sql, order.ascending(), kind));
    }
    for (sql, ascending, kind) in
        [("l.created_at", false, Kind::Integer), ("l.id", true, Kind::Text)]
    {
        if !columns.iter().any(|column| column.sql == sql) {
            columns.push(Column::new(sql, ascending, kind));
        }
    }
    Ok((joins, columns))
}

/// The newest value of a metric of each model.
fn metric_join(at: usize, key: &str, order: &OrderBy, values: &mut Values) -> String {
    let mut condition = format!("key = {}", values.add(key));
    for (column, value) in
        [("dataset_name", order.dataset_name()), ("dataset_digest", order.dataset_digest())]
    {
        if !value.is_empty() {
            condition.push_str(&format!(" AND {column} = {}", values.add(value)));
        }
    }
    format!(
        " LEFT JOIN (SELECT model_id, value, ROW_NUMBER() OVER (PARTITION BY model_id \
         ORDER BY at_ms DESC, step DESC, run_id) AS n FROM logged_model_metric WHERE {condition}) o{at} \
         ON o{at}.model_id = l.id AND o{at}.n = 1"
    )
}
