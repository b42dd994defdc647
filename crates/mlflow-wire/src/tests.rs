//! Requests and answers as MLflow's client and server exchange them.
#![allow(clippy::unwrap_used, reason = "tests")]

use http::Method;
use serde_json::{Value, json};
use service_error::{Code, ServiceError};

use prost::Name;

use crate::artifacts::{MultipartUploadCredential, create_multipart_upload};
use crate::json::reflected;
use crate::proto::{
    CreateModelVersion, CreateRun, GetRun, LogBatch, LogMetric, Metric, ModelVersion,
    ModelVersionTag, RegisteredModel, Run, RunData, RunInfo, SearchRegisteredModels, SearchRuns,
    UpdateRun, get_run, search_registered_models,
};
use crate::{Call, Check, ErrorCode, MlflowError, Schema, names, path, refuse, render};

fn post(body: &[u8]) -> Call<'_> {
    Call { method: &Method::POST, query: Vec::new(), content_type: Some("application/json"), body }
}

fn get(pairs: &[(&str, &str)]) -> Call<'static> {
    let query = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Call { method: &Method::GET, query, content_type: None, body: b"" }
}

const METRIC: Schema = &[
    ("run_id", &[Check::Required, Check::Str]),
    ("key", &[Check::Required, Check::Str]),
    ("value", &[Check::Required, Check::Float]),
    ("timestamp", &[Check::Int, Check::Required]),
];

