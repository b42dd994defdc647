//! Directories of more entries than one transaction takes, a part at a time, the
//! fingerprint with the last: a kill before leaves it to be looked at again.

use file_scan::{Entry, Identity, Paged, names};
use service_error::ServiceError;
use sql_store::db_error;

use super::diff::{self, Changes, DirId};
use super::dir_moves::Place;
use super::merge::{Listed, Merged, PART};
use super::{ScanKey, Store, execute};

/// A directory whose entries come in pages, in the order of their names' text.
#[derive(Debug)]
pub struct LargeDir {
    dir: DirId,
    path: String,
    is_complete: bool,
    /// The last name that was compared.
    after: String,
    /// Directories that moved to it, so far.
    pub moved: i64,
}

impl Store {
    /// Begins a directory whose entries come in pages; nothing if it is as it is
    /// known. `inode_at` as of [`Store::merge`].
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn begin_large(
        &self,
        scan: ScanKey,
        mut head: Listed,
        inode_at: impl Fn(&str) -> Option<Identity>,
    ) -> Result<Option<LargeDir>, ServiceError> {
        let mut known = self.known(self.read(), scan, std::iter::once(&head)).await?;
        if known.get(&head.path).is_some_and(|known| head.is_as_known(known)) {
            return Ok(None);
        }
        head.print = None;
        let (path, is_complete) = (head.path.clone(), head.listing.is_complete());
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        let mut moved = 0;
        if !scan.is_first() {
            moved = self.move_children(&tx, scan, &head, &inode_at).await?;
        }
        if moved > 0 {
            // What moved to it may have made its row.
            known = self.known(&tx, scan, std::iter::once(&head)).await?;
        }
        let taken = self.take_places(&tx, scan, (vec![head], vec![]), known, &inode_at).await?;
        tx.commit().await.map_err(db_error)?;
        let dir = taken.ids.get(&path).copied();
        let dir = dir.ok_or_else(|| ServiceError::internal("a directory has no row"))?;
        Ok(Some(LargeDir { dir, path, is_complete, after: String::new(), moved }))
    }

    /// Compares the next entries with what is stored up to the last of them. `inode_at` as
    /// of [`Store::merge`].
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn merge_page(
        &self,
        scan: ScanKey,
        large: &mut LargeDir,
        entries: Vec<Entry>,
        inode_at: impl Fn(&str) -> Option<Identity>,
    ) -> Result<Merged, ServiceError> {
        let Some(last) = entries.last().map(|entry| names::text(&entry.name)) else {
            return Ok(Merged::default());
        };
        let named: Vec<Place> = Place::all(&large.path, &entries).collect();
        if !scan.is_first() && !named.is_empty() {
            let tx = self.sql.begin().await?;
            self.hold(&tx, scan).await?;
            let moved = self.move_dirs(&tx, scan, named, &[], &inode_at).await?;
            tx.commit().await.map_err(db_error)?;
            large.moved += moved;
            // What moved to it is stored in it.
            large.dir.is_new &= moved == 0;
        }
        let mut changes = Changes::new(scan.generation, !scan.is_first());
        let mut entries = entries.into_iter().peekable();
        loop {
            let (mut known, is_all) = match large.dir.is_new {
                true => (diff::ByName::new(), true),
                false => {
                    diff::stored_between(self.read(), large.dir.id, &large.after, Some(&last))
                        .await?
                }
            };
            let stored_last = known.keys().max().cloned();
            let upto = stored_last.filter(|_| !is_all).unwrap_or_else(|| last.clone());
            while let Some(entry) = entries.next_if(|entry| names::text(&entry.name) <= upto) {
                changes.compare(large.dir, &large.path, &entry, &mut known);
            }
            if large.is_complete {
                changes.left(known);
            }
            large.after = upto;
            if is_all {
                break;
            }
        }
        self.apply_alone(scan, changes).await
    }

    /// All pages have come, or no more do: what is stored after them is missing if
    /// they are all.
    ///
    /// # Errors
    /// As [`Store::merge`].
    pub async fn end_large(
        &self,
        scan: ScanKey,
        large: LargeDir,
        paged: &Paged,
    ) -> Result<Merged, ServiceError> {
        let mut merged = Merged::default();
        let Some(print) = paged.print.filter(|_| large.is_complete) else {
            let tx = self.sql.begin().await?;
            self.hold(&tx, scan).await?;
            self.recount(&tx, &[large.dir.id]).await?;
            tx.commit().await.map_err(db_error)?;
            return Ok(merged);
        };
        let (mut after, mut is_all) = (large.after, large.dir.is_new);
        while !is_all {
            let known;
            (known, is_all) = diff::stored_between(self.read(), large.dir.id, &after, None).await?;
            after = known.keys().max().cloned().unwrap_or(after);
            let mut changes = Changes::new(scan.generation, !scan.is_first());
            changes.left(known);
            merged += self.apply_alone(scan, changes).await?;
        }
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        let sql = "UPDATE dir SET print = $2, files = $3, bytes = $4 WHERE id = $1";
        let (files, bytes) = paged.totals;
        let values = vec![large.dir.id.into(), print.to_vec().into(), files.into(), bytes.into()];
        execute(&tx, sql, values).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(merged)
    }

    /// Compares a directory of any size with what is stored of it, and writes what
    /// differs a part at a time: others write in between, and the job's lease is held.
    pub(super) async fn compare_large(
        &self,
        scan: ScanKey,
        dir: DirId,
        listed: Listed,
    ) -> Result<Merged, ServiceError> {
        let mut known = match dir.is_new {
            true => diff::ByName::new(),
            false => diff::stored_in(self.read(), dir.id).await?,
        };
        let (is_told, is_complete) = (!scan.is_first(), listed.listing.is_complete());
        let mut changes = Changes::new(scan.generation, is_told);
        let mut merged = Merged::default();
        let mut entries = listed.listing.entries.into_iter();
        let mut is_last = false;
        while !is_last {
            is_last = true;
            for entry in entries.by_ref() {
                changes.compare(dir, &listed.path, &entry, &mut known);
                if changes.row_count() >= PART {
                    is_last = false;
                    break;
                }
            }
            if is_last && is_complete {
                changes.left(std::mem::take(&mut known));
            }
            let part = Changes::new(scan.generation, is_told);
            merged += self.apply_alone(scan, std::mem::replace(&mut changes, part)).await?;
        }
        Ok(merged)
    }

    async fn apply_alone(&self, scan: ScanKey, changes: Changes) -> Result<Merged, ServiceError> {
        let tx = self.sql.begin().await?;
        self.hold(&tx, scan).await?;
        let merged = self.apply(&tx, scan, changes).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(merged)
    }
}
