//! Errors as JSON: the status object of google.rpc, whole where its details
//! are known and without them where they are not.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, pb};

use prost::Message;

/// The answer to a failed call: the HTTP status that says the same, and
/// `{"error":{"code","status","message","details"}}`.
#[must_use]
pub fn error_response(status: &Status) -> Response<Body> {
    error_response_as(
        StatusCode::from_u16(http_status(status.code()))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        status,
    )
}

/// The same under another HTTP status, for failures that HTTP names more
/// closely than gRPC does (405, 413).
#[must_use]
pub fn error_response_as(http: StatusCode, status: &Status) -> Response<Body> {
    let body = error_json(http.as_u16(), status).to_string();
    let mut response = Response::new(Body::new(http_body_util::Full::from(body)));
    *response.status_mut() = http;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    match http {
        StatusCode::UNAUTHORIZED => {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"quarry\""),
            );
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

/// The JSON object alone, as the last line of a stream that failed.
pub(crate) fn error_json(http: u16, status: &Status) -> Value {
    json!({ "error": {
        "code": http,
        "status": code_name(status.code()),
        "message": status.message(),
        "details": details(status),
    }})
}

/// google/rpc/code.proto's own mapping.
pub(crate) fn http_status(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The details one by one: an unknown or damaged one is left out, the others
/// stay.
fn details(status: &Status) -> Vec<Value> {
    use tonic_types::StatusExt;
    let Ok(whole) = pb::Status::decode(status.details()) else {
        return Vec::new();
    };
    let one = |any| {
        let alone = pb::Status { code: 0, message: String::new(), details: vec![any] };
        let status = Status::with_details(status.code(), "", alone.encode_to_vec().into());
        status.get_error_details_vec().into_iter().next().and_then(detail_json)
    };
    whole.details.into_iter().filter_map(one).collect()
}

fn detail_json(detail: ErrorDetail) -> Option<Value> {
    let (name, mut fields) = match detail {
        ErrorDetail::ErrorInfo(info) => (
            "ErrorInfo",
            json!({ "reason": info.reason, "domain": info.domain, "metadata": info.metadata }),
        ),
        ErrorDetail::BadRequest(bad) => {
            let violation = |v: tonic_types::FieldViolation| json!({ "field": v.field, "description": v.description });
            (
                "BadRequest",
                json!({ "field_violations": bad.field_violations.into_iter().map(violation).collect::<Vec<_>>() }),
            )
        }
        ErrorDetail::RetryInfo(retry) => {
            let delay = retry.retry_delay.map(|delay| format!("{}s", delay.as_secs_f64()));
            ("RetryInfo", json!({ "retry_delay": delay }))
        }
        ErrorDetail::QuotaFailure(quota) => {
            let violation = |v: tonic_types::QuotaViolation| json!({ "subject": v.subject, "description": v.description });
            (
                "QuotaFailure",
                json!({ "violations": quota.violations.into_iter().map(violation).collect::<Vec<_>>() }),
            )
        }
        ErrorDetail::PreconditionFailure(failure) => {
            let violation = |v: tonic_types::PreconditionViolation| json!({ "type": v.r#type, "subject": v.subject, "description": v.description });
            (
                "PreconditionFailure",
                json!({ "violations": failure.violations.into_iter().map(violation).collect::<Vec<_>>() }),
            )
        }
        ErrorDetail::RequestInfo(request) => (
            "RequestInfo",
            json!({ "request_id": request.request_id, "serving_data": request.serving_data }),
        ),
        ErrorDetail::ResourceInfo(resource) => (
            "ResourceInfo",
            json!({
                "resource_type": resource.resource_type, "resource_name": resource.resource_name,
                "owner": resource.owner, "description": resource.description,
            }),
        ),
        ErrorDetail::Help(help) => {
            let link =
                |l: tonic_types::HelpLink| json!({ "description": l.description, "url": l.url });
            ("Help", json!({ "links": help.links.into_iter().map(link).collect::<Vec<_>>() }))
        }
        ErrorDetail::LocalizedMessage(text) => {
            ("LocalizedMessage", json!({ "locale": text.locale, "message": text.message }))
        }
        // A stack trace is not for the outside.
        _ => return None,
    };
    fields
        .as_object_mut()?
        .insert("@type".to_owned(), json!(format!("type.googleapis.com/google.rpc.{name}")));
    Some(fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use service_error::ServiceError;

    #[test]
    fn a_service_error_keeps_reason_field_and_metadata() {
        let error = ServiceError::invalid("page_size", "too large")
            .reason("PAGE_TOO_LARGE")
            .with("max", 10);
        let json = error_json(400, &error.into());
        assert_eq!(json["error"]["status"], "INVALID_ARGUMENT");
        let details = json["error"]["details"].as_array().unwrap();
        let info = details
            .iter()
            .find(|d| d["@type"] == "type.googleapis.com/google.rpc.ErrorInfo")
            .unwrap();
        assert_eq!(
            (&info["reason"], &info["domain"], &info["metadata"]["max"]),
            (&json!("PAGE_TOO_LARGE"), &json!("quarry"), &json!("10"))
        );
        let bad = details
            .iter()
            .find(|d| d["@type"] == "type.googleapis.com/google.rpc.BadRequest")
            .unwrap();
        assert_eq!(bad["field_violations"][0]["field"], "page_size");
    }

    #[test]
    fn unknown_and_damaged_details_are_left_out() {
        let status = Status::from(ServiceError::not_found("dataset", "a/b"));
        let mut whole = pb::Status::decode(status.details()).unwrap();
        let mut strange = whole.details[0].clone();
        strange.type_url = "type.googleapis.com/acme.Strange".to_owned();
        let mut damaged = whole.details[0].clone();
        damaged.value = vec![0xff, 0xff];
        whole.details.insert(0, strange);
        whole.details.insert(0, damaged);
        let status =
            Status::with_details(status.code(), status.message(), whole.encode_to_vec().into());
        let json = error_json(404, &status);
        assert_eq!(json["error"]["details"].as_array().unwrap().len(), 1);
        let garbage = Status::with_details(Code::NotFound, "x", bytes::Bytes::from_static(b"\xff"));
        assert_eq!(error_json(404, &garbage)["error"]["details"], json!([]));
    }

    #[test]
    fn a_refusal_says_how_to_authenticate() {
        let response = error_response(&Status::unauthenticated("no token"));
        assert_eq!(response.status(), 401);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
