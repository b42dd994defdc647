//! Names by their trigrams, filled behind the scan: up to a watermark they are
//! in the index, what is newer is read one by one.
//!
//! What follows each other is one text, a page: whoever finds one
//! looks at its entries' names too, so names that are no more may stay in it: numbers are
//! not given again.

use std::sync::atomic::Ordering;

use sea_orm::{DatabaseTransaction, DbBackend, QueryResult};
use service_error::ServiceError;
use sql_store::{current_number, db_error, next_numbers};

use super::bulk;
use super::{Store, execute, get};
use crate::model::AnyCase;

/// Numbers of one statement.
const PAGE: i64 = 20_000;
/// Names that are worth a statement while more are merged.
const LEAST: i64 = 2_000;
/// Numbers of a page. More are taken up a little faster, and looked through slower.
const NAMES: i64 = 8;
/// Trigrams of a text that are looked for; its name says the rest.
const TRIGRAMS_MAX: usize = 32;
/// How far names are in the index.
const WATERMARK: &str = "paged";
/// What waits to be taken up by the index is sorted within this.
const SORTED_WITHIN: &str = "SET LOCAL work_mem = '32MB'";
/// The rest is taken up at once: what waits is read one by one by each search.
const TAKE_UP: &str = "SELECT gin_clean_pending_list('name_page_trigrams')";

/// Entries as pages, those that `which` says.
fn into_pages(backend: DbBackend, which: &str) -> String {
    match backend {
        DbBackend::Postgres => format!(
            "INSERT INTO name_page AS p (page, names)
             SELECT id / {NAMES}, string_agg(name, '/') FROM entry WHERE {which} GROUP BY 1 ORDER BY 1
             ON CONFLICT (page) DO UPDATE SET names = p.names || '/' || excluded.names"
        ),
        // The index holds no text: another one of a page is found beside the one before.
        _ => format!(
            "INSERT INTO name_page (rowid, names)
             SELECT id / {NAMES}, group_concat(name, '/') FROM entry WHERE {which} GROUP BY 1"
        ),
    }
}

/// The page of a number.
pub(super) fn page_of(number: &str) -> String {
    format!("{number} / {NAMES}")
}

/// How far names are in the index and how far there are entries.
pub(super) const NAMED: &str = "(SELECT value FROM counter WHERE name = 'paged') AS named, (SELECT MAX(id) FROM entry) AS newest";

/// Some pages with their entries on Postgres: `f` and `e`. Its bound keeps it from being
/// joined the other way round, beginning with all entries.
pub(super) fn from_pages(pages: &str) -> String {
    format!(
        "FROM {pages} f CROSS JOIN LATERAL (SELECT * FROM entry x WHERE x.id >= f.page * {NAMES}
         AND x.id < f.page * {NAMES} + {NAMES} ORDER BY x.id LIMIT {NAMES}) e"
    )
}

/// The same on SQLite, each entry looked up: pages in an order have their entries in it too,
/// which an index of pages can't promise.
pub(super) fn from_pages_in_order(descending: bool) -> String {
    let mut each: Vec<String> = (0..NAMES).map(|nth| format!("SELECT {nth} AS nth")).collect();
    if descending {
        each.reverse();
    }
    let each = each.join(" UNION ALL ");
    format!(
        "FROM name_page f CROSS JOIN ({each}) n CROSS JOIN entry e ON e.id = f.rowid * {NAMES} + n.nth"
    )
}

/// Three characters each that the index has.
fn words_of(text: &AnyCase, folds: bool) -> Vec<String> {
    let chars: Vec<char> = text.text.chars().collect();
    let is_whole = |word: &&[char]| word.iter().all(|c| *c != '\0' && text.is_indexed(*c, folds));
    chars.windows(3).filter(is_whole).take(TRIGRAMS_MAX).map(String::from_iter).collect()
}

/// What FTS5 finds a text's pages by.
pub(super) fn trigrams(text: &AnyCase) -> String {
    let words = words_of(text, true).into_iter();
    let words = words.map(|word| format!("\"{}\"", word.replace('"', "\"\"")));
    words.collect::<Vec<_>>().join(" AND ")
}

/// What Postgres finds them by: a letter that the index may have in another case is any.
pub(super) fn pattern(text: &AnyCase, folds: bool) -> String {
    let mut pattern = "%".to_owned();
    for c in text.text.chars() {
        match c {
            '\\' | '%' | '_' => pattern.extend(['\\', c]),
            _ => pattern.push(if text.is_indexed(c, folds) { c } else { '_' }),
        }
    }
    pattern.push('%');
    pattern
}

impl Store {
    /// Whether the index finds a text.
    pub(super) fn finds(&self, text: &AnyCase) -> bool {
        self.has_trigrams && !words_of(text, self.folds).is_empty()
    }

