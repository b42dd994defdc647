//! Small writes: computed from what is there, written to the delta, and computed
//! again if something they were computed from has changed.

mod change;
mod fetch;
mod restore;
mod rows;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use caller::Caller;
use filter::Filter;
use options_api::v1::Level;
use row_delta::{EditKey, Outcome, Write};
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use crate::app::App;
use crate::app::reading::Opened;
use crate::app::view::View;
use crate::model::Address;

pub use change::{Cells, RowChange, refreshed};
pub use fetch::projected;
pub use rows::key_text;

/// Rows of one edit at most.
pub const ROWS_MAX: usize = 10_000;
/// Attempts before an edit gives up: each lost one means that another won.
const ATTEMPTS_MAX: u32 = 100;
const KEPT_MICROS: i64 = 7 * 24 * 3_600 * 1_000_000;
const KEY_BYTES_MAX: usize = 255;
const COMMIT_TOKEN: &str = "commit_token";

/// A change to one row.
#[derive(Debug, Clone)]
pub struct RowEdit {
    /// The row's key as text.
    pub key: String,
    /// The row as the caller knows it; empty: as it is.
    pub revision: String,
    /// What it becomes; `None`: it is deleted.
    pub change: Option<RowChange>,
}

/// What an edit does.
#[derive(Debug, Clone)]
pub enum Edit {
    /// New rows.
    Create(Vec<Cells>),
    /// Rows by key, each once.
    Rows {
        /// The changes.
        edits: Vec<RowEdit>,
        /// A key without a row is passed over.
        lenient: bool,
    },
    /// Rows by key as they were at a version; empty: before they were deleted.
    Restore {
        /// The keys.
        keys: Vec<String>,
        /// A version's number.
        version: String,
    },
    /// Rows by filter; `None`: they are deleted.
    Where {
        /// The filter's text.
        filter: String,
        /// What they become.
        change: Option<RowChange>,
    },
}

impl Edit {
    /// It may give a row another value in a unique column.
    fn brings_unique(&self, opened: &Opened) -> bool {
        let touches = |change: &Option<RowChange>| {
            change.as_ref().is_some_and(|change| change.touches_unique(opened))
        };
        !opened.unique.is_empty()
            && match self {
                Self::Create(_) | Self::Restore { .. } => true,
                Self::Rows { edits, .. } => edits.iter().any(|edit| touches(&edit.change)),
                Self::Where { change, .. } => touches(change),
            }
    }
}

/// Who may repeat an edit under which name.
#[derive(Debug, Clone, Default)]
pub struct Repeatable {
    /// Empty: it may not be repeated.
    pub idempotency_key: String,
    /// Of what the edit says.
    pub body_hash: Vec<u8>,
}

/// What an edit did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// (key, revision) of the rows that are there afterwards, in the order of the
    /// request; none for edits by filter.
    pub items: Vec<(String, String)>,
    /// Rows made, changed or deleted.
    pub affected: u64,
    /// A read that names it sees the edit.
    #[serde(skip)]
    pub commit_token: String,
}

/// Where an edit stands: a read that has not come so far must not answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CommitToken {
    dataset: Uuid,
    seq: i64,
    snapshot: i64,
}

/// An edit that was computed: rows that are there afterwards, keys that are not.
struct Computed {
    live: Option<arrow::array::RecordBatch>,
    dead: Option<arrow::array::RecordBatch>,
    edited: Edited,
}

/// An edit, or the news that it is too large for the delta.
enum Size {
    Small(Computed),
    Bulk(Arc<Filter>),
}

impl App {
    /// Makes an edit, once, however often it is asked under one key.
    ///
    /// # Errors
    /// What does not fit; a row that is missing, there already, or another
    /// revision; a conflict that does not settle.
    pub async fn edit(
        &self,
        caller: &Caller,
        address: &Address,
        edit: &Edit,
        repeatable: Repeatable,
        action: &'static str,
    ) -> Result<Edited, ServiceError> {
        let (mut attempts, mut turn) = (0, None);
        loop {
            let opened = self.open_now(caller, address).await?;
            self.allow(caller, &opened, Level::Write, action).await?;
            opened.key_field()?;
            let key = edit_key(caller, &repeatable)?;
            if let Some(key) = &key
                && let Some(before) = self.delta.repeated(opened.dataset, key).await?
            {
                return self.edited_before(&opened, &before.response, before.seq);
            }
            if attempts == 0
                && matches!(edit, Edit::Where { .. })
                && let Some(before) = self.bulk_before(caller, &opened, &repeatable).await?
            {
                return Ok(before);
            }
            self.check_backlog(&opened).await?;
            let view = self.view(caller, &opened).await?;
            let computed = match self.compute(caller, &opened, &view, edit).await? {
                Size::Small(computed) => computed,
                Size::Bulk(filter) => {
                    return self.edit_in_bulk(caller, &opened, filter, edit, &repeatable).await;
                }
            };
            let of_all = edit.brings_unique(&opened);
            if let Some(live) = computed.live.as_ref().filter(|_| of_all) {
                self.check_edited(&opened, &view, live, computed.dead.as_ref()).await?;
            }
            let write = Write { of_all, ..write_of(&opened, &computed, key)? };
            let outcome = self.delta.write(write).await?;
            match outcome {
                Outcome::Written(seq) => {
                    let mut edited = computed.edited;
                    edited.commit_token = self.commit_token(&opened, seq, opened.snapshot)?;
                    self.wake_flush(&opened);
                    return Ok(edited);
                }
                Outcome::Repeated(before) => {
                    return self.edited_before(&opened, &before.response, before.seq);
                }
                Outcome::Moved if of_all && turn.is_none() => {
                    turn = Some(self.delta.turn(opened.place()).await);
                }
                Outcome::Moved => {}
                Outcome::Fenced => self.await_fence(opened.place()).await?,
            }
            attempts += 1;
            if attempts == ATTEMPTS_MAX {
                let message = "others kept changing the same rows; try again";
                return Err(ServiceError::conflict(message).reason("EDIT_CONTENDED"));
            }
        }
    }

