//! Addresses that need no token: a file of a version to fetch, a part of an
//! upload to send, for a while. Who was given one must still hold the right
//! when it is used, where it is used at our own door.

use std::time::Duration;

use access::{Resource, Subject};
use caller::{Caller, Secret};
use futures::StreamExt;
use ids::{ModelId, ModelVersionId, UploadId};
use options_api::v1::{Level, Role};
use service_error::ServiceError;
use sql_store::now_micros;

use super::Registry;
use super::bytes::Pieces;
use super::tickets::{Purpose, Signer, Ticket};
use crate::model::{FileEntry, ModelPath, UploadFile, UploadState, VersionRef, check_stored_path};

const SERVICE: &str = "quarry.models.v1.ArtifactsService";
/// How long an address is good unless the caller says.
const SECONDS_DEFAULT: i64 = 15 * 60;
const SECONDS_MAX: i64 = 12 * 3_600;
const PARTS_MAX: usize = 1_000;
/// Where tickets are taken, below the public door.
const SIGNED: &str = "/api/2.0/mlflow-artifacts/signed";

/// An address and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFile {
    /// Of the store, or a path below the public door.
    pub address: String,
    /// Microseconds UTC.
    pub expires_at: i64,
    /// The store's own: nobody is asked again.
    pub direct: bool,
    pub entry: FileEntry,
}

/// Addresses of parts, each with its part, and their end.
pub type SignedParts = (Vec<(i64, String)>, i64);

