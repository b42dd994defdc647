//! What can be known of a model's file without loading it: the tensors that its
//! header names, and what a loader would run.

pub mod headers;
pub mod scan;
pub mod source;

#[cfg(test)]
mod tests;

pub use headers::{Format, Header, HeaderError, Tensor, read_header};
pub use scan::{Finding, Limits, Report, SCANNER_VERSION, Verdict, ending, scan};
pub use source::RangeReader;
