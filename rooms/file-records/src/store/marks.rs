//! What is said of entries and contents: for all who see them, or for oneself.

use ids::PrincipalId;
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, next_number, now_micros};
use uuid::Uuid;

use super::found::{FOUND, found_of};
use super::{Store, all, bulk, execute, get};
use crate::model::Found;

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

/// Who marks, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Author {
    pub by: PrincipalId,
    /// Nobody else sees the mark.
    pub personal: bool,
}

impl Author {
    /// Who alone sees it; nil: whoever sees the file.
    const fn own(self) -> Uuid {
        if self.personal { self.by.uuid() } else { Uuid::nil() }
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

    /// A location's entry by its number.
    ///
    /// # Errors
    /// The database's.
    pub async fn entry(&self, location: i64, id: i64) -> Result<Option<Found>, ServiceError> {
        let sql = format!(
            "SELECT {FOUND} FROM entry e JOIN dir d ON d.id = e.dir_id LEFT JOIN content c ON c.id = e.content_id
             WHERE e.id = $1 AND d.location_id = $2"
        );
        let row = self.row(&sql, vec![id.into(), location.into()]).await?;
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
        author: Author,
    ) -> Result<i64, ServiceError> {
        let tx = self.sql.begin().await?;
        let tag = tag_of(&tx, name, author.own()).await?;
        let mut changed = 0;
        for target in targets {
            let column = target.column();
            changed += if remove {
                let sql =
                    format!("DELETE FROM tagging WHERE tag_id = $1 AND {column} = $2 AND own = $3");
                let values = vec![tag.into(), target.id().into(), author.own().into()];
                execute(&tx, &sql, values).await?
            } else {
                let sql = format!(
                    "INSERT INTO tagging (id, tag_id, {column}, owner, created_at, own)
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"
                );
                let values: Vec<Value> = vec![
                    next_number(&tx, "tagging").await?.into(),
                    tag.into(),
                    target.id().into(),
                    author.by.uuid().into(),
                    now_micros().into(),
                    author.own().into(),
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
        author: Author,
    ) -> Result<i64, ServiceError> {
        let tx = self.sql.begin().await?;
        let id = label_of(&tx, label.path).await?;
        let mut changed = 0;
        for target in targets {
            let column = target.column();
            changed += if remove {
                let sql = format!(
                    "DELETE FROM labelling WHERE label_id = $1 AND {column} = $2 AND source = $3 AND own = $4"
                );
                let values =
                    vec![id.into(), target.id().into(), label.source.into(), author.own().into()];
                execute(&tx, &sql, values).await?
            } else {
                let sql = format!(
                    "INSERT INTO labelling (id, label_id, {column}, owner, created_at, confidence, source, own)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                     ON CONFLICT ({column}, label_id, source, own) WHERE {column} IS NOT NULL
                     DO UPDATE SET confidence = excluded.confidence, created_at = excluded.created_at"
                );
                let values: Vec<Value> = vec![
                    next_number(&tx, "labelling").await?.into(),
                    id.into(),
                    target.id().into(),
                    author.by.uuid().into(),
                    now_micros().into(),
                    label.confidence.into(),
                    label.source.into(),
                    author.own().into(),
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
        author: Author,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let column = target.column();
        let number = |flag: Option<bool>| flag.map(i64::from);
        let sql = format!(
            "INSERT INTO annotation (id, {column}, note, favorite, hidden, changed_by, changed_at, own)
             VALUES ($1, $2, COALESCE($3, ''), COALESCE($4, 0), COALESCE($5, 0), $6, $7, $8)
             ON CONFLICT ({column}, own) WHERE {column} IS NOT NULL DO UPDATE SET note = COALESCE($3, annotation.note),
               favorite = COALESCE($4, annotation.favorite), hidden = COALESCE($5, annotation.hidden),
               changed_by = excluded.changed_by, changed_at = excluded.changed_at RETURNING id"
        );
        let values: Vec<Value> = vec![
            next_number(&tx, "annotation").await?.into(),
            target.id().into(),
            said.note.into(),
            number(said.favorite).into(),
            number(said.hidden).into(),
            author.by.uuid().into(),
            now_micros().into(),
            author.own().into(),
        ];
        let row = tx.query_one_raw(self.statement(&sql, values)).await.map_err(db_error)?;
        let row = row.ok_or_else(|| ServiceError::internal("an annotation has no row"))?;
        let id: i64 = get(&row, "id")?;
        for (name, value) in said.properties {
            if value.is_empty() {
                let sql = "DELETE FROM annotation_property WHERE annotation_id = $1 AND name = $2";
                execute(&tx, sql, vec![id.into(), name.into()]).await?;
                continue;
            }
            let sql =
                "INSERT INTO annotation_property (annotation_id, name, value) VALUES ($1, $2, $3)
                ON CONFLICT (annotation_id, name) DO UPDATE SET value = excluded.value";
            execute(&tx, sql, vec![id.into(), name.into(), value.into()]).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Whether others put a tag, or one that implies it, for all to see on a file that is in none
    /// of some locations.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_used_elsewhere(
        &self,
        name: &str,
        by: PrincipalId,
        locations: &[i64],
    ) -> Result<bool, ServiceError> {
        let within = bulk::in_few(self.backend(), "d.location_id", 4, "bigint");
        let is_elsewhere = |target: &str| {
            let lies = |place: &str| {
                format!(
                    "EXISTS (SELECT 1 FROM entry e JOIN dir d ON d.id = e.dir_id WHERE e.{target} AND {place})"
                )
            };
            let known = lies("d.location_id IN (SELECT id FROM location WHERE deleted_at IS NULL)");
            format!("({known} AND NOT {})", lies(&within))
        };
        let sql = format!(
            "WITH RECURSIVE above (id) AS (SELECT id FROM tag WHERE name = $1 UNION
               SELECT i.tag_id FROM tag_implies i JOIN above a ON a.id = i.implied_id)
             SELECT g.id FROM above JOIN tagging g ON g.tag_id = above.id
             WHERE g.own = $2 AND g.owner <> $3 AND ({} OR {}) LIMIT 1",
            is_elsewhere("id = g.entry_id"),
            is_elsewhere("content_id = g.content_id")
        );
        let locations = bulk::numbers(self.backend(), locations);
        let values = vec![name.into(), Uuid::nil().into(), by.uuid().into(), locations];
        Ok(self.row(&sql, values).await?.is_some())
    }

    /// Says which tags a tag implies.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `TAG_CIRCLE`.
    pub async fn set_implied(&self, name: &str, implies: &[String]) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        // One at a time: two halves of a circle must not be written at once.
        next_number(&tx, "tag_implies").await?;
        let tag = tag_of(&tx, name, Uuid::nil()).await?;
        execute(&tx, "DELETE FROM tag_implies WHERE tag_id = $1", vec![tag.into()]).await?;
        for other in implies {
            let implied = tag_of(&tx, other, Uuid::nil()).await?;
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

/// The number of a tag, which is made if it is new. `own` is who alone uses it;
/// used for all, it is everybody's from then on.
async fn tag_of(tx: &DatabaseTransaction, name: &str, own: Uuid) -> Result<i64, ServiceError> {
    let find = "SELECT id FROM tag WHERE name = $1";
    let known = all(tx, find, vec![name.into()]).await?;
    if known.is_empty() {
        let id = next_number(tx, "tag").await?;
        let sql = "INSERT INTO tag (id, name, own) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        execute(tx, sql, vec![id.into(), name.into(), own.into()]).await?;
    }
    if own.is_nil() {
        let sql = "UPDATE tag SET own = $2 WHERE name = $1 AND own <> $2";
        execute(tx, sql, vec![name.into(), own.into()]).await?;
    }
    one_id(&all(tx, find, vec![name.into()]).await?)
}

/// The number of a label, which is made if it is new.
async fn label_of(tx: &DatabaseTransaction, path: &str) -> Result<i64, ServiceError> {
    let find = "SELECT id FROM label WHERE path = $1";
    if all(tx, find, vec![path.into()]).await?.is_empty() {
        let id = next_number(tx, "label").await?;
        let sql = "INSERT INTO label (id, path) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        execute(tx, sql, vec![id.into(), path.into()]).await?;
    }
    one_id(&all(tx, find, vec![path.into()]).await?)
}

fn one_id(rows: &[QueryResult]) -> Result<i64, ServiceError> {
    let row =
        rows.first().ok_or_else(|| ServiceError::conflict("the name was removed meanwhile"))?;
    get(row, "id")
}

/// Whether a tag implies another one, over any number of steps.
async fn reaches(tx: &DatabaseTransaction, from: i64, to: i64) -> Result<bool, ServiceError> {
    let sql = "WITH RECURSIVE implied (id) AS (SELECT CAST($1 AS bigint) UNION
          SELECT i.implied_id FROM tag_implies i JOIN implied m ON i.tag_id = m.id)
        SELECT id FROM implied WHERE id = $2 LIMIT $3";
    Ok(!all(tx, sql, vec![from.into(), to.into(), TAGS_MAX.into()]).await?.is_empty())
}
