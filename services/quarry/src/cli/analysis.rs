//! `quarry items describe|preview|stats|facets|sample|explain`.

use clap::{Subcommand, ValueEnum};
use items_api::v1::explain_items_request::Operation;
use items_api::v1::{
    ColumnSummary, DescribeItemsRequest, ExplainItemsRequest, GetFacetsRequest, Item,
    PreviewItemsRequest, SampleItemsRequest, SummarizeItemsRequest,
};
use serde_json::{Value as Json, json};

use super::Context;
use super::items::Rows;
use crate::client::version::DatasetName;
use crate::failure::Failure;
use crate::output::{CellJson, RowJson, cell_text, message_json, text_table};

#[derive(Debug, Subcommand)]
pub enum AnalysisCommand {
    /// Columns with what is known of each without reading rows
    Describe {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        /// A number or an alias [default: the newest]
        #[arg(long, value_name = "V", default_value = "")]
        version: String,
    },
    /// The first 20 rows
    Preview {
        #[arg(value_name = "NAMESPACE/DATASET")]
        dataset: DatasetName,
        /// A number or an alias [default: the newest]
        #[arg(long, value_name = "V", default_value = "")]
        version: String,
        /// Only these columns
        #[arg(long, value_name = "C,…", value_delimiter = ',')]
        columns: Vec<String>,
    },
    /// Counts, distinct values, bounds, mean, quantiles and frequent values of columns
    Stats {
        #[command(flatten)]
        rows: Rows,
        /// Only these columns
        #[arg(long, value_name = "C,…", value_delimiter = ',')]
        columns: Vec<String>,
        /// So many of the most frequent values
        #[arg(long, value_name = "N", default_value_t = 5)]
        top: i32,
        /// So many bins of equal width (JSON output)
        #[arg(long, value_name = "N", default_value_t = 0)]
        histogram: i32,
    },
    /// Rows grouped by the value of a column
    Facets {
        #[command(flatten)]
        rows: Rows,
        /// The column whose values make the groups
        #[arg(long, value_name = "C")]
        by: String,
        /// Columns of numbers to measure by group
        #[arg(long, value_name = "C,…", value_delimiter = ',')]
        measure: Vec<String>,
        /// The largest groups
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: i32,
    },
    /// Rows drawn at random, the same ones for the same seed
    Sample {
        #[command(flatten)]
        rows: Rows,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        size: i32,
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Only these columns
        #[arg(long, value_name = "C,…", value_delimiter = ',')]
        columns: Vec<String>,
    },
    /// What a list or a count reads and skips
    Explain {
        #[command(flatten)]
        rows: Rows,
        /// What is done
        #[arg(long, value_enum, default_value_t = Explained::List)]
        operation: Explained,
        /// The order of the list
        #[arg(long, value_name = "O", default_value = "")]
        order_by: String,
        /// Rows that the list passes over
        #[arg(long, value_name = "N", default_value_t = 0)]
        skip: i64,
    },
}

/// What can be explained.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Explained {
    /// A page of 100 rows
    List,
    /// A count
    Count,
}

