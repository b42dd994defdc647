//! What is said of entries and contents.

use std::collections::HashMap;

use ids::PrincipalId;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Value};
use service_error::ServiceError;
use sql_store::{db_error, next_number, now_micros};

use super::bulk;
use super::search::{FOUND, Found, found_of};
use super::{Store, all, execute, get};

/// Tags in a chain of implications.
const TAGS_MAX: i64 = 10_000;

/// What a mark is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Entry(i64),
    Content(i64),
}

impl Target {
    const fn column(self) -> &'static str {
        match self {
            Self::Entry(_) => "entry_id",
            Self::Content(_) => "content_id",
        }
    }

    const fn id(self) -> i64 {
        match self {
            Self::Entry(id) | Self::Content(id) => id,
        }
    }
}

/// A note and its like; what is unset stays.
#[derive(Debug, Default)]
pub struct Annotation {
    pub note: Option<String>,
    pub favorite: Option<bool>,
    pub hidden: Option<bool>,
    pub properties: Vec<(String, String)>,
}

/// What is said of an entry, itself or by its content.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub tags: Vec<String>,
    pub note: String,
    pub favorite: bool,
    pub hidden: bool,
}

/// A label with what it is based on.
#[derive(Debug)]
pub struct NewLabel<'a> {
    pub path: &'a str,
    pub confidence: f64,
    pub source: &'a str,
}

impl Store {
    /// The entry at a location's path.
    ///
    /// # Errors
    /// The database's.
    pub async fn entry_at(
        &self,
        location: i64,
        dir: &str,
        name: &str,
    ) -> Result<Option<Found>, ServiceError> {
        let sql = format!(
            "SELECT {FOUND} FROM dir d JOIN entry e ON e.dir_id = d.id LEFT JOIN content c ON c.id = e.content_id
             WHERE d.location_id = $1 AND d.path = $2 AND e.name = $3"
        );
        let row = self.row(&sql, vec![location.into(), dir.into(), name.into()]).await?;
        row.as_ref().map(found_of).transpose()
    }

    /// Puts a tag on targets, or takes it off; answers how many changed.
    ///
    /// # Errors
    /// The database's.
    pub async fn tag(
        &self,
        name: &str,
        targets: &[Target],
        remove: bool,
        by: PrincipalId,
    ) -> Result<i64, ServiceError> {
        let tx = self.sql.begin().await?;
        let tag = named(&tx, "tag", "name", name).await?;
        let mut changed = 0;
        for target in targets {
            let column = target.column();
            changed += if remove {
                let sql = format!("DELETE FROM tagging WHERE tag_id = $1 AND {column} = $2");
                execute(&tx, &sql, vec![tag.into(), target.id().into()]).await?
            } else {
                let sql = format!(
                    "INSERT INTO tagging (id, tag_id, {column}, owner, created_at) VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT DO NOTHING"
                );
                let values: Vec<Value> = vec![
                    next_number(&tx, "tagging").await?.into(),
                    tag.into(),
                    target.id().into(),
                    by.uuid().into(),
                    now_micros().into(),
                ];
                execute(&tx, &sql, values).await?
            };
        }
        tx.commit().await.map_err(db_error)?;
        Ok(i64::try_from(changed).unwrap_or(0))
    }

    /// Puts a label on targets, or takes it off; answers how many changed.
    ///
    /// # Errors
    /// The database's.
    pub async fn label(
        &self,
        label: NewLabel<'_>,
        targets: &[Target],
        remove: bool,
        by: PrincipalId,
    ) -> Result<i64, ServiceError> {
        let tx = self.sql.begin().await?;
        let id = named(&tx, "label", "path", label.path).await?;
        let mut changed = 0;
        for target in targets {
            let column = target.column();
            changed += if remove {
                let sql = format!(
                    "DELETE FROM labelling WHERE label_id = $1 AND {column} = $2 AND source = $3"
                );
                execute(&tx, &sql, vec![id.into(), target.id().into(), label.source.into()]).await?
            } else {
                let sql = format!(
                    "INSERT INTO labelling (id, label_id, {column}, owner, created_at, confidence, source)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)
                     ON CONFLICT ({column}, label_id, source) WHERE {column} IS NOT NULL
                     DO UPDATE SET confidence = excluded.confidence, created_at = excluded.created_at"
                );
                let values: Vec<Value> = vec![
                    next_number(&tx, "labelling").await?.into(),
                    id.into(),
                    target.id().into(),
                    by.uuid().into(),
                    now_micros().into(),
                    label.confidence.into(),
                    label.source.into(),
                ];
                execute(&tx, &sql, values).await?
            };
        }
        tx.commit().await.map_err(db_error)?;
        Ok(i64::try_from(changed).unwrap_or(0))
    }

