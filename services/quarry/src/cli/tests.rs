//! What can be typed.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("quarry").chain(line.split_whitespace()))
}

#[test]
fn the_commands_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_form_is_taken() {
    for line in [
        "serve --data-dir D --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --roles item-store,gateway --ready-file F",
        "serve --database-url postgres://h/d --object-store-url s3://b",
        "demo --exit",
        "import a.csv vision/icons --format csv --mode overwrite --message M --schema width:int32,name:text",
        "import dir vision/icons --format images -o json",
        "export vision/icons@3 out.parquet --format parquet",
        "files location add s3://lake/raw --mode content",
        "files location add /backups --archives --watch",
        "files scan /backups --archives --wait",
        "files duplicates --location /photos --verify -o json",
        "files duplicates --from-disk /photos --size-min 1024 --limit 5",
        "files scan /backups --archives=false",
        "files search cat --modified-after 2024-05-01 --modified-before 2024-06-01T12:00:00Z",
        "namespaces create vision -o json",
        "namespaces list",
        "datasets list vision --limit 5",
        "datasets create vision/icons --schema a:int64",
        "datasets versions vision/icons",
        "items list vision/icons --filter width>3000 --limit 5 --version 2 --page-token T",
        "items get vision/icons 018f",
        "items list vision/icons --order-by width --skip 100",
        "items count vision/icons --filter a=1",
        "items describe vision/icons --version 2",
        "items preview vision/icons --columns a,b",
        "items stats vision/icons --filter a=1 --columns a --top 3 --histogram 10 -o json",
        "items facets vision/icons --by section --measure width,height --limit 5",
        "items sample vision/icons --size 10 --seed 7",
        "items explain vision/icons --filter a=1 --operation count",
        "items filters create vision/icons wide width>3000 --description D",
        "items filters list vision/icons --limit 5",
        "items filters show vision/icons wide",
        "items filters update vision/icons wide --filter width>4000 --revision 1",
        "items filters delete vision/icons wide",
        "export vision/icons out.csv --filter saved:wide --order-by width --limit 5",
        "users create ann --role viewer",
        "users update ann --disable",
        "tokens create --read-only --expires 30d",
        "tokens revoke 018f",
        "grants add ann vision/icons write",
        "grants add ann /srv/photos read",
        "grants list vision",
        "grants remove 018f",
        "grants remove ann vision/icons",
        "ops info -o json",
        "ops settings --set",
        "ops database --service catalog --exact",
        "ops metrics --hours 2 --component catalog --metric rpc.requests --step 60",
        "db backup /backups/monday",
        "db restore /backups/monday --database-url postgres://h/d --object-store-url s3://b",
        "doctor -o json --running --roles catalog --database-url postgres://h/d",
        "db migrate",
        "db status",
        "db verify",
        "db verify --blocks",
        "whoami -o json --server http://h:1 --token t",
        "-o json completions bash",
    ] {
        parse(line).unwrap_or_else(|err| panic!("{line}: {err}"));
    }
}

#[test]
fn wrong_usage_is_refused() {
    for line in [
        "import a.csv icons",
        "import a.csv vision/icons --mode upsert",
        "import a.csv vision/icons --format xls",
        "items list vision/icons --limit -1",
        "items facets vision/icons",
        "grants add ann vision own",
        "files search cat --modified-after yesterday",
        "tokens create --expires soon",
        "users update ann --disable --enable",
        "-o yaml whoami",
        "",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn completions_know_the_commands() {
    let mut script = Vec::new();
    clap_complete::generate(Shell::Bash, &mut Cli::command(), "quarry", &mut script);
    let script = String::from_utf8(script).unwrap();
    assert!(script.contains("page-token") && script.contains("grants"));
}