    async fn compute(
        &self,
        caller: &Caller,
        opened: &Opened,
        view: &View,
        edit: &Edit,
    ) -> Result<Size, ServiceError> {
        Ok(Size::Small(match edit {
            Edit::Create(items) => self.compute_new(opened, view, items).await?,
            Edit::Rows { edits, lenient } => {
                self.compute_rows(opened, view, edits, *lenient).await?
            }
            Edit::Restore { keys, version } => {
                self.compute_restored(caller, opened, view, keys, version).await?
            }
            Edit::Where { filter, change } => {
                return self.compute_where(opened, view, filter, change.as_ref()).await;
            }
        }))
    }

    /// Refuses writes while the delta holds more than it may.
    async fn check_backlog(&self, opened: &Opened) -> Result<(), ServiceError> {
        if opened.ceiling == opened.watermark {
            return Ok(());
        }
        let state = self.delta.state(opened.place()).await?;
        if state.pending_bytes < self.settings.delta.pending_bytes_max {
            return Ok(());
        }
        self.wake_flush(opened);
        let message = "the dataset has more small writes than can wait for their flush; \
            try again in a few seconds, or write in bulk with DoPut";
        Err(ServiceError::exhausted(message).reason("DELTA_FULL"))
    }

    fn edited_before(
        &self,
        opened: &Opened,
        response: &[u8],
        seq: i64,
    ) -> Result<Edited, ServiceError> {
        let mut edited: Edited = serde_json::from_slice(response)
            .map_err(|_| ServiceError::data_loss("a repeated edit's answer cannot be read"))?;
        edited.commit_token = self.commit_token(opened, seq, 0)?;
        Ok(edited)
    }

    pub fn commit_token(
        &self,
        opened: &Opened,
        seq: i64,
        snapshot: i64,
    ) -> Result<String, ServiceError> {
        let token = CommitToken { dataset: opened.dataset, seq, snapshot };
        Ok(URL_SAFE_NO_PAD.encode(self.sealing.seal(COMMIT_TOKEN, &token)?))
    }

    /// Refuses to read less than a commit token names.
    ///
    /// # Errors
    /// `InvalidArgument` for a token of another dataset; `Unavailable` where the
    /// edit is not seen.
    pub async fn check_commit_token(
        &self,
        opened: &Opened,
        token: &str,
    ) -> Result<(), ServiceError> {
        if token.is_empty() {
            return Ok(());
        }
        let wrong = |what: &str| ServiceError::invalid(COMMIT_TOKEN, what);
        let sealed = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong("is no commit token"))?;
        let token: CommitToken = self.sealing.open_sealed(COMMIT_TOKEN, &sealed).await?;
        if token.dataset != opened.dataset {
            return Err(wrong("is of another dataset"));
        }
        if token.seq > opened.ceiling || token.snapshot > opened.snapshot {
            return Err(ServiceError::unavailable("the edit is not seen here yet; try again")
                .reason("NOT_CAUGHT_UP"));
        }
        Ok(())
    }
}

fn edit_key(caller: &Caller, repeatable: &Repeatable) -> Result<Option<EditKey>, ServiceError> {
    if repeatable.idempotency_key.is_empty() {
        return Ok(None);
    }
    if repeatable.idempotency_key.len() > KEY_BYTES_MAX || repeatable.idempotency_key.contains('\0')
    {
        let message = format!("at most {KEY_BYTES_MAX} bytes of text");
        return Err(ServiceError::invalid("idempotency_key", message));
    }
    Ok(Some(EditKey {
        principal: caller.principal.uuid(),
        key: repeatable.idempotency_key.clone(),
        body_hash: repeatable.body_hash.clone(),
        response: Vec::new(),
        expires_at: now_micros() + KEPT_MICROS,
    }))
}

fn write_of(
    opened: &Opened,
    computed: &Computed,
    key: Option<EditKey>,
) -> Result<Write, ServiceError> {
    let response = serde_json::to_vec(&computed.edited)
        .map_err(|error| ServiceError::internal(format!("an edit's answer: {error}")))?;
    Ok(Write {
        place: opened.place(),
        epoch: opened.epoch,
        read_seq: opened.ceiling,
        floor: opened.watermark,
        live: computed.live.clone(),
        dead: computed.dead.clone(),
        key_column: opened.key.clone(),
        of_all: false,
        edit: key.map(|key| EditKey { response, ..key }),
    })
}
