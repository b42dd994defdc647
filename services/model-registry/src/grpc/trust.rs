//! `quarry.models.v1.TrustService`.

use models_api::v1 as wire;
use models_api::v1::trust_service_server::TrustService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::versions::{place, verdict_to_wire};
use super::{answer, timestamp};
use crate::app::{
    AnchorKind, AnchorSource, BundleSource, Registry, SCANNER_VERSION, Tensor, stored_anchor,
};
use crate::model::{FileScan, Signature, SigningKey};

const TENSORS_DEFAULT: i32 = 1_000;
const TENSORS_MAX: u32 = 10_000;
/// Files of a page: each may have a hundred findings.
const FILES_MAX: u32 = 100;

/// The service over the use cases.
pub struct Trust(pub Registry);

#[tonic::async_trait]
impl TrustService for Trust {
    async fn inspect_file(
        &self,
        request: Request<wire::InspectFileRequest>,
    ) -> Result<Response<wire::InspectFileResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = if asked.page_size == 0 { TENSORS_DEFAULT } else { asked.page_size };
            let size = paging::page_size(size, TENSORS_MAX)?;
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let found = self.0.inspect_file(&caller, &path, &which, &asked.path).await?;
            // The bytes, not the version: an alias may move between two pages.
            let digest = hex::encode(found.file.digest);
            let list = format!("tensors:{digest}");
            let begin: usize = paging::key(&list, &asked.page_token)?.unwrap_or_default();
            let header = found.header;
            let count = header.tensors.len();
            let end = begin.saturating_add(size as usize).min(count);
            let next_page_token =
                if end < count { paging::token(&list, &end) } else { String::new() };
            let first = begin == 0;
            let tensors = header.tensors.into_iter().take(end).skip(begin);
            let values =
                |all: Vec<Tensor>| all.into_iter().filter(|_| first).map(tensor_to_wire).collect();
            Ok::<_, ServiceError>(wire::InspectFileResponse {
                format: header.format.name().to_owned(),
                tensors: tensors.map(tensor_to_wire).collect(),
                tensor_count: number(count as u64),
                parameter_count: number(header.parameters),
                metadata: header.metadata.into_iter().filter(|_| first).collect(),
                inputs: values(header.inputs),
                outputs: values(header.outputs),
                next_page_token,
                digest,
                byte_count: found.file.byte_count,
            })
        };
        answer(page.await)
    }

    async fn scan_version(
        &self,
        request: Request<wire::ScanVersionRequest>,
    ) -> Result<Response<wire::ScanVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let scanned = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            self.0.scan_version(&caller, &path, &which).await
        };
        answer(scanned.await.map(|done| wire::ScanVersionResponse {
            verdict: verdict_to_wire(done.verdict).into(),
            scanner_version: SCANNER_VERSION,
            file_count: done.file_count,
            scanned_count: done.scanned_count,
            unclean_count: done.unclean_count,
            files: done.worst.into_iter().map(file_to_wire).collect(),
        }))
    }

    async fn get_scan(
        &self,
        request: Request<wire::GetScanRequest>,
    ) -> Result<Response<wire::GetScanResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, FILES_MAX)?;
            let list = format!("scan:{}/{}/{}", asked.namespace, asked.model, asked.version);
            let after: Option<String> = paging::key(&list, &asked.page_token)?;
            let after = after.unwrap_or_default();
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let found = self.0.get_scan(&caller, &path, &which, &after, size + 1).await?;
            let (verdict, files, job) = found;
            let (files, next_page_token) =
                paging::cut(files, size, &list, |last: &FileScan| last.file.path.clone());
            Ok::<_, ServiceError>(wire::GetScanResponse {
                verdict: verdict_to_wire(verdict).into(),
                scanner_version: SCANNER_VERSION,
                files: files.into_iter().map(file_to_wire).collect(),
                next_page_token,
                job: job.unwrap_or_default(),
            })
        };
        answer(page.await)
    }

    async fn add_signing_key(
        &self,
        request: Request<wire::AddSigningKeyRequest>,
    ) -> Result<Response<wire::AddSigningKeyResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let added = async {
            let source = anchor_source(&asked)?;
            let added = self.0.add_signing_key(&caller, &asked.namespace, &asked.name, source);
            key_to_wire(added.await?)
        };
        answer(added.await.map(|key| wire::AddSigningKeyResponse { key: Some(key) }))
    }

    async fn list_signing_keys(
        &self,
        request: Request<wire::ListSigningKeysRequest>,
    ) -> Result<Response<wire::ListSigningKeysResponse>, Status> {
        let caller = caller::of(&request)?;
        let keys = self.0.signing_keys(&caller, &request.into_inner().namespace).await;
        let keys = keys.and_then(|keys| keys.into_iter().map(key_to_wire).collect());
        answer(keys.map(|keys| wire::ListSigningKeysResponse { keys }))
    }

    async fn delete_signing_key(
        &self,
        request: Request<wire::DeleteSigningKeyRequest>,
    ) -> Result<Response<wire::DeleteSigningKeyResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let deleted =
            self.0.delete_signing_key(&caller, &asked.namespace, &asked.fingerprint).await;
        answer(
            deleted.map(|count| wire::DeleteSigningKeyResponse { signature_count: number(count) }),
        )
    }

    async fn add_signature(
        &self,
        request: Request<wire::AddSignatureRequest>,
    ) -> Result<Response<wire::AddSignatureResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let added = async {
            let source = match (asked.bundle.is_empty(), asked.path.is_empty()) {
                (false, true) => BundleSource::Bytes(asked.bundle),
                (true, false) => BundleSource::File(asked.path),
                _ => {
                    let message = "send a bundle, or name a file of the version that is one";
                    return Err(ServiceError::invalid("bundle", message));
                }
            };
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            self.0.add_signature(&caller, &path, &which, source).await
        };
        answer(added.await.map(|signature| wire::AddSignatureResponse {
            signature: Some(signature_to_wire(signature, false)),
        }))
    }

    async fn list_signatures(
        &self,
        request: Request<wire::ListSignaturesRequest>,
    ) -> Result<Response<wire::ListSignaturesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let listed = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            self.0.signatures(&caller, &path, &which).await
        };
        answer(listed.await.map(|all| {
            wire::ListSignaturesResponse {
                signatures: all
                    .into_iter()
                    .map(|signature| {
                        let with_bundle = signature.id.to_string() == asked.bundle_of;
                        signature_to_wire(signature, with_bundle)
                    })
                    .collect(),
            }
        }))
    }

    async fn verify_signatures(
        &self,
        request: Request<wire::VerifySignaturesRequest>,
    ) -> Result<Response<wire::VerifySignaturesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let verified = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            self.0.verify_signatures(&caller, &path, &which).await
        };
        answer(verified.await.map(|all| wire::VerifySignaturesResponse {
            signatures: all.into_iter().map(|of| signature_to_wire(of, false)).collect(),
        }))
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn tensor_to_wire(tensor: Tensor) -> wire::Tensor {
    wire::Tensor {
        name: tensor.name,
        r#type: tensor.kind,
        shape: tensor.shape,
        parameter_count: number(tensor.parameters),
        byte_count: number(tensor.bytes),
    }
}

