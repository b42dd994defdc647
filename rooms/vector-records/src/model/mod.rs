//! What a space, a point and a question are, and the rules that need no database.

mod address;
mod generation;
mod image;
mod space;

pub use address::Address;
pub use generation::{
    COMPLETED, CachedModel, Ending, Example, FAILED, Generation, RUNNING, RagStatistics, assemble,
};
pub use image::Image;
use service_error::ServiceError;
pub use space::{
    NewSpace, Owner, Space, check_embedder, element_code, metric_code, settings_of_codes,
};
pub use vector_questions::{
    Ask, Consistency, DEPTH_MAX, Diversity, Explain, Found, FusionMethod, Grouping, IndexFailure,
    K_DEFAULT, Match, OwnedVector, PREFETCH_MAX, Prefetch, Question, Recommend, SearchResult, Stop,
    fuse,
};

/// The most points of one write.
pub const BATCH_POINTS_MAX: usize = 1_000;
/// The most items of one deletion.
pub const DELETE_ITEMS_MAX: usize = 10_000;
/// The longest item id, in bytes.
pub const ITEM_ID_BYTES_MAX: usize = 512;

/// Refuses the one character that only one of the databases keeps.
///
/// # Errors
/// `InvalidArgument` naming the field.
pub fn no_nul(field: &str, text: &str) -> Result<(), ServiceError> {
    if text.contains('\0') {
        return Err(ServiceError::invalid(field, "holds a NUL character"));
    }
    Ok(())
}
