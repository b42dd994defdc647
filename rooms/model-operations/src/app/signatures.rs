//! Signatures of versions: bundles of OpenSSF model signing, and whom a namespace
//! trusts. They are compared with the manifest; no byte of a file is read but of
//! a bundle that is one.

use caller::Caller;
use futures::StreamExt;
use ids::{EventId, NamespaceId};
pub use model_signatures::AnchorKind;
use model_signatures::{Anchor, Bundle, Resource, SignatureError};
use options_api::v1::Level;
use service_error::ServiceError;
use sql_store::now_micros;

use super::Registry;
use crate::model::name::check_text;
use crate::model::trust::BUNDLE_BYTES_MAX;
use crate::model::{
    ModelPath, ModelVersion, Signature, SigningKey, Standing, VersionRef, check_stored_path,
};

const SERVICE: &str = "quarry.models.v1.TrustService";
const NAME_BYTES_MAX: usize = 200;
const PAGE: u32 = 1_000;

/// Where a bundle comes from.
#[derive(Debug, Clone)]
pub enum BundleSource {
    Bytes(Vec<u8>),
    /// A file of the version.
    File(String),
}

/// Whom to trust.
#[derive(Debug, Clone, Copy)]
pub enum AnchorSource<'a> {
    /// A key or a root certificate.
    Pem(&'a str),
    /// Who signs in at a Sigstore: its `trusted_root.json`, the identity of the
    /// certificates, and who vouches for it.
    Sigstore { trusted_root: &'a str, identity: &'a str, identity_provider: &'a str },
}

impl AnchorSource<'_> {
    fn anchor(self) -> Result<Anchor, ServiceError> {
        match self {
            Self::Pem(pem) => {
                Anchor::parse(pem).map_err(|error| ServiceError::invalid("pem", error))
            }
            Self::Sigstore { trusted_root, identity, identity_provider } => {
                for (field, name) in
                    [("identity", identity), ("identity_provider", identity_provider)]
                {
                    if name.is_empty() {
                        let message = "say who signs, and who vouches for that";
                        return Err(ServiceError::invalid(field, message));
                    }
                }
                Anchor::sigstore(trusted_root, identity, identity_provider)
                    .map_err(|error| ServiceError::invalid("trusted_root", error))
            }
        }
    }
}

/// Reads what was kept of a key.
///
/// # Errors
/// `Internal` if it can't be read.
pub fn stored_anchor(key: &SigningKey) -> Result<Anchor, ServiceError> {
    Anchor::stored(&key.text).map_err(|error| {
        ServiceError::internal("a stored signing key can't be read").caused_by(error)
    })
}

impl Registry {
    /// Trusts a key, a root certificate or an identity in a namespace.
    ///
    /// # Errors
    /// `InvalidArgument` for what is none, `NotFound`, `PermissionDenied`.
    pub async fn add_signing_key(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
        source: AnchorSource<'_>,
    ) -> Result<SigningKey, ServiceError> {
        check_text("name", name, NAME_BYTES_MAX)?;
        let anchor = source.anchor()?;
        let action = format!("{SERVICE}/AddSigningKey");
        let id = self.namespace_for(caller, Level::Admin, namespace, &action).await?;
        let key = SigningKey {
            fingerprint: anchor.fingerprint(),
            name: name.to_owned(),
            text: anchor.text(),
            at: now_micros(),
        };
        self.store.add_signing_key((id, namespace), &key, caller.principal).await?;
        let keys = self.store.signing_keys(id).await?;
        Ok(keys.into_iter().find(|known| known.fingerprint == key.fingerprint).unwrap_or(key))
    }

