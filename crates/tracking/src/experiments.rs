//! Experiments.

use mlflow_wire::proto::{
    CreateExperiment, Experiment, ExperimentTag, SearchExperiments, ViewType, create_experiment,
    search_experiments,
};
use mlflow_wire::search::{Comparator, EXPERIMENTS, Entity, Operand, order_by, parse};
use mlflow_wire::{ErrorCode, MlflowError, Result, names};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use sql_store::{db_error, is_unique_violation, next_number, now_micros};

use crate::search::{Column, Kind, Listing, Paged, compare, whole};
use crate::sql::{Values, all, execute, one, try_execute};
use crate::{ACTIVE, DELETED, Scope, Tracking, commit, stage};

/// The experiment that every namespace has.
const DEFAULT_NAME: &str = "Default";
const RESULTS_MAX: i64 = 50_000;

#[derive(Debug, FromQueryResult)]
pub struct ExperimentRow {
    pub id: i64,
    pub name: String,
    pub location: String,
    pub lifecycle: i64,
    created_at: i64,
    updated_at: i64,
}

#[derive(Debug, FromQueryResult)]
struct TagRow {
    experiment_id: i64,
    key: String,
    value: String,
}

const COLUMNS: &str = "e.id, e.name, e.location, e.lifecycle, e.created_at, e.updated_at";

impl ExperimentRow {
    fn into_message(self, scope: &Scope, tags: Vec<ExperimentTag>) -> Experiment {
        Experiment {
            experiment_id: Some(self.id.to_string()),
            name: Some(self.name),
            artifact_location: Some(self.location),
            lifecycle_stage: Some(stage(self.lifecycle).to_owned()),
            last_update_time: Some(self.updated_at / 1_000),
            creation_time: Some(self.created_at / 1_000),
            tags,
            effective_trace_archival_retention: None,
            workspace: Some(scope.name.clone()),
        }
    }

    /// # Errors
    /// An experiment that is deleted.
    pub fn must_be_active(&self) -> Result<()> {
        if self.lifecycle == ACTIVE {
            return Ok(());
        }
        Err(MlflowError::invalid(format!(
            "The experiment {} must be in the 'active' state. Current state is deleted.",
            self.id
        )))
    }
}

fn absent(id: i64) -> MlflowError {
    MlflowError::missing(format!("No Experiment with id={id} exists"))
}

/// An empty id is the default's.
fn number(id: &str) -> Result<i64> {
    if id.is_empty() { Ok(0) } else { names::experiment_id(id) }
}

impl Tracking {
    /// Makes an experiment; answers its id.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS`, also for a deleted one of the name.
    pub async fn create_experiment(
        &self,
        scope: &Scope,
        asked: &CreateExperiment,
    ) -> Result<create_experiment::Response> {
        let name = asked.name();
        names::experiment(name)?;
        for tag in &asked.tags {
            names::experiment_tag(tag.key(), tag.value())?;
        }
        self.ensure_default(scope).await?;
        let tx = self.begin().await?;
        let counter = format!("experiment:{}", scope.namespace);
        let id = next_number(&tx, &counter).await?;
        insert(&tx, scope, id, name, asked.artifact_location()).await?;
        for tag in &asked.tags {
            set_tag(&tx, scope, id, tag.key(), tag.value()).await?;
        }
        commit(tx).await?;
        Ok(create_experiment::Response { experiment_id: Some(id.to_string()) })
    }

    /// The default experiment is there from the first look on.
    async fn ensure_default(&self, scope: &Scope) -> Result<()> {
        if self.find_experiment(scope, 0).await?.is_some() {
            return Ok(());
        }
        let tx = self.begin().await?;
        let sql = "INSERT INTO experiment (namespace_id, id, name, location, lifecycle, created_at, updated_at) \
                   VALUES ($1, 0, $2, $3, $4, $5, $5) ON CONFLICT DO NOTHING";
        let values = vec![
            scope.namespace.uuid().into(),
            DEFAULT_NAME.into(),
            location_of(0).into(),
            ACTIVE.into(),
            now_micros().into(),
        ];
        execute(&tx, sql, values).await?;
        commit(tx).await
    }

    async fn find_experiment(&self, scope: &Scope, id: i64) -> Result<Option<ExperimentRow>> {
        let sql =
            format!("SELECT {COLUMNS} FROM experiment e WHERE e.namespace_id = $1 AND e.id = $2");
        one(self.sql.read(), &sql, vec![scope.namespace.uuid().into(), id.into()]).await
    }

