//! Queries over entries, as one statement each.

use std::sync::atomic::Ordering;

use sea_orm::{DbBackend, Value};
use service_error::ServiceError;
use uuid::Uuid;

use super::bulk;
use super::found::{FOUND, PLACE, page_of_rows};
use super::locations::{in_uuids, uuids};
use super::said::IS_SAID;
use super::text::{NAMED, from_pages, from_pages_in_order, page_of, pattern, trigrams};
use super::{Store, below, get, sum, sum_of};
use crate::model::{
    AnyCase, FOUND_TEXT, Found, FoundPage, Locations, Query, Sort, SortBy, page_in,
};

/// Of more entries Postgres plans each search for its own text: a frequent one is met soon
/// in the order of the pages. With fewer the plan takes longer than what it saves.
const PLANNED_FROM: i64 = 2_000_000;
/// A longer page is a row for each of its entries on SQLite too: a text is bounded.
const TOGETHER_MAX: u32 = 1_001;

/// A statement in the making.
pub(super) struct Sql {
    backend: DbBackend,
    from: String,
    /// On SQLite, `f`, in whose order entries are read.
    has_pages: bool,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Sql {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    fn add(&mut self, condition: String) {
        self.conditions.push(condition);
    }

    /// Marks of everybody and of the viewer.
    fn own(&mut self, table: &str, viewer: Uuid) -> String {
        let (nil, viewer) = (self.bind(Uuid::nil()), self.bind(viewer));
        format!("{table}.own IN ({nil}, {viewer})")
    }

    fn numbers(&mut self, column: &str, list: &[i64]) {
        self.values.push(bulk::numbers(self.backend, list));
        self.conditions.push(bulk::in_few(self.backend, column, self.values.len(), "bigint"));
    }

    /// A text is a part of the name, in any case. ASCII letters of `C` have no other letter's case.
    fn named(&mut self, text: &AnyCase) {
        if self.backend == DbBackend::Postgres && text.text.is_ascii() {
            let pattern = self.bind(pattern(text, false));
            return self.add(format!("e.name ILIKE {pattern}"));
        }
        let mut name = "lower(e.name)".to_owned();
        for (other, small) in &text.others {
            let (other, small) = (self.bind(other.to_string()), self.bind(small.to_string()));
            name = format!("replace({name}, {other}, {small})");
        }
        let text = self.bind(text.text.as_str());
        let place = if self.backend == DbBackend::Postgres { "strpos" } else { "instr" };
        self.add(format!("{place}({name}, {text}) > 0"));
    }

    /// The column is one of some locations.
    fn seen(&mut self, column: &str, locations: &Locations) -> String {
        let mut of = "SELECT id FROM location WHERE deleted_at IS NULL".to_owned();
        match locations {
            Locations::Numbers(numbers) => {
                self.values.push(bulk::numbers(self.backend, numbers));
                return bulk::in_few(self.backend, column, self.values.len(), "bigint");
            }
            Locations::Ids(ids) => {
                self.values.push(uuids(self.backend, ids));
                of.push_str(&format!(" AND {}", in_uuids(self.backend, self.values.len())));
            }
            Locations::All => {}
        }
        match self.backend {
            // A list, not a set that might be joined first: all directories of it would be read.
            DbBackend::Postgres => format!("{column} = ANY (ARRAY({of}))"),
            _ => format!("{column} IN ({of})"),
        }
    }

    fn texts(&mut self, column: &str, list: &[String]) {
        self.values.push(bulk::texts(self.backend, list.iter().map(String::as_str)));
        self.conditions.push(bulk::in_few(self.backend, column, self.values.len(), "text"));
    }

    /// What comes after a key in an order, and the order.
    fn ordered(&mut self, sort: Sort, after: Option<(SortValue, i64)>) -> String {
        let (direction, comparison) = if sort.descending { ("DESC", "<") } else { ("ASC", ">") };
        let after = after.map(|(value, id)| (value, self.bind(id)));
        let Some(column) = column_of(sort.by) else {
            if let Some((_, id)) = &after {
                self.add(format!("e.id {comparison} {id}"));
            }
            if !self.has_pages {
                return format!("e.id {direction}");
            }
            if let Some((_, id)) = after {
                self.add(format!("f.rowid {comparison}= {}", page_of(&id)));
            }
            self.from = format!("{} {JOINS}", from_pages_in_order(sort.descending));
            return format!("f.rowid {direction}");
        };
        if let Some((value, id)) = after {
            let value = match value {
                SortValue::Number(value) => self.bind(value),
                SortValue::Text(value) => self.bind(value),
            };
            self.add(format!("({column}, e.id) {comparison} ({value}, {id})"));
        }
        format!("{column} {direction}, e.id {direction}")
    }

    fn body(&self) -> String {
        format!("{} WHERE {}", self.from, self.conditions.join(" AND "))
    }
}

/// The column before the number.
const fn column_of(by: SortBy) -> Option<&'static str> {
    match by {
        SortBy::Number => None,
        SortBy::Name => Some("e.name"),
        SortBy::Size => Some("e.size"),
        SortBy::Modified => Some("e.modified"),
    }
}

