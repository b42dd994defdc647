//! What MLflow's names and values may be, in its own words.

use crate::json::compact;
use crate::path::normpath;
use crate::{ErrorCode, MlflowError, Result};

/// Characters of a run tag's value.
pub const RUN_TAG_VALUE_MAX: usize = 8_000;
/// Characters of a parameter's value.
pub const PARAM_VALUE_MAX: usize = 6_000;
/// Characters of an experiment tag's value.
pub const EXPERIMENT_TAG_VALUE_MAX: usize = 20_000;
/// Characters of a model's or version's tag value.
pub const REGISTRY_TAG_VALUE_MAX: usize = 100_000;
/// Characters of any key.
pub const KEY_MAX: usize = 250;
const ALIAS_MAX: usize = 255;
const EXPERIMENT_NAME_MAX: usize = 500;
const RUN_ID_MAX: usize = 256;
const WEBHOOK_NAME_MAX: usize = 63;

const BAD_CHARACTERS: &str = "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), \
                              spaces ( ), colon(:) and slashes (/).";
const STAGES: [&str; 4] = ["None", "Staging", "Production", "Archived"];

fn invalid_value(path: &str, value: &str, message: &str) -> MlflowError {
    MlflowError::invalid(format!(
        "Invalid value {} for parameter '{path}' supplied: {message}",
        compact(&value)
    ))
}

/// "Missing value for required parameter …".
#[must_use]
pub fn missing_value(path: &str) -> MlflowError {
    MlflowError::invalid(format!("Missing value for required parameter '{path}'."))
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn resolves_elsewhere(name: &str) -> Option<String> {
    let normal = normpath(name);
    let elsewhere =
        normal != name || normal == "." || normal.starts_with("..") || normal.starts_with('/');
    elsewhere.then(|| {
        format!(
            "Names may be treated as files in certain cases, and must not resolve to other names \
             when treated as such. This name would resolve to '{normal}'"
        )
    })
}

/// A name of a metric, parameter or tag.
///
/// # Errors
/// Characters that MLflow refuses, or a name that is another's as a path.
pub fn key(name: &str, path: &str) -> Result<()> {
    if name.chars().any(|letter| !is_word(letter) && !"/.- :".contains(letter)) {
        return Err(invalid_value(path, name, BAD_CHARACTERS));
    }
    match resolves_elsewhere(name) {
        Some(why) => Err(invalid_value(path, name, &why)),
        None => Ok(()),
    }
}

/// At most so many characters.
///
/// # Errors
/// "'…' exceeds the maximum length of … characters".
pub fn length(what: &str, limit: usize, value: &str) -> Result<()> {
    if value.len() <= limit || value.chars().count() <= limit {
        return Ok(());
    }
    Err(MlflowError::invalid(format!("'{what}' exceeds the maximum length of {limit} characters")))
}

/// The first so many characters: long values of parameters and run tags are
/// cut, as MLflow cuts them.
#[must_use]
pub fn cut(value: &str, limit: usize) -> &str {
    match value.char_indices().nth(limit) {
        Some((end, _)) => &value[..end],
        None => value,
    }
}

/// A registered model's name.
///
/// # Errors
/// Empty, with `/` or `:`, or another's as a path.
pub fn model(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(missing_value("name"));
    }
    if name.contains(['/', ':']) {
        return Err(MlflowError::invalid(format!(
            "Invalid model name '{name}'. Names cannot contain '/' or ':'."
        )));
    }
    match resolves_elsewhere(name) {
        Some(why) => Err(invalid_value("name", name, &why)),
        None => Ok(()),
    }
}

/// A version's number.
///
/// # Errors
/// No integer.
pub fn version(text: &str) -> Result<i64> {
    text.trim().parse().map_err(|_| {
        MlflowError::invalid(format!("Parameter 'version' must be an integer, got '{text}'."))
    })
}