    /// Whom a namespace trusts.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn signing_keys(
        &self,
        caller: &Caller,
        namespace: &str,
    ) -> Result<Vec<SigningKey>, ServiceError> {
        let action = format!("{SERVICE}/ListSigningKeys");
        let id = self.namespace_for(caller, Level::Read, namespace, &action).await?;
        self.store.signing_keys(id).await
    }

    /// Trusts a key no longer; answers how many signatures count no longer.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn delete_signing_key(
        &self,
        caller: &Caller,
        namespace: &str,
        fingerprint: &str,
    ) -> Result<u64, ServiceError> {
        let action = format!("{SERVICE}/DeleteSigningKey");
        let id = self.namespace_for(caller, Level::Admin, namespace, &action).await?;
        let gone = self.store.delete_signing_key(id, fingerprint, caller.principal).await?;
        gone.ok_or_else(|| ServiceError::not_found("signing key", fingerprint))
    }

    /// Keeps a signature that is of a version's files.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no bundle, `FailedPrecondition` for one of
    /// other files or one that does not hold, `NotFound`, `PermissionDenied`.
    pub async fn add_signature(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        source: BundleSource,
    ) -> Result<Signature, ServiceError> {
        let action = format!("{SERVICE}/AddSignature");
        let (_, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        let (field, bytes) = match source {
            BundleSource::Bytes(bytes) => ("bundle", bytes),
            BundleSource::File(file) => ("path", self.bundle_file(&version, &file).await?),
        };
        if bytes.len() > BUNDLE_BYTES_MAX {
            let message = format!("is {} bytes long: at most {BUNDLE_BYTES_MAX}", bytes.len());
            return Err(ServiceError::invalid(field, message).reason("BUNDLE_TOO_LARGE"));
        }
        let bundle = Bundle::read(&bytes).map_err(|error| refused(field, error))?;
        bundle.compare(&self.resources(&version).await?).map_err(|error| refused(field, error))?;
        let at = now_micros();
        let anchors = self.anchors(version.namespace_id).await?;
        let standing = match verified(&bundle, &anchors, at) {
            Ok(standing) => standing,
            // Whoever is trusted later may vouch for it then.
            Err(error) if error.is_stranger() => {
                Standing { message: error.to_string(), ..Standing::default() }
            }
            Err(error) => return Err(refused(field, error)),
        };
        let added_by = caller.principal;
        let signature = Signature { id: EventId::new(), bundle: bytes, standing, at, added_by };
        self.store.add_signature(&version, &signature).await?;
        let all = self.store.signatures(version.id).await?;
        let kept = all.into_iter().find(|kept| kept.bundle == signature.bundle);
        Ok(kept.unwrap_or(signature))
    }

    /// The signatures of a version.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn signatures(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
    ) -> Result<Vec<Signature>, ServiceError> {
        let action = format!("{SERVICE}/ListSignatures");
        let (_, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
        self.store.signatures(version.id).await
    }

    /// Verifies the signatures of a version with whom its namespace trusts now.
    ///
    /// # Errors
    /// `FailedPrecondition` if none holds, `NotFound`, `PermissionDenied`.
    pub async fn verify_signatures(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
    ) -> Result<Vec<Signature>, ServiceError> {
        let action = format!("{SERVICE}/VerifySignatures");
        let (_, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        let anchors = self.anchors(version.namespace_id).await?;
        let resources = self.resources(&version).await?;
        let mut standings = Vec::new();
        for signature in self.store.signatures(version.id).await? {
            let outcome = Bundle::read(&signature.bundle).and_then(|bundle| {
                bundle.compare(&resources)?;
                verified(&bundle, &anchors, signature.at)
            });
            let unverified = |error: SignatureError| Standing {
                message: error.to_string(),
                ..Standing::default()
            };
            standings.push((signature.id.uuid(), outcome.unwrap_or_else(unverified)));
        }
        self.store.set_standings(&version, &standings, caller.principal).await?;
        let now = self.store.signatures(version.id).await?;
        if now.iter().any(|signature| signature.standing.verified) {
            return Ok(now);
        }
        let why = match now.last() {
            Some(last) => format!("no signature of it holds: {}", last.standing.message),
            None => "it has no signature: add one with AddSignature".to_owned(),
        };
        Err(ServiceError::precondition(why).reason("NOT_SIGNED"))
    }

    async fn anchors(&self, namespace: NamespaceId) -> Result<Vec<Anchor>, ServiceError> {
        let keys = self.store.signing_keys(namespace).await?;
        keys.iter().map(stored_anchor).collect()
    }

    async fn resources(&self, version: &ModelVersion) -> Result<Vec<Resource>, ServiceError> {
        let mut resources = Vec::new();
        let mut after = String::new();
        loop {
            let files = self.store.version_files(version.id, &after, PAGE).await?;
            let Some(last) = files.last() else { return Ok(resources) };
            after.clone_from(&last.path);
            let resource =
                |file: crate::model::FileEntry| Resource { name: file.path, digest: file.digest };
            resources.extend(files.into_iter().map(resource));
        }
    }

    async fn bundle_file(
        &self,
        version: &ModelVersion,
        file: &str,
    ) -> Result<Vec<u8>, ServiceError> {
        check_stored_path("path", file)?;
        let entry = self.file_of(version, file).await?;
        if usize::try_from(entry.byte_count).is_ok_and(|bytes| bytes > BUNDLE_BYTES_MAX) {
            let message = format!("is {} bytes long: at most {BUNDLE_BYTES_MAX}", entry.byte_count);
            return Err(ServiceError::invalid("path", message).reason("BUNDLE_TOO_LARGE"));
        }
        let mut pieces = self.pieces(&entry, None).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }
}

/// A certificate must hold when the signature was added: when it was made nobody
/// can tell.
fn verified(bundle: &Bundle, anchors: &[Anchor], at: i64) -> Result<Standing, SignatureError> {
    let seconds = u64::try_from(at / 1_000_000).unwrap_or_default();
    let signer = bundle.verify(anchors, seconds)?;
    Ok(Standing { verified: true, key_fingerprint: signer.anchor, message: signer.certificate })
}

fn refused(field: &str, error: SignatureError) -> ServiceError {
    let message = error.to_string();
    match error {
        SignatureError::Malformed(_) => {
            ServiceError::invalid(field, message).reason("BUNDLE_MALFORMED")
        }
        SignatureError::Unsupported(_) => {
            ServiceError::invalid(field, message).reason("BUNDLE_UNSUPPORTED")
        }
        SignatureError::OtherFiles(_) => {
            let message = format!("it is not a signature of this version: {message}");
            ServiceError::precondition(message).reason("SIGNATURE_OTHER_FILES").field(field)
        }
        SignatureError::UnknownSigner(_)
        | SignatureError::Wrong(_)
        | SignatureError::Keyless(_) => {
            ServiceError::precondition(message).reason("SIGNATURE_WRONG").field(field)
        }
    }
}