    /// An experiment by its id, deleted or not.
    pub(crate) async fn experiment_row(&self, scope: &Scope, id: &str) -> Result<ExperimentRow> {
        let id = number(id)?;
        if id == 0 {
            self.ensure_default(scope).await?;
        }
        self.find_experiment(scope, id).await?.ok_or_else(|| absent(id))
    }

    /// An experiment, deleted or not.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn get_experiment(&self, scope: &Scope, id: &str) -> Result<Experiment> {
        let row = self.experiment_row(scope, id).await?;
        self.with_tags(scope, vec![row]).await?.pop().ok_or_else(|| absent(0))
    }

    /// An experiment by its name, deleted or not.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn get_experiment_by_name(&self, scope: &Scope, name: &str) -> Result<Experiment> {
        self.ensure_default(scope).await?;
        let sql =
            format!("SELECT {COLUMNS} FROM experiment e WHERE e.namespace_id = $1 AND e.name = $2");
        let values = vec![scope.namespace.uuid().into(), name.into()];
        let missing =
            || MlflowError::missing(format!("Could not find experiment with name '{name}'"));
        let row = one(self.sql.read(), &sql, values).await?.ok_or_else(missing)?;
        self.with_tags(scope, vec![row]).await?.pop().ok_or_else(missing)
    }

    async fn with_tags(&self, scope: &Scope, rows: Vec<ExperimentRow>) -> Result<Vec<Experiment>> {
        let mut values = Values::default();
        let namespace = values.add(scope.namespace.uuid());
        let list = values.list(rows.iter().map(|row| row.id));
        let sql = format!(
            "SELECT experiment_id, key, value FROM experiment_tag \
             WHERE namespace_id = {namespace} AND experiment_id IN ({list}) ORDER BY experiment_id, key"
        );
        let mut tags: Vec<TagRow> = all(self.sql.read(), &sql, values.all).await?;
        let messages = rows.into_iter().map(|row| {
            let mine = tags.extract_if(.., |tag| tag.experiment_id == row.id);
            let mine = mine.map(|tag| ExperimentTag { key: Some(tag.key), value: Some(tag.value) });
            let mine = mine.collect();
            row.into_message(scope, mine)
        });
        Ok(messages.collect())
    }

    /// Deletes an experiment with its runs, or takes it back with them.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` for one that is not, or already is, deleted.
    pub async fn set_experiment_lifecycle(
        &self,
        scope: &Scope,
        id: &str,
        deleted: bool,
    ) -> Result<()> {
        self.experiment_row(scope, id).await?;
        let id = number(id)?;
        let (before, after) = if deleted { (ACTIVE, DELETED) } else { (DELETED, ACTIVE) };
        let tx = self.begin().await?;
        let sql = "UPDATE experiment SET lifecycle = $1, updated_at = $2 \
                   WHERE namespace_id = $3 AND id = $4 AND lifecycle = $5";
        let namespace = scope.namespace.uuid();
        let values =
            vec![after.into(), now_micros().into(), namespace.into(), id.into(), before.into()];
        if execute(&tx, sql, values).await? == 0 {
            return Err(absent(id));
        }
        let sql = "UPDATE run SET lifecycle = $1, revision = revision + 1 \
                   WHERE namespace_id = $2 AND experiment_id = $3";
        execute(&tx, sql, vec![after.into(), namespace.into(), id.into()]).await?;
        commit(tx).await
    }

    /// Renames an experiment.
    ///
    /// # Errors
    /// `INVALID_STATE` for a deleted one, `RESOURCE_ALREADY_EXISTS`.
    pub async fn rename_experiment(&self, scope: &Scope, id: &str, name: &str) -> Result<()> {
        names::experiment(name)?;
        let row = self.experiment_row(scope, id).await?;
        if row.lifecycle != ACTIVE {
            return Err(MlflowError::new(
                ErrorCode::InvalidState,
                "Cannot rename a non-active experiment.",
            ));
        }
        let tx = self.begin().await?;
        let sql =
            "UPDATE experiment SET name = $1, updated_at = $2 WHERE namespace_id = $3 AND id = $4";
        let values =
            vec![name.into(), now_micros().into(), scope.namespace.uuid().into(), row.id.into()];
        try_execute(&tx, sql, values).await.map_err(|error| taken(name, error))?;
        commit(tx).await
    }

    /// Sets a tag of an active experiment.
    ///
    /// # Errors
    /// As the names' rules, `RESOURCE_DOES_NOT_EXIST`.
    pub async fn set_experiment_tag(
        &self,
        scope: &Scope,
        id: &str,
        key: &str,
        value: &str,
    ) -> Result<()> {
        names::experiment_tag(key, value)?;
        let row = self.experiment_row(scope, id).await?;
        row.must_be_active()?;
        let tx = self.begin().await?;
        set_tag(&tx, scope, row.id, key, value).await?;
        commit(tx).await
    }

    /// Removes a tag of an active experiment.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn delete_experiment_tag(&self, scope: &Scope, id: &str, key: &str) -> Result<()> {
        let row = self.experiment_row(scope, id).await?;
        row.must_be_active()?;
        let tx = self.begin().await?;
        let sql = "DELETE FROM experiment_tag WHERE namespace_id = $1 AND experiment_id = $2 AND key = $3";
        let values = vec![scope.namespace.uuid().into(), row.id.into(), key.into()];
        if execute(&tx, sql, values).await? == 0 {
            return Err(MlflowError::missing(format!(
                "No tag with name: {key} in experiment with id {id}"
            )));
        }
        commit(tx).await
    }

    /// Experiments that pass a filter, a page of them.
    ///
    /// # Errors
    /// A filter, order, size or token that is none.
    pub async fn search_experiments(
        &self,
        scope: &Scope,
        asked: &SearchExperiments,
    ) -> Result<search_experiments::Response> {
        let size = results_max(asked.max_results())?;
        self.ensure_default(scope).await?;
        let mut values = Values::default();
        let mut conditions = vec![
            format!("e.namespace_id = {}", values.add(scope.namespace.uuid())),
            lifecycles("e", asked.view_type()).to_owned(),
        ];
        self.conditions(asked.filter(), &mut conditions, &mut values)?;
        let listing = Listing {
            name: format!(
                "experiments:{}:{}:{:?}",
                scope.namespace,
                asked.filter(),
                asked.order_by
            ),
            token: asked.page_token(),
            size,
            columns: COLUMNS,
            from: "experiment e".to_owned(),
            conditions,
            values,
            paged: Paged { columns: orders(&asked.order_by)? },
        };
        let (rows, next_page_token) = listing.read::<ExperimentRow>(&self.sql).await?;
        let experiments = self.with_tags(scope, rows).await?;
        Ok(search_experiments::Response { experiments, next_page_token })
    }

    fn conditions(
        &self,
        filter: &str,
        conditions: &mut Vec<String>,
        values: &mut Values,
    ) -> Result<()> {
        let backend = self.sql.backend();
        for clause in parse(&EXPERIMENTS, filter)? {
            let column = match (clause.entity, clause.key.as_str()) {
                (Entity::Tag, _) => {
                    conditions.push(tag_condition(backend, &clause, values)?);
                    continue;
                }
                (_, "name") => {
                    if matches!(clause.comparator, Comparator::In | Comparator::NotIn) {
                        return Err(MlflowError::invalid(
                            "Invalid comparator for string attribute: IN",
                        ));
                    }
                    "e.name"
                }
                (_, "experiment_id") => "e.id",
                (_, "creation_time") => "e.created_at / 1000",
                _ => "e.updated_at / 1000",
            };
            let value = match (column, &clause.value) {
                ("e.name", value) => value.clone(),
                ("e.id", Operand::List(items)) => {
                    let ids: Result<Vec<i64>> =
                        items.iter().map(|id| names::experiment_id(id)).collect();
                    let list = values.list(ids?);
                    let not = if clause.comparator == Comparator::NotIn { "NOT " } else { "" };
                    conditions.push(format!("e.id {not}IN ({list})"));
                    continue;
                }
                ("e.id", Operand::Text(text)) => {
                    if !matches!(clause.comparator, Comparator::Equal | Comparator::NotEqual) {
                        return Err(MlflowError::invalid(format!(
                            "Invalid comparator for experiment_id: {:?}",
                            clause.comparator
                        )));
                    }
                    Operand::Int(names::experiment_id(text)?)
                }
                (_, value) => Operand::Int(whole(value, &clause.key)?),
            };
            conditions.push(compare(backend, column, clause.comparator, &value, values)?);
        }
        Ok(())
    }
}

