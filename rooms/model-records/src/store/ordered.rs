//! Models and versions in any order, a keyset page at a time.

use ids::{ModelId, NamespaceId};
use mlflow_wire::Result;
use model_query::Expr;
use sea_orm::{DbBackend, Value};
use serde::de::DeserializeOwned;
use tracking::search::{Column, Key, Kind, Paged, cut, token_key};
use uuid::Uuid;

use super::rows::{IdRow, WithLatest, into_versions, into_whole_model, together};
use super::search;
use super::sql::{Values, one};
use super::whole::{Listed, Shape, whole};
use super::{Store, VisibleRows};
use crate::model::{Model, ModelVersion};

/// Which rows of which page.
#[derive(Debug)]
pub struct OrderedPage {
    pub namespace: Option<NamespaceId>,
    pub visible: VisibleRows,
    pub filter: Expr,
    /// Names the list, for its tokens.
    pub list: String,
    /// Keys as MLflow calls them, each with whether it ascends.
    pub orders: Vec<(String, bool)>,
    pub page_token: String,
    pub limit: u32,
}

impl OrderedPage {
    fn conditions(&self, values: &mut Values) -> Vec<String> {
        let mut conditions =
            vec![self.visible.condition(values), "m.deleted_at IS NULL".to_owned()];
        if let Some(namespace) = self.namespace {
            conditions.push(format!("m.namespace_id = {}", values.add(namespace.uuid())));
        }
        conditions
    }
}

/// A page's ids in their order, and the order.
pub(super) struct Query {
    pub sql: String,
    pub values: Vec<Value>,
    paged: Paged,
}

/// Versions in an order, before they are filtered.
pub(super) struct Versions {
    conditions: Vec<String>,
    columns: Vec<Column>,
    values: Values,
    /// An index has them in this order.
    indexed: bool,
}

/// So many of those that come first are looked through for tags before an index is asked.
const NEAR: i64 = 1_000;
/// Nor are longer pages looked for there.
const NEAR_PAGE_MAX: u32 = 256;

impl Store {
    /// A page of models, each with the newest version of each stage, and the token that
    /// continues it.
    ///
    /// # Errors
    /// A token of another list; the database's.
    pub async fn ordered_models(
        &self,
        asked: &OrderedPage,
    ) -> Result<(Vec<(Model, Vec<ModelVersion>)>, Option<String>)> {
        let mut values = Values::new(self.sql.backend());
        let mut conditions = asked.conditions(&mut values);
        conditions.push(search::models(&asked.filter, &mut values));
        let mut columns: Vec<Column> = asked
            .orders
            .iter()
            .map(|(key, ascending)| match key.as_str() {
                "name" => Column::new("m.name", *ascending, Kind::Text),
                _ => Column::new("m.updated_at", *ascending, Kind::Integer),
            })
            .collect();
        if !columns.iter().any(|column| column.sql == "m.name") {
            columns.push(Column::new("m.name", true, Kind::Text));
        }
        let query = query(asked, ("m.id", "model m"), conditions, columns, values)?;
        let columns = query.paged.columns.clone();
        let shape = &whole(self.sql.backend()).model_with_latest;
        let rows: Vec<WithLatest> = match self.sql.backend() {
            DbBackend::Postgres => together(self.listed(asked, query, shape).await?),
            _ => self.listed(asked, query, shape).await?,
        };
        let found = rows.into_iter().map(into_whole_model);
        let mut found = found.collect::<std::result::Result<Vec<_>, _>>()?;
        let token = cut(&mut found, asked.limit, &asked.list, |(model, _)| {
            Ok(columns.iter().map(|column| model_key(model, column)).collect())
        })?;
        Ok((found, token))
    }

