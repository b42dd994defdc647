//! What a version holds, column by column.

use items_api::v1::GetStatisticsResponse;
use serde_json::{Value as Json, json};

use crate::output::CellJson;

/// The answer as JSON, with least and greatest values as plain cells.
pub fn json(answer: &GetStatisticsResponse) -> Json {
    let columns: Vec<_> = answer
        .columns
        .iter()
        .map(|column| {
            let cell = |value: &Option<_>| {
                value.as_ref().and_then(|value| serde_json::to_value(CellJson(value)).ok())
            };
            json!({
                "column": column.column,
                "null_count": column.null_count,
                "min": cell(&column.min),
                "max": cell(&column.max),
                "exact": column.exact,
            })
        })
        .collect();
    json!({
        "row_count": answer.row_count,
        "byte_count": answer.byte_count,
        "block_count": answer.block_count,
        "version": answer.version,
        "columns": columns,
    })
}
