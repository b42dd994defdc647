//! What each kind of thing can be searched by.

/// The names and rules of one search.
#[derive(Debug)]
pub struct Dialect {
    /// Attributes of a filter.
    pub attributes: &'static [&'static str],
    /// Of them, and of the orders, those that are numbers.
    pub numeric: &'static [&'static str],
    /// Attributes of an order.
    pub orders: &'static [&'static str],
    /// Attributes that take a list; none: all of them.
    pub lists: Option<&'static [&'static str]>,
    /// Metrics, parameters and datasets beside attributes and tags.
    pub has_measures: bool,
    /// Whether a key can be asked to be there or not.
    pub has_null: bool,
    /// Comparators of numbers are told apart from those of texts late, by the
    /// query; the registry's two searches.
    pub is_registry: bool,
    /// Attributes compared with numbers; the version search.
    pub takes_numbers: bool,
    /// Words that are no clause are shown in quotes.
    pub quotes_invalid: bool,
}

const RUN_ATTRIBUTES: &[&str] = &[
    "Created",
    "Run Name",
    "Run name",
    "artifact_uri",
    "created",
    "end_time",
    "run name",
    "run_id",
    "run_name",
    "start_time",
    "status",
    "user_id",
];

/// `runs/search`.
pub static RUNS: Dialect = Dialect {
    attributes: RUN_ATTRIBUTES,
    numeric: &["start_time", "end_time", "created", "Created"],
    orders: &[
        "Created",
        "artifact_uri",
        "created",
        "end_time",
        "run_id",
        "run_name",
        "start_time",
        "status",
        "user_id",
    ],
    lists: Some(&["run_id"]),
    has_measures: true,
    has_null: true,
    is_registry: false,
    takes_numbers: false,
    quotes_invalid: true,
};

/// `experiments/search`.
pub static EXPERIMENTS: Dialect = Dialect {
    attributes: &["creation_time", "experiment_id", "last_update_time", "name"],
    numeric: &["creation_time", "last_update_time"],
    orders: &["creation_time", "experiment_id", "last_update_time", "name"],
    lists: Some(&["experiment_id"]),
    has_measures: false,
    has_null: true,
    is_registry: false,
    takes_numbers: false,
    quotes_invalid: false,
};

/// `registered-models/search`.
pub static MODELS: Dialect = Dialect {
    attributes: &["name"],
    numeric: &["creation_timestamp", "last_updated_timestamp"],
    orders: &["last_updated_timestamp", "name", "timestamp"],
    lists: Some(&["name"]),
    has_measures: false,
    has_null: false,
    is_registry: true,
    takes_numbers: false,
    quotes_invalid: false,
};

/// `model-versions/search`.
pub static VERSIONS: Dialect = Dialect {
    attributes: &["name", "run_id", "source_path", "version_number"],
    numeric: &["creation_timestamp", "last_updated_timestamp", "version_number"],
    orders: &["creation_timestamp", "last_updated_timestamp", "name", "version_number"],
    lists: Some(&["name", "run_id"]),
    has_measures: false,
    has_null: false,
    is_registry: true,
    takes_numbers: true,
    quotes_invalid: false,
};

const LOGGED_MODEL_ATTRIBUTES: &[&str] = &[
    "creation_time",
    "creation_timestamp",
    "last_updated_time",
    "last_updated_timestamp",
    "model_id",
    "model_type",
    "name",
    "source_run_id",
    "status",
];

/// `logged-models/search`.
pub static LOGGED_MODELS: Dialect = Dialect {
    attributes: LOGGED_MODEL_ATTRIBUTES,
    numeric: &[
        "creation_timestamp",
        "creation_time",
        "last_updated_timestamp",
        "last_updated_time",
    ],
    orders: LOGGED_MODEL_ATTRIBUTES,
    lists: None,
    has_measures: true,
    has_null: false,
    is_registry: false,
    takes_numbers: false,
    quotes_invalid: true,
};

/// A list of texts as Python prints it.
pub fn python_list(texts: &[String]) -> String {
    let quoted = texts.iter().map(|text| {
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        format!("{quote}{text}{quote}")
    });
    format!("[{}]", quoted.collect::<Vec<_>>().join(", "))
}

/// A set as Python prints it; sorted, since Python's own order is random.
pub fn python_set(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("{{{}}}", quoted.join(", "))
}