impl AnalysisCommand {
    /// Asks the item store.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Describe { dataset, version } => describe(context, dataset, version).await,
            Self::Preview { dataset, version, columns } => {
                let DatasetName { namespace, dataset } = dataset;
                let request = PreviewItemsRequest { namespace, dataset, version, columns };
                let page = context.client()?.analysis().preview_items(request).await?.into_inner();
                rows_answer(context, &page.columns, &page.items)?;
                context.output.text(&format!("{} rows", page.row_count))
            }
            Self::Stats { rows, columns, top, histogram } => {
                let request = SummarizeItemsRequest {
                    namespace: rows.dataset.namespace,
                    dataset: rows.dataset.dataset,
                    version: rows.version,
                    filter: rows.filter,
                    columns,
                    top,
                    histogram_bins: histogram,
                    quantiles: Vec::new(),
                };
                stats(context, request).await
            }
            Self::Facets { rows, by, measure, limit } => {
                let request = GetFacetsRequest {
                    namespace: rows.dataset.namespace,
                    dataset: rows.dataset.dataset,
                    version: rows.version,
                    filter: rows.filter,
                    column: by,
                    measures: measure,
                    limit,
                };
                facets(context, request).await
            }
            Self::Sample { rows, size, seed, columns } => {
                let request = SampleItemsRequest {
                    namespace: rows.dataset.namespace,
                    dataset: rows.dataset.dataset,
                    version: rows.version,
                    filter: rows.filter,
                    columns,
                    size,
                    seed,
                };
                let page = context.client()?.analysis().sample_items(request).await?.into_inner();
                rows_answer(context, &page.columns, &page.items)
            }
            Self::Explain { rows, operation, order_by, skip } => {
                let operation = match operation {
                    Explained::List => Operation::List,
                    Explained::Count => Operation::Count,
                };
                let request = ExplainItemsRequest {
                    namespace: rows.dataset.namespace,
                    dataset: rows.dataset.dataset,
                    version: rows.version,
                    filter: rows.filter,
                    operation: operation as i32,
                    order_by,
                    skip,
                    ..ExplainItemsRequest::default()
                };
                explain(context, request).await
            }
        }
    }
}

fn rows_answer(
    context: &Context,
    columns: &[catalog_api::v1::Column],
    items: &[Item],
) -> Result<(), Failure> {
    let rows: Vec<_> = items.iter().map(|item| RowJson { columns, values: &item.values }).collect();
    context.output.answer(&json!({ "items": rows }), || {
        let titles: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        text_table(&titles, items.iter().map(|item| item.values.iter().map(cell_text).collect()))
    })
}

/// A cell as plain JSON.
fn plain(value: &Option<catalog_api::v1::Value>) -> Json {
    let cell = value.as_ref().and_then(|value| serde_json::to_value(CellJson(value)).ok());
    cell.unwrap_or(Json::Null)
}

/// A cell for people.
fn shown(value: &Option<catalog_api::v1::Value>) -> String {
    value.as_ref().map(cell_text).unwrap_or_default()
}

async fn describe(context: &Context, dataset: DatasetName, version: String) -> Result<(), Failure> {
    let DatasetName { namespace, dataset } = dataset;
    let request = DescribeItemsRequest { namespace, dataset, version };
    let answer = context.client()?.analysis().describe_items(request).await?.into_inner();
    let columns: Vec<Json> = answer
        .columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name, "type": column.r#type, "nullable": column.nullable,
                "null_count": column.null_count, "min": plain(&column.min),
                "max": plain(&column.max), "exact": column.exact,
            })
        })
        .collect();
    let document = json!({
        "dataset_id": answer.dataset_id, "key_column": answer.key_column,
        "version": answer.version, "row_count": answer.row_count,
        "byte_count": answer.byte_count, "block_count": answer.block_count, "columns": columns,
    });
    context.output.answer(&document, || {
        let row = |column: &items_api::v1::DescribedColumn| {
            let nulls = column.null_count.to_string();
            vec![
                column.name.clone(),
                column.r#type.clone(),
                nulls,
                shown(&column.min),
                shown(&column.max),
            ]
        };
        let table =
            text_table(&["column", "type", "nulls", "min", "max"], answer.columns.iter().map(row));
        let (rows, bytes, blocks) = (answer.row_count, answer.byte_count, answer.block_count);
        format!(
            "{table}\n{rows} rows, {bytes} bytes in {blocks} blocks, version {}",
            answer.version
        )
    })
}

async fn stats(context: &Context, request: SummarizeItemsRequest) -> Result<(), Failure> {
    let answer = context.client()?.analysis().summarize_items(request).await?.into_inner();
    let columns: Vec<Json> = answer.columns.iter().map(summary_json).collect();
    let document = json!({
        "row_count": answer.row_count, "version": answer.version, "columns": columns,
    });
    context.output.answer(&document, || {
        let titles = ["column", "nulls", "distinct", "min", "median", "max", "mean", "top"];
        text_table(&titles, answer.columns.iter().map(summary_row))
    })
}

