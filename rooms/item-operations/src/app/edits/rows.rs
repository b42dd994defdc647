//! Edits computed from what is there.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use blocks::{Position, Reading};
use caller::Caller;
use catalog_api::v1::get_head_request::At;
use cells::revision_of;
use row_delta::keys_of;
use service_error::{Code, ServiceError};
use sql_store::now_micros;

use super::change::{RowChange, apply, made};
use super::fetch::{ROWS_BYTES_MAX, parsed_keys};
use super::{App, Cells, Computed, Edited, ROWS_MAX, RowEdit, Size};
use crate::app::catalog::by_id;
use crate::app::merge::taken;
use crate::app::reading::Opened;
use crate::app::view::View;

/// Deletions by filter of more rows than this go straight to the blocks.
const DELETED_ROWS_MAX: usize = 64;

/// A key as text, as a client names it.
pub fn key_text(opened: &Opened, column: &ArrayRef, row: usize) -> Result<String, ServiceError> {
    item_manifests::unique::key_text(opened.key_field()?, opened.items_profile, column, row)
}

fn count_of(rows: usize) -> Result<(), ServiceError> {
    if rows == 0 {
        return Err(ServiceError::invalid("keys", "there are none"));
    }
    if rows > ROWS_MAX {
        let message = format!("{rows} rows; an edit has at most {ROWS_MAX}: use DoPut for more");
        return Err(ServiceError::invalid("keys", message));
    }
    Ok(())
}

/// Refuses keys that stand there twice.
fn each_once(keys: &ArrayRef, opened: &Opened) -> Result<(), ServiceError> {
    let mut seen = HashSet::with_capacity(keys.len());
    for (row, key) in keys_of(keys)?.into_iter().enumerate() {
        if !seen.insert(key) {
            let key = key_text(opened, keys, row)?;
            return Err(ServiceError::invalid("key", format!("{key} is there twice")));
        }
    }
    Ok(())
}

pub fn not_found(opened: &Opened, key: &str) -> ServiceError {
    let shown: String = key.chars().take(100).collect();
    ServiceError::not_found("item", format!("{shown} in {}", opened.address))
        .reason("ITEM_NOT_FOUND")
        .with("key", shown)
}

fn key_column<'a>(opened: &Opened, batch: &'a RecordBatch) -> Result<&'a ArrayRef, ServiceError> {
    batch
        .column_by_name(&opened.key)
        .ok_or_else(|| ServiceError::internal("a row image lacks its key"))
}

/// Keys as a batch of the key column alone.
fn dead(opened: &Opened, keys: ArrayRef) -> Result<RecordBatch, ServiceError> {
    let field: Field = opened.key_field()?.clone();
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![keys])
        .map_err(|error| ServiceError::internal(format!("keys: {error}")))
}

/// Key and revision of every row.
fn items(opened: &Opened, batch: &RecordBatch) -> Result<Vec<(String, String)>, ServiceError> {
    let keys = key_column(opened, batch)?;
    (0..batch.num_rows())
        .map(|row| Ok((key_text(opened, keys, row)?, revision_of(batch, row)?)))
        .collect()
}

fn of_live(opened: &Opened, live: RecordBatch) -> Result<Computed, ServiceError> {
    let items = items(opened, &live)?;
    let edited = Edited { affected: live.num_rows() as u64, items, commit_token: String::new() };
    Ok(Computed { live: Some(live), dead: None, edited })
}

impl App {
    pub(super) async fn compute_new(
        &self,
        opened: &Opened,
        view: &View,
        items: &[Cells],
    ) -> Result<Computed, ServiceError> {
        count_of(items.len())?;
        let batch = made(opened, items, now_micros())?;
        let keys = key_column(opened, &batch)?;
        each_once(keys, opened)?;
        let given = items.iter().any(|cells| cells.contains_key(&opened.key));
        if given {
            let rows = self.rows_of(opened, view, keys, &key_schema(opened)?).await?;
            if let Some(row) = rows.there.iter().position(|there| *there) {
                let key = key_text(opened, keys, row)?;
                let message =
                    format!("{}: {} has the key {key} already", opened.key, opened.address);
                return Err(ServiceError::new(Code::AlreadyExists, message)
                    .reason("KEY_EXISTS")
                    .field(&opened.key)
                    .with("key", key));
            }
        }
        of_live(opened, batch)
    }