    /// A page of versions, and the token that continues it.
    ///
    /// # Errors
    /// As [`Self::ordered_models`].
    pub async fn ordered_versions(
        &self,
        asked: &OrderedPage,
    ) -> Result<(Vec<ModelVersion>, Option<String>)> {
        let Some(versions) = self.versions(asked).await? else { return Ok((Vec::new(), None)) };
        let columns = versions.columns.clone();
        let shape = &whole(self.sql.backend()).version;
        let mut rows = Vec::new();
        if let Some(near) = versions.near(asked)? {
            rows = self.listed(asked, near, shape).await?;
        }
        if rows.len() <= asked.limit as usize {
            rows = self.listed(asked, versions.query(asked)?, shape).await?;
        }
        let mut found = into_versions(rows)?;
        let token = cut(&mut found, asked.limit, &asked.list, |version| {
            Ok(columns.iter().map(|column| version_key(version, column)).collect())
        })?;
        Ok((found, token))
    }

    /// The versions of a list; nothing if the model that it names is none.
    ///
    /// # Errors
    /// As [`Self::ordered_models`].
    pub(super) async fn versions(&self, asked: &OrderedPage) -> Result<Option<Versions>> {
        let mut values = Values::new(self.sql.backend());
        let mut conditions = asked.conditions(&mut values);
        conditions.push("v.deleted_at IS NULL".to_owned());
        let placed = conditions.len();
        let mut columns = version_columns(&asked.orders);
        // An index has the versions of a model, and those of a namespace, in the order of their
        // changes. It is only gone by if the column it begins with is compared itself.
        match (asked.namespace, search::named(&asked.filter)) {
            (Some(namespace), Some(name)) => match self.model_id(namespace, name).await? {
                Some(id) => conditions.push(format!("v.model_id = {}", values.add(id))),
                None => return Ok(None),
            },
            // What another index looks up would be scanned for.
            (Some(namespace), None)
                if columns[0].sql == "v.updated_at" && !search::is_looked_up(&asked.filter) =>
            {
                conditions.push(format!("v.namespace_id = {}", values.add(namespace.uuid())));
            }
            _ => {}
        }
        let indexed = columns[0].sql == "v.updated_at" && conditions.len() > placed;
        for (sql, ascending, kind) in
            [("m.name", true, Kind::Text), ("v.number", false, Kind::Integer)]
        {
            if !columns.iter().any(|column| column.sql == sql) {
                columns.push(Column::new(sql, ascending, kind));
            }
        }
        Ok(Some(Versions { conditions, columns, values, indexed }))
    }

    async fn model_id(&self, namespace: NamespaceId, name: &str) -> Result<Option<Uuid>> {
        let sql = "SELECT id FROM model WHERE namespace_id = $1 AND name = $2 \
                   AND deleted_at IS NULL";
        let row: Option<IdRow> =
            one(&*self.sql.lookup(), sql, [namespace.uuid().into(), name.into()]).await?;
        Ok(row.map(|row| row.id))
    }

    async fn listed<T: DeserializeOwned>(
        &self,
        asked: &OrderedPage,
        Query { sql, values, paged }: Query,
        shape: &Shape,
    ) -> Result<Vec<T>> {
        let listed = Listed {
            shape,
            page: sql,
            descending: paged.columns.iter().map(|column| !column.ascending).collect(),
            rows_max: asked.limit.saturating_add(1),
        };
        Ok(self.list_whole(&listed, values).await?)
    }

    /// The newest version of each stage of some models.
    ///
    /// # Errors
    /// The database's.
    pub async fn latest_versions(&self, models: &[ModelId]) -> Result<Vec<ModelVersion>> {
        let mut values = Values::new(self.sql.backend());
        let of_these = values.is_one_of("s.model_id", models.iter().map(|id| id.uuid()));
        let listed = Listed {
            shape: &whole(self.sql.backend()).version,
            page: format!(
                "SELECT v.id AS id, v.number AS k0 FROM stage_latest s \
                 JOIN version v ON v.model_id = s.model_id AND v.number = s.number \
                 WHERE {of_these} AND v.deleted_at IS NULL"
            ),
            descending: vec![true],
            // As many as there are stages.
            rows_max: u32::MAX,
        };
        Ok(into_versions(self.list_whole(&listed, values.all).await?)?)
    }
}

impl Versions {
    /// The ids of a page.
    pub(super) fn query(self, asked: &OrderedPage) -> Result<Query> {
        let Self { mut conditions, columns, mut values, .. } = self;
        conditions.push(search::versions(&asked.filter, &mut values));
        let from = ("v.id", "version v JOIN model m ON m.id = v.model_id");
        query(asked, from, conditions, columns, values)
    }