fn summary_json(column: &ColumnSummary) -> Json {
    let quantiles: Vec<Json> = column
        .quantiles
        .iter()
        .map(|one| json!({ "quantile": one.quantile, "value": plain(&one.value) }))
        .collect();
    let top: Vec<Json> = column
        .top
        .iter()
        .map(|one| json!({ "value": plain(&one.value), "count": one.count }))
        .collect();
    let histogram: Vec<Json> = column
        .histogram
        .iter()
        .map(|b| json!({ "begin": plain(&b.begin), "end": plain(&b.end), "count": b.count }))
        .collect();
    json!({
        "column": column.column, "type": column.r#type, "null_count": column.null_count,
        "distinct_count": column.distinct_count, "distinct_exact": column.distinct_exact,
        "min": plain(&column.min), "max": plain(&column.max), "mean": column.mean,
        "sum": column.sum, "quantiles": quantiles, "quantiles_exact": column.quantiles_exact,
        "top": top, "top_exact": column.top_exact, "counts_elements": column.counts_elements,
        "histogram": histogram,
    })
}

fn summary_row(column: &ColumnSummary) -> Vec<String> {
    let about = if column.distinct_exact { "" } else { "~" };
    let median = column.quantiles.iter().find(|one| (one.quantile - 0.5).abs() < 1e-9);
    let top: Vec<String> =
        column.top.iter().map(|one| format!("{} ({})", shown(&one.value), one.count)).collect();
    vec![
        column.column.clone(),
        column.null_count.to_string(),
        format!("{about}{}", column.distinct_count),
        shown(&column.min),
        median.map(|one| shown(&one.value)).unwrap_or_default(),
        shown(&column.max),
        column.mean.map(|mean| format!("{mean:.3}")).unwrap_or_default(),
        top.join(", "),
    ]
}

async fn facets(context: &Context, request: GetFacetsRequest) -> Result<(), Failure> {
    let measured = request.measures.clone();
    let answer = context.client()?.analysis().get_facets(request).await?.into_inner();
    let groups: Vec<Json> = answer
        .groups
        .iter()
        .map(|group| {
            let measures: Vec<Json> = group
                .measures
                .iter()
                .map(|m| {
                    json!({
                        "column": m.column, "count": m.count, "mean": m.mean, "min": m.min,
                        "max": m.max,
                    })
                })
                .collect();
            json!({
                "value": plain(&group.value), "row_count": group.row_count, "measures": measures,
            })
        })
        .collect();
    let document = json!({
        "groups": groups, "group_count": answer.group_count,
        "other_row_count": answer.other_row_count, "row_count": answer.row_count,
    });
    context.output.answer(&document, || {
        let mut titles = vec!["value".to_owned(), "rows".to_owned()];
        titles.extend(measured.iter().map(|column| format!("mean {column}")));
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        let row = |group: &items_api::v1::FacetGroup| {
            let mut row = vec![shown(&group.value), group.row_count.to_string()];
            let means = group.measures.iter();
            row.extend(means.map(|m| m.mean.map(|n| format!("{n:.3}")).unwrap_or_default()));
            row
        };
        text_table(&titles, answer.groups.iter().map(row))
    })
}

async fn explain(context: &Context, request: ExplainItemsRequest) -> Result<(), Failure> {
    let answer = context.client()?.analysis().explain_items(request).await?.into_inner();
    let document = message_json("quarry.items.v1.ExplainItemsResponse", &answer)?;
    context.output.answer(&document, || {
        let pair = |what: &str, read: i64, skipped: i64| {
            vec![what.to_owned(), read.to_string(), skipped.to_string()]
        };
        let table = text_table(
            &["", "read", "skipped"],
            [
                pair("blocks", answer.blocks_read, answer.blocks_skipped),
                pair("row groups", answer.row_groups_read, answer.row_groups_skipped),
                pair("pages", answer.pages_read, answer.pages_skipped),
            ],
        );
        format!(
            "{table}\n{} rows in {:.1} ms; {} requests, {} bytes; {} pieces decoded, {} in memory, \
             {} row groups by index",
            answer.row_count,
            answer.seconds * 1_000.0,
            answer.requests,
            answer.bytes,
            answer.pieces_decoded,
            answer.pieces_in_memory,
            answer.index_answers,
        )
    })
}
