//! OpenSSF model-signing bundles: what is signed, by whom, and whether it is
//! what lies here.

mod anchor;
mod bundle;
mod der;
mod sigstore;
mod statement;

#[cfg(test)]
mod tests;

pub use anchor::{Anchor, AnchorKind};
pub use bundle::{Bundle, Signer};
pub use sigstore::{KeylessError, ROOT_BYTES_MAX, Sigstore};
pub use statement::Resource;

/// Why a bundle or an anchor is of no use. Each is told to whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It can't be read.
    #[error("{0}")]
    Malformed(String),
    /// It is of a kind that is not verified here.
    #[error("{0}")]
    Unsupported(String),
    /// It is of other files.
    #[error("{0}")]
    OtherFiles(String),
    /// None of the anchors is its signer's.
    #[error("{0}")]
    UnknownSigner(String),
    /// The signature is wrong, or its certificate is.
    #[error("{0}")]
    Wrong(String),
    /// It was signed without a key, and a part of it does not hold.
    #[error("{0}")]
    Keyless(KeylessError),
}

impl SignatureError {
    /// Whether it says no more than that nobody who is trusted signed: who is
    /// trusted later may have.
    #[must_use]
    pub const fn is_stranger(&self) -> bool {
        match self {
            Self::UnknownSigner(_) => true,
            Self::Keyless(error) => error.is_stranger(),
            _ => false,
        }
    }
}

fn malformed(message: impl Into<String>) -> SignatureError {
    SignatureError::Malformed(message.into())
}