fn tag_condition(
    backend: sea_orm::DbBackend,
    clause: &mlflow_wire::search::Clause,
    values: &mut Values,
) -> Result<String> {
    let key = values.add(clause.key.clone());
    let from = format!(
        "EXISTS (SELECT 1 FROM experiment_tag t WHERE t.namespace_id = e.namespace_id \
         AND t.experiment_id = e.id AND t.key = {key}"
    );
    Ok(match clause.comparator {
        Comparator::IsNull => format!("NOT {from})"),
        Comparator::IsNotNull => format!("{from})"),
        comparator => {
            let value = compare(backend, "t.value", comparator, &clause.value, values)?;
            format!("{from} AND {value})")
        }
    })
}

fn orders(asked: &[String]) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for text in asked {
        let order = order_by(&EXPERIMENTS, text)?;
        if order.entity != Entity::Attribute {
            return Err(MlflowError::invalid("Invalid order_by entity: tag"));
        }
        let (sql, kind) = match order.key.as_str() {
            "name" => ("e.name", Kind::Text),
            "experiment_id" => ("e.id", Kind::Integer),
            "creation_time" => ("e.created_at", Kind::Integer),
            _ => ("e.updated_at", Kind::Integer),
        };
        columns.push(Column::new(sql, order.ascending, kind));
    }
    if asked.is_empty() {
        columns.push(Column::new("e.created_at", false, Kind::Integer));
        columns.push(Column::new("e.id", true, Kind::Integer));
    }
    if !columns.iter().any(|column| column.sql == "e.id") {
        columns.push(Column::new("e.id", false, Kind::Integer));
    }
    Ok(columns)
}