/// By what matches are counted in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// One group.
    All,
    Kind,
    Extension,
    Location,
    ContentKind,
    Tag,
    Label,
    /// The directory that holds them.
    Directory,
}

/// A group of what matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetRow {
    pub value: String,
    /// Of a directory.
    pub location: i64,
    pub count: i64,
    pub bytes: i64,
}

impl Facet {
    const fn column(self) -> &'static str {
        match self {
            Self::All => "1",
            Self::Kind => "e.kind",
            Self::Extension => "e.ext",
            Self::Location => "d.location_id",
            Self::ContentKind => "c.kind",
            Self::Tag | Self::Label => "g.value",
            Self::Directory => "d.path",
        }
    }

    /// Entries with what is said of them, each once a value.
    const fn marks(self) -> Option<&'static str> {
        match self {
            Self::Tag => Some(
                "SELECT m.entry_id AS entry, t.name AS value FROM tagging m JOIN tag t ON t.id = m.tag_id
                   WHERE m.entry_id IS NOT NULL AND {OWN}
                 UNION SELECT x.id, t.name FROM tagging m JOIN tag t ON t.id = m.tag_id
                   JOIN entry x ON x.content_id = m.content_id WHERE m.content_id IS NOT NULL AND {OWN}",
            ),
            Self::Label => Some(
                "SELECT m.entry_id AS entry, l.path AS value FROM labelling m JOIN label l ON l.id = m.label_id
                   WHERE m.entry_id IS NOT NULL AND {OWN}
                 UNION SELECT x.id, l.path FROM labelling m JOIN label l ON l.id = m.label_id
                   JOIN entry x ON x.content_id = m.content_id WHERE m.content_id IS NOT NULL AND {OWN}",
            ),
            _ => None,
        }
    }
}

const JOINS: &str = "JOIN dir d ON d.id = e.dir_id LEFT JOIN content c ON c.id = e.content_id
    LEFT JOIN location l ON l.id = d.location_id";

impl Store {
    /// Up to `limit` entries after a key: the value of the order, and the number.
    ///
    /// # Errors
    /// The database's.
    pub async fn search(
        &self,
        query: &Query,
        sort: Sort,
        after: Option<(SortValue, i64)>,
        limit: u32,
    ) -> Result<Vec<Found>, ServiceError> {
        Ok(self.search_page(query, sort, after, limit).await?.found)
    }

    /// The same with what they are shown with.
    ///
    /// # Errors
    /// The database's.
    pub async fn search_page(
        &self,
        query: &Query,
        sort: Sort,
        after: Option<(SortValue, i64)>,
        limit: u32,
    ) -> Result<FoundPage, ServiceError> {
        let text = query.text.as_deref().map(AnyCase::new);
        if let (Some(text), SortBy::Number) = (&text, sort.by)
            && self.indexes_beside()
            && self.finds(text)
        {
            let after = after.as_ref().map(|(_, id)| *id);
            if let Some(found) =
                self.in_first_pages(query, text, sort.descending, after, limit).await?
            {
                return Ok(found);
            }
        }
        if self.backend() == DbBackend::Sqlite && limit <= TOGETHER_MAX {
            return self.together(query, sort, after, limit).await;
        }
        let mut sql = self.sql_of(query).await?;
        let order = sql.ordered(sort, after);
        let limit = sql.bind(i64::from(limit));
        let text = format!("SELECT {FOUND}, {PLACE} {} ORDER BY {order} LIMIT {limit}", sql.body());
        page_of_rows(&self.rows(&text, sql.values).await?, true)
    }

