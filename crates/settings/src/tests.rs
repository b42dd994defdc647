//! Precedence, refusals, and that secrets stay out of messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Example {
    data_dir: PathBuf,
    database_url: Option<Secret>,
    roles: Vec<String>,
    server: Server,
}

impl Default for Example {
    fn default() -> Self {
        Self {
            data_dir: "./quarry-data".into(),
            database_url: None,
            roles: vec!["all".into()],
            server: Server::default(),
        }
    }
}

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields, default)]
struct Server {
    listen: Option<String>,
    streams_max: u32,
    admin_password: Option<Secret>,
}

#[derive(Serialize, Default)]
struct Flags {
    data_dir: Option<PathBuf>,
    server: FlagsServer,
}

#[derive(Serialize, Default)]
struct FlagsServer {
    streams_max: Option<u32>,
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn refusal(file: Option<&Path>, pairs: &[(&str, &str)]) -> String {
    let error = load_from::<Example>(file, env(pairs), ()).unwrap_err();
    assert_eq!(error.reason_text(), "INVALID_SETTINGS");
    error.message().to_owned()
}

#[test]
fn nothing_said_gives_the_defaults() {
    assert_eq!(load_from::<Example>(None, env(&[]), ()).unwrap(), Example::default());
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let file = file("data_dir = \"/file\"\n[server]\nlisten = \"file:1\"\nstreams_max = 1\n");
    let pairs = [("QUARRY_DATA_DIR", "/env"), ("QUARRY_SERVER__STREAMS_MAX", "2")];
    let read = load_from::<Example>(Some(file.path()), env(&pairs), Flags::default()).unwrap();
    assert_eq!(read.data_dir, PathBuf::from("/env"));
    assert_eq!(read.server.listen.as_deref(), Some("file:1"));
    assert_eq!(read.server.streams_max, 2);

    let server = FlagsServer { streams_max: Some(3) };
    let flags = Flags { data_dir: Some("/flag".into()), server };
    let read = load_from::<Example>(Some(file.path()), env(&pairs), flags).unwrap();
    assert_eq!((read.data_dir, read.server.streams_max), (PathBuf::from("/flag"), 3));
}

#[test]
fn an_unknown_key_is_refused_with_key_source_and_the_known_ones() {
    let file = file("[server]\nlisen = \"x\"\n");
    let message = refusal(Some(file.path()), &[]);
    assert!(message.contains("server.lisen"), "{message}");
    assert!(message.contains(&file.path().display().to_string()), "{message}");
    assert!(message.contains("listen, streams_max"), "{message}");

    let message = refusal(None, &[("QUARRY_SERVER__NOPE", "1")]);
    assert!(
        message.contains("server.nope") && message.contains("QUARRY_SERVER__NOPE"),
        "{message}"
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    let pairs = [
        ("QUARRY_SERVICE_HOST", "10.0.0.1"),
        ("QUARRY_PORT", "tcp://x"),
        ("PATH", "/bin"),
        ("QUARRY_", ""),
    ];
    assert_eq!(load_from::<Example>(None, env(&pairs), ()).unwrap(), Example::default());
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    let message = refusal(None, &[("QUARRY_SERVER__STREAMS_MAX", "many")]);
    assert!(
        message.contains("server.streams_max in the variable QUARRY_SERVER__STREAMS_MAX"),
        "{message}"
    );
    assert!(message.contains("many"), "{message}");
}

#[test]
fn texts_that_look_like_numbers_stay_texts() {
    let pairs = [("QUARRY_SERVER__ADMIN_PASSWORD", "007"), ("QUARRY_DATA_DIR", "[1]")];
    let read = load_from::<Example>(None, env(&pairs), ()).unwrap();
    assert_eq!(read.server.admin_password.unwrap().expose(), "007");
    assert_eq!(read.data_dir, PathBuf::from("[1]"));
}

#[test]
fn secrets_are_in_no_message() {
    let pairs = [("QUARRY_DATABASE_URL", "postgres://u:canary@h/db")];
    let read = load_from::<Example>(None, env(&pairs), ()).unwrap();
    assert!(!format!("{read:?} {}", read.database_url.as_ref().unwrap()).contains("canary"));

    let broken = file("[server]\nadmin_password = \"canary\" oops\n");
    let message = refusal(Some(broken.path()), &[]);
    assert!(message.contains("line 2") && !message.contains("canary"), "{message}");
    let mistyped = file("[server]\nadmin_password = [\"canary\"]\n");
    assert!(!refusal(Some(mistyped.path()), &[]).contains("canary"));
}

#[test]
fn a_named_file_must_exist() {
    let message = refusal(Some(Path::new("/none/quarry.toml")), &[]);
    assert!(message.contains("/none/quarry.toml"), "{message}");
}

#[test]
fn a_secret_file_is_trimmed_and_must_hold_something() {
    let secret = file("  qsvc_abc\n");
    assert_eq!(Secret::from_file(secret.path()).unwrap().expose(), "qsvc_abc");
    let error = Secret::from_file(file("\n").path()).unwrap_err();
    assert!(error.message().contains("empty"), "{error}");
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Told {
    data_dir: PathBuf,
    database_url: Option<Secret>,
    object_store_url: Option<String>,
    service_token_file: Option<PathBuf>,
    admin_password: Option<String>,
    roles: Vec<String>,
    drain: BTreeMap<String, u64>,
}

#[test]
fn settings_are_told_with_their_source_and_secrets_are_not() {
    let file = file(
        "data_dir = \"/file\"\nobject_store_url = \"s3://k:canary@b/p\"\nadmin_password = \"canary\"\n[drain]\ngrace_seconds = 3\n",
    );
    let pairs = [
        ("QUARRY_DATABASE_URL", "postgres://u:canary@h/db"),
        ("QUARRY_ROLES", "[catalog]"),
        ("QUARRY_SERVICE_TOKEN_FILE", "/run/token"),
    ];
    let flags = serde_json::json!({ "data_dir": "/flag" });
    let figment = merged::<Told>(Some(file.path()), env(&pairs), flags).unwrap();
    let told: Told = figment.extract().unwrap();
    let listed = Origins::of(&figment).list(&told).unwrap();
    let of = |key: &str| listed.iter().find(|one| one.key == key).unwrap();
    assert!(!format!("{listed:?}").contains("canary"), "{listed:?}");
    assert_eq!(
        (of("data_dir").value.as_str(), of("data_dir").source.as_str()),
        ("\"/flag\"", "the command line")
    );
    assert_eq!(of("database_url").value, "\"set\"");
    assert!(of("database_url").secret && of("database_url").source.contains("QUARRY_DATABASE_URL"));
    assert!(of("admin_password").secret);
    assert_eq!(of("service_token_file").value, "\"/run/token\"");
    assert_eq!(of("object_store_url").value, "\"s3://…@b/p\"");
    assert_eq!(of("drain.grace_seconds").source, file.path().display().to_string());
    assert!(of("roles").source.contains("QUARRY_ROLES"));
    let unset = Origins::default().list(&Told::default()).unwrap();
    let database = unset.iter().find(|one| one.key == "database_url").unwrap();
    assert_eq!((database.value.as_str(), database.source.as_str()), ("null", "default"));
}

#[test]
fn a_renewed_file_is_the_secret_of_now() {
    let renewed = file("first-secret");
    let first = Secret::new("first-secret");
    let path = renewed.path().to_owned();
    let now = RoleSecret::read_again_after(path.clone(), first.clone(), std::time::Duration::ZERO);
    let kept = RoleSecret::of_file(path.clone(), first);
    std::fs::write(&path, "second-secret\n").unwrap();
    assert_eq!(now.current().expose(), "second-secret");
    assert_eq!(kept.current().expose(), "first-secret", "not read each time");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(now.current().expose(), "second-secret", "what it held before");
    assert_eq!(RoleSecret::from(Secret::new("fixed")).current().expose(), "fixed");
    assert!(!format!("{now:?}").contains("second"));
}
