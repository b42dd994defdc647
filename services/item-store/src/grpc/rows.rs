//! Rows that go to the caller without being copied into tonic's buffers.

use std::sync::{Arc, Mutex, PoisonError};

use http::Response;
use tonic::body::Body;

/// In a response's extensions: the body that it gets in place of tonic's.
#[derive(Clone)]
pub(super) struct Rows(Arc<Mutex<Option<Body>>>);

impl Rows {
    pub fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }
}

/// A response with the rows that it carries.
pub(super) fn sent(mut response: Response<Body>) -> Response<Body> {
    let Some(Rows(rows)) = response.extensions_mut().remove::<Rows>() else { return response };
    let rows = rows.lock().unwrap_or_else(PoisonError::into_inner).take();
    response.map(|body| rows.unwrap_or(body))
}
