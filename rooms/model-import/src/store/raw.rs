//! The small registry of raw SQL: `mr_models`, `mr_model_versions`,
//! `mr_model_tags` in one SQLite file.

use std::collections::BTreeMap;

use quarry_client::failure::Failure;
use sea_orm::FromQueryResult;

use super::{Rows, lacking, other_version};
use crate::place::Roots;
use crate::source::{Files, PAGE_ROWS, Page, SourceModel, SourceVersion, damaged};

/// The opened file.
#[derive(Debug)]
pub struct RawRegistry {
    rows: Rows,
    roots: Roots,
}

#[derive(Debug, FromQueryResult)]
struct ModelRow {
    name: String,
    description: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct VersionRow {
    id: i64,
    unnumbered: i64,
    number: i64,
    version: String,
    description: Option<String>,
    storage_path: String,
    file_size_bytes: Option<i64>,
    created_at: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct TagRow {
    owner: i64,
    tag_key: String,
    tag_value: Option<String>,
}

/// Numbers first, by their value; SQLite would read "1.2.0" as 1.
const VERSIONS: &str = "\
    SELECT * FROM (SELECT v.id AS id, \
      CAST(v.version = '' OR v.version GLOB '*[^0-9]*' AS integer) AS unnumbered, \
      CASE WHEN v.version = '' OR v.version GLOB '*[^0-9]*' THEN 0 ELSE CAST(v.version AS integer) END AS number, \
      CAST(v.version AS text) AS version, CAST(v.description AS text) AS description, \
      CAST(v.storage_path AS text) AS storage_path, CAST(v.file_size_bytes AS integer) AS file_size_bytes, \
      CAST(v.created_at AS text) AS created_at \
     FROM mr_model_versions v JOIN mr_models m ON m.id = v.model_id WHERE m.name = $1) \
    WHERE (unnumbered, number, id) > ($2, $3, $4) ORDER BY unnumbered, number, id LIMIT $5";

impl RawRegistry {
    pub(super) async fn new(rows: Rows, roots: Roots) -> Result<Self, Failure> {
        const NEEDED: [(&str, &[&str]); 3] = [
            ("mr_models", &["id", "name", "description"]),
            (
                "mr_model_versions",
                &[
                    "id",
                    "model_id",
                    "version",
                    "description",
                    "storage_path",
                    "file_size_bytes",
                    "created_at",
                ],
            ),
            ("mr_model_tags", &["model_version_id", "tag_key", "tag_value"]),
        ];
        for (table, needed) in NEEDED {
            let missing = lacking(&rows.columns(table).await?, needed);
            if !missing.is_empty() {
                return Err(other_version(&rows.shown, table, &missing, ""));
            }
        }
        Ok(Self { rows, roots })
    }

    /// Models by name.
    pub async fn models(&self, token: &str) -> Result<Page<SourceModel>, Failure> {
        let sql = "SELECT CAST(name AS text) AS name, CAST(description AS text) AS description \
                   FROM mr_models WHERE name > $1 ORDER BY name LIMIT $2";
        let values = vec![token.into(), i64::from(PAGE_ROWS).into()];
        let rows: Vec<ModelRow> = self.rows.all(sql, values).await?;
        let next = match rows.last() {
            Some(last) if rows.len() == PAGE_ROWS as usize => last.name.clone(),
            _ => String::new(),
        };
        let model = |row: ModelRow| SourceModel {
            name: row.name,
            description: row.description.unwrap_or_default(),
            ..SourceModel::default()
        };
        Ok(Page { rows: rows.into_iter().map(model).collect(), next })
    }

    /// Versions of a model, numbers first.
    pub async fn versions(&self, model: &str, token: &str) -> Result<Page<SourceVersion>, Failure> {
        let after = match token {
            "" => [-1, 0, 0],
            token => {
                let parts: Vec<i64> = token.split(' ').filter_map(|it| it.parse().ok()).collect();
                <[i64; 3]>::try_from(parts)
                    .map_err(|_| damaged(&self.rows.shown, "its own token"))?
            }
        };
        let mut values = vec![model.into()];
        values.extend(after.map(sea_orm::Value::from));
        values.push(i64::from(PAGE_ROWS).into());
        let rows: Vec<VersionRow> = self.rows.all(VERSIONS, values).await?;
        let next = match rows.last() {
            Some(last) if rows.len() == PAGE_ROWS as usize => {
                format!("{} {} {}", last.unnumbered, last.number, last.id)
            }
            _ => String::new(),
        };
        let mut tags = self.tags(&rows).await?;
        let version = |row: VersionRow| SourceVersion {
            tags: tags.remove(&row.id).unwrap_or_default(),
            version: row.version,
            description: row.description.unwrap_or_default(),
            created: row.created_at.unwrap_or_default(),
            source: row.storage_path.clone(),
            files: Files::Local(row.storage_path.into()),
            bytes: row.file_size_bytes.and_then(|it| u64::try_from(it).ok()).filter(|it| *it > 0),
            ..SourceVersion::default()
        };
        Ok(Page { rows: rows.into_iter().map(version).collect(), next })
    }

    async fn tags(
        &self,
        versions: &[VersionRow],
    ) -> Result<BTreeMap<i64, BTreeMap<String, String>>, Failure> {
        let ids: Vec<String> = versions.iter().map(|row| row.id.to_string()).collect();
        let sql = format!(
            "SELECT model_version_id AS owner, CAST(tag_key AS text) AS tag_key, \
             CAST(tag_value AS text) AS tag_value FROM mr_model_tags WHERE model_version_id IN ({})",
            ids.join(", ")
        );
        let mut tags: BTreeMap<i64, BTreeMap<String, String>> = BTreeMap::new();
        if ids.is_empty() {
            return Ok(tags);
        }
        for row in self.rows.all::<TagRow>(&sql, Vec::new()).await? {
            let value = row.tag_value.unwrap_or_default();
            tags.entry(row.owner).or_default().insert(row.tag_key, value);
        }
        Ok(tags)
    }

    /// Where its files may lie.
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }
}
