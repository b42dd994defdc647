//! Models and versions in any order, a keyset page at a time.

use ids::{ModelId, NamespaceId};
use mlflow_wire::Result;
use model_query::Expr;
use sea_orm::Value;
use serde::de::DeserializeOwned;
use tracking::search::{Column, Key, Kind, Paged, cut, token_key};
use uuid::Uuid;

use super::rows::{IdRow, WithLatest, into_versions, into_whole_model};
use super::search;
use super::sql::{Values, one};
use super::whole::{Listed, OF_MODELS, OF_VERSIONS, whole};
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
        let json = &whole(self.sql.backend()).model_with_latest;
        let rows: Vec<WithLatest> = self.listed(asked, query, json, OF_MODELS).await?;
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
        let Some(query) = self.versions_query(asked).await? else { return Ok((Vec::new(), None)) };
        let columns = query.paged.columns.clone();
        let json = &whole(self.sql.backend()).version;
        let rows = self.listed(asked, query, json, OF_VERSIONS).await?;
        let mut found = into_versions(rows)?;
        let token = cut(&mut found, asked.limit, &asked.list, |version| {
            Ok(columns.iter().map(|column| version_key(version, column)).collect())
        })?;
        Ok((found, token))
    }

    /// The query of a page of versions; nothing if the model that it names is none.
    ///
    /// # Errors
    /// As [`Self::ordered_models`].
    pub(super) async fn versions_query(&self, asked: &OrderedPage) -> Result<Option<Query>> {
        let mut values = Values::new(self.sql.backend());
        let mut conditions = asked.conditions(&mut values);
        conditions.push("v.deleted_at IS NULL".to_owned());
        conditions.push(search::versions(&asked.filter, &mut values));
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
        for (sql, ascending, kind) in
            [("m.name", true, Kind::Text), ("v.number", false, Kind::Integer)]
        {
            if !columns.iter().any(|column| column.sql == sql) {
                columns.push(Column::new(sql, ascending, kind));
            }
        }
        let from = ("v.id", "version v JOIN model m ON m.id = v.model_id");
        query(asked, from, conditions, columns, values).map(Some)
    }

    async fn model_id(&self, namespace: NamespaceId, name: &str) -> Result<Option<Uuid>> {
        let sql = "SELECT id FROM model WHERE namespace_id = $1 AND name = $2 \
                   AND deleted_at IS NULL";
        let row: Option<IdRow> =
            one(self.read(), sql, [namespace.uuid().into(), name.into()]).await?;
        Ok(row.map(|row| row.id))
    }

    async fn listed<T: DeserializeOwned>(
        &self,
        asked: &OrderedPage,
        Query { sql, values, paged }: Query,
        json: &str,
        of: &str,
    ) -> Result<Vec<T>> {
        let listed = Listed {
            json,
            of,
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
            json: &whole(self.sql.backend()).version,
            of: OF_VERSIONS,
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
    if let Some(key) = token_key(&asked.list, &asked.page_token)? {
        conditions.push(paged.after(&key, &mut |value| values.add(value))?);
    }
    let limit = values.add(i64::from(asked.limit) + 1);
    let sql = format!(
        "SELECT {id} AS id{} FROM {from} WHERE {}{} LIMIT {limit}",
        paged.select(),
        conditions.join(" AND "),
        paged.order()
    );
    Ok(Query { sql, values: values.all, paged })
}
