//! The table of promises. A new one is a function in a file by its subject and a row here.

mod accounts;
mod analysis;
mod cli;
mod datasets;
mod edits;
mod file_agents;
mod file_datasets;
mod files;
mod flight;
mod frames;
mod grants;
mod http;
mod items;
mod methods;
mod model_doors;
mod model_trust;
mod models;
mod namespaces;
mod ops;
mod puts;
mod reads;
mod retrieval;
mod secrecy;
mod sql;
mod unique;
mod vectors;

pub use flight::path;
pub use puts::count;

use futures::future::LocalBoxFuture;

use crate::{Case, Stage};

/// A row: what is promised, and the function that tries it.
const fn case(name: &'static str, run: for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, ()>) -> Case {
    Case { name, run }
}

/// All of them.
pub const CASES: &[Case] = &[
    case("namespaces: made, read, listed, deleted", |s| Box::pin(namespaces::lifecycle(s))),
    case("namespaces: names outside the grammar", |s| Box::pin(namespaces::bad_names(s))),
    case("namespaces: pages are the whole list", |s| Box::pin(namespaces::pages(s))),
    case("namespaces: not deleted while in use", |s| Box::pin(namespaces::in_use(s))),
    case("datasets: made, read, listed, deleted", |s| Box::pin(datasets::lifecycle(s))),
    case("datasets: names and schemas refused", |s| Box::pin(datasets::refused(s))),
    case("datasets: versions", |s| Box::pin(datasets::versions(s))),
    case("datasets: public ones are readable", |s| Box::pin(datasets::public(s))),
    case("users: made, changed, disabled", |s| Box::pin(accounts::users(s))),
    case("users: the last admin stays", |s| Box::pin(accounts::last_admin(s))),
    case("tokens: listed without secret, revoked", |s| Box::pin(accounts::tokens(s))),
    case("tokens: read-only ones change nothing", |s| Box::pin(accounts::read_only(s))),
    case("tokens: wrong, cut and expired ones", |s| Box::pin(accounts::bad_tokens(s))),
    case("tokens: of another user", |s| Box::pin(accounts::foreign_tokens(s))),
    case("grants: given and taken within a second", |s| Box::pin(grants::lifecycle(s))),
    case("grants: levels include each other", |s| Box::pin(grants::levels(s))),
    case("grants: end with their time", |s| Box::pin(grants::expiry(s))),
    case("grants: nobody gives what it has not", |s| Box::pin(grants::no_escalation(s))),
    case("grants: lists show what may be seen", |s| Box::pin(grants::lists(s))),
    case("audit: grants and denials", |s| Box::pin(grants::audit(s))),
    case("methods × roles", |s| Box::pin(methods::walk(s))),
    case("methods: unknown ones", |s| Box::pin(methods::unknown(s))),
    case("http: a token is needed", |s| Box::pin(http::unauthenticated(s))),
    case("http: JSON in and out", |s| Box::pin(http::round_trip(s))),
    case("http: errors are JSON", |s| Box::pin(http::errors(s))),
    case("http: OpenAPI names every method", |s| Box::pin(http::openapi(s))),
    case("http: internal headers are stripped", |s| Box::pin(http::forged_headers(s))),
    case("grpc: reflection and health", |s| Box::pin(http::reflection_and_health(s))),
    case("operations: health, readiness, metrics", |s| Box::pin(http::operations(s))),
    case("flight: a table comes back equal", |s| Box::pin(flight::round_trip(s))),
    case("flight: columns, filter, limit, version", |s| Box::pin(flight::commands(s))),
    case("flight: handshake", |s| Box::pin(flight::handshake(s))),
    case("flight: lists and actions", |s| Box::pin(flight::lists(s))),
    case("flight: tickets are no credentials", |s| Box::pin(flight::tickets(s))),
    case("flight: descriptors that lead nowhere", |s| Box::pin(flight::bad_descriptors(s))),
    case("puts: append, overwrite", |s| Box::pin(puts::modes(s))),
    case("puts: one commit for one key", |s| Box::pin(puts::idempotent(s))),
    case("puts: a key twice", |s| Box::pin(puts::duplicate_keys(s))),
    case("puts: cut streams commit nothing", |s| Box::pin(puts::truncated(s))),
    case("puts: schemas that do not fit", |s| Box::pin(puts::schemas(s))),
    case("puts: many writers, no row lost", |s| Box::pin(puts::at_once(s))),
    case("puts: who may", |s| Box::pin(puts::permissions(s))),
    case("puts: garbage on the wire", |s| Box::pin(puts::garbage(s))),
    case("frames: that lie", |s| Box::pin(frames::lies(s))),
    case("items: pages are the scan", |s| Box::pin(items::pages(s))),
    case("items: pages under writes", |s| Box::pin(items::pages_under_writes(s))),
    case("items: page tokens are bound", |s| Box::pin(items::page_tokens(s))),
    case("items: look-up, count, statistics", |s| Box::pin(items::look_up(s))),
    case("items: filters", |s| Box::pin(items::filters(s))),
    case("items: filters refused", |s| Box::pin(items::bad_filters(s))),
    case("files: located, scanned, found, forgotten", |s| Box::pin(files::lifecycle(s))),
    case("files: a grant on the location decides", |s| Box::pin(files::permissions(s))),
    case("files: a watched root goes away and comes back", |s| Box::pin(files::watched_root(s))),
    case("files: the command line's shapes", |s| Box::pin(files::command_line(s))),
    case("files: a folder becomes a dataset and its next version", |s| {
        Box::pin(file_datasets::folders(s))
    }),
    case("files: a broken sidecar takes nothing from a dataset", |s| {
        Box::pin(file_datasets::broken_sidecars(s))
    }),
    case("files: who may not import", |s| Box::pin(file_datasets::refusals(s))),
    case("files: the change log", |s| Box::pin(file_datasets::changes(s))),
    case("agent: a network that breaks loses nothing", |s| {
        Box::pin(file_agents::broken_network(s))
    }),
    case("agent: scans when it is asked", |s| Box::pin(file_agents::asked(s))),
    case("agent: a hostile one is refused", |s| Box::pin(file_agents::hostile(s))),
    case("agent: its own locations alone", |s| Box::pin(file_agents::strangers(s))),
    case("agent: goes on after each message", |s| Box::pin(file_agents::resumed(s))),
    case("jobs: names and lists", |s| Box::pin(files::jobs(s))),
    case("items: any order, both ways", |s| Box::pin(analysis::orders(s))),
    case("items: summaries, facets, samples, plans", |s| Box::pin(analysis::looks(s))),
    case("items: the same from the command line", |s| Box::pin(analysis::other_doors(s))),
    case("edits: made, seen, flushed, rolled back", |s| Box::pin(edits::lifecycle(s))),
    case("edits: two writers on one item", |s| Box::pin(edits::conflicts(s))),
    case("edits: batches, whole and once", |s| Box::pin(edits::batches(s))),
    case("edits: by filter, few and many", |s| Box::pin(edits::by_filter(s))),
    case("edits: puts that upsert and delete", |s| Box::pin(edits::puts(s))),
    case("edits: puts of some columns", |s| Box::pin(edits::partial_upserts(s))),
    case("edits: with puts and versions at once", |s| Box::pin(edits::at_once(s))),
    case("edits: who may", |s| Box::pin(edits::permissions(s))),
    case("edits: over HTTP", |s| Box::pin(edits::http(s))),
    case("edits: tags and marks of items", |s| Box::pin(edits::tags(s))),
    case("unique: no door brings a value twice", |s| Box::pin(unique::doors(s))),
    case("unique: of two writers one brings it", |s| Box::pin(unique::at_once(s))),
    case("unique: declared later, over JSON", |s| Box::pin(unique::declared(s))),
    case("unique: from the command line", |s| Box::pin(unique::command_line(s))),
    case("sql: queries agree with the rows", |s| Box::pin(sql::queries(s))),
    case("sql: nothing written, nothing secret read", |s| Box::pin(sql::refused(s))),
    case("sql: handles are bound and pinned", |s| Box::pin(sql::handles(s))),
    case("sql: metadata shows what may be seen", |s| Box::pin(sql::metadata(s))),
    case("sql: an ingest is a put", |s| Box::pin(sql::ingest(s))),
    case("sql: over JSON", |s| Box::pin(sql::over_json(s))),
    case("reads: saved filters by name", |s| Box::pin(reads::saved_filters(s))),
    case("reads: flights in an order", |s| Box::pin(reads::ordered_flights(s))),
    case("reads: exports are the pages", |s| Box::pin(reads::exports(s))),
    case("reads: placeholders and thumbnails", |s| Box::pin(reads::placeholders(s))),
    case("reads: files by parts and by items", |s| Box::pin(reads::files_in_parts(s))),
    case("cli: import, list, count, export", |s| Box::pin(cli::round_trip(s))),
    case("cli: a bad row imports nothing", |s| Box::pin(cli::bad_rows(s))),
    case("cli: a cell of five gigabytes", |s| Box::pin(cli::huge_cell(s))),
    case("cli: exit codes", |s| Box::pin(cli::exit_codes(s))),
    case("vectors: in and out, nearest first", |s| Box::pin(vectors::round_trip(s))),
    case("vectors: who may", |s| Box::pin(vectors::permissions(s))),
    case("vectors: a dataset's own", |s| Box::pin(vectors::load(s))),
    case("vectors: halves of a dataset", |s| Box::pin(vectors::halves(s))),
    case("vectors: FAISS in and out", |s| Box::pin(retrieval::faiss(s))),
    case("vectors: images, generations, contexts", |s| Box::pin(retrieval::generations(s))),
    case("vectors: command line", |s| Box::pin(vectors::command_line(s))),
    case("models: made, found, counted, deleted", |s| Box::pin(models::lifecycle(s))),
    case("models: many at once", |s| Box::pin(models::at_once(s))),
    case("models: files resumed, and none outside", |s| Box::pin(models::files(s))),
    case("models: who may", |s| Box::pin(models::permissions(s))),
    case("models: command line", |s| Box::pin(models::command_line(s))),
    case("models: what loading would run", |s| Box::pin(model_trust::scans(s))),
    case("models: a cancelled scan", |s| Box::pin(model_trust::cancelled(s))),
    case("models: headers", |s| Box::pin(model_trust::inspects(s))),
    case("models: signatures", |s| Box::pin(model_trust::signatures(s))),
    case("models: signatures without a key", |s| Box::pin(model_trust::keyless(s))),
    case("models: signed addresses", |s| Box::pin(model_doors::signed(s))),
    case("models: imported once", |s| Box::pin(model_doors::imports(s))),
    case("models: numbers brought along", |s| Box::pin(model_doors::numbers(s))),
    case("models: a namespace holds them", |s| Box::pin(model_doors::namespaces(s))),
    case("models: MLflow's refusals", |s| Box::pin(model_doors::mlflow_refusals(s))),
    case("models: created while deleted", |s| Box::pin(model_doors::created_while_deleted(s))),
    case("ops: who runs", |s| Box::pin(ops::info(s))),
    case("ops: settings without secrets", |s| Box::pin(ops::settings(s))),
    case("ops: databases counted", |s| Box::pin(ops::database(s))),
    case("ops: history within bounds", |s| Box::pin(ops::history(s))),
    case("ops: denials are audited", |s| Box::pin(ops::denials(s))),
    case("secrecy: no token in any log", |s| Box::pin(secrecy::canary(s))),
];
