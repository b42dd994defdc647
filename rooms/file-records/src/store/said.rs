//! What is said of entries, themselves or by their contents, as one viewer sees it.

use std::collections::{BTreeMap, HashMap};

use ids::PrincipalId;
use sea_orm::{QueryResult, Value};
use service_error::ServiceError;
use uuid::Uuid;

use super::bulk;
use super::search::Found;
use super::{Store, get};

/// What is said of an entry. What the viewer alone sees goes before what all
/// see, what is said of the entry before what is said of its content.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub tags: Vec<String>,
    pub labels: Vec<SaidLabel>,
    pub note: String,
    pub favorite: bool,
    pub hidden: bool,
    pub properties: BTreeMap<String, String>,
}

/// A label with who gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidLabel {
    pub path: String,
    pub confidence: f64,
    /// A model's name; empty: a person.
    pub source: String,
}

/// A tag with its uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRow {
    pub name: String,
    /// Files with it itself.
    pub count: i64,
    pub implies: Vec<String>,
}

/// What a page of tags ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagsAfter {
    /// In the order of the names.
    Name(String),
    /// The most used first; nothing at the beginning.
    Count(Option<(i64, String)>),
}

/// Of one kind of target: its column, the numbers, and the entries of each.
struct Targets<'a> {
    column: &'static str,
    list: Value,
    entries: &'a HashMap<i64, Vec<i64>>,
}

impl Targets<'_> {
    fn entries(&self, row: &QueryResult) -> Result<&[i64], ServiceError> {
        Ok(self.entries.get(&get(row, "target")?).map_or(&[], Vec::as_slice))
    }
}

impl Store {
    /// What is said of some entries.
    ///
    /// # Errors
    /// The database's.
    pub async fn said_of(
        &self,
        found: &[Found],
        viewer: PrincipalId,
    ) -> Result<HashMap<i64, Said>, ServiceError> {
        let mut said: HashMap<i64, Said> = HashMap::new();
        let (mut entries, mut contents) = (HashMap::new(), HashMap::new());
        for found in found {
            entries.insert(found.id, vec![found.id]);
            if let Some(content) = &found.content {
                contents.entry(content.id).or_insert_with(Vec::new).push(found.id);
            }
        }
        for (column, entries) in [("entry_id", &entries), ("content_id", &contents)] {
            if entries.is_empty() {
                continue;
            }
            let ids: Vec<i64> = entries.keys().copied().collect();
            let targets = Targets { column, list: bulk::numbers(self.backend(), &ids), entries };
            self.tags_of(&targets, viewer, &mut said).await?;
            self.labels_of(&targets, viewer, &mut said).await?;
            self.annotations_of(&targets, viewer, &mut said).await?;
        }
        Ok(said)
    }

    /// The rows that a viewer sees of some targets; his own come first.
    async fn seen_rows(
        &self,
        select: &str,
        targets: &Targets<'_>,
        order: &str,
        viewer: PrincipalId,
    ) -> Result<Vec<QueryResult>, ServiceError> {
        let column = targets.column;
        let which = bulk::in_numbers(self.backend(), column, 1);
        let sql = format!(
            "SELECT {column} AS target, {select} WHERE {which} AND m.own IN ($2, $3)
             ORDER BY CASE WHEN m.own = $3 THEN 1 ELSE 0 END{order}"
        );
        let values = vec![targets.list.clone(), viewer.uuid().into(), Uuid::nil().into()];
        self.rows(&sql, values).await
    }

    async fn tags_of(
        &self,
        targets: &Targets<'_>,
        viewer: PrincipalId,
        said: &mut HashMap<i64, Said>,
    ) -> Result<(), ServiceError> {
        let select = "t.name FROM tagging m JOIN tag t ON t.id = m.tag_id";
        for row in self.seen_rows(select, targets, ", t.name", viewer).await? {
            let name: String = get(&row, "name")?;
            for entry in targets.entries(&row)? {
                let tags = &mut said.entry(*entry).or_default().tags;
                if let Err(at) = tags.binary_search(&name) {
                    tags.insert(at, name.clone());
                }
            }
        }
        Ok(())
    }

    async fn labels_of(
        &self,
        targets: &Targets<'_>,
        viewer: PrincipalId,
        said: &mut HashMap<i64, Said>,
    ) -> Result<(), ServiceError> {
        let select =
            "l.path, m.confidence, m.source FROM labelling m JOIN label l ON l.id = m.label_id";
        for row in self.seen_rows(select, targets, ", l.path, m.source", viewer).await? {
            let label = SaidLabel {
                path: get(&row, "path")?,
                confidence: get(&row, "confidence")?,
                source: get(&row, "source")?,
            };
            for entry in targets.entries(&row)? {
                let labels = &mut said.entry(*entry).or_default().labels;
                let is_there =
                    |known: &SaidLabel| known.path == label.path && known.source == label.source;
                if !labels.iter().any(is_there) {
                    labels.push(label.clone());
                }
            }
        }
        Ok(())
    }