impl Registry {
    /// An address from which a file of a version can be fetched.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a time that is too long.
    pub async fn sign_download(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        file: &str,
        seconds: i64,
    ) -> Result<SignedFile, ServiceError> {
        check_stored_path("path", file)?;
        let lasts = lasts(seconds)?;
        let action = format!("{SERVICE}/SignDownload");
        let (model, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
        let entry = self.file_of(&version, file).await?;
        let expires_at = now_micros().saturating_add(lasts.saturating_mul(1_000_000));
        if let Some(address) = self.address_in_store(&entry, lasts).await? {
            return Ok(SignedFile { address, expires_at, direct: true, entry });
        }
        let purpose = Purpose::VersionFile {
            signer: signer(caller),
            model: model.id,
            version: version.id,
            path: file.to_owned(),
        };
        let address = self.ticket_address(&Ticket::until(purpose, expires_at)).await?;
        Ok(SignedFile { address, expires_at, direct: false, entry })
    }

    /// The store's own address of a file that is one object.
    async fn address_in_store(
        &self,
        entry: &FileEntry,
        seconds: i64,
    ) -> Result<Option<String>, ServiceError> {
        if !self.settings.direct_downloads {
            return Ok(None);
        }
        let Some(blob) = self.store.blob(&entry.digest).await? else { return Ok(None) };
        let segments = self.store.segments(blob.generation).await?;
        let [only] = segments.as_slice() else { return Ok(None) };
        if only.object_key.is_empty() {
            return Ok(None);
        }
        let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        self.store.blobs().signed_url(&only.object_key, lasts).await
    }

    /// Addresses to which parts of a file of an upload can be sent.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument`, `FailedPrecondition` if the upload is no
    /// longer open.
    pub async fn sign_parts(
        &self,
        caller: &Caller,
        id: UploadId,
        file: i64,
        parts: &[i32],
        seconds: i64,
    ) -> Result<SignedParts, ServiceError> {
        if parts.is_empty() || parts.len() > PARTS_MAX {
            let message = format!("names {} parts: 1 to {PARTS_MAX}", parts.len());
            return Err(ServiceError::invalid("parts", message));
        }
        let lasts = lasts(seconds)?;
        let upload = self.upload_of(caller, id).await?;
        if upload.state != UploadState::Open {
            let message = format!("upload {id} is no longer open: begin another one");
            return Err(ServiceError::precondition(message).reason("UPLOAD_ENDED"));
        }
        let files = self.store.upload_files(id).await?;
        let found = usize::try_from(file).ok().and_then(|at| files.get(at));
        let count = found.map(UploadFile::part_count).ok_or_else(|| {
            ServiceError::invalid("file", format!("{file} is none of the {} files", files.len()))
        })?;
        let expires_at = now_micros().saturating_add(lasts.saturating_mul(1_000_000));
        let mut signed = Vec::with_capacity(parts.len());
        for part in parts.iter().map(|part| i64::from(*part)) {
            if !(0..count).contains(&part) {
                let message = format!("{part} is none of the {count} parts");
                return Err(ServiceError::invalid("parts", message));
            }
            let purpose = Purpose::UploadPart { signer: signer(caller), upload: id, file, part };
            let ticket = Ticket::until(purpose, expires_at);
            signed.push((part, self.ticket_address(&ticket).await?));
        }
        Ok((signed, expires_at))
    }

    /// The address of a ticket, below the public door.
    ///
    /// # Errors
    /// The database's, where the key is.
    pub async fn ticket_address(&self, ticket: &Ticket) -> Result<String, ServiceError> {
        let key = self.signing_secret().await?;
        let sealed = ticket.seal(&key);
        let sealed = sealed.ok_or_else(|| ServiceError::internal("the key of tickets is none"))?;
        Ok(format!("{SIGNED}/{sealed}"))
    }

    /// What a ticket is good for; nothing if it was not sealed here or ended.
    ///
    /// # Errors
    /// The database's, where the key is.
    pub async fn redeem(&self, ticket: &str) -> Result<Option<Purpose>, ServiceError> {
        let key = self.signing_secret().await?;
        Ok(Ticket::open(ticket, &key).map(Ticket::into_purpose))
    }

    /// The file of a ticket, if its signer may still read it.
    ///
    /// # Errors
    /// `NotFound`, `Unauthenticated` for a signer that is disabled or whose
    /// token was revoked.
    pub async fn redeem_file(
        &self,
        signer: Signer,
        model: ModelId,
        version: ModelVersionId,
        path: &str,
    ) -> Result<FileEntry, ServiceError> {
        let gone = || ServiceError::not_found("file", path);
        let found = self.store.find_model_by_id(model).await?.ok_or_else(gone)?;
        if found.deleted_at.is_some() {
            return Err(gone());
        }
        let chain = [Resource::model(model.uuid()), Resource::namespace(found.namespace_id.uuid())];
        let action = format!("{SERVICE}/SignDownload");
        let subject = Subject { kind: "file", name: path, action: &action };
        self.grants.require_now(&as_caller(signer), Level::Read, &chain, subject).await?;
        let version = self.store.find_live_version(version).await?.ok_or_else(gone)?;
        self.file_of(&version, path).await
    }

    /// Takes the part of a ticket, if its signer may still write there.
    ///
    /// # Errors
    /// As [`Registry::begin_part`] and [`Registry::end_part`], or the stream's
    /// own.
    pub async fn redeem_part(
        &self,
        signer: Signer,
        id: UploadId,
        (file, part): (i64, i64),
        mut pieces: Pieces,
    ) -> Result<(), ServiceError> {
        let caller = as_caller(signer);
        let upload = self.upload_of(&caller, id).await?;
        let chain = [Resource::namespace(upload.namespace.uuid())];
        let action = format!("{SERVICE}/SignParts");
        let name = id.to_string();
        let subject = Subject { kind: "upload", name: &name, action: &action };
        self.grants.require_now(&caller, Level::Write, &chain, subject).await?;
        let mut incoming = self.begin_part(&caller, id, file, part).await?;
        while let Some(piece) = pieces.next().await {
            let written = match piece {
                Ok(piece) => incoming.write(piece).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                incoming.abort().await;
                return Err(error);
            }
        }
        self.end_part(incoming, None).await.map(drop)
    }
}

fn lasts(seconds: i64) -> Result<i64, ServiceError> {
    match seconds {
        0 => Ok(SECONDS_DEFAULT),
        1..=SECONDS_MAX => Ok(seconds),
        _ => {
            let message = format!("{seconds} is not within 1 and {SECONDS_MAX}");
            Err(ServiceError::invalid("seconds", message))
        }
    }
}

const fn signer(caller: &Caller) -> Signer {
    Signer { principal: caller.principal, token: caller.token }
}

/// The signer as decisions take it; its role is identity's to say.
fn as_caller(signer: Signer) -> Caller {
    Caller {
        principal: signer.principal,
        name: String::new(),
        role: Role::User,
        read_only: false,
        token: signer.token,
        actor: None,
        service: false,
        jwt: Secret::new(String::new()),
        expires_at: 0,
    }
}
