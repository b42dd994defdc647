//! Puts: rows that arrive become blocks of an upload, and then a version.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use blocks::{BlockWriter, Held};
use caller::Caller;
use catalog_api::v1::Head;
use ids::UploadId;
use item_schema::Profile;
use item_shape::{Incoming, NewShape, new_shape, pieces};
use options_api::v1::Level;
use service_error::{Code, ServiceError};
use sql_store::now_micros;
use uuid::Uuid;

use crate::app::App;
use crate::app::catalog::by_name;
use crate::app::commit::{Commit, in_words_of};
use crate::app::lease::Lease;
use crate::app::partial::{lacking, relaxed};
use crate::app::reading::Opened;
use crate::model::{PutCommand, PutMode, PutRows, check_columns, trailing_rows};

const PUT: &str = "arrow.flight.protocol.FlightService/DoPut";

/// What a put became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutDone {
    /// `namespace/dataset`.
    pub dataset: String,
    /// The committed version.
    pub version: i64,
    /// Its place in the dataset's history.
    pub snapshot: i64,
    /// Rows that this put brought, or took away if it is a delete.
    pub rows: u64,
}

/// A put that is under way. Dropped before it is finished, it leaves nothing.
pub struct Put {
    app: App,
    caller: Arc<Caller>,
    command: PutCommand,
    target: Target,
    taking: Taking,
    lease: Lease,
    rows: u64,
}

/// What becomes of the rows of a put.
enum Taking {
    /// They are written as blocks.
    Rows {
        incoming: Arc<Incoming>,
        writer: Box<BlockWriter>,
    },
    /// Their keys name rows that go.
    Keys {
        keys: Vec<ArrayRef>,
        held: Option<Held>,
    },
    Done,
}

/// Where rows go.
pub struct Target {
    pub upload: UploadId,
    pub dataset: Uuid,
    /// `None`: the commit makes the dataset.
    pub existing: Option<Opened>,
    pub shape: NewShape,
    /// The client brought keys, so they are compared with those that are there.
    pub keys_given: bool,
    /// Columns of the dataset that an upsert does not bring.
    pub lacking: Vec<String>,
}

/// A put that may be made and has not begun: nothing but its descriptor has
/// been looked at.
pub struct PlacedPut {
    app: App,
    caller: Arc<Caller>,
    command: PutCommand,
    upload: UploadId,
    dataset: Uuid,
    existing: Option<Opened>,
    lease: Lease,
}

impl PlacedPut {
    /// Finds the put's place, before anything of it is kept.
    ///
    /// # Errors
    /// A dataset or a namespace that the caller may not write to; an upload
    /// that is not the caller's.
    pub async fn open(
        app: &App,
        caller: Arc<Caller>,
        command: PutCommand,
    ) -> Result<Self, ServiceError> {
        let place = app.place(&caller, &command).await?;
        let lease = Lease::keep(
            app.clone(),
            Arc::clone(&caller),
            place.upload,
            place.expires_at,
            command.upload_id.is_empty(),
        );
        let existing = place.head.as_ref().map(Opened::of).transpose()?;
        if let Some(opened) = &existing {
            app.allow(&caller, opened, Level::Write, PUT).await?;
        }
        let name = &command.address;
        match (command.must_be_new, &existing) {
            (Some(true), Some(_)) => return Err(ServiceError::already_exists("dataset", name)),
            (Some(false), None) => return Err(ServiceError::not_found("dataset", name)),
            _ => {}
        }
        let (upload, dataset, app) = (place.upload, place.dataset, app.clone());
        Ok(Self { app, caller, command, upload, dataset, existing, lease })
    }

    /// Takes what the metadata of a message before the rows says.
    ///
    /// # Errors
    /// As [`PutCommand::told`].
    pub fn told(&mut self, metadata: &[u8]) -> Result<(), ServiceError> {
        self.command.told(metadata)
    }

    /// Begins a put of batches with the schema `put`; `first` is the first of
    /// them, if one has come.
    ///
    /// # Errors
    /// Columns that do not fit.
    pub fn begin(self, put: &Schema, first: Option<&RecordBatch>) -> Result<Put, ServiceError> {
        let Self { app, caller, command, upload, dataset, existing, lease } = self;
        let shape = match &existing {
            Some(opened) => shape_of(opened, &command)?,
            None => {
                let shape = new_shape(put, first, command.profile, &command.key_column)?;
                let key = shape.key.as_deref().unwrap_or_default();
                check_columns(&shape.schema, key, &command.unique_columns)?;
                shape
            }
        };
        check_mode(&command, existing.as_ref(), &shape, put)?;
        let keys_given = shape.key.as_ref().is_some_and(|key| put.field_with_name(key).is_ok());
        if command.mode == PutMode::Delete {
            let taking = Taking::Keys { keys: Vec::new(), held: None };
            let target =
                Target { upload, dataset, existing, shape, keys_given, lacking: Vec::new() };
            return Ok(Put { app, caller, command, target, taking, lease, rows: 0 });
        }
        let lacking = match (&existing, command.mode) {
            (Some(opened), PutMode::Upsert) if keys_given => lacking(opened, put),
            _ => Vec::new(),
        };
        // Rows that are there give what is missing, when they are known.
        let schema = relaxed(&shape.schema, &lacking);
        let incoming =
            Incoming::new(put, SchemaRef::clone(&schema), shape.profile, dataset, now_micros())?;
        let writer = BlockWriter::new(
            app.store.blobs().clone(),
            app.buffers.clone(),
            app.settings.block_options(),
            schema,
            shape.key.as_deref(),
            format!("{dataset}/{upload}"),
        )?
        .unique(existing.as_ref().map_or(&command.unique_columns, |opened| &opened.unique));
        let taking = Taking::Rows { incoming: Arc::new(incoming), writer: Box::new(writer) };
        let target = Target { upload, dataset, existing, shape, keys_given, lacking };
        Ok(Put { app, caller, command, target, taking, lease, rows: 0 })
    }
}

