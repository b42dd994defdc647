//! Tables for people.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde_json::Value as Json;

/// A column: its title and where its cells are in the JSON (`a.b` descends).
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Above the column.
    pub title: &'static str,
    /// Within each row.
    pub path: &'static str,
}

/// A column of a table.
pub const fn column(title: &'static str, path: &'static str) -> Column {
    Column { title, path }
}

/// Rows of JSON as a table.
pub fn table(columns: &[Column], rows: &[Json]) -> String {
    let mut table = plain(columns.iter().map(|column| column.title));
    for row in rows {
        table.add_row(columns.iter().map(|column| cell(at(row, column.path))));
    }
    trimmed(&table)
}

/// Rows of text as a table.
pub fn text_table(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = plain(titles.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|text| {
            let cell = Cell::new(one_line(text));
            // Numbers are compared digit under digit.
            if text.parse::<f64>().is_ok() {
                cell.set_alignment(CellAlignment::Right)
            } else {
                cell
            }
        }));
    }
    trimmed(&table)
}

fn plain<'a>(titles: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles.map(str::to_uppercase));
    table
}

fn trimmed(table: &Table) -> String {
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn at<'a>(row: &'a Json, path: &str) -> &'a Json {
    path.split('.').fold(row, |value, part| &value[part])
}

fn cell(value: &Json) -> Cell {
    match value {
        Json::Null => Cell::new(""),
        Json::String(text) => Cell::new(one_line(plain_word(text))),
        Json::Bool(value) => Cell::new(if *value { "yes" } else { "no" }),
        Json::Number(number) => Cell::new(number).set_alignment(CellAlignment::Right),
        Json::Array(words) if words.iter().all(Json::is_string) => {
            let words: Vec<&str> = words.iter().filter_map(Json::as_str).collect();
            Cell::new(one_line(&words.join(", ")))
        }
        other => Cell::new(one_line(&other.to_string())),
    }
}

/// `ROLE_ADMIN` reads `admin`.
fn plain_word(text: &str) -> &str {
    const WORDS: [(&str, &str); 20] = [
        ("ROLE_VIEWER", "viewer"),
        ("ROLE_USER", "user"),
        ("ROLE_ADMIN", "admin"),
        ("LEVEL_READ", "read"),
        ("LEVEL_WRITE", "write"),
        ("LEVEL_ADMIN", "admin"),
        ("LEVEL_OWNER", "owner"),
        ("PROFILE_ITEMS", "items"),
        ("PROFILE_TABLE", "table"),
        ("PRINCIPAL_KIND_USER", "person"),
        ("PRINCIPAL_KIND_SERVICE_ACCOUNT", "service account"),
        ("TOKEN_SCOPE_FULL", "full"),
        ("TOKEN_SCOPE_READ_ONLY", "read-only"),
        ("RESOURCE_KIND_NAMESPACE", "namespace"),
        ("JOB_STATE_QUEUED", "queued"),
        ("JOB_STATE_RUNNING", "running"),
        ("JOB_STATE_PAUSED", "paused"),
        ("JOB_STATE_COMPLETED", "completed"),
        ("JOB_STATE_FAILED", "failed"),
        ("JOB_STATE_CANCELLED", "cancelled"),
    ];
    WORDS.iter().find(|(word, _)| *word == text).map_or(text, |(_, plain)| plain)
}

/// Without line breaks and control characters, and cut where nobody reads on.
pub(super) fn one_line(text: &str) -> String {
    const WIDTH_MAX: usize = 48;
    let mut line: String =
        text.chars().take(WIDTH_MAX + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() > WIDTH_MAX {
        line = line.chars().take(WIDTH_MAX - 1).chain(['…']).collect();
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_read_by_path_and_kept_on_one_line() {
        let rows = [
            json!({"name": "a\nb\u{1b}[31m", "latest": {"number": 7}, "public": true}),
            json!({"name": "x".repeat(100)}),
        ];
        let text = table(
            &[
                column("name", "name"),
                column("version", "latest.number"),
                column("public", "public"),
            ],
            &rows,
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("NAME") && lines[0].ends_with("PUBLIC"));
        assert!(lines[1].starts_with("a b [31m") && lines[1].ends_with("yes"));
        assert!(lines[2].contains('…') && !text.contains('\u{1b}'));
    }

    #[test]
    fn enums_read_as_words() {
        assert!(
            table(&[column("role", "role")], &[json!({"role": "ROLE_ADMIN"})]).ends_with("admin")
        );
    }
}