#[test]
fn a_body_is_read_with_presence_and_unknown_fields_are_ignored() {
    let body =
        br#"{"run_id":"r","key":"k","value":"0.5","timestamp":"12","stepp":1,"modelId":"m"}"#;
    let metric: LogMetric = post(body).read(METRIC).unwrap();
    assert_eq!((metric.value, metric.timestamp, metric.step), (Some(0.5), Some(12), None));
    assert_eq!(metric.model_id.as_deref(), Some("m"));
    let nan: LogMetric =
        post(br#"{"run_id":"r","key":"k","value":"NaN","timestamp":1}"#).read(METRIC).unwrap();
    assert!(nan.value.unwrap().is_nan());
    let twice = br#""{\"run_id\":\"r\",\"key\":\"k\",\"value\":1,\"timestamp\":1}""#;
    assert_eq!(post(twice).read::<LogMetric>(METRIC).unwrap().key.as_deref(), Some("k"));
}

#[test]
fn an_integer_beyond_64_bits_is_one_and_reads_as_nothing() {
    const CREATE: Schema = &[("start_time", &[Check::Int])];
    for beyond in ["9223372036854775808", "\"-9223372036854775809\"", "1e30", "1.5"] {
        let body = format!("{{\"start_time\":{beyond}}}");
        let read = post(body.as_bytes()).read::<CreateRun>(CREATE).unwrap();
        assert_eq!(read.start_time(), 0, "{beyond}");
    }
    for wrong in ["\"x\"", "\"1.5\"", "\"\"", "\"-\"", "[]"] {
        let body = format!("{{\"start_time\":{wrong}}}");
        assert!(post(body.as_bytes()).read::<CreateRun>(CREATE).is_err(), "{wrong}");
    }
    let most = post(br#"{"max_results":99999999999999999999}"#)
        .read::<SearchRuns>(&[("max_results", &[Check::Int, Check::AtMost(50_000)])]);
    assert!(most.is_err());
}

#[test]
fn a_nul_is_refused_wherever_it_stands() {
    for body in [
        &br#"{"run_id":"r","key":"a\u0000","value":1,"timestamp":1}"#[..],
        br#"{"run_id":"\u0000","key":"k","value":1,"timestamp":1}"#,
    ] {
        let refused = post(body).read::<LogMetric>(METRIC).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidParameterValue, "{refused:?}");
    }
    let nested = br#"{"run_id":"r","tags":[{"key":"k","value":"\u0000"}]}"#;
    assert!(post(nested).read::<LogBatch>(&[]).unwrap_err().message().contains("'tags'"));
    let asked = get(&[("filter", "name = '\0'")]).read::<SearchRegisteredModels>(&[]);
    assert!(asked.unwrap_err().message().contains("'filter'"));
}

#[test]
fn a_query_is_read_with_repeated_fields() {
    let search: SearchRegisteredModels = get(&[
        ("filter", "name = 'a'"),
        ("max_results", "5"),
        ("order_by", "name"),
        ("order_by", "timestamp"),
        ("nobody", "1"),
    ])
    .read(&[])
    .unwrap();
    assert_eq!((search.max_results, search.order_by.len()), (Some(5), 2));
    assert_eq!(get(&[]).read::<SearchRegisteredModels>(&[]).unwrap().max_results(), 100);
}

#[test]
fn enums_come_by_name_or_number() {
    for body in [&br#"{"run_id":"r","status":"FINISHED"}"#[..], br#"{"run_id":"r","status":3}"#] {
        assert_eq!(post(body).read::<UpdateRun>(&[]).unwrap().status, Some(3));
    }
    let search: SearchRuns = post(br#"{"run_view_type":"ALL"}"#).read(&[]).unwrap();
    assert_eq!(search.run_view_type(), crate::proto::ViewType::All);
}

#[test]
fn wrong_parameters_are_told_in_mlflows_words() {
    let refusal =
        |body: &[u8]| post(body).read::<LogMetric>(METRIC).unwrap_err().message().to_owned();
    assert_eq!(
        refusal(b"{}"),
        "Missing value for required parameter 'run_id'. See the API docs for more information about request parameters."
    );
    assert_eq!(
        refusal(br#"{"run_id":5,"key":"k","value":1,"timestamp":1}"#),
        "Invalid value 5 for parameter 'run_id' supplied:  Hint: Value was of type 'int'. See the API docs for more information about request parameters."
    );
    assert!(
        refusal(br#"{"run_id":"r","key":{"a":"\u00e9"},"value":1,"timestamp":1}"#)
            .contains(r#"{"a":"\u00e9"}"#)
    );
    let batch = post(br#"{"run_id":"r","metrics":[{"key":"a"}]}"#)
        .read::<LogBatch>(&[("metrics", &[Check::Array, Check::Each(&["key", "value"])])])
        .unwrap_err();
    assert!(
        batch.message().starts_with("Missing value for required parameter 'metrics[0].value'.")
    );
    let most = get(&[("max_results", "2000")])
        .read::<SearchRegisteredModels>(&[("max_results", &[Check::Int, Check::AtMost(1000)])])
        .unwrap_err();
    assert!(most.message().starts_with("Invalid value \"2000\" for parameter 'max_results'"));
}

#[test]
fn a_body_needs_its_content_type_and_one_spelling() {
    let mut call = post(b"{}");
    call.content_type = None;
    assert_eq!(
        call.read::<LogMetric>(&[]).unwrap_err().message(),
        "Bad Request. Content-Type header is missing."
    );
    call.content_type = Some("text/plain");
    assert!(
        call.read::<LogMetric>(&[])
            .unwrap_err()
            .message()
            .contains("must be one of ['application/json']")
    );
    let twice = post(br#"{"name":"n","source":"s","run_id":"a","runId":"b"}"#)
        .read::<CreateModelVersion>(&[]);
    assert!(twice.unwrap_err().message().contains("both 'run_id' and 'runId'"));
    let nested =
        post(br#"{"run_id":"a","metrics":[{"model_id":"a","modelId":"b"}]}"#).read::<LogBatch>(&[]);
    assert!(nested.unwrap_err().message().contains("'model_id' and 'modelId'"));
}

#[test]
fn an_answer_is_mlflows_json() {
    let version = ModelVersion {
        name: Some("m".into()),
        version: Some("1".into()),
        creation_timestamp: Some(1_700_000_000_000),
        description: Some(String::new()),
        status: Some(3),
        aliases: vec!["prod".into()],
        ..ModelVersion::default()
    };
    let text = render(&version).unwrap();
    let expected = json!({
        "name": "m", "version": "1", "creation_timestamp": 1_700_000_000_000_i64, "description": "",
        "status": "READY", "aliases": ["prod"],
    });
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
    assert!(text.starts_with(b"{\n  \"name\": \"m\",\n  \"version\": \"1\""));
    let metric = Metric { value: Some(f64::INFINITY), step: Some(0), ..Metric::default() };
    let shown: Value = serde_json::from_slice(&render(&metric).unwrap()).unwrap();
    assert_eq!(shown, json!({ "value": "Infinity", "step": 0 }));
    assert_eq!(render(&crate::proto::log_batch::Response {}).unwrap(), "{}");
}

#[test]
fn errors_have_code_status_and_class() {
    let of = |error: &MlflowError| {
        let response = error.response();
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), body)
    };
    let (status, body) = of(&MlflowError::new(ErrorCode::ResourceAlreadyExists, "taken"));
    assert_eq!(
        (status, body),
        (
            400,
            json!({ "error_code": "RESOURCE_ALREADY_EXISTS", "message": "taken", "sqlstate": "KAM00", "error_class": "RESOURCE_ALREADY_EXISTS" })
        )
    );
    let (status, body) = of(&MlflowError::new(ErrorCode::InvalidState, "s"));
    assert_eq!((status, body["error_class"].clone()), (500, json!("CLIENT_INTERNAL_ERROR")));
    let (status, body) = of(&ServiceError::unauthenticated("who").into());
    assert_eq!((status, body), (401, json!({ "error_code": "UNAUTHENTICATED", "message": "who" })));
    let large = refuse(&ServiceError::exhausted("large").reason("BODY_TOO_LARGE"));
    assert_eq!(large.status(), 413);
    assert_eq!(refuse(&ServiceError::new(Code::ResourceExhausted, "often")).status(), 429);
}

#[test]
fn paths_do_not_leave_their_root() {
    for wrong in [
        "../a",
        "a/../b",
        "/etc/passwd",
        "%2e%2e/a",
        "%252e%252e/a",
        "a%2f..%2fb",
        "a\\b",
        "C:/a",
        "a#b",
        "file:///etc",
        "a/%00b",
        "..",
        "%2Fetc",
        "\\\\host",
        "a%5c..%5cb",
        "%ff",
    ] {
        assert_eq!(path::safe(wrong).unwrap_err().message(), "Invalid path", "{wrong}");
    }
    for (given, used) in
        [("a/b.c", "a/b.c"), ("a%20b", "a b"), ("..a/b..", "..a/b.."), ("100%", "100%"), ("", "")]
    {
        assert_eq!(path::safe(given).unwrap(), used);
    }
    assert_eq!(path::normal("a//./b/"), "a/b");
    for (given, normal) in [
        ("a//b/../c", "a/c"),
        ("..", ".."),
        ("/..", "/"),
        ("", "."),
        ("a/..", "."),
        ("../../a", "../../a"),
    ] {
        assert_eq!(path::normpath(given), normal, "{given}");
    }
}

#[test]
fn names_follow_mlflows_rules() {
    assert!(names::model("a b").is_ok());
    for wrong in ["", " ", "a/b", "a:b", "..", "."] {
        assert!(names::model(wrong).is_err(), "{wrong:?}");
    }
    assert!(names::key("a/b.c-d:e f_g", "key").is_ok());
    for wrong in ["a//b", "../a", "a$b", "/a", "", "."] {
        assert!(names::key(wrong, "key").is_err(), "{wrong:?}");
    }
    for reserved in ["latest", "LATEST", "v1", "V12"] {
        assert!(names::alias_is_free(reserved).unwrap_err().message().contains("reserved"));
    }
    assert!(names::alias_is_free("v1a").is_ok() && names::alias("a-b_1").is_ok());
    assert!(names::alias("a b").is_err() && names::alias(&"a".repeat(256)).is_err());
    assert_eq!(
        names::version("x").unwrap_err().message(),
        "Parameter 'version' must be an integer, got 'x'."
    );
    assert_eq!(names::stage("production").unwrap(), "Production");
    assert_eq!(names::cut("äbc", 2), "äb");
    assert!(names::run_id("-a").is_err() && names::run_id("a-b").is_ok());
}

fn written_twice<T: Name>(message: &T) {
    let (ours, reflected) = (render(message).unwrap(), reflected::<T>(&message.encode_to_vec()));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(text(&ours), text(&reflected.unwrap()));
}

#[test]
fn what_is_written_from_bytes_is_what_the_reflection_library_writes() {
    let version = ModelVersion {
        name: Some("m \"\\\u{1}\n\u{7f}ü\u{2028}😀".to_owned()),
        version: Some(String::new()),
        creation_timestamp: Some(i64::MIN),
        last_updated_timestamp: Some(0),
        status: Some(3),
        tags: vec![
            ModelVersionTag { key: Some("a".to_owned()), value: None },
            ModelVersionTag::default(),
        ],
        aliases: vec!["x".to_owned(), String::new()],
        ..ModelVersion::default()
    };
    let unknown = ModelVersion { status: Some(-77), ..version.clone() };
    written_twice(&version);
    written_twice(&unknown);
    written_twice(&ModelVersion::default());
    let models = vec![
        RegisteredModel { latest_versions: vec![version, unknown], ..RegisteredModel::default() },
        RegisteredModel::default(),
    ];
    let next_page_token = Some("t".to_owned());
    written_twice(&search_registered_models::Response {
        registered_models: models,
        next_page_token,
    });
    written_twice(&search_registered_models::Response::default());
    let numbers = [0.0, -0.0, 0.1, 1e300, -5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let metric = |value: f64| Metric { value: Some(value), step: Some(-1), ..Metric::default() };
    let run = Run {
        info: Some(RunInfo {
            run_id: Some("last by its number".to_owned()),
            run_uuid: Some("first".to_owned()),
            ..RunInfo::default()
        }),
        data: Some(RunData {
            metrics: numbers.into_iter().map(metric).collect(),
            ..RunData::default()
        }),
        ..Run::default()
    };
    written_twice(&get_run::Response { run: Some(run) });
    written_twice(&GetRun::default());
    // With a map.
    written_twice(&create_multipart_upload::Response {
        upload_id: None,
        credentials: vec![MultipartUploadCredential {
            headers: [("a".to_owned(), "b".to_owned())].into(),
            ..MultipartUploadCredential::default()
        }],
    });
}
