//! Files up and down, as they stream.

use std::ops::Range;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Response, StatusCode};
use futures::{StreamExt, TryStreamExt};
use mlflow_wire::{MlflowError, Result};
use service_error::ServiceError;

use super::artifacts::file_path;
use super::asked::Asked;
use crate::app::Pieces;
use crate::model::FileEntry;

/// A body as the registry takes it.
pub fn pieces_of(body: Body) -> Pieces {
    body.into_data_stream()
        .map_err(|error| {
            ServiceError::invalid("body", "ended before it was whole").caused_by(error)
        })
        .boxed()
}

pub async fn upload(mut asked: Asked) -> Result<Response<Body>> {
    let path = file_path(&asked)?;
    let namespace = asked.namespace().await?;
    let pieces = pieces_of(asked.take_stream());
    let registry = &asked.surface.registry;
    registry.put_tree_file(asked.caller()?, &namespace, &path, pieces).await?;
    Ok(Response::new(Body::empty()))
}

pub async fn download(asked: Asked) -> Result<Response<Body>> {
    let path = file_path(&asked)?;
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let caller = asked.caller()?;
    let Some(range) = asked.header(&RANGE).map(str::to_owned) else {
        let (entry, pieces) = registry
            .open_tree_file(caller, &namespace, &path, None)
            .await
            .map_err(absent(&path))?;
        return Ok(file(&entry, None, pieces));
    };
    let probe = registry.open_tree_file(caller, &namespace, &path, Some(0..0)).await;
    let (entry, _) = probe.map_err(absent(&path))?;
    let range = wanted(&range, entry.byte_count)?;
    let (entry, pieces) = registry
        .open_tree_file(caller, &namespace, &path, range.clone())
        .await
        .map_err(absent(&path))?;
    Ok(file(&entry, range, pieces))
}

/// A file that is not there, in MLflow's words.
pub fn absent(path: &str) -> impl Fn(ServiceError) -> MlflowError {
    move |error| match error.reason_is("FILE_NOT_FOUND") {
        true => MlflowError::missing(format!("No such artifact: '{path}'")),
        false => error.into(),
    }
}

/// The one range that a header asks for; none: the whole file.
///
/// # Errors
/// 416 for a range that lies outside.
pub fn wanted(header: &str, size: i64) -> Result<Option<Range<i64>>> {
    let outside = || {
        MlflowError::invalid(format!("The range {header} lies outside of the file's {size} bytes"))
            .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
    };
    let Some(spec) = header.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Ok(None) };
    let number = |text: &str| text.trim().parse::<i64>().ok().filter(|number| *number >= 0);
    let range = match (first.is_empty(), last.is_empty()) {
        (false, true) => number(first).ok_or_else(outside)?..size,
        (false, false) => {
            let (first, last) =
                (number(first).ok_or_else(outside)?, number(last).ok_or_else(outside)?);
            if last < first {
                return Ok(None);
            }
            first..last.saturating_add(1).min(size)
        }
        (true, false) => (size - number(last).ok_or_else(outside)?).max(0)..size,
        (true, true) => return Ok(None),
    };
    if range.start >= size { Err(outside()) } else { Ok(Some(range)) }
}

/// A file, or a range of it, as the answer.
pub fn file(entry: &FileEntry, range: Option<Range<i64>>, pieces: Pieces) -> Response<Body> {
    let size = entry.byte_count;
    let mut response = Response::new(Body::from_stream(pieces));
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    if let Some(range) = &range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(CONTENT_RANGE, value);
        }
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", hex::encode(entry.digest))) {
        headers.insert(ETAG, value);
    }
    let name: String = entry
        .path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"\"\\".contains(c) || c == ' ' { c } else { '_' })
        .collect();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_range_is_understood() {
        for (header, expected) in [
            ("bytes=0-3", Some(0..4)),
            ("bytes=5-", Some(5..10)),
            ("bytes=-4", Some(6..10)),
            ("bytes=8-100", Some(8..10)),
            ("bytes=3-1", None),
            ("bytes=0-1,3-4", None),
            ("items=0-1", None),
        ] {
            assert_eq!(wanted(header, 10).unwrap(), expected, "{header}");
        }
        for outside in ["bytes=10-", "bytes=99-100", "bytes=x-2"] {
            assert!(wanted(outside, 10).is_err(), "{outside}");
        }
    }
}