    /// Sets a note and its like.
    ///
    /// # Errors
    /// The database's.
    pub async fn annotate(
        &self,
        target: Target,
        said: Annotation,
        by: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let column = target.column();
        let number = |flag: Option<bool>| flag.map(i64::from);
        let sql = format!(
            "INSERT INTO annotation (id, {column}, note, favorite, hidden, changed_by, changed_at)
             VALUES ($1, $2, COALESCE($3, ''), COALESCE($4, 0), COALESCE($5, 0), $6, $7)
             ON CONFLICT ({column}) DO UPDATE SET note = COALESCE($3, annotation.note),
               favorite = COALESCE($4, annotation.favorite), hidden = COALESCE($5, annotation.hidden),
               changed_by = excluded.changed_by, changed_at = excluded.changed_at RETURNING id"
        );
        let values: Vec<Value> = vec![
            next_number(&tx, "annotation").await?.into(),
            target.id().into(),
            said.note.into(),
            number(said.favorite).into(),
            number(said.hidden).into(),
            by.uuid().into(),
            now_micros().into(),
        ];
        let row = tx.query_one_raw(self.statement(&sql, values)).await.map_err(db_error)?;
        let row = row.ok_or_else(|| ServiceError::internal("an annotation has no row"))?;
        let id: i64 = get(&row, "id")?;
        for (name, value) in said.properties {
            let sql =
                "INSERT INTO annotation_property (annotation_id, name, value) VALUES ($1, $2, $3)
                ON CONFLICT (annotation_id, name) DO UPDATE SET value = excluded.value";
            execute(&tx, sql, vec![id.into(), name.into(), value.into()]).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// What is said of some entries, themselves or by their contents.
    ///
    /// # Errors
    /// The database's.
    pub async fn said_of(&self, found: &[Found]) -> Result<HashMap<i64, Said>, ServiceError> {
        let mut said: HashMap<i64, Said> = HashMap::new();
        let entries: Vec<i64> = found.iter().map(|found| found.id).collect();
        let contents: Vec<i64> =
            found.iter().filter_map(|found| found.content.as_ref()).map(|c| c.id).collect();
        let mut of_content: HashMap<i64, Vec<i64>> = HashMap::new();
        for found in found {
            if let Some(content) = &found.content {
                of_content.entry(content.id).or_default().push(found.id);
            }
        }
        for (column, ids) in [("entry_id", &entries), ("content_id", &contents)] {
            if ids.is_empty() {
                continue;
            }
            let list = bulk::numbers(self.backend(), ids);
            let which = bulk::in_numbers(self.backend(), column, 1);
            let entries_of = |id: i64| match column {
                "entry_id" => vec![id],
                _ => of_content.get(&id).cloned().unwrap_or_default(),
            };
            let sql = format!(
                "SELECT {column} AS target, name FROM tagging JOIN tag ON tag.id = tag_id WHERE {which} ORDER BY name"
            );
            for row in self.rows(&sql, vec![list.clone()]).await? {
                for entry in entries_of(get(&row, "target")?) {
                    let tags = &mut said.entry(entry).or_default().tags;
                    let name: String = get(&row, "name")?;
                    if !tags.contains(&name) {
                        tags.push(name);
                    }
                }
            }
            let sql = format!(
                "SELECT {column} AS target, note, favorite, hidden FROM annotation WHERE {which}"
            );
            for row in self.rows(&sql, vec![list]).await? {
                for entry in entries_of(get(&row, "target")?) {
                    let said = said.entry(entry).or_default();
                    let note: String = get(&row, "note")?;
                    if said.note.is_empty() {
                        said.note = note;
                    }
                    said.favorite |= get::<i16>(&row, "favorite")? == 1;
                    said.hidden |= get::<i16>(&row, "hidden")? == 1;
                }
            }
        }
        Ok(said)
    }

    /// Tags after a name, with their uses within some locations.
    ///
    /// # Errors
    /// The database's.
    pub async fn tags(
        &self,
        locations: &[i64],
        after: &str,
        limit: u32,
    ) -> Result<Vec<(String, i64, Vec<String>)>, ServiceError> {
        let seen = bulk::in_numbers(self.backend(), "d.location_id", 1);
        let sql = format!(
            "SELECT t.name, (SELECT COUNT(*) FROM entry e JOIN dir d ON d.id = e.dir_id WHERE {seen} AND
               (e.id IN (SELECT entry_id FROM tagging WHERE tag_id = t.id AND entry_id IS NOT NULL) OR
                e.content_id IN (SELECT content_id FROM tagging WHERE tag_id = t.id AND content_id IS NOT NULL))) AS n
             FROM tag t WHERE t.name > $2 ORDER BY t.name LIMIT $3"
        );
        let values =
            vec![bulk::numbers(self.backend(), locations), after.into(), i64::from(limit).into()];
        let mut tags = Vec::new();
        for row in self.rows(&sql, values).await? {
            let name: String = get(&row, "name")?;
            let implied = "SELECT i.name FROM tag t JOIN tag_implies x ON x.tag_id = t.id
                JOIN tag i ON i.id = x.implied_id WHERE t.name = $1 ORDER BY i.name";
            let implies = self.rows(implied, vec![name.as_str().into()]).await?;
            let implies = implies.iter().map(|row| get(row, "name")).collect::<Result<_, _>>()?;
            tags.push((name, get(&row, "n")?, implies));
        }
        Ok(tags)
    }

    /// Says which tags a tag implies.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `TAG_CIRCLE`.
    pub async fn set_implied(&self, name: &str, implies: &[String]) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        // One at a time: two halves of a circle must not be written at once.
        next_number(&tx, "tag_implies").await?;
        let tag = named(&tx, "tag", "name", name).await?;
        execute(&tx, "DELETE FROM tag_implies WHERE tag_id = $1", vec![tag.into()]).await?;
        for other in implies {
            let implied = named(&tx, "tag", "name", other).await?;
            if implied == tag || reaches(&tx, implied, tag).await? {
                let message = format!(
                    "{other} implies {name} already: tags can't imply each other in a circle"
                );
                return Err(ServiceError::precondition(message).reason("TAG_CIRCLE"));
            }
            let sql = "INSERT INTO tag_implies (tag_id, implied_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            execute(&tx, sql, vec![tag.into(), implied.into()]).await?;
        }
        tx.commit().await.map_err(db_error)
    }
}

