//! What is allowed, as tables. A new service is new rows; an exception carries its reason.

/// A room inside a service: where it is and the words that may not stand in it.
#[derive(Debug)]
pub struct Room {
    /// A directory or file below `src/`.
    pub name: &'static str,
    /// Token sequences, `::` between spaces.
    pub without: &'static [&'static str],
}

/// DESIGN §1: the same rooms in every service.
pub const ROOMS: &[Room] = &[
    Room { name: "lib.rs", without: &["sea_orm", "sqlx"] },
    Room { name: "settings.rs", without: &["env ::", "tonic", "sea_orm"] },
    Room { name: "grpc", without: &["sea_orm", "sqlx", "crate :: store"] },
    Room { name: "http", without: &["sea_orm", "sqlx", "crate :: store", "tonic"] },
    Room { name: "app", without: &["tonic", "sea_orm", "sqlx", "axum"] },
    Room {
        name: "model",
        without: &[
            "tonic",
            "sea_orm",
            "sqlx",
            "tokio",
            "async",
            "await",
            "object_store",
            "std :: fs",
        ],
    },
    Room {
        name: "store",
        without: &[
            "tonic",
            "axum",
            "identity_api",
            "catalog_api",
            "items_api",
            "vectors_api",
            "models_api",
            "crate :: app",
        ],
    },
    Room { name: "jobs", without: &["tonic", "sea_orm", "sqlx", "axum", "crate :: store"] },
];

/// Services made of these rooms and nothing else at the top of `src/`.
pub const SERVICES: &[&str] =
    &["catalog", "file-indexer", "identity", "item-store", "model-registry", "vector-search"];

/// Rooms that outgrew their service's crate, each with the service: the same rules, another crate.
pub const ROOMS_APART: &[(&str, &str)] = &[
    ("catalog-model", "catalog"),
    ("file-imports", "file-indexer"),
    ("file-model", "file-indexer"),
    ("file-records", "file-indexer"),
    ("file-schema", "file-indexer"),
    ("files-agent", "quarry"),
    ("item-garbage", "item-store"),
    ("item-manifests", "item-store"),
    ("item-model", "item-store"),
    ("item-operations", "item-store"),
    ("item-records", "item-store"),
    ("item-settings", "item-store"),
    ("model-commands", "quarry"),
    ("model-import", "quarry"),
    ("quarry-client", "quarry"),
    ("mlflow-surface", "model-registry"),
    ("model-operations", "model-registry"),
    ("model-records", "model-registry"),
    ("registry-model", "model-registry"),
    ("vector-commands", "quarry"),
    ("vector-records", "vector-search"),
    ("vector-wire", "vector-search"),
];

/// Crates on the services' floor that are no such service, and why.
pub const OTHER_SERVICES: &[(&str, &str)] = &[
    ("gateway", "holds no data: its rooms are the lanes of DESIGN §9"),
    ("quarry", "the binary: the command line and the composition of the services"),
];

/// (file, word of its room's list, reason).
pub const ROOM_EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Names that say nothing about what is inside.
pub const EMPTY_NAMES: &[&str] =
    &["common", "core", "helper", "helpers", "misc", "shared", "types", "util", "utils"];

/// One of each is compiled. The lock file may list another one that nothing builds:
/// sea-orm's optional `sea-orm-arrow` names arrow 60.
pub const ONE_VERSION: &[&str] = &[
    "arrow",
    "arrow-array",
    "arrow-flight",
    "arrow-schema",
    "axum",
    "http",
    "hyper",
    "object_store",
    "parquet",
    "prost",
    "rustls",
    "sea-orm",
    "sqlx-core",
    "tokio",
    "tonic",
];

/// Where the environment may be read: settings, and what is no part of the server.
pub const ENVIRONMENT_READERS: &[&str] = &["crates/settings", "crates/xtask", "crates/proto-build"];

/// At most this many other workspace crates below one small crate.
pub const DEPENDENCIES_MAX: usize = 8;

/// Lines of one file, of one function, of one crate (STYLE ★).
pub const FILE_LINES_MAX: usize = 800;
/// Lines of one function, signature and braces included.
pub const FUNCTION_LINES_MAX: usize = 70;
/// Lines of one crate, tests included.
pub const CRATE_LINES_MAX: usize = 8_000;
/// Of a crate's `pub` items, how many have a doc comment.
pub const DOCUMENTED_PERCENT_MIN: usize = 60;
/// Lines of a crate's README.
pub const README_LINES: std::ops::RangeInclusive<usize> = 5..=30;
