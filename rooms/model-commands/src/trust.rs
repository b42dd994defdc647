//! `quarry models scan`, `inspect`, `signature` and `signing-keys`: what can be
//! known of a model before it is loaded.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use models_api::v1 as api;
use quarry_client::failure::Failure;
use quarry_client::output::{Column, column, message_json};
use quarry_client::page::Page;
use serde_json::{Value as Json, json};

use crate::{Context, VersionName};

const FILES: [Column; 5] = [
    column("path", "path"),
    column("verdict", "verdict"),
    column("format", "format"),
    column("reason", "reason"),
    column("finding", "finding"),
];
const TENSORS: [Column; 4] = [
    column("tensor", "name"),
    column("type", "type"),
    column("shape", "shape"),
    column("parameters", "parameter_count"),
];
const SIGNATURES: [Column; 5] = [
    column("id", "id"),
    column("verified", "verified"),
    column("key", "key_fingerprint"),
    column("message", "message"),
    column("added", "create_time"),
];
const KEYS: [Column; 5] = [
    column("fingerprint", "fingerprint"),
    column("name", "name"),
    column("kind", "kind"),
    column("identity", "identity"),
    column("added", "create_time"),
];

/// What `quarry models scan` is asked.
#[derive(Debug, Args)]
pub struct ScanArgs {
    #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
    version: VersionName,
    /// Only say what is known already, of all files by pages
    #[arg(long)]
    known: bool,
    #[command(flatten)]
    page: Page,
}

/// What `quarry models inspect` is asked.
#[derive(Debug, Args)]
pub struct InspectArgs {
    #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
    version: VersionName,
    /// A safetensors, GGUF or ONNX file of it
    path: String,
    /// Tensors of a page
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    page_size: i32,
    /// Goes on where a page ended
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
}

/// What `quarry models signature` does.
#[derive(Debug, Subcommand)]
pub enum SignatureCommand {
    /// Keep a signature that `model_signing sign` made of the version's files
    Add {
        #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
        version: VersionName,
        /// The signature: a file here, e.g. model.sig
        #[arg(conflicts_with = "file", required_unless_present = "file")]
        path: Option<PathBuf>,
        /// A file of the version itself
        #[arg(long, value_name = "PATH")]
        file: Option<String>,
    },
    /// The signatures of a version
    List {
        #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
        version: VersionName,
    },
    /// Verify them again with the keys that are trusted now; fails if none holds
    Verify {
        #[arg(value_name = "NAMESPACE/MODEL[@VERSION]")]
        version: VersionName,
    },
}

/// What `quarry models signing-keys` does.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Trust a public key (ECDSA P-256 or P-384) or a root certificate, in PEM, or
    /// an identity that signs without a key
    Add {
        namespace: String,
        #[arg(required_unless_present = "sigstore_root", conflicts_with = "sigstore_root")]
        path: Option<PathBuf>,
        /// The trusted_root.json of a Sigstore, to trust an identity
        #[arg(long, value_name = "FILE", requires_all = ["identity", "identity_provider"])]
        sigstore_root: Option<PathBuf>,
        /// The e-mail address or URI that signs
        #[arg(long, requires = "sigstore_root")]
        identity: Option<String>,
        /// The OpenID Connect issuer that vouches for it, e.g. https://accounts.google.com
        #[arg(long, value_name = "URL", requires = "sigstore_root")]
        identity_provider: Option<String>,
        /// A name for it
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Whom a namespace trusts
    List { namespace: String },
    /// Trust it no longer: what it vouched for counts no longer
    Remove { namespace: String, fingerprint: String },
}

/// `quarry models scan`.
pub async fn scan(context: &Context<'_>, args: ScanArgs) -> Result<(), Failure> {
    let VersionName { of, version } = args.version;
    let (namespace, model) = (of.namespace, of.model);
    let (page_size, page_token) = args.page.parts();
    if !args.known && (page_size != 0 || !page_token.is_empty()) {
        return Err(Failure::usage("--limit and --page-token go with --known"));
    }
    let mut client = context.client().model_trust();
    let json = if args.known {
        let request = api::GetScanRequest { namespace, model, version, page_size, page_token };
        let answer = client.get_scan(request).await?.into_inner();
        message_json("quarry.models.v1.GetScanResponse", &answer)?
    } else {
        let request = api::ScanVersionRequest { namespace, model, version };
        let answer = client.scan_version(request).await?.into_inner();
        message_json("quarry.models.v1.ScanVersionResponse", &answer)?
    };
    context.output.message(&with_first_finding(json), "files", &FILES)
}