impl Put {
    /// What it does to the rows that are there.
    #[must_use]
    pub const fn mode(&self) -> PutMode {
        self.command.mode
    }

    /// Adds rows; waits while the server holds as many as it may.
    ///
    /// # Errors
    /// A value that does not fit, a key that is there twice, more rows than the
    /// command said, a lost lease.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), ServiceError> {
        self.lease.check()?;
        self.rows += batch.num_rows() as u64;
        if let PutRows::Known(rows) = self.command.rows
            && self.rows > rows
        {
            return Err(self.incomplete(rows));
        }
        let (mode, key) = (self.command.mode, &self.target.shape.key);
        match &mut self.taking {
            Taking::Rows { incoming, writer } => {
                for piece in pieces(&batch) {
                    let incoming = Arc::clone(incoming);
                    let shaped = tokio::task::spawn_blocking(move || incoming.shape(&piece)).await;
                    let shaped = shaped.map_err(|error| {
                        ServiceError::internal("a batch could not be shaped").caused_by(error)
                    })??;
                    let said = |error| in_words_of(mode, key.as_ref(), error);
                    writer.write(shaped).await.map_err(said)?;
                }
                Ok(())
            }
            Taking::Keys { .. } => self.write_keys(&batch).await,
            Taking::Done => Err(ServiceError::internal("the put is finished")),
        }
    }

    /// Keeps the keys of rows that are to go.
    async fn write_keys(&mut self, batch: &RecordBatch) -> Result<(), ServiceError> {
        let given = given_keys(&self.target.shape, batch)?;
        let more = self.app.buffers.take(given.get_array_memory_size()).await?;
        if let Taking::Keys { keys, held } = &mut self.taking {
            keys.push(given);
            match held {
                Some(held) => held.merge(more),
                None => *held = Some(more),
            }
        }
        Ok(())
    }

    fn incomplete(&self, said: u64) -> ServiceError {
        let message = format!("the command says {said} and {} came: nothing was stored", self.rows);
        ServiceError::invalid("rows", message).reason("PUT_INCOMPLETE")
    }

    /// Commits what came. `last_metadata` is that of the last message,
    /// `body_hash` tells retries under one idempotency key apart.
    ///
    /// # Errors
    /// Fewer rows than was said; a key that exists; a conflict that does not
    /// settle. Then nothing is stored.
    pub async fn finish(
        mut self,
        last_metadata: &[u8],
        body_hash: Vec<u8>,
    ) -> Result<PutDone, ServiceError> {
        let said = match self.command.rows {
            PutRows::Unknown => None,
            PutRows::Known(rows) => Some(rows),
            PutRows::Trailing => Some(trailing_rows(last_metadata)?),
        };
        if let Some(said) = said.filter(|said| *said != self.rows) {
            return Err(self.incomplete(said));
        }
        let (blocks, keys, held) = match std::mem::replace(&mut self.taking, Taking::Done) {
            Taking::Rows { writer, .. } => {
                let (mode, key) = (self.command.mode, self.target.shape.key.as_ref());
                let written = writer.finish().await;
                (written.map_err(|error| in_words_of(mode, key, error))?, Vec::new(), None)
            }
            Taking::Keys { keys, held } => (Vec::new(), distinct(keys)?, held),
            Taking::Done => return Err(ServiceError::internal("the put is finished")),
        };
        self.lease.check()?;
        let (command, target) = (&self.command, &self.target);
        let commit = Commit { command, target, blocks: &blocks, keys: &keys, body_hash };
        let done = self.app.commit(&self.caller, commit).await?;
        let is_delete = command.mode == PutMode::Delete;
        let rows = if is_delete { done.affected_rows } else { self.rows };
        drop(held);
        self.lease.done();
        if !self.command.upload_id.is_empty() {
            self.publish_media().await;
        }
        Ok(PutDone {
            dataset: self.command.address.to_string(),
            version: done.version.number,
            snapshot: done.version.snapshot,
            rows,
        })
    }

    /// The rows are there whatever happens here: a download finds out by itself
    /// that an upload has committed.
    async fn publish_media(&self) {
        if let Err(error) = self.app.store.commit_media(self.target.upload).await {
            tracing::warn!(upload = %self.target.upload, %error, "the media of a commit could not be marked");
        }
    }
}

