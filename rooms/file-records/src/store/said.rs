//! What is said of entries, themselves or by their contents, as one viewer sees it.

use std::collections::{BTreeMap, HashMap};

use ids::PrincipalId;
use sea_orm::QueryResult;
use service_error::ServiceError;
use uuid::Uuid;

use super::bulk;
use super::{Store, get};
use crate::model::Found;

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

/// What can be said, in one form each: a word, another one, and a number.
const TAG: i64 = 0;
const LABEL: i64 = 1;
const NOTE: i64 = 2;
const PROPERTY: i64 = 3;
const SAID: [(i64, &str); 4] = [
    (
        TAG,
        "t.name AS word, '' AS more, CAST(0 AS double precision) AS number
         FROM tagging m JOIN tag t ON t.id = m.tag_id",
    ),
    (LABEL, "l.path, m.source, m.confidence FROM labelling m JOIN label l ON l.id = m.label_id"),
    (NOTE, "m.note, '', CAST(m.favorite + 2 * m.hidden AS double precision) FROM annotation m"),
    (
        PROPERTY,
        "p.name, p.value, CAST(0 AS double precision)
         FROM annotation m JOIN annotation_property p ON p.annotation_id = m.id",
    ),
];
/// Whether anything is said of any entry.
pub(super) const IS_SAID: &str =
    "(EXISTS (SELECT 1 FROM tagging) OR EXISTS (SELECT 1 FROM labelling)
    OR EXISTS (SELECT 1 FROM annotation)) AS is_said";
/// By what it is said: its column and the parameter that lists them.
const TARGETS: [(&str, usize); 2] = [("entry_id", 3), ("content_id", 4)];

/// In the order in which one is told before another: what is said of entries before what is
/// said of contents, what the viewer alone sees before what all see.
#[derive(Debug, PartialEq, PartialOrd)]
struct SaidRow {
    side: i64,
    rank: i64,
    what: i64,
    word: String,
    more: String,
    number: f64,
    target: i64,
}

impl SaidRow {
    fn of(row: &QueryResult) -> Result<Self, ServiceError> {
        Ok(Self {
            side: get(row, "side")?,
            rank: get(row, "rank")?,
            what: get(row, "what")?,
            word: get(row, "word")?,
            more: get(row, "more")?,
            number: get(row, "number")?,
            target: get(row, "target")?,
        })
    }

    fn add_to(&self, said: &mut Said) {
        let word = self.word.clone();
        match self.what {
            TAG => {
                if let Err(at) = said.tags.binary_search(&word) {
                    said.tags.insert(at, word);
                }
            }
            LABEL => {
                let is_known = |known: &SaidLabel| known.path == word && known.source == self.more;
                if !said.labels.iter().any(is_known) {
                    let (confidence, source) = (self.number, self.more.clone());
                    said.labels.push(SaidLabel { path: word, confidence, source });
                }
            }
            NOTE => {
                if said.note.is_empty() {
                    said.note = word;
                }
                said.favorite |= self.number == 1.0 || self.number == 3.0;
                said.hidden |= self.number >= 2.0;
            }
            _ => drop(said.properties.entry(word).or_insert_with(|| self.more.clone())),
        }
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
        let mut entries: [HashMap<i64, Vec<i64>>; 2] = Default::default();
        for found in found {
            entries[0].insert(found.id, vec![found.id]);
            if let Some(content) = &found.content {
                entries[1].entry(content.id).or_default().push(found.id);
            }
        }
        if entries[0].is_empty() {
            return Ok(said);
        }
        let backend = self.backend();
        let mut values = vec![viewer.uuid().into(), Uuid::nil().into()];
        let mut parts = Vec::new();
        for ((side, (column, list)), entries) in (0..).zip(TARGETS).zip(&entries) {
            if entries.is_empty() {
                continue;
            }
            let ids: Vec<i64> = entries.keys().copied().collect();
            values.push(bulk::numbers(backend, &ids));
            let which = bulk::in_numbers(backend, &format!("m.{column}"), list);
            parts.extend(SAID.map(|(what, select)| {
                format!(
                    "SELECT CAST({side} AS bigint) AS side, CAST({what} AS bigint) AS what, m.{column} AS target,
                       CAST(CASE WHEN m.own = $2 THEN 1 ELSE 0 END AS bigint) AS rank, {select}
                     WHERE {which} AND m.own IN ($1, $2)"
                )
            }));
        }
        let rows = self.looked_up(&parts.join(" UNION ALL "), values).await?;
        let mut rows = rows.iter().map(SaidRow::of).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        for row in rows {
            let entries =
                entries.get(usize::from(row.side == 1)).and_then(|of| of.get(&row.target));
            for entry in entries.into_iter().flatten() {
                row.add_to(said.entry(*entry).or_default());
            }
        }
        Ok(said)
    }

    /// Tags that a viewer sees, with their uses within some locations; `is_all`: there are no others.
    ///
    /// # Errors
    /// The database's.
    pub async fn tags(
        &self,
        locations: &[i64],
        is_all: bool,
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
        let (page, rest) = match after {
            TagsAfter::Name(name) => {
                values.push(name.into());
                ("AND t.name > $5 ORDER BY t.name LIMIT $4", "ORDER BY name LIMIT $4")
            }
            TagsAfter::Count(None) => ("", "ORDER BY n DESC, name LIMIT $4"),
            TagsAfter::Count(Some((count, name))) => {
                values.extend([count.into(), name.into()]);
                ("", "WHERE n < $5 OR (n = $5 AND name > $6) ORDER BY n DESC, name LIMIT $4")
            }
        };
        let of = |what: &str, tag: &str, target: &str| {
            format!(
                "SELECT {what} FROM {tag} JOIN entry e ON e.{target} JOIN dir d ON d.id = e.dir_id
                 WHERE g.own IN ($2, $3) AND {}",
                bulk::in_few(self.backend(), "d.location_id", 1, "bigint")
            )
        };
        let [entry, content] = ["id = g.entry_id", "content_id = g.content_id"];
        let (used, page_of) =
            ("g.tag_id, e.id AS entry", "page JOIN tagging g ON g.tag_id = page.id");
        // What is on no file that one may read, and was not put anywhere by oneself, is others' to see.
        let seen = match is_all {
            true => "t.own = $3".to_owned(),
            false => format!(
                "EXISTS ({} AND g.tag_id = t.id) OR EXISTS ({} AND g.tag_id = t.id)",
                of("1", "tagging g", entry),
                of("1", "tagging g", content)
            ),
        };
        let sql = format!(
            "WITH RECURSIVE seen (id) AS (SELECT t.id FROM tag t WHERE t.own = $2 OR {seen} OR EXISTS (SELECT 1
                   FROM tagging o WHERE o.tag_id = t.id AND (o.own = $2 OR (o.own = $3 AND o.owner = $2)))
                 UNION SELECT i.implied_id FROM tag_implies i JOIN seen s ON s.id = i.tag_id),
               page AS (SELECT t.id, t.name FROM tag t WHERE t.id IN (SELECT id FROM seen) {page}),
               uses AS ({} UNION {}),
               counted AS (SELECT page.id, page.name, COUNT(uses.entry) AS n FROM page
                 LEFT JOIN uses ON uses.tag_id = page.id GROUP BY page.id, page.name)
             SELECT id, name, n FROM counted {rest}",
            of(used, page_of, entry),
            of(used, page_of, content),
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