    async fn annotations_of(
        &self,
        targets: &Targets<'_>,
        viewer: PrincipalId,
        said: &mut HashMap<i64, Said>,
    ) -> Result<(), ServiceError> {
        let select = "m.note, m.favorite, m.hidden FROM annotation m";
        for row in self.seen_rows(select, targets, "", viewer).await? {
            let note: String = get(&row, "note")?;
            for entry in targets.entries(&row)? {
                let said = said.entry(*entry).or_default();
                if said.note.is_empty() {
                    said.note.clone_from(&note);
                }
                said.favorite |= get::<i16>(&row, "favorite")? == 1;
                said.hidden |= get::<i16>(&row, "hidden")? == 1;
            }
        }
        let select = "p.name, p.value FROM annotation m JOIN annotation_property p ON p.annotation_id = m.id";
        for row in self.seen_rows(select, targets, "", viewer).await? {
            let (name, value): (String, String) = (get(&row, "name")?, get(&row, "value")?);
            for entry in targets.entries(&row)? {
                let properties = &mut said.entry(*entry).or_default().properties;
                properties.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        Ok(())
    }

    /// Tags that a viewer sees, with their uses within some locations.
    ///
    /// # Errors
    /// The database's.
    pub async fn tags(
        &self,
        locations: &[i64],
        viewer: PrincipalId,
        after: TagsAfter,
        limit: u32,
    ) -> Result<Vec<TagRow>, ServiceError> {
        let mut values = vec![
            bulk::numbers(self.backend(), locations),
            viewer.uuid().into(),
            Uuid::nil().into(),
            i64::from(limit).into(),
        ];
        // A tag that others use for themselves alone is nobody else's to see.
        let seen = "(t.own IN ($2, $3) OR EXISTS (SELECT 1 FROM tagging o WHERE o.tag_id = t.id AND o.own = $2))";
        let (page, rest) = match after {
            TagsAfter::Name(name) => {
                values.push(name.into());
                (
                    format!("{seen} AND t.name > $5 ORDER BY t.name LIMIT $4"),
                    "ORDER BY name LIMIT $4",
                )
            }
            TagsAfter::Count(None) => (seen.to_owned(), "ORDER BY n DESC, name LIMIT $4"),
            TagsAfter::Count(Some((count, name))) => {
                values.extend([count.into(), name.into()]);
                (
                    seen.to_owned(),
                    "WHERE n < $5 OR (n = $5 AND name > $6) ORDER BY n DESC, name LIMIT $4",
                )
            }
        };
        let of = |join: &str, target: &str| {
            format!(
                "SELECT g.tag_id, e.id AS entry FROM page JOIN tagging g ON g.tag_id = page.id
                 JOIN entry e ON {join} JOIN dir d ON d.id = e.dir_id
                 WHERE {target} IS NOT NULL AND g.own IN ($2, $3) AND {}",
                bulk::in_few(self.backend(), "d.location_id", 1, "bigint")
            )
        };
        let sql = format!(
            "WITH page AS (SELECT t.id, t.name FROM tag t WHERE {page}),
               uses AS ({} UNION {}),
               counted AS (SELECT page.id, page.name, COUNT(uses.entry) AS n FROM page
                 LEFT JOIN uses ON uses.tag_id = page.id GROUP BY page.id, page.name)
             SELECT id, name, n FROM counted {rest}",
            of("e.id = g.entry_id", "g.entry_id"),
            of("e.content_id = g.content_id", "g.content_id"),
        );
        let rows = self.rows(&sql, values).await?;
        let ids = rows.iter().map(|row| get(row, "id")).collect::<Result<Vec<i64>, _>>()?;
        let mut implied = self.implied_by(&ids).await?;
        rows.iter()
            .zip(ids)
            .map(|(row, id)| {
                let implies = implied.remove(&id).unwrap_or_default();
                Ok(TagRow { name: get(row, "name")?, count: get(row, "n")?, implies })
            })
            .collect()
    }

    async fn implied_by(&self, tags: &[i64]) -> Result<HashMap<i64, Vec<String>>, ServiceError> {
        let sql = format!(
            "SELECT x.tag_id, i.name FROM tag_implies x JOIN tag i ON i.id = x.implied_id WHERE {} ORDER BY i.name",
            bulk::in_numbers(self.backend(), "x.tag_id", 1)
        );
        let mut implied: HashMap<i64, Vec<String>> = HashMap::new();
        for row in self.rows(&sql, vec![bulk::numbers(self.backend(), tags)]).await? {
            implied.entry(get(&row, "tag_id")?).or_default().push(get(&row, "name")?);
        }
        Ok(implied)
    }
}
