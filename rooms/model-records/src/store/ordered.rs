//! Models and versions in any order, a keyset page at a time.

use ids::{ModelId, NamespaceId};
use mlflow_wire::Result;
use model_query::Expr;
use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Statement};
use sql_store::db_error;
use tracking::search::{Column, Kind, Paged, page, token_key};
use uuid::Uuid;

use super::rows::{IdRow, MODEL_COLUMNS, ModelRow, VERSION_COLUMNS, VersionRow};
use super::search;
use super::sql::{Values, all, one};
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

/// A page's statement, and the order that its rows come in.
pub(super) struct Query {
    pub statement: Statement,
    paged: Paged,
}

impl Store {
    /// A page of models, and the token that continues it.
    ///
    /// # Errors
    /// A token of another list; the database's.
    pub async fn ordered_models(
        &self,
        asked: &OrderedPage,
    ) -> Result<(Vec<Model>, Option<String>)> {
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
        let from = format!("SELECT {MODEL_COLUMNS}#KEYS FROM model m");
        let query = query(asked, &from, conditions, columns, values)?;
        let (rows, token) = self.answered(asked, query).await?;
        let rows: std::result::Result<Vec<_>, _> =
            rows.iter().map(|row| ModelRow::from_query_result(row, "")).collect();
        let mut found: Vec<Model> =
            rows.map_err(db_error)?.into_iter().map(ModelRow::into_model).collect();
        self.fill_models(&mut found).await?;
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
        let (rows, token) = self.answered(asked, query).await?;
        let rows: std::result::Result<Vec<_>, _> =
            rows.iter().map(|row| VersionRow::from_query_result(row, "")).collect();
        let found = rows.map_err(db_error)?.into_iter().map(VersionRow::into_version);
        let mut found = found.collect::<std::result::Result<Vec<_>, _>>()?;
        self.fill_versions(&mut found).await?;
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
        let from = format!(
            "SELECT {VERSION_COLUMNS}#KEYS FROM version v JOIN model m ON m.id = v.model_id"
        );
        query(asked, &from, conditions, columns, values).map(Some)
    }

    async fn model_id(&self, namespace: NamespaceId, name: &str) -> Result<Option<Uuid>> {
        let sql = "SELECT id FROM model WHERE namespace_id = $1 AND name = $2 \
                   AND deleted_at IS NULL";
        let row: Option<IdRow> =
            one(self.read(), sql, [namespace.uuid().into(), name.into()]).await?;
        Ok(row.map(|row| row.id))
    }

    async fn answered(
        &self,
        asked: &OrderedPage,
        Query { statement, paged }: Query,
    ) -> Result<(Vec<QueryResult>, Option<String>)> {
        let rows = self.read().query_all_raw(statement).await.map_err(db_error)?;
        page(rows, asked.limit, &asked.list, &paged)
    }

    /// The newest version of each stage of some models.
    ///
    /// # Errors
    /// The database's.
    pub async fn latest_versions(&self, models: &[ModelId]) -> Result<Vec<ModelVersion>> {
        let mut values = Values::new(self.sql.backend());
        let of_these = values.is_one_of("s.model_id", models.iter().map(|id| id.uuid()));
        let sql = format!(
            "SELECT {VERSION_COLUMNS} FROM stage_latest s \
             JOIN version v ON v.model_id = s.model_id AND v.number = s.number \
             JOIN model m ON m.id = v.model_id WHERE {of_these} AND v.deleted_at IS NULL \
             ORDER BY v.number DESC"
        );
        let rows: Vec<VersionRow> = all(self.read(), &sql, values.all).await?;
        let found = rows.into_iter().map(VersionRow::into_version);
        let mut found = found.collect::<std::result::Result<Vec<_>, _>>()?;
        self.fill_versions(&mut found).await?;
        Ok(found)
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
    from: &str,
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
        "{} WHERE {}{} LIMIT {limit}",
        from.replace("#KEYS", &paged.select()),
        conditions.join(" AND "),
        paged.order()
    );
    let statement = Statement::from_sql_and_values(values.backend, sql, values.all);
    Ok(Query { statement, paged })
}