fn file_to_wire(of: FileScan) -> wire::FileScan {
    let verdict = verdict_to_wire(of.verdict()).into();
    let scan = of.scan;
    wire::FileScan {
        path: of.file.path,
        digest: hex::encode(of.file.digest),
        verdict,
        scanner_version: if scan.is_some() { SCANNER_VERSION } else { 0 },
        scan_time: scan.as_ref().map(|scan| timestamp(scan.at)),
        format: scan.as_ref().map(|scan| scan.format.clone()).unwrap_or_default(),
        findings: scan
            .into_iter()
            .flat_map(|scan| scan.findings)
            .map(|finding| wire::Finding {
                severity: verdict_to_wire(finding.severity).into(),
                reason: finding.reason,
                member: finding.member,
                global: finding.global,
                offset: finding.at_byte,
                message: finding.message,
            })
            .collect(),
    }
}

fn anchor_source(asked: &wire::AddSigningKeyRequest) -> Result<AnchorSource<'_>, ServiceError> {
    let wire::AddSigningKeyRequest { pem, trusted_root, identity, identity_provider, .. } = asked;
    if !pem.is_empty()
        && [trusted_root, identity, identity_provider].iter().any(|of| !of.is_empty())
    {
        let message = "send a key or a certificate, or a trusted root with an identity";
        return Err(ServiceError::invalid("pem", message));
    }
    if trusted_root.is_empty() {
        if !identity.is_empty() || !identity_provider.is_empty() {
            let message = "an identity is verified with the trusted_root.json of a Sigstore";
            return Err(ServiceError::invalid("trusted_root", message));
        }
        return Ok(AnchorSource::Pem(pem));
    }
    Ok(AnchorSource::Sigstore { trusted_root, identity, identity_provider })
}

fn key_to_wire(key: SigningKey) -> Result<wire::SigningKey, ServiceError> {
    let anchor = stored_anchor(&key)?;
    let kind = match anchor.kind() {
        AnchorKind::Key => wire::SigningKeyKind::PublicKey,
        AnchorKind::Certificate => wire::SigningKeyKind::Certificate,
        AnchorKind::Sigstore => wire::SigningKeyKind::Sigstore,
    };
    let wire = wire::SigningKey {
        fingerprint: key.fingerprint,
        name: key.name,
        kind: kind.into(),
        create_time: Some(timestamp(key.at)),
        ..Default::default()
    };
    Ok(match anchor.as_sigstore() {
        None => wire::SigningKey { pem: key.text, ..wire },
        Some(sigstore) => wire::SigningKey {
            identity: sigstore.identity.clone(),
            identity_provider: sigstore.issuer.clone(),
            trusted_root: sigstore.trusted_root.clone(),
            ..wire
        },
    })
}

fn signature_to_wire(signature: Signature, with_bundle: bool) -> wire::Signature {
    wire::Signature {
        id: signature.id.to_string(),
        verified: signature.standing.verified,
        key_fingerprint: signature.standing.key_fingerprint,
        message: signature.standing.message,
        bundle: if with_bundle { signature.bundle } else { Vec::new() },
        create_time: Some(timestamp(signature.at)),
        added_by: signature.added_by.to_string(),
    }
}
