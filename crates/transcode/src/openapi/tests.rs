//! The document against the table it comes from.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;

use crate::Info;
use crate::testing::table;

fn document() -> Value {
    table().openapi(&Info {
        title: "Library".into(),
        version: "1.2.3".into(),
        description: "Books.".into(),
    })
}

fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                out.push(reference.clone());
            }
            map.values().for_each(|inner| references(inner, out));
        }
        Value::Array(list) => list.iter().for_each(|inner| references(inner, out)),
        _ => {}
    }
}

#[test]
fn every_route_is_there_once_under_its_method() {
    let document = document();
    let operations: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
        .collect();
    assert_eq!(operations.len(), table().routes().count());
    let mut ids: Vec<_> =
        operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), operations.len());
    assert!(document["paths"]["/v1/books:count"]["get"].is_object());
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn comments_are_descriptions() {
    let document = document();
    let get = &document["paths"]["/v1/books/{name}"]["get"];
    assert_eq!(get["description"], "Reads one book. It must be there.");
    assert_eq!(get["summary"], "Reads one book");
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["library.v1.Book"]["description"], "One book.");
    assert!(
        schemas["library.v1.Book"]["properties"]["name"]["description"]
            .as_str()
            .unwrap()
            .contains("bare name")
    );
    assert_eq!(document["tags"][0]["description"], "Books on shelves.");
}

#[test]
fn types_are_as_the_json_is() {
    let document = document();
    let book = &document["components"]["schemas"]["library.v1.Book"]["properties"];
    assert_eq!(book["pages"]["type"], "string");
    assert_eq!(book["create_time"]["format"], "date-time");
    assert_eq!(book["copies"]["additionalProperties"]["format"], "int64");
    assert_eq!(document["components"]["schemas"]["library.v1.Genre"]["enum"][1], "GENRE_FICTION");
    let watch = &document["paths"]["/v1/books:watch"]["get"]["responses"]["200"]["content"];
    assert!(watch["application/x-ndjson"].is_object() && watch["text/event-stream"].is_object());
}

#[test]
fn parameters_are_what_the_path_and_the_body_leave() {
    let document = document();
    let create = &document["paths"]["/v1/{parent}/books"]["post"];
    let names: Vec<_> = create["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["parent", "book_id"]);
    let search = document["paths"]["/v1/books"]["get"]["parameters"].as_array().unwrap();
    let names: Vec<_> = search.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"like.pages")
            && names.contains(&"like.sequel.name")
            && !names.contains(&"labels"),
        "{names:?}"
    );
}

#[test]
fn only_public_calls_need_no_token() {
    let document = document();
    assert_eq!(document["paths"]["/v1/books"]["get"]["security"], serde_json::json!([]));
    assert!(document["paths"]["/v1/books/{name}"]["get"].get("security").is_none());
    assert_eq!(document["security"][0]["bearer"], serde_json::json!([]));
}