/// The number of a name, which is made if it is new.
async fn named(
    tx: &DatabaseTransaction,
    table: &str,
    column: &str,
    name: &str,
) -> Result<i64, ServiceError> {
    let find = format!("SELECT id FROM {table} WHERE {column} = $1");
    if let Some(row) = all(tx, &find, vec![name.into()]).await?.first() {
        return get(row, "id");
    }
    let id = next_number(tx, table).await?;
    let sql = format!("INSERT INTO {table} (id, {column}) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    execute(tx, &sql, vec![id.into(), name.into()]).await?;
    let row = all(tx, &find, vec![name.into()]).await?;
    let row =
        row.first().ok_or_else(|| ServiceError::conflict("the name was removed meanwhile"))?;
    get(row, "id")
}

/// Whether a tag implies another one, over any number of steps.
async fn reaches(tx: &DatabaseTransaction, from: i64, to: i64) -> Result<bool, ServiceError> {
    let sql = "WITH RECURSIVE implied (id) AS (SELECT CAST($1 AS bigint) UNION
          SELECT i.implied_id FROM tag_implies i JOIN implied m ON i.tag_id = m.id)
        SELECT id FROM implied WHERE id = $2 LIMIT $3";
    Ok(!all(tx, sql, vec![from.into(), to.into(), TAGS_MAX.into()]).await?.is_empty())
}
