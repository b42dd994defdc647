//! `google.api.HttpBody`: bytes with a content type, which the JSON lane
//! passes on as they are.

/// Bytes of any content type; wire-compatible with `google.api.HttpBody`
/// (`extensions`, which Quarry never sets, is left out).
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct HttpBody {
    /// MIME type of `data`.
    #[prost(string, tag = "1")]
    pub content_type: String,
    /// A part of the body.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: prost::bytes::Bytes,
}