/// For the table: what is worst of a file.
fn with_first_finding(mut json: Json) -> Json {
    for file in json["files"].as_array_mut().into_iter().flatten() {
        let findings = file["findings"].as_array();
        let worst = findings.into_iter().flatten().find(|of| of["severity"] == file["verdict"]);
        let (reason, message) = match worst {
            Some(worst) => (worst["reason"].clone(), worst["message"].clone()),
            None => (json!(""), json!("")),
        };
        file["reason"] = reason;
        file["finding"] = message;
    }
    json
}

/// `quarry models inspect`.
pub async fn inspect(context: &Context<'_>, args: InspectArgs) -> Result<(), Failure> {
    let VersionName { of, version } = args.version;
    let request = api::InspectFileRequest {
        namespace: of.namespace,
        model: of.model,
        version,
        path: args.path,
        page_size: args.page_size,
        page_token: args.page_token,
    };
    let answer = context.client().model_trust().inspect_file(request).await?.into_inner();
    let json = message_json("quarry.models.v1.InspectFileResponse", &answer)?;
    context.output.message(&json, "tensors", &TENSORS)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

impl SignatureCommand {
    /// Asks the model registry.
    pub async fn run(self, context: &Context<'_>) -> Result<(), Failure> {
        let mut client = context.client().model_trust();
        match self {
            Self::Add { version: VersionName { of, version }, path, file } => {
                let bundle = path.as_deref().map(read).transpose()?.unwrap_or_default();
                let request = api::AddSignatureRequest {
                    namespace: of.namespace,
                    model: of.model,
                    version,
                    bundle,
                    path: file.unwrap_or_default(),
                };
                let answer = client.add_signature(request).await?.into_inner();
                let json = message_json("quarry.models.v1.AddSignatureResponse", &answer)?;
                context.output.message(&json, "signature", &SIGNATURES)
            }
            Self::List { version: VersionName { of, version } } => {
                let request = api::ListSignaturesRequest {
                    namespace: of.namespace,
                    model: of.model,
                    version,
                    bundle_of: String::new(),
                };
                let answer = client.list_signatures(request).await?.into_inner();
                let json = message_json("quarry.models.v1.ListSignaturesResponse", &answer)?;
                context.output.message(&json, "signatures", &SIGNATURES)
            }
            Self::Verify { version: VersionName { of, version } } => {
                let request = api::VerifySignaturesRequest {
                    namespace: of.namespace,
                    model: of.model,
                    version,
                };
                let answer = client.verify_signatures(request).await?.into_inner();
                let json = message_json("quarry.models.v1.VerifySignaturesResponse", &answer)?;
                context.output.message(&json, "signatures", &SIGNATURES)
            }
        }
    }
}

impl KeysCommand {
    /// Asks the model registry.
    pub async fn run(self, context: &Context<'_>) -> Result<(), Failure> {
        let mut client = context.client().model_trust();
        match self {
            Self::Add { namespace, path, sigstore_root, identity, identity_provider, name } => {
                let text = |path: Option<PathBuf>| {
                    let bytes = path.as_deref().map(read).transpose()?.unwrap_or_default();
                    Ok::<_, Failure>(String::from_utf8_lossy(&bytes).into_owned())
                };
                let request = api::AddSigningKeyRequest {
                    namespace,
                    name,
                    pem: text(path)?,
                    trusted_root: text(sigstore_root)?,
                    identity: identity.unwrap_or_default(),
                    identity_provider: identity_provider.unwrap_or_default(),
                };
                let answer = client.add_signing_key(request).await?.into_inner();
                let json = message_json("quarry.models.v1.AddSigningKeyResponse", &answer)?;
                context.output.message(&json, "key", &KEYS)
            }
            Self::List { namespace } => {
                let request = api::ListSigningKeysRequest { namespace };
                let answer = client.list_signing_keys(request).await?.into_inner();
                let json = message_json("quarry.models.v1.ListSigningKeysResponse", &answer)?;
                context.output.message(&json, "keys", &KEYS)
            }
            Self::Remove { namespace, fingerprint } => {
                let request = api::DeleteSigningKeyRequest { namespace, fingerprint };
                let answer = client.delete_signing_key(request).await?.into_inner();
                let json = message_json("quarry.models.v1.DeleteSigningKeyResponse", &answer)?;
                super::said(context, &json)
            }
        }
    }
}
