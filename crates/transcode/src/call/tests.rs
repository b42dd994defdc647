//! Whole calls against an upstream that records what it was asked.
#![allow(clippy::unwrap_used, reason = "tests")]

use prost::Message;
use serde_json::json;
use service_error::ServiceError;
use tonic::Status;

use crate::Limits;
use crate::testing::{Answer, Upstream, message, send, send_limited};

fn reason(answer: &Answer) -> String {
    answer.json()["error"]["details"][0]["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_get_becomes_a_call_and_its_answer_json() {
    let book = message(
        "Book",
        json!({ "name": "b", "pages": "9007199254740993", "genre": "GENRE_SCIENCE" }),
    );
    let upstream = Upstream::answering(vec![book]);
    let answer = send("GET", "/v1/shelves/a/books/b", &[], "", &upstream).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    let json = answer.json();
    assert_eq!(json["pages"], "9007199254740993");
    assert_eq!(json["genre"], "GENRE_SCIENCE");
    // Proto names, defaults shown, unset presence not.
    assert_eq!(json["author_names"], json!([]));
    assert!(json.get("rare").is_none() && json.get("create_time").is_none());
    assert_eq!(
        upstream.asked_message("GetBookRequest"),
        message("GetBookRequest", json!({ "name": "shelves/a/books/b" }))
    );
    let asked = upstream.asked.lock().unwrap().clone();
    assert_eq!(asked.path, "/library.v1.Library/GetBook");
    assert_eq!(
        (&asked.headers["authorization"], &asked.headers["te"]),
        (&"Bearer internal".parse().unwrap(), &"trailers".parse().unwrap())
    );
}

#[tokio::test]
async fn every_kind_of_field_takes_a_query_parameter() {
    let upstream = Upstream::answering(vec![message("SearchResponse", json!({}))]);
    let url = "/v1/books?text=a+b%26c&genres=GENRE_FICTION&genres=2&like.pages=7&like.sequel.name=x&pageSize=5\
               &after=2024-05-06T07:08:09Z&within=1.5s&read_mask=name,pages&available=true&serials=1&serials=-2&exact=false\
               &digest=AQID&score=0.5";
    let answer = send("GET", url, &[], "", &upstream).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let wanted = message(
        "SearchRequest",
        json!({
            "text": "a b&c", "genres": ["GENRE_FICTION", "GENRE_SCIENCE"], "like": { "pages": 7, "sequel": { "name": "x" } },
            "page_size": 5, "after": "2024-05-06T07:08:09Z", "within": "1.5s", "read_mask": "name,pages", "available": true,
            "serials": [1, -2], "exact": false, "digest": "AQID", "score": 0.5,
        }),
    );
    assert_eq!(upstream.asked_message("SearchRequest"), wanted);
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_named() {
    let upstream = Upstream::default();
    for (url, field, wanted) in [
        ("/v1/books?colour=red", "colour", "UNKNOWN_PARAMETER"),
        ("/v1/books?like.colour=red", "like.colour", "UNKNOWN_PARAMETER"),
        ("/v1/books?text.x=red", "text.x", "UNKNOWN_PARAMETER"),
        ("/v1/books?page_size=many", "page_size", "MALFORMED_PARAMETER"),
        ("/v1/books?page_size=99999999999", "page_size", "MALFORMED_PARAMETER"),
        ("/v1/books?page_size=1&page_size=2", "page_size", "MALFORMED_PARAMETER"),
        ("/v1/books?genres=GENRE_NONE", "genres", "MALFORMED_PARAMETER"),
        ("/v1/books?exact=perhaps", "exact", "MALFORMED_PARAMETER"),
        ("/v1/books?after=yesterday", "after", "MALFORMED_PARAMETER"),
        ("/v1/books?like=x", "like", "MALFORMED_PARAMETER"),
        ("/v1/books?labels=x", "labels", "MALFORMED_PARAMETER"),
        ("/v1/books?text=%zz", "query", "MALFORMED_QUERY"),
        ("/v1/books/b?name=c", "name", "PARAMETER_NOT_ALLOWED"),
    ] {
        let answer = send("GET", url, &[], "", &upstream).await;
        assert_eq!(
            (answer.status, reason(&answer)),
            (400, wanted.to_owned()),
            "{url}: {}",
            answer.text()
        );
        assert_eq!(
            answer.json()["error"]["details"][1]["field_violations"][0]["field"],
            field,
            "{url}"
        );
    }
}

#[tokio::test]
async fn bodies_go_where_the_rule_says() {
    let upstream = Upstream::answering(vec![message("Book", json!({}))]);
    let answer = send(
        "POST",
        "/v1/shelves/s/books?book_id=i",
        &[],
        r#"{"authorNames":["A"],"create_time":"2024-01-02T00:00:00Z"}"#,
        &upstream,
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let wanted = json!({ "parent": "shelves/s", "book_id": "i", "book": { "author_names": ["A"], "create_time": "2024-01-02T00:00:00Z" } });
    assert_eq!(upstream.asked_message("CreateBookRequest"), message("CreateBookRequest", wanted));

    send("PATCH", "/v1/books/real", &[], r#"{"name":"other","pages":3}"#, &upstream).await;
    assert_eq!(
        upstream.asked_message("Book"),
        message("Book", json!({ "name": "real", "pages": 3 }))
    );

    send("PUT", "/v1/pages/n", &[], "[1,2,3]", &upstream).await;
    assert_eq!(
        upstream.asked_message("SetPagesRequest"),
        message("SetPagesRequest", json!({ "book": { "name": "n" }, "pages": [1, 2, 3] }))
    );

    send("PATCH", "/v1/books/empty", &[], " \n", &upstream).await;
    assert_eq!(upstream.asked_message("Book"), message("Book", json!({ "name": "empty" })));
}

#[tokio::test]
async fn bodies_that_do_not_fit_are_refused_with_the_name() {
    let upstream = Upstream::default();
    for (method, url, body, wanted) in [
        ("PATCH", "/v1/books/b", r#"{"colour":"red"}"#, "colour"),
        ("PATCH", "/v1/books/b", r#"{"sequel":{"colour":"red"}}"#, "colour"),
        ("PATCH", "/v1/books/b", r#"{"pages":1}{"pages":2}"#, "trailing"),
        ("PATCH", "/v1/books/b", r#"{"pages":"#, "EOF"),
        ("PATCH", "/v1/books/b", r#"{"person":"a","library_number":1}"#, "owner"),
        ("PATCH", "/v1/books/b", r#"{"genre":"GENRE_NONE"}"#, "GENRE_NONE"),
        ("PATCH", "/v1/books/b", "[]", "body"),
        ("PUT", "/v1/pages/n", r#"[1],"book":{"name":"x"}"#, "trailing"),
        ("GET", "/v1/books/b", "{}", "takes none"),
        ("PATCH", "/v1/books/b?pages=1", "{}", "in the body"),
    ] {
        let answer = send(method, url, &[], body, &upstream).await;
        let text = answer.text();
        assert_eq!(
            (answer.status, answer.json()["error"]["status"].clone()),
            (400, json!("INVALID_ARGUMENT")),
            "{body}: {text}"
        );
        assert!(text.contains(wanted), "{body}: {text}");
    }
    let deep = format!("{}{}", r#"{"sequel":"#.repeat(5_000), "}".repeat(5_000));
    assert_eq!(send("PATCH", "/v1/books/b", &[], deep, &upstream).await.status, 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_the_limit() {
    let upstream = Upstream::default();
    let limits = Limits { request_bytes_max: 100, ..Limits::default() };
    for headers in [&[][..], &[("content-length", "5000000000")][..]] {
        let answer =
            send_limited("PATCH", "/v1/books/b", headers, "x".repeat(101), &upstream, limits).await;
        assert_eq!((answer.status, reason(&answer)), (413, "BODY_TOO_LARGE".to_owned()));
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("100 bytes"));
    }
    let answer =
        send_limited("POST", "/v1/books:add", &[], "x".repeat(101), &upstream, limits).await;
    assert_eq!((answer.status, reason(&answer)), (413, "BODY_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn a_failure_before_or_after_the_message_is_an_error() {
    let missing = Status::from(ServiceError::not_found("book", "b"));
    for upstream in [
        Upstream::failing(vec![], missing.clone()),
        Upstream::failing(vec![message("Book", json!({}))], missing),
    ] {
        let answer = send("GET", "/v1/books/b", &[], "", &upstream).await;
        assert_eq!((answer.status, reason(&answer)), (404, "BOOK_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn a_part_of_the_answer_can_be_the_answer() {
    let upstream = Upstream::answering(vec![message(
        "SearchResponse",
        json!({ "books": [{ "name": "b" }], "count": 1 }),
    )]);
    let answer = send("GET", "/v1/titles", &[], "", &upstream).await;
    assert_eq!(answer.json()[0]["name"], "b");
}

#[tokio::test]
async fn head_answers_without_a_body() {
    let upstream = Upstream::answering(vec![message("Book", json!({}))]);
    let answer = send("HEAD", "/v1/books/b", &[], "", &upstream).await;
    assert_eq!((answer.status, answer.text().len()), (200, 0));
}

#[tokio::test]
async fn a_stream_is_lines_or_events_and_ends_with_its_failure() {
    let books =
        || vec![message("Book", json!({ "name": "a" })), message("Book", json!({ "name": "b" }))];
    let answer = send("GET", "/v1/books:watch", &[], "", &Upstream::answering(books())).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let text = answer.text();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["name"]), (2, &json!("b")));

    let cut = Upstream::failing(books(), ServiceError::unavailable("away").into());
    let text = send("GET", "/v1/books:watch", &[], "", &cut).await.text();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((text.lines().count(), &last["error"]["code"]), (3, &json!(503)));

    let events =
        send("GET", "/v1/books:watch", &[("accept", "text/html, text/event-stream")], "", &cut)
            .await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    let text = events.text();
    assert!(
        text.starts_with("data: {") && text.contains("\n\nevent: error\ndata: {\"error\""),
        "{text}"
    );

    let refused = Upstream::failing(vec![], ServiceError::denied("no").into());
    assert_eq!(send("GET", "/v1/books:watch", &[], "", &refused).await.status, 403);
}

#[tokio::test]
async fn lines_of_json_become_a_stream_of_messages() {
    let upstream = Upstream::answering(vec![message("SearchResponse", json!({ "count": 2 }))]);
    let answer =
        send("POST", "/v1/books:add", &[], "{\"name\":\"a\"}\n\n{\"name\":\"b\"}", &upstream).await;
    assert_eq!(answer.json()["count"], "2");
    let asked = upstream.asked.lock().unwrap().clone();
    assert_eq!(asked.messages.len(), 2);
    assert_eq!(
        upstream.decode("Book", &asked.messages[1]),
        message("Book", json!({ "name": "b" }))
    );

    let answer =
        send("POST", "/v1/books:add", &[], "{\"name\":\"a\"}\n{\"colour\":1}\n", &upstream).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("colour"), "{}", answer.text());
}

fn chunk(content_type: &str, data: &[u8]) -> prost_reflect::DynamicMessage {
    let descriptor = crate::testing::pool().get_message_by_name("google.api.HttpBody").unwrap();
    crate::request::http_body(descriptor, Some(content_type), &bytes::Bytes::copy_from_slice(data))
}

#[tokio::test]
async fn raw_bytes_pass_under_their_type_and_a_cut_is_seen() {
    let upstream = Upstream::answering(vec![chunk("image/png", b"\x89PNG"), chunk("", b"rest")]);
    let answer = send("GET", "/v1/books/b/text", &[], "", &upstream).await;
    assert_eq!(answer.headers["content-type"], "image/png");
    assert!(answer.headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
    assert_eq!(answer.body.unwrap().as_ref(), b"\x89PNGrest");

    let cut = Upstream::failing(vec![chunk("image/png", b"\x89PNG")], Status::data_loss("torn"));
    assert!(send("GET", "/v1/books/b/text", &[], "", &cut).await.body.is_none());
    let none = Upstream::failing(vec![], Status::not_found("no"));
    assert_eq!(send("GET", "/v1/books/b/text", &[], "", &none).await.status, 404);
    let empty = send("GET", "/v1/books/b/text", &[], "", &Upstream::answering(vec![])).await;
    assert_eq!((empty.status, empty.text().len()), (200, 0));
}

#[tokio::test]
async fn readers_of_bytes_have_their_conditions_and_the_service_its_say() {
    let part = Upstream {
        metadata: vec![
            ("quarry-http-status", "206"),
            ("quarry-http-etag", "\"abc\""),
            ("quarry-http-content-range", "bytes 2-3/9"),
            ("quarry-http-content-length", "2"),
            ("quarry-http-set-cookie", "a=b"),
        ],
        ..Upstream::answering(vec![chunk("image/png", b"cd")])
    };
    let asked = [("range", "bytes=2-3"), ("if-range", "\"abc\""), ("x-other", "1")];
    let answer = send("GET", "/v1/books/b/text", &asked, "", &part).await;
    assert_eq!((answer.status, answer.body.as_deref()), (206, Some(&b"cd"[..])));
    assert_eq!(answer.headers["content-range"], "bytes 2-3/9");
    assert_eq!(answer.headers["content-length"], "2");
    assert_eq!(
        (answer.headers["etag"].as_bytes(), answer.headers.get("set-cookie")),
        (&b"\"abc\""[..], None)
    );
    let metadata = part.asked.lock().unwrap().headers.clone();
    assert_eq!(metadata["quarry-http-range"], "bytes=2-3");
    assert_eq!(metadata["quarry-http-if-range"], "\"abc\"");
    assert!(!metadata.contains_key("x-other"));
    send("HEAD", "/v1/books/b/text", &asked, "", &part).await;
    assert!(!part.asked.lock().unwrap().headers.contains_key("quarry-http-range"));
    // No status that would make a failure of an answer, or the other way round.
    let odd = Upstream {
        metadata: vec![("quarry-http-status", "500")],
        ..Upstream::answering(vec![chunk("image/png", b"cd")])
    };
    assert_eq!(send("GET", "/v1/books/b/text", &[], "", &odd).await.status, 200);
}

#[tokio::test]
async fn raw_request_bytes_become_http_bodies() {
    let upstream = Upstream::answering(vec![message("Book", json!({}))]);
    let answer =
        send("PUT", "/v1/books/b/text", &[("content-type", "text/plain")], "once upon", &upstream)
            .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let wanted =
        json!({ "name": "b", "content": { "content_type": "text/plain", "data": "b25jZSB1cG9u" } });
    assert_eq!(upstream.asked_message("UploadRequest"), message("UploadRequest", wanted));
}

/// The same bytes on the wire as a native client, and the same JSON from them.
#[tokio::test]
async fn json_and_native_encoding_agree() {
    let json = json!({
        "name": "n", "pages": "-5", "genre": "GENRE_FICTION", "author_names": ["é", ""], "copies": { "a": "1" },
        "create_time": "2024-01-02T03:04:05.000000006Z", "reading_time": "3.000000001s", "cover": "/+8=", "price": 0.1,
        "library_number": 0, "sequel": { "name": "m" }, "extra": { "x": [1.5, null, true] }, "rare": false, "weight": "9",
        "notes": { "k": "v" }, "serial": "18446744073709551615",
    });
    let upstream = Upstream::answering(vec![message("Book", json.clone())]);
    let answer = send("PATCH", "/v1/books/n", &[], json.to_string(), &upstream).await;
    let native = message("Book", json.clone());
    assert_eq!(upstream.asked.lock().unwrap().messages[0], native.encode_to_vec());
    let answered = answer.json();
    for (name, value) in json.as_object().unwrap() {
        if name == "sequel" {
            continue;
        }
        assert_eq!(&answered[name], value, "{name}");
    }
    assert_eq!(message("Book", answered).encode_to_vec(), native.encode_to_vec());
}

#[tokio::test]
async fn a_message_over_the_limit_is_not_rendered() {
    let book = message("Book", json!({ "name": "x".repeat(2_000) }));
    let limits = Limits { message_bytes_max: 1_000, ..Limits::default() };
    let answer =
        send_limited("GET", "/v1/books/b", &[], "", &Upstream::answering(vec![book]), limits).await;
    assert_eq!(answer.status, 429);
    assert!(answer.text().contains("1000"), "{}", answer.text());
}