/// A name by which a version is also known.
///
/// # Errors
/// Empty, too long, or with other characters than word characters and `-`.
pub fn alias(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(MlflowError::invalid("Registered model alias name cannot be empty."));
    }
    if name.chars().any(|letter| !is_word(letter) && letter != '-') {
        return Err(MlflowError::invalid(format!(
            "Invalid alias name: '{name}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )));
    }
    length("Registered model alias name", ALIAS_MAX, name)
}

/// An alias that may be set: not `latest`, not `v12`.
///
/// # Errors
/// A reserved name.
pub fn alias_is_free(name: &str) -> Result<()> {
    if name.eq_ignore_ascii_case("latest") {
        return Err(MlflowError::invalid("'latest' alias name (case insensitive) is reserved."));
    }
    let number = name.strip_prefix(['v', 'V']).unwrap_or_default();
    if !number.is_empty() && number.chars().all(char::is_numeric) {
        return Err(MlflowError::invalid(format!("Version alias name '{name}' is reserved.")));
    }
    Ok(())
}

/// A tag of a model or of a version.
///
/// # Errors
/// As [`key`] and [`length`].
pub fn registry_tag(name: &str, value: &str) -> Result<()> {
    key(name, "key")?;
    length("key", KEY_MAX, name)?;
    length("value", REGISTRY_TAG_VALUE_MAX, value)
}

/// A tag of an experiment.
///
/// # Errors
/// As [`key`] and [`length`].
pub fn experiment_tag(name: &str, value: &str) -> Result<()> {
    key(name, "key")?;
    length("key", KEY_MAX, name)?;
    length("value", EXPERIMENT_TAG_VALUE_MAX, value)
}

/// An experiment's name.
///
/// # Errors
/// Empty or too long.
pub fn experiment(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(MlflowError::invalid("Invalid experiment name: ''"));
    }
    length("name", EXPERIMENT_NAME_MAX, name)
}

/// An experiment's id.
///
/// # Errors
/// No integer.
pub fn experiment_id(text: &str) -> Result<i64> {
    text.trim().parse().map_err(|_| {
        MlflowError::invalid(format!(
            "Invalid experiment ID '{text}'. Experiment ID must be a valid integer."
        ))
    })
}

/// A run's id.
///
/// # Errors
/// Other than 1 to 256 word characters and `-`, the first alphanumeric.
pub fn run_id(text: &str) -> Result<()> {
    let mut letters = text.chars();
    let begins = letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric());
    if begins && text.chars().count() <= RUN_ID_MAX && letters.all(|l| is_word(l) || l == '-') {
        return Ok(());
    }
    Err(MlflowError::invalid(format!(
        "Invalid value {} for parameter 'run_id' supplied.",
        compact(&text)
    )))
}

/// A webhook's name.
///
/// # Errors
/// Other than 1 to 63 letters, digits, `.`, `_` and `-`, the first and the last a
/// letter or a digit.
pub fn webhook(name: &str) -> Result<()> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric();
    let fits = (1..=WEBHOOK_NAME_MAX).contains(&name.chars().count())
        && name.starts_with(is_plain)
        && name.ends_with(is_plain)
        && name.chars().all(|letter| is_plain(letter) || "._-".contains(letter));
    if fits {
        return Ok(());
    }
    Err(MlflowError::invalid(format!(
        "Webhook name '{name}' is invalid. It must start and end with a letter or digit, be less than 63 characters \
         long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
    )))
}

/// A stage in its own spelling.
///
/// # Errors
/// None of the four.
pub fn stage(text: &str) -> Result<&'static str> {
    STAGES.into_iter().find(|stage| stage.eq_ignore_ascii_case(text)).ok_or_else(|| {
        MlflowError::invalid(format!(
            "Invalid Model Version stage: {text}. Value must be one of {}.",
            STAGES.join(", ")
        ))
    })
}

/// Whether versions in the stage count as in use.
///
/// # Errors
/// `INTERNAL_ERROR`, as in MLflow, for archiving into a stage that is not.
pub fn may_archive(stage: &str, asked: &str) -> Result<()> {
    // A stage of the namespace's own is in use like these two.
    if !matches!(stage, "None" | "Archived") {
        return Ok(());
    }
    Err(MlflowError::new(
        ErrorCode::InternalError,
        format!(
            "Model version transition cannot archive existing model versions because '{asked}' is not an Active stage. \
             Valid stages are ['Staging', 'Production']"
        ),
    ))
}