    /// The same if those have the tags that come first of all: a planner does not know how many
    /// have two of them, and begins with one, however many rows have it. What it finds is the page
    /// unless it finds too few. SQLite goes by the order anyway.
    pub(super) fn near(&self, asked: &OrderedPage) -> Result<Option<Query>> {
        let is_postgres = self.values.backend == DbBackend::Postgres;
        if !is_postgres || !self.indexed || asked.limit > NEAR_PAGE_MAX {
            return Ok(None);
        }
        let (mut values, mut conditions) = (self.values.clone(), self.conditions.clone());
        let paged = Paged { columns: self.columns.clone() };
        after(asked, &paged, &mut conditions, &mut values)?;
        let Some(tagged) = search::by_tags(&asked.filter, &mut values) else { return Ok(None) };
        let directed = paged.columns.iter().enumerate().map(|(at, column)| {
            format!("v.k{at} {}", if column.ascending { "ASC" } else { "DESC" })
        });
        // Values, not numbers: of a limit that it does not know, a plan that is kept expects few
        // rows, and goes by the order; it would sort a model that is larger than most.
        let (near, limit) = (values.add(NEAR), values.add(i64::from(asked.limit) + 1));
        let sql = format!(
            "SELECT v.* FROM (SELECT v.id AS id, m.name AS name{} FROM version v \
             JOIN model m ON m.id = v.model_id WHERE {}{} LIMIT {near}) v \
             WHERE {tagged} ORDER BY {} LIMIT {limit}",
            paged.select(),
            conditions.join(" AND "),
            paged.order(),
            directed.collect::<Vec<_>>().join(", ")
        );
        Ok(Some(Query { sql, values: values.all, paged }))
    }
}

/// That a row comes after the page before, if there is one.
fn after(
    asked: &OrderedPage,
    paged: &Paged,
    conditions: &mut Vec<String>,
    values: &mut Values,
) -> Result<()> {
    if let Some(key) = token_key(&asked.list, &asked.page_token)? {
        conditions.push(paged.after(&key, &mut |value| values.add(value))?);
    }
    Ok(())
}

/// Where a model stands in an order, as its token says.
fn model_key(model: &Model, column: &Column) -> Key {
    match column.sql.as_str() {
        "m.name" => Key::Text(model.name.clone()),
        _ => Key::Integer(model.updated_at),
    }
}

/// Where a version stands in an order, as its token says.
fn version_key(version: &ModelVersion, column: &Column) -> Key {
    match column.sql.as_str() {
        "m.name" => Key::Text(version.model.clone()),
        "v.number" => Key::Integer(version.number),
        "v.created_at" => Key::Integer(version.created_at),
        _ => Key::Integer(version.updated_at),
    }
}

/// What MLflow's keys of versions are ordered by.
fn version_columns(orders: &[(String, bool)]) -> Vec<Column> {
    if orders.is_empty() {
        return vec![Column::new("v.updated_at", false, Kind::Integer)];
    }
    let column = |(key, ascending): &(String, bool)| match key.as_str() {
        "name" => Column::new("m.name", *ascending, Kind::Text),
        "version_number" => Column::new("v.number", *ascending, Kind::Integer),
        "creation_timestamp" => Column::new("v.created_at", *ascending, Kind::Integer),
        _ => Column::new("v.updated_at", *ascending, Kind::Integer),
    };
    orders.iter().map(column).collect()
}

fn query(
    asked: &OrderedPage,
    (id, from): (&str, &str),
    mut conditions: Vec<String>,
    columns: Vec<Column>,
    mut values: Values,
) -> Result<Query> {
    let paged = Paged { columns };
    after(asked, &paged, &mut conditions, &mut values)?;
    let limit = values.add(i64::from(asked.limit) + 1);
    let sql = format!(
        "SELECT {id} AS id{} FROM {from} WHERE {}{} LIMIT {limit}",
        paged.select(),
        conditions.join(" AND "),
        paged.order()
    );
    Ok(Query { sql, values: values.all, paged })
}