    pub(super) async fn compute_rows(
        &self,
        opened: &Opened,
        view: &View,
        edits: &[RowEdit],
        lenient: bool,
    ) -> Result<Computed, ServiceError> {
        count_of(edits.len())?;
        for change in edits.iter().filter_map(|edit| edit.change.as_ref()) {
            change.check(opened)?;
        }
        let texts: Vec<&str> = edits.iter().map(|edit| edit.key.as_str()).collect();
        let keys = parsed_keys(opened, &texts)?;
        each_once(&keys, opened)?;
        // What goes is named by its key; only its revision is of the whole row.
        let whole = edits.iter().any(|edit| edit.change.is_some() || !edit.revision.is_empty());
        let schema = if whole { Arc::clone(&opened.schema) } else { key_schema(opened)? };
        let rows = self.rows_of(opened, view, &keys, &schema).await?;
        let mut at = 0;
        let (mut changed, mut changes, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (edit, there) in edits.iter().zip(&rows.there) {
            if !there {
                if lenient && edit.revision.is_empty() {
                    continue;
                }
                return Err(not_found(opened, &edit.key));
            }
            check_revision(&rows.batch, at, edit)?;
            match &edit.change {
                Some(change) => {
                    changed.push(at);
                    changes.push(change);
                }
                None => gone.push(at),
            }
            at += 1;
        }
        let live = match changed.is_empty() {
            true => None,
            false => Some(apply(opened, &taken(&rows.batch, &changed)?, &changes, now_micros())?),
        };
        let removed = taken(&rows.batch, &gone)?;
        let edited = Edited {
            items: live.as_ref().map_or(Ok(Vec::new()), |live| items(opened, live))?,
            affected: (changed.len() + gone.len()) as u64,
            commit_token: String::new(),
        };
        let dead = dead(opened, Arc::clone(key_column(opened, &removed)?))?;
        Ok(Computed { live, dead: Some(dead), edited })
    }

    pub(super) async fn compute_restored(
        &self,
        caller: &Caller,
        opened: &Opened,
        view: &View,
        texts: &[String],
        version: &str,
    ) -> Result<Computed, ServiceError> {
        count_of(texts.len())?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let keys = parsed_keys(opened, &texts)?;
        each_once(&keys, opened)?;
        let now = self.rows_of(opened, view, &keys, &key_schema(opened)?).await?;
        if let Some(row) = now.there.iter().position(|there| *there) {
            let message = format!("item {} is not deleted", texts[row]);
            return Err(ServiceError::precondition(message).reason("ITEM_NOT_DELETED"));
        }
        if !version.is_empty() {
            let at = Some(At::Version(version.to_owned()));
            let head = self.catalog.head(caller, by_id(opened.dataset), at).await?;
            let then = Opened::of(&head)?;
            let view = self.view(caller, &then).await?;
            let rows = self.rows_of(&then, &view, &keys, &opened.schema).await?;
            if let Some(row) = rows.there.iter().position(|there| !there) {
                return Err(not_found(opened, texts[row]));
            }
            return of_live(opened, rows.batch);
        }
        of_live(opened, self.last_of(caller, opened, (&keys, &texts)).await?)
    }

    pub(super) async fn compute_where(
        &self,
        opened: &Opened,
        view: &View,
        text: &str,
        change: Option<&RowChange>,
    ) -> Result<Size, ServiceError> {
        let Some(filter) = self.filter(opened, text).await? else {
            let message = "is empty; an edit of many rows needs one";
            return Err(ServiceError::invalid("filter", message));
        };
        if let Some(change) = change {
            change.check(opened)?;
        }
        let most = if change.is_some() { ROWS_MAX } else { DELETED_ROWS_MAX };
        let reading = Reading::new(Arc::clone(&opened.schema), Some(Arc::clone(&filter)));
        let all = (Position { block: 0, row: 0 }, most + 1);
        let found = self.passing(view, &reading, &filter, all).await?;
        let in_tail = view.tail_rows(Some(&filter))?;
        if found.len() + in_tail.len() > most {
            return Ok(Size::Bulk(filter));
        }
        let schema =
            if change.is_some() { Arc::clone(&opened.schema) } else { key_schema(opened)? };
        let reading = Reading::new(Arc::clone(&opened.schema), None);
        let mut read =
            self.reader.rows(&view.blocks, &found, &schema, &reading, ROWS_BYTES_MAX).await?;
        if read.iter().map(RecordBatch::num_rows).sum::<usize>() < found.len() {
            return Ok(Size::Bulk(filter));
        }
        if let Some(tail) = &view.tail {
            read.push(super::fetch::projected(&taken(tail, &in_tail)?, &schema)?);
        }
        let rows = concat_batches(&schema, &read)
            .map_err(|error| ServiceError::internal(format!("rows by filter: {error}")))?;
        let edited = Edited { affected: rows.num_rows() as u64, ..Edited::default() };
        let (live, dead) = match change {
            Some(change) if rows.num_rows() > 0 => {
                (Some(change.apply(opened, &rows, now_micros())?), None)
            }
            Some(_) => (None, None),
            None => (None, Some(dead(opened, Arc::clone(key_column(opened, &rows)?))?)),
        };
        Ok(Size::Small(Computed { live, dead, edited }))
    }
}

fn key_schema(opened: &Opened) -> Result<arrow::datatypes::SchemaRef, ServiceError> {
    Ok(Arc::new(Schema::new(vec![opened.key_field()?.clone()])))
}

fn check_revision(batch: &RecordBatch, row: usize, edit: &RowEdit) -> Result<(), ServiceError> {
    if edit.revision.is_empty() {
        return Ok(());
    }
    let now = revision_of(batch, row)?;
    if now == edit.revision {
        return Ok(());
    }
    let shown: String = edit.key.chars().take(100).collect();
    let message = format!("item {shown} was changed since; read it again and repeat the edit");
    Err(ServiceError::conflict(message)
        .reason("REVISION_CHANGED")
        .field("revision")
        .with("key", shown)
        .with("revision", now))
}