    /// The same as one row, on SQLite. It says whether all names are in their index, too; where
    /// they are not, a text is looked for once more, without.
    async fn together(
        &self,
        query: &Query,
        sort: Sort,
        after: Option<(SortValue, i64)>,
        limit: u32,
    ) -> Result<FoundPage, ServiceError> {
        let text = query.text.as_deref().map(AnyCase::new);
        let mut by_trigrams = text.is_some_and(|text| self.finds(&text));
        loop {
            let mut sql = self.sql_by(query, by_trigrams);
            let order = sql.ordered(sort, after.clone());
            let limit = sql.bind(i64::from(limit));
            let direction = if sort.descending { "DESC" } else { "ASC" };
            let text = format!(
                "SELECT '[' || group_concat(p.found, ',' ORDER BY p.k {direction}, p.id {direction}) || ']' AS page, {NAMED}, {IS_SAID}
                 FROM (SELECT {FOUND_TEXT} AS found, {} AS k, e.id AS id {} ORDER BY {order} LIMIT {limit}) p",
                column_of(sort.by).unwrap_or("NULL"),
                sql.body()
            );
            let Some(row) = self.row(&text, sql.values).await? else {
                return page_of_rows(&[], false);
            };
            if by_trigrams && !self.is_named(&row)? {
                by_trigrams = false;
                continue;
            }
            let page: Option<String> = get(&row, "page")?;
            return page_in(page.as_deref().unwrap_or("[]"), get(&row, "is_said")?);
        }
    }

