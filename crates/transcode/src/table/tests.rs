//! Which route answers which path.
#![allow(clippy::unwrap_used, reason = "tests")]

use http::Method;
use proptest::prelude::*;

use crate::testing::{found, pool, table};
use crate::{Exposure, Miss, RouteTable};

fn answered(by: &str, variables: &[&str]) -> Result<(String, Vec<String>), Miss> {
    Ok((by.to_owned(), variables.iter().map(|v| (*v).to_owned()).collect()))
}

#[test]
fn every_binding_of_a_method_answers() {
    assert_eq!(found("GET", "/v1/shelves/a/books/b"), answered("GetBook", &["shelves/a/books/b"]));
    assert_eq!(found("GET", "/v1/books/b"), answered("GetBook", &["b"]));
    assert_eq!(found("GET", "/v1/archive/x/y/z"), answered("GetBook", &["x/y/z"]));
    assert_eq!(found("GET", "/v1/archive"), answered("GetBook", &[""]));
    assert_eq!(found("PATCH", "/v1/books/b"), answered("UpdateBook", &["b"]));
    assert_eq!(found("PURGE", "/v1/books/b"), answered("Purge", &["b"]));
    assert_eq!(found("PUT", "/v1/pages/b"), answered("SetPages", &["b"]));
    for method in ["GET", "POST", "TRACE"] {
        assert_eq!(found(method, "/v1/any/b"), answered("Anything", &["b"]));
    }
}

#[test]
fn a_literal_beats_a_variable_and_a_verb_beats_a_name() {
    assert_eq!(found("GET", "/v1/books/new"), answered("ListNew", &[]));
    assert_eq!(found("PATCH", "/v1/books/new"), answered("UpdateBook", &["new"]));
    assert_eq!(found("GET", "/v1/books:count"), answered("CountBooks", &[]));
    assert_eq!(found("POST", "/v1/books/b:burn"), answered("BurnBook", &["b"]));
    // No verb of that name: the colon is part of the name.
    assert_eq!(found("GET", "/v1/books/b:c"), answered("GetBook", &["b:c"]));
    assert_eq!(found("GET", "/v1/books/b:burn"), answered("GetBook", &["b:burn"]));
    assert_eq!(found("PATCH", "/v1/books/b%3Aburn"), answered("UpdateBook", &["b:burn"]));
}

#[test]
fn an_encoded_slash_stays_inside_its_segment() {
    assert_eq!(found("GET", "/v1/books/a%2Fb"), answered("GetBook", &["a/b"]));
    assert_eq!(
        found("GET", "/v1/shelves/a%2Fb/books/c%20d"),
        answered("GetBook", &["shelves/a%2Fb/books/c d"])
    );
    assert_eq!(found("GET", "/v1/books/a/b"), Err(Miss::NotFound));
    assert_eq!(found("GET", "/v1/books/%2e%2e"), answered("GetBook", &[".."]));
}

#[test]
fn what_is_not_there_says_so() {
    for path in [
        "/",
        "",
        "/v1",
        "/v1/",
        "/v1/books/",
        "/v1/books//text",
        "/v2/books",
        "/v1/secret/x",
        "v1/books",
    ] {
        assert_eq!(found("GET", path), Err(Miss::NotFound), "{path}");
    }
    assert_eq!(found("GET", "/v1/books/%zz"), Err(Miss::MalformedPath));
    assert_eq!(found("GET", "/v1/books/%ff"), Err(Miss::MalformedPath));
}

#[test]
fn another_method_is_told_which_are_allowed() {
    let Err(Miss::MethodNotAllowed(allowed)) = found("DELETE", "/v1/books/b") else {
        unreachable!()
    };
    assert!(allowed.contains(&Method::GET) && allowed.contains(&Method::PATCH), "{allowed:?}");
    assert!(!allowed.contains(&Method::POST), "{allowed:?}");
    assert_eq!(found("HEAD", "/v1/books/b"), answered("GetBook", &["b"]));
}

#[test]
fn hidden_and_unannotated_methods_have_no_route() {
    let table = table();
    assert!(table.routes().all(|route| !["Secret", "Unrouted"].contains(&route.method().name())));
    let public: Vec<_> = table
        .routes()
        .filter(|r| r.exposure() == Exposure::Public)
        .map(|r| r.method().name().to_owned())
        .collect();
    assert_eq!(public, ["SearchBooks", "SearchBooks"]);
}

#[test]
fn bindings_that_cannot_work_fail_at_start() {
    for (rule, wanted) in [
        (r#"get: "/v1/{nothing}""#, "no field nothing"),
        (r#"get: "/v1/{name""#, "path template"),
        (r#"get: "/v1/{inner}""#, "cannot stand in a path"),
        (r#"get: "/v1/{names}""#, "cannot stand in a path"),
        (r#"post: "/v1/x" body: "nothing""#, "no field nothing"),
        (r#"get: "/v1/x" response_body: "nothing""#, "no field nothing"),
        (r#"get: "/v1/x" additional_bindings { get: "/v1/x" }"#, "already answered"),
        (r#"body: "*""#, "no path"),
    ] {
        let error = compiled(rule).map(|_| ()).unwrap_err();
        assert!(error.contains(wanted) && error.contains("t.S.Call"), "{rule}: {error}");
    }
}

fn compiled(rule: &str) -> Result<RouteTable, String> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let manifest = std::path::Path::new(&manifest);
    let dir = tempdir(rule);
    let source = format!(
        "syntax = \"proto3\"; package t; import \"google/api/annotations.proto\";
         message M {{ string name = 1; M inner = 2; repeated string names = 3; }}
         service S {{ rpc Call(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }} }}"
    );
    std::fs::write(dir.join("t.proto"), source).unwrap();
    let mut compiler = protox::Compiler::new([dir.clone(), manifest.join("../../proto")]).unwrap();
    compiler.include_imports(true).open_files(["t.proto"]).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    let pool =
        prost_reflect::DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice())
            .unwrap();
    RouteTable::new(&pool, |_| Exposure::Authenticated).map_err(|error| error.to_string())
}

fn tempdir(of: &str) -> std::path::PathBuf {
    let name: String = of.bytes().map(|byte| format!("{byte:02x}")).collect();
    let dir = std::env::temp_dir().join(format!(
        "transcode-{}-{}",
        std::process::id(),
        &name[name.len().saturating_sub(20)..]
    ));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn a_pool_without_the_option_has_no_routes() {
    let table =
        RouteTable::new(&prost_reflect::DescriptorPool::new(), |_| Exposure::Public).unwrap();
    assert_eq!(table.routes().count(), 0);
    assert!(pool().get_extension_by_name("google.api.http").is_some());
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn any_text_survives_one_segment(text in "\\PC{1,12}") {
        let (by, variables) = found("GET", &format!("/v1/any/{}", encoded(&text))).unwrap();
        prop_assert_eq!(by, "Anything");
        prop_assert_eq!(&variables[0], &text);
    }

    #[test]
    fn no_path_makes_the_search_panic(path in "[/a-z%:0-9.*{}]{0,40}") {
        let _ = table().find(&Method::GET, &path);
    }
}
