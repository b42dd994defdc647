//! What hangs on models and versions in tables of its own, read for many at once by one
//! statement: a turn with the database costs more than its rows do.

use std::collections::BTreeMap;

use ids::PrincipalId;
use sea_orm::FromQueryResult;
use service_error::ServiceError;
use uuid::Uuid;

use super::Store;
use super::sql::{Values, all};
use crate::model::{Alias, Model, ModelVersion};

const TAG: i32 = 1;
const ALIAS: i32 = 2;
const STAGE: i32 = 3;
const FLAVOR: i32 = 4;

/// A tag, alias, newest version of a stage, or flavor.
#[derive(Debug, FromQueryResult)]
struct Detail {
    kind: i32,
    owner: Uuid,
    name: String,
    value: String,
    number: i64,
    protected: bool,
    set_at: i64,
    set_by: Option<Uuid>,
}

/// A SELECT of details that have no more than a name and a value.
fn plain(kind: i32, owner: &str, name: &str, value: &str, number: &str, from: &str) -> String {
    format!(
        "SELECT {kind} AS kind, {owner} AS owner, {name} AS name, {value} AS value, \
         {number} AS number, CAST(0 AS boolean) AS protected, CAST(0 AS bigint) AS set_at, \
         CAST(NULL AS uuid) AS set_by FROM {from}"
    )
}

const NONE: &str = "CAST(0 AS bigint)";

impl Store {
    async fn details(&self, selects: &[String], values: Values) -> Result<Details, ServiceError> {
        let rows: Vec<Detail> = all(self.read(), &selects.join(" UNION ALL "), values.all).await?;
        let mut found = Details::default();
        for row in rows {
            found.0.entry((row.owner, row.kind)).or_default().push(row);
        }
        Ok(found)
    }

    /// Adds tags, aliases and the newest versions of stages.
    pub(super) async fn fill_models(&self, models: &mut [Model]) -> Result<(), ServiceError> {
        if models.is_empty() {
            return Ok(());
        }
        let mut values = Values::new(self.sql.backend());
        let these = values.is_one_of("model_id", models.iter().map(|model| model.id.uuid()));
        let selects = [
            plain(TAG, "model_id", "key", "value", NONE, &format!("model_tag WHERE {these}")),
            format!(
                "SELECT {ALIAS}, model_id, name, '', number, protected, set_at, set_by FROM alias \
                 WHERE {these}"
            ),
            plain(
                STAGE,
                "model_id",
                "stage",
                "''",
                "number",
                &format!("stage_latest WHERE {these}"),
            ),
        ];
        let mut found = self.details(&selects, values).await?;
        for model in models {
            let id = model.id.uuid();
            model.tags = found.texts(id, TAG);
            model.aliases = found.take(id, ALIAS).into_iter().map(Detail::into_alias).collect();
            let stages = found.take(id, STAGE).into_iter();
            model.latest_by_stage = stages.map(|row| (row.name, row.number)).collect();
        }
        Ok(())
    }

    /// Adds tags, flavors and aliases.
    pub(super) async fn fill_versions(
        &self,
        versions: &mut [ModelVersion],
    ) -> Result<(), ServiceError> {
        if versions.is_empty() {
            return Ok(());
        }
        let mut values = Values::new(self.sql.backend());
        let these = values.is_one_of("version_id", versions.iter().map(|v| v.id.uuid()));
        let models = values.is_one_of("model_id", versions.iter().map(|v| v.model_id.uuid()));
        let flavors = format!("version_flavor WHERE {these}");
        let selects = [
            plain(TAG, "version_id", "key", "value", NONE, &format!("version_tag WHERE {these}")),
            plain(FLAVOR, "version_id", "flavor", "''", NONE, &flavors),
            plain(ALIAS, "model_id", "name", "''", "number", &format!("alias WHERE {models}")),
        ];
        let mut found = self.details(&selects, values).await?;
        let mut aliases: BTreeMap<(Uuid, i64), Vec<String>> = BTreeMap::new();
        for model in versions.iter().map(|version| version.model_id.uuid()) {
            for row in found.take(model, ALIAS) {
                aliases.entry((model, row.number)).or_default().push(row.name);
            }
        }
        for version in versions {
            let id = version.id.uuid();
            version.tags = found.texts(id, TAG);
            version.flavors = found.texts(id, FLAVOR).into_keys().collect();
            let key = (version.model_id.uuid(), version.number);
            version.aliases = aliases.remove(&key).unwrap_or_default();
        }
        Ok(())
    }
}

/// Details by owner and kind.
#[derive(Debug, Default)]
struct Details(BTreeMap<(Uuid, i32), Vec<Detail>>);

impl Details {
    /// Those of an owner, by name.
    fn take(&mut self, owner: Uuid, kind: i32) -> Vec<Detail> {
        let mut rows = self.0.remove(&(owner, kind)).unwrap_or_default();
        rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    fn texts(&mut self, owner: Uuid, kind: i32) -> BTreeMap<String, String> {
        self.take(owner, kind).into_iter().map(|row| (row.name, row.value)).collect()
    }
}

impl Detail {
    fn into_alias(self) -> Alias {
        Alias {
            name: self.name,
            number: self.number,
            protected: self.protected,
            set_at: self.set_at,
            set_by: PrincipalId::from_uuid(self.set_by.unwrap_or_default()),
        }
    }
}