    /// The same in the order of the numbers on Postgres, from no more pages of names than
    /// fill the answer if each has one: of a frequent text the others need not be read. None
    /// where that is too few, or where not every name is in a page.
    async fn in_first_pages(
        &self,
        query: &Query,
        text: &AnyCase,
        descending: bool,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Option<FoundPage>, ServiceError> {
        let from = format!("{} {JOINS}", from_pages("few"));
        let (backend, has_pages) = (self.backend(), false);
        let mut sql = Sql { backend, from, has_pages, conditions: vec![], values: vec![] };
        let pages_of = sql.bind(pattern(text, self.folds));
        // Hidden from the planner, so that there is one plan for all, and made but once. It
        // expects many of each then: it must not think that a walk meets them soon.
        let (pages_of, page) = if self.newest.load(Ordering::Relaxed) < PLANNED_FROM {
            (format!("(SELECT CAST({pages_of} AS text))"), "page + 0")
        } else {
            (pages_of, "page")
        };
        match text.text.is_ascii() {
            true => sql.add(format!("e.name ILIKE {pages_of}")),
            false => sql.named(text),
        }
        let mut few = format!("names ILIKE {pages_of}");
        let (direction, comparison) = if descending { ("DESC", "<") } else { ("ASC", ">") };
        if let Some(after) = after {
            let after = sql.bind(after);
            few.push_str(&format!(" AND page {comparison}= {}", page_of(&after)));
            sql.add(format!("e.id {comparison} {after}"));
        }
        place_conditions(&mut sql, query);
        plain_conditions(&mut sql, query);
        marked_conditions(&mut sql, query);
        // One of a few numbers, for each of which a plan is kept.
        let pages = i64::from(limit.next_power_of_two());
        let wanted = sql.bind(i64::from(limit));
        let text = format!(
            "WITH few AS MATERIALIZED (SELECT page FROM name_page WHERE {few} ORDER BY {page} {direction} LIMIT {pages}),
               found AS (SELECT {FOUND}, {PLACE} {} ORDER BY e.id {direction} LIMIT {wanted})
             SELECT found.*, n.* FROM (SELECT (SELECT COUNT(*) FROM few) AS pages, {NAMED}, {IS_SAID}) n
             LEFT JOIN found ON TRUE ORDER BY found.id {direction}",
            sql.body()
        );
        let rows = self.looked_up(&text, sql.values).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let is_whole = self.is_named(row)?;
        let found = if get::<Option<i64>>(row, "id")?.is_some() { rows.as_slice() } else { &[] };
        let is_enough = found.len() >= limit as usize || get::<i64>(row, "pages")? < pages;
        if !is_whole || !is_enough {
            return Ok(None);
        }
        page_of_rows(found, get(row, "is_said")?).map(Some)
    }

    /// How many match and their bytes, in groups, the most files first; of directories
    /// the most bytes.
    ///
    /// # Errors
    /// The database's.
    pub async fn facet(
        &self,
        query: &Query,
        facet: Facet,
        limit: u32,
    ) -> Result<Vec<FacetRow>, ServiceError> {
        let mut sql = self.sql_of(query).await?;
        if let Some(marks) = facet.marks() {
            let own = sql.own("m", query.viewer);
            sql.from
                .push_str(&format!(" JOIN ({}) g ON g.entry = e.id", marks.replace("{OWN}", &own)));
        }
        let limit = sql.bind(i64::from(limit));
        let text = format!(
            "SELECT CAST({} AS text) AS value, {} AS place, COUNT(*) AS n, {} AS bytes {}
             GROUP BY 1, 2 ORDER BY {} DESC, 1 LIMIT {limit}",
            facet.column(),
            if facet == Facet::Directory { "d.location_id" } else { "CAST(0 AS bigint)" },
            sum_of(sql.backend, "e.size"),
            sql.body(),
            if facet == Facet::Directory { 4 } else { 3 },
        );
        let rows = self.rows(&text, sql.values).await?;
        rows.iter()
            .map(|row| {
                Ok(FacetRow {
                    value: get::<Option<String>>(row, "value")?.unwrap_or_default(),
                    location: get(row, "place")?,
                    count: get(row, "n")?,
                    bytes: sum(row, "bytes")?,
                })
            })
            .collect()
    }

    async fn sql_of(&self, query: &Query) -> Result<Sql, ServiceError> {
        // By trigrams where there are some and every name is indexed, else one by one.
        let text = query.text.as_deref().map(AnyCase::new);
        let by_trigrams =
            text.is_some_and(|text| self.finds(&text)) && self.are_all_named().await?;
        Ok(self.sql_by(query, by_trigrams))
    }

    fn sql_by(&self, query: &Query, by_trigrams: bool) -> Sql {
        let mut sql = Sql {
            backend: self.backend(),
            from: format!("FROM entry e {JOINS}"),
            has_pages: false,
            conditions: Vec::new(),
            values: Vec::new(),
        };
        if let Some(text) = &query.text {
            let text = AnyCase::new(text);
            if by_trigrams {
                by_pages(&mut sql, &text, self.folds);
            }
            sql.named(&text);
        }
        place_conditions(&mut sql, query);
        plain_conditions(&mut sql, query);
        marked_conditions(&mut sql, query);
        sql
    }
}

/// A page is found by one of its names; which one it is, its entries say.
fn by_pages(sql: &mut Sql, text: &AnyCase, folds: bool) {
    if sql.backend == DbBackend::Postgres {
        let pattern = sql.bind(pattern(text, folds));
        sql.from = format!("{} {JOINS}", from_pages("name_page"));
        return sql.add(format!("f.names ILIKE {pattern}"));
    }
    sql.from = format!("{} {JOINS}", from_pages_in_order(false));
    sql.has_pages = true;
    let trigrams = sql.bind(trigrams(text));
    sql.add(format!("f.name_page MATCH {trigrams}"));
}

/// The value of an order at the end of a page.
#[derive(Debug, Clone)]
pub enum SortValue {
    Number(i64),
    Text(String),
}

fn place_conditions(sql: &mut Sql, query: &Query) {
    match &query.within {
        Some((location, path)) => {
            let location = sql.bind(*location);
            sql.add(format!("d.location_id = {location}"));
            if query.directly {
                let path = sql.bind(path.as_str());
                sql.add(format!("d.path = {path}"));
            } else if !path.is_empty() {
                let (from, to) = below(path);
                let (path, from, to) = (sql.bind(path.as_str()), sql.bind(from), sql.bind(to));
                sql.add(format!(
                    "(d.path >= {path} AND d.path < {to} AND (d.path = {path} OR d.path >= {from}))"
                ));
            }
        }
        None => {
            let seen = sql.seen("d.location_id", &query.locations);
            sql.add(seen);
        }
    }
}

fn plain_conditions(sql: &mut Sql, query: &Query) {
    if let Some(prefix) = &query.prefix {
        let mut end = prefix.clone();
        // Above everything that begins so: no name's text holds that character.
        end.push('\u{10ffff}');
        let (from, to) = (sql.bind(prefix.as_str()), sql.bind(end));
        sql.add(format!("e.name >= {from} AND e.name < {to}"));
    }
    if !query.extensions.is_empty() {
        sql.texts("e.ext", &query.extensions);
    }
    if !query.kinds.is_empty() {
        sql.numbers("e.kind", &query.kinds);
    }
    if !query.content_kinds.is_empty() {
        sql.numbers("c.kind", &query.content_kinds);
    }
    for (column, comparison, value) in [
        ("e.size", ">=", query.size_min),
        ("e.size", "<=", query.size_max),
        ("e.modified", ">=", query.modified_after),
        ("e.modified", "<", query.modified_before),
    ] {
        if let Some(value) = value {
            let value = sql.bind(value);
            sql.add(format!("{column} {comparison} {value}"));
        }
    }
    if let Some(content) = &query.content {
        let end = [content.as_slice(), &[0xff; 9]].concat();
        let (content, end) = (sql.bind(content.clone()), sql.bind(end));
        sql.add(format!("c.hash >= {content} AND c.hash < {end}"));
    }
}

fn marked_conditions(sql: &mut Sql, query: &Query) {
    for tag in &query.tags {
        let tag = sql.bind(tag.as_str());
        let tags = format!(
            "(WITH RECURSIVE implying (id) AS (SELECT id FROM tag WHERE name = {tag} UNION
               SELECT i.tag_id FROM tag_implies i JOIN implying m ON i.implied_id = m.id) SELECT id FROM implying)"
        );
        let own = sql.own("t", query.viewer);
        sql.add(marked("tagging", &format!("t.tag_id IN {tags} AND {own}")));
    }
    if !query.labels.is_empty() {
        let below: Vec<String> = query
            .labels
            .iter()
            .map(|label| {
                let (from, to) = below(label);
                let (label, from, to) = (sql.bind(label.as_str()), sql.bind(from), sql.bind(to));
                format!("path = {label} OR (path >= {from} AND path < {to})")
            })
            .collect();
        let labels = format!("t.label_id IN (SELECT id FROM label WHERE {})", below.join(" OR "));
        let own = sql.own("t", query.viewer);
        sql.add(marked("labelling", &format!("{labels} AND {own}")));
    }
    if query.favorites_only {
        let own = sql.own("t", query.viewer);
        sql.add(marked("annotation", &format!("t.favorite = 1 AND {own}")));
    }
    for (name, value) in &query.properties {
        let (name, value) = (sql.bind(name.as_str()), sql.bind(value.as_str()));
        let own = sql.own("t", query.viewer);
        let has = "SELECT p.annotation_id FROM annotation_property p WHERE";
        let which = format!("t.id IN ({has} p.name = {name} AND p.value = {value}) AND {own}");
        sql.add(marked("annotation", &which));
    }
    if !query.with_hidden {
        let own = sql.own("a", query.viewer);
        sql.add(format!(
            "e.id NOT IN (SELECT a.entry_id FROM annotation a WHERE a.hidden = 1 AND a.entry_id IS NOT NULL AND {own})
             AND (e.content_id IS NULL OR e.content_id NOT IN
               (SELECT a.content_id FROM annotation a WHERE a.hidden = 1 AND a.content_id IS NOT NULL AND {own}))"
        ));
    }
    if query.duplicates_only {
        let seen = sql.seen("same.location_id", &query.locations);
        sql.add(format!(
            "e.hashed IN (1, 2) AND e.content_id IN (SELECT same.content_id FROM holding same
             WHERE {seen} GROUP BY same.content_id HAVING SUM(same.files) > 1)"
        ));
    }
}

/// Entries that are marked themselves or by their content.
fn marked(table: &str, which: &str) -> String {
    // One set: two that are joined by OR are looked for in every entry.
    format!(
        "e.id IN (SELECT t.entry_id FROM {table} t WHERE t.entry_id IS NOT NULL AND {which}
         UNION SELECT x.id FROM {table} t JOIN entry x ON x.content_id = t.content_id
           WHERE t.content_id IS NOT NULL AND {which})"
    )
}
