//! Equal files of a directory of this machine, read here and now: no server, no index.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use file_scan::{Equal, EqualFiles, Root, RootError, WalkOptions, equal_files, names};
use serde::Serialize;
use service_error::ServiceError;

use super::super::Context;
use super::find::groups_table;
use crate::failure::Failure;

/// What could not be read is told by its name so often.
const PROBLEMS_TOLD: usize = 10;

/// As `ListDuplicates` answers; what the index alone knows is not there.
#[derive(Serialize)]
struct Answer {
    groups: Vec<Group>,
    wasted_bytes: i64,
    group_count: usize,
    file_count: usize,
    /// What could not be read, and so is in no group.
    unhashed_count: usize,
}

#[derive(Serialize)]
struct Group {
    content: String,
    size: i64,
    entries: Vec<Entry>,
    entry_count: usize,
    wasted_bytes: i64,
    verified: bool,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_raw: Option<String>,
    size: i64,
}

/// Prints the groups of a directory, the most wasteful first; `limit` of them, all if 0.
pub async fn duplicates(
    context: &Context,
    path: &Path,
    size_min: i64,
    limit: i32,
) -> Result<(), Failure> {
    let place = std::path::absolute(path)
        .map_err(|err| ServiceError::invalid("path", format!("{}: {err}", path.display())))?;
    let reading = tokio::task::spawn_blocking(move || {
        let root = Root::open(&place)?;
        let equal = equal_files(&root, &WalkOptions::default(), size_min);
        Ok::<_, RootError>((names::text(place.as_os_str().as_encoded_bytes()), equal))
    });
    let (root, equal) = reading
        .await
        .map_err(|err| ServiceError::internal("the files were not compared").caused_by(err))?
        .map_err(|err| ServiceError::invalid("path", err.to_string()))?;
    let problems = told(&equal);
    let answer = answer(root.trim_end_matches('/'), equal, usize::try_from(limit).unwrap_or(0));
    context.output.answer(&answer, || people(&answer))?;
    for problem in problems {
        context.output.hint(&problem);
    }
    Ok(())
}

fn told(equal: &Equal) -> Vec<String> {
    let named = equal.problems.iter().take(PROBLEMS_TOLD);
    let mut told: Vec<String> =
        named.map(|(path, why)| format!("{}: {why}", names::shown(&names::text(path)))).collect();
    if equal.problems.len() > told.len() {
        told.push(format!("and {} more could not be read", equal.problems.len() - told.len()));
    }
    told
}

fn answer(root: &str, equal: Equal, limit: usize) -> Answer {
    let limit = if limit == 0 { usize::MAX } else { limit };
    Answer {
        wasted_bytes: equal.groups.iter().map(EqualFiles::wasted).sum(),
        group_count: equal.groups.len(),
        file_count: equal.groups.iter().map(|group| group.paths.len()).sum(),
        unhashed_count: equal.problems.len(),
        groups: equal.groups.into_iter().take(limit).map(|group| shown(root, group)).collect(),
    }
}

fn shown(root: &str, group: EqualFiles) -> Group {
    let entry = |path: &Vec<u8>| {
        let path = format!("{root}/{}", names::text(path));
        let path_raw = (!names::is_plain(&path)).then(|| names::bytes(&path));
        Entry {
            path: names::shown(&path),
            path_raw: path_raw.map(|raw| BASE64_STANDARD.encode(raw)),
            size: group.size,
        }
    };
    Group {
        content: hex::encode(group.hash),
        size: group.size,
        entries: group.paths.iter().map(entry).collect(),
        entry_count: group.paths.len(),
        wasted_bytes: group.wasted(),
        verified: false,
    }
}

fn people(answer: &Answer) -> String {
    let groups = answer.groups.iter().map(|group| {
        let paths = group.entries.iter().map(|entry| entry.path.as_str()).collect();
        (group.wasted_bytes, group.size, paths)
    });
    let totals = format!(
        "{} groups, {} files, {} bytes wasted",
        answer.group_count, answer.file_count, answer.wasted_bytes
    );
    groups_table(groups, &totals)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_answer_has_the_shape_of_the_api() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(dir.path().join(name), if name == "c" { "else" } else { "same" })
                .unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let equal = equal_files(&root, &WalkOptions::default(), 0);
        let shown = serde_json::to_value(answer("/at", equal, 0)).unwrap();
        let content = shown["groups"][0]["content"].as_str().unwrap().to_owned();
        let entry = |path: &str| serde_json::json!({"path": path, "size": 4});
        let wanted = serde_json::json!({
            "groups": [{
                "content": content, "size": 4, "entries": [entry("/at/a"), entry("/at/b")],
                "entry_count": 2, "wasted_bytes": 4, "verified": false,
            }],
            "wasted_bytes": 4, "group_count": 1, "file_count": 2, "unhashed_count": 0,
        });
        assert_eq!((shown, content.len()), (wanted, 64));
    }
}