/// Refuses a mode that needs a key where there is none.
fn check_mode(
    command: &PutCommand,
    existing: Option<&Opened>,
    shape: &NewShape,
    put: &Schema,
) -> Result<(), ServiceError> {
    if !matches!(command.mode, PutMode::Upsert | PutMode::Delete) {
        return Ok(());
    }
    let Some(key) = &shape.key else {
        let message =
            format!("mode: {} has no key column; use append or overwrite", command.address);
        return Err(ServiceError::precondition(message).reason("NO_KEY").field("mode"));
    };
    if command.mode == PutMode::Upsert {
        return Ok(());
    }
    if existing.is_none() {
        return Err(ServiceError::not_found("dataset", &command.address));
    }
    if put.field_with_name(key).is_err() {
        return Err(ServiceError::invalid(key, "is missing: a delete needs the keys of its rows"));
    }
    Ok(())
}

/// The keys of a batch in the dataset's type and spelling.
fn given_keys(shape: &NewShape, batch: &RecordBatch) -> Result<ArrayRef, ServiceError> {
    let name = shape.key.as_deref().unwrap_or_default();
    let internal = |_| ServiceError::internal("the key column is not in the schema");
    let field = shape.schema.field_with_name(name).map_err(internal)?;
    let column = batch.column_by_name(name);
    let column = column.ok_or_else(|| ServiceError::invalid(name, "is missing"))?;
    if column.null_count() > 0 {
        return Err(
            ServiceError::invalid(name, "holds a null; every row needs a key").reason("KEY_NULL")
        );
    }
    item_shape::keys(column, field, shape.profile)
}

/// Each key once: a client may name a row twice.
fn distinct(keys: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, ServiceError> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(keys.len());
    for column in keys {
        let once: Vec<bool> =
            row_delta::keys_of(&column)?.into_iter().map(|key| seen.insert(key)).collect();
        let once = arrow::array::BooleanArray::from(once);
        kept.push(
            arrow::compute::filter(&column, &once)
                .map_err(|error| ServiceError::internal(format!("keys: {error}")))?,
        );
    }
    Ok(kept)
}

/// The shape that a dataset has; what the command says of a new one must agree.
fn shape_of(opened: &Opened, command: &PutCommand) -> Result<NewShape, ServiceError> {
    let profile = if opened.items_profile { Profile::Items } else { Profile::Table };
    if command.profile.is_some_and(|wanted| wanted != profile) {
        return Err(ServiceError::invalid(
            "profile",
            "the dataset exists and has the other profile; leave it out",
        ));
    }
    if !command.key_column.is_empty() && command.key_column != opened.key {
        let message =
            format!("the dataset exists and its key column is {:?}; leave it out", opened.key);
        return Err(ServiceError::invalid("key_column", message));
    }
    if !command.unique_columns.is_empty() && command.unique_columns != opened.unique {
        let message = format!("it has {:?}; leave them out, or set these first", opened.unique);
        return Err(ServiceError::invalid("unique_columns", message));
    }
    let key = Some(opened.key.clone()).filter(|key| !key.is_empty());
    Ok(NewShape { profile, schema: SchemaRef::clone(&opened.schema), key })
}

struct Place {
    upload: UploadId,
    dataset: Uuid,
    head: Option<Head>,
    /// Seconds since 1970.
    expires_at: i64,
}

impl App {
    /// The upload that the command names, or a new one.
    async fn place(&self, caller: &Caller, command: &PutCommand) -> Result<Place, ServiceError> {
        let broken =
            |what: &str| ServiceError::internal(format!("the catalog answered a malformed {what}"));
        if command.upload_id.is_empty() {
            let opened = self.catalog.open_upload(caller, by_name(&command.address)).await?;
            return Ok(Place {
                upload: opened.upload_id.parse().map_err(|_| broken("upload id"))?,
                dataset: Uuid::try_parse(&opened.dataset_id).map_err(|_| broken("dataset id"))?,
                head: opened.head,
                expires_at: opened.expire_time.map_or(0, |time| time.seconds),
            });
        }
        let id: UploadId =
            command.upload_id.parse().map_err(|error| ServiceError::invalid("upload_id", error))?;
        let upload = self.store.upload(id, caller.principal).await?;
        if upload.address != command.address.to_string() {
            let message = format!("the upload was opened for {}", upload.address);
            return Err(ServiceError::invalid("upload_id", message));
        }
        let expires_at = self.catalog.renew_upload(caller, id).await?;
        let head = match self.catalog.head(caller, by_name(&command.address), None).await {
            Ok(head) => Some(head),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        let named =
            head.as_ref().and_then(|head| head.dataset.as_ref()).map(|dataset| dataset.id.as_str());
        if named.is_some_and(|id| id != upload.dataset.to_string()) {
            let message = "the dataset was made by somebody else since the upload was opened; open another upload";
            return Err(ServiceError::precondition(message).reason("UPLOAD_OF_ANOTHER_DATASET"));
        }
        Ok(Place { upload: id, dataset: upload.dataset.uuid(), head, expires_at })
    }
}