    /// Up to which entry names are in the index.
    pub(super) async fn named_up_to(&self) -> Result<i64, ServiceError> {
        if !self.has_trigrams {
            return Ok(0);
        }
        current_number(self.read(), WATERMARK).await
    }

    /// Whether all names are in the index.
    pub(super) async fn are_all_named(&self) -> Result<bool, ServiceError> {
        let row = self.row(&format!("SELECT {NAMED}"), vec![]).await?;
        row.as_ref().map_or(Ok(true), |row| self.is_named(row))
    }

    /// The same of a row of [`NAMED`].
    pub(super) fn is_named(&self, row: &QueryResult) -> Result<bool, ServiceError> {
        let newest = get::<Option<i64>>(row, "newest")?.unwrap_or(0);
        self.newest.store(newest, Ordering::Relaxed);
        Ok(get::<Option<i64>>(row, "named")?.unwrap_or(0) >= newest)
    }

    /// Whether names can be indexed while others are merged: on SQLite there is one
    /// writer.
    #[must_use]
    pub fn indexes_beside(&self) -> bool {
        self.has_trigrams && self.backend() == DbBackend::Postgres
    }

    /// Puts the next names into the index; false when all are in it.
    ///
    /// # Errors
    /// The database's.
    pub async fn index_names(&self) -> Result<bool, ServiceError> {
        let (from, next, newest) = self.unnamed().await?;
        let Some(next) = next else { return Ok(false) };
        let to = newest.min(next + PAGE - 1);
        self.index_up_to(from, to, to == newest).await?;
        Ok(to < newest)
    }

    /// The same while more are merged: of whole pages, once they are worth a statement. The
    /// last ones are always left for [`Store::index_names`], which has them taken up.
    ///
    /// # Errors
    /// The database's.
    pub async fn index_names_meanwhile(&self) -> Result<bool, ServiceError> {
        let (from, next, newest) = self.unnamed().await?;
        let Some(next) = next else { return Ok(false) };
        let to = newest.min(next + PAGE) / NAMES * NAMES - 1;
        if to - next < LEAST {
            return Ok(false);
        }
        self.index_up_to(from, to, false).await?;
        Ok(true)
    }

    /// The watermark, the first entry beyond it, and the newest one.
    async fn unnamed(&self) -> Result<(i64, Option<i64>, i64), ServiceError> {
        if !self.has_trigrams {
            return Ok((0, None, 0));
        }
        let from = self.named_up_to().await?;
        let look = "SELECT (SELECT MIN(id) FROM entry WHERE id > $1) AS next, (SELECT MAX(id) FROM entry) AS newest";
        let row = self.row(look, vec![from.into()]).await?;
        let row = row.ok_or_else(|| ServiceError::internal("the database said nothing"))?;
        let newest: Option<i64> = get(&row, "newest")?;
        Ok((from, get(&row, "next")?, newest.unwrap_or(0)))
    }

    async fn index_up_to(&self, from: i64, to: i64, is_last: bool) -> Result<(), ServiceError> {
        let is_postgres = self.backend() == DbBackend::Postgres;
        let tx = self.sql.begin().await?;
        // Of two that fill it at once the second finds the watermark moved.
        if next_numbers(&tx, WATERMARK, 0).await? != from {
            return Ok(());
        }
        let step = u32::try_from(to - from)
            .map_err(|_| ServiceError::internal("a page of names is too long"))?;
        if is_postgres {
            execute(&tx, SORTED_WITHIN, vec![]).await?;
            self.repeatable(&tx).await?;
        }
        let sql = into_pages(self.backend(), "id > $1 AND id <= $2");
        execute(&tx, &sql, vec![from.into(), to.into()]).await?;
        next_numbers(&tx, WATERMARK, step).await?;
        if is_postgres && is_last {
            execute(&tx, TAKE_UP, vec![]).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Before the first entry is renamed on Postgres, and before numbers are taken: nobody else
    /// then fills the index from the name that was, or writes pages of several entries in
    /// another order, until the transaction ends.
    pub(super) async fn hold_names(&self, tx: &DatabaseTransaction) -> Result<(), ServiceError> {
        if self.indexes_beside() {
            next_numbers(tx, WATERMARK, 0).await?;
        }
        Ok(())
    }

    /// Puts names that are below the watermark back into the index; after
    /// [`Store::hold_names`].
    pub(super) async fn learn_names(
        &self,
        tx: &DatabaseTransaction,
        entries: &[i64],
    ) -> Result<(), ServiceError> {
        if !self.has_trigrams {
            return Ok(());
        }
        let backend = self.backend();
        let up_to = current_number(tx, WATERMARK).await?;
        let sql =
            into_pages(backend, &format!("{} AND id <= $2", bulk::in_numbers(backend, "id", 1)));
        execute(tx, &sql, vec![bulk::numbers(backend, entries), up_to.into()]).await.map(drop)
    }
}
