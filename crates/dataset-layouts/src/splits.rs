//! Names of splits.

/// The split that a word names: `train2017`, `val`, `testing`.
pub fn split_of(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    match word.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "train" | "training" => Some("train"),
        "val" | "valid" | "validation" | "dev" => Some("validation"),
        "test" | "testing" => Some("test"),
        _ => None,
    }
}

/// The split that a directory of a path names.
pub fn split_in(path: &str) -> Option<&'static str> {
    let (dirs, _) = path.rsplit_once('/')?;
    dirs.split('/').find_map(split_of)
}

/// The split in a file's name: `instances_train2017.json`, `shard-train-000.tar`.
pub fn split_in_name(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split(['_', '-', '.']).find_map(split_of).or_else(|| split_in(path))
}