/// Which lifecycles a view shows.
pub fn lifecycles(table: &str, view: ViewType) -> &'static str {
    match (table, view) {
        (_, ViewType::All) => "1 = 1",
        ("e", ViewType::ActiveOnly) => "e.lifecycle = 1",
        ("e", ViewType::DeletedOnly) => "e.lifecycle = 2",
        (_, ViewType::ActiveOnly) => "r.lifecycle = 1",
        (_, ViewType::DeletedOnly) => "r.lifecycle = 2",
    }
}

/// A page's size as MLflow allows it.
///
/// # Errors
/// Not within 1 and 50,000.
pub fn results_max(asked: i64) -> Result<u32> {
    let wrong = |rule: &str| {
        MlflowError::invalid(format!(
            "Invalid value {asked} for parameter 'max_results' supplied. It must be {rule}"
        ))
    };
    if asked > RESULTS_MAX {
        return Err(wrong(&format!("at most {RESULTS_MAX}")));
    }
    match u32::try_from(asked) {
        Ok(size) if size > 0 => Ok(size),
        _ => Err(wrong("a positive integer")),
    }
}

fn location_of(id: i64) -> String {
    format!("mlflow-artifacts:/{id}")
}

async fn insert(
    tx: &DatabaseTransaction,
    scope: &Scope,
    id: i64,
    name: &str,
    location: &str,
) -> Result<()> {
    let location = if location.is_empty() { location_of(id) } else { location.to_owned() };
    let sql = "INSERT INTO experiment (namespace_id, id, name, location, lifecycle, created_at, updated_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $6)";
    let values = vec![
        scope.namespace.uuid().into(),
        id.into(),
        name.into(),
        location.into(),
        ACTIVE.into(),
        now_micros().into(),
    ];
    try_execute(tx, sql, values).await.map(drop).map_err(|error| taken(name, error))
}

fn taken(name: &str, error: sea_orm::DbErr) -> MlflowError {
    if is_unique_violation(&error) {
        let message = format!("Experiment(name={name}) already exists.");
        MlflowError::new(ErrorCode::ResourceAlreadyExists, message)
    } else {
        db_error(error).into()
    }
}

async fn set_tag(
    tx: &DatabaseTransaction,
    scope: &Scope,
    id: i64,
    key: &str,
    value: &str,
) -> Result<()> {
    let sql = "INSERT INTO experiment_tag (namespace_id, experiment_id, key, value) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (namespace_id, experiment_id, key) DO UPDATE SET value = excluded.value";
    let values = vec![scope.namespace.uuid().into(), id.into(), key.into(), value.into()];
    execute(tx, sql, values).await.map(drop)
}
