//! What rows look like: descriptions, summaries, facets, samples, explanations.

use std::sync::Arc;
use std::time::Instant;

use analysis::{Facets, Histogram, Summary};
use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use blocks::{Keep, Tally};
use caller::Caller;
use catalog_api::v1::{Profile, Value};
use cells::{cell, columns_of, is_uuid, items_of, uuid_text};
use filter::Filter;
use items_api::v1::explain_items_request::Operation;
use items_api::v1::{
    ColumnSummary, DescribeItemsResponse, DescribedColumn, ExplainItemsRequest,
    ExplainItemsResponse, FacetGroup, FacetMeasure, FrequentValue, GetFacetsRequest,
    GetFacetsResponse, HistogramBin, Quantile, SummarizeItemsRequest, SummarizeItemsResponse,
};
use service_error::ServiceError;

use crate::app::App;
use crate::app::answers::{Room, too_much};
use crate::app::items::{ListRequest, RowPage, RowsRequest};
use crate::app::looking::Look;
use crate::app::manifest;
use crate::app::reading::Opened;
use crate::model::Address;

const PREVIEW_ROWS: i32 = 20;
const POSITIONS_MAX: usize = 10_000;
const SAMPLE_MAX: i32 = 10_000;
const LISTED_MAX: i32 = 1_000;
const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];
const QUANTILES_MAX: usize = 100;
/// Columns summed up side by side: bounds what is decoded at once.
const COLUMNS_MAX: usize = 1_000;

/// The service, for denials.
macro_rules! method {
    ($name:literal) => {
        concat!("quarry.items.v1.AnalysisService/", $name)
    };
}

impl App {
    /// Columns with what is known of each without reading rows.
    ///
    /// # Errors
    /// No such dataset.
    pub async fn describe_items(
        &self,
        caller: &Caller,
        address: &Address,
        version: &str,
    ) -> Result<DescribeItemsResponse, ServiceError> {
        let opened = self.open(caller, address, version, method!("DescribeItems")).await?;
        let look = self.look(caller, &opened, None, &Arc::default()).await?;
        let mut columns = Vec::with_capacity(opened.schema.fields().len());
        for field in opened.schema.fields() {
            let known = manifest::merged(look.blocks(), field.name())?;
            columns.push(DescribedColumn {
                name: field.name().clone(),
                r#type: field.data_type().to_string(),
                nullable: field.is_nullable(),
                null_count: known.null_count,
                min: shown_value(&opened, field, known.min),
                max: shown_value(&opened, field, known.max),
                exact: known.exact && look.is_whole(),
            });
        }
        let profile = if opened.items_profile { Profile::Items } else { Profile::Table };
        Ok(DescribeItemsResponse {
            dataset_id: opened.dataset.to_string(),
            profile: profile as i32,
            key_column: opened.key.clone(),
            version: opened.version,
            snapshot: opened.snapshot,
            row_count: count(look.row_count()),
            byte_count: opened.byte_count,
            block_count: opened.block_count,
            columns,
        })
    }

    /// The first rows, and how many there are.
    ///
    /// # Errors
    /// Columns that do not fit; no such dataset.
    pub async fn preview_items(
        &self,
        caller: &Caller,
        rows: RowsRequest,
    ) -> Result<(RowPage, i64), ServiceError> {
        let count = self.count_items(caller, &rows).await?.0;
        let page = self.list_items(caller, ListRequest::first(rows, PREVIEW_ROWS)).await?;
        Ok((page, count))
    }

    /// Sums up columns.
    ///
    /// # Errors
    /// A filter, columns or numbers that do not fit; no such dataset.
    pub async fn summarize_items(
        &self,
        caller: &Caller,
        request: &SummarizeItemsRequest,
    ) -> Result<SummarizeItemsResponse, ServiceError> {
        let address = Address::new(&request.namespace, &request.dataset)?;
        let top = bounded("top", request.top, 10)?;
        let bins = bounded("histogram_bins", request.histogram_bins, 0)?;
        let shares = shares(&request.quantiles)?;
        let opened =
            self.open(caller, &address, &request.version, method!("SummarizeItems")).await?;
        let (filter, schema) =
            (self.filter(&opened, &request.filter).await?, opened.project(&request.columns)?);
        if schema.fields().len() > COLUMNS_MAX {
            let message = format!("names at most {COLUMNS_MAX} columns at once");
            return Err(ServiceError::invalid("columns", message));
        }
        let look = self.look(caller, &opened, filter, &Arc::default()).await?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        let mut row_count = None;
        for field in schema.fields() {
            let summary = self.summary(&look, (&opened, field)).await?;
            row_count = Some(summary.rows);
            let asked = Asked { opened: &opened, field, top, shares: &shares };
            let mut column = asked.column(&summary)?;
            if bins > 0 {
                column.histogram = self.histogram(&look, &asked, &summary, bins).await?;
            }
            columns.push(column);
        }
        let row_count = i64::try_from(row_count.unwrap_or(0)).unwrap_or(i64::MAX);
        Ok(SummarizeItemsResponse { row_count, version: opened.version, columns })
    }

    /// A column's summary, kept where all rows were asked for.
    async fn summary(
        &self,
        look: &Look,
        (opened, field): (&Opened, &FieldRef),
    ) -> Result<Arc<Summary>, ServiceError> {
        if look.reading.filter.is_some() {
            return Ok(Arc::new(self.summed_up(look, field).await?));
        }
        let what = format!("summary {:?} {}", field.name(), field.data_type());
        self.kept.get_or(opened, what, Summary::memory_bytes, self.summed_up(look, field)).await
    }

    async fn summed_up(&self, look: &Look, field: &FieldRef) -> Result<Summary, ServiceError> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Arc::clone(field)]));
        let json = item_schema::is_json(field);
        let keep = Keep { name: "summary", bytes: Summary::memory_bytes };
        let parts = self
            .reader
            .each_group(
                look.blocks(),
                &look.reading,
                look.prune(),
                &schema,
                Some(keep),
                move |batch| Summary::of(batch.column(0), json).map_err(unreadable),
            )
            .await?;
        let mut all = Summary::empty(field.data_type());
        parts.iter().for_each(|part| all.merge(part));
        Ok(all)
    }

    async fn histogram(
        &self,
        look: &Look,
        asked: &Asked<'_>,
        summary: &Summary,
        bins: usize,
    ) -> Result<Vec<HistogramBin>, ServiceError> {
        let (Some(least), Some(greatest)) = (summary.least(), summary.greatest()) else {
            return Ok(Vec::new());
        };
        let Some((low, high)) = analysis::bins_of(least, greatest).map_err(unreadable)? else {
            return Ok(Vec::new());
        };
        let counted = self.binned(look, asked.field, (low, high, bins));
        let all = match look.reading.filter {
            Some(_) => Arc::new(counted.await?),
            None => {
                let what = format!("{} {:?}", bins_name((low, high, bins)), asked.field.name());
                self.kept.get_or(asked.opened, what, bins_bytes, counted).await?
            }
        };
        let width = (high - low) / bins as f64;
        let bound = |n: usize| asked.number(low + width * n as f64);
        (0..bins)
            .map(|bin| {
                Ok(HistogramBin {
                    begin: Some(bound(bin)?),
                    end: Some(if bin + 1 == bins { asked.number(high)? } else { bound(bin + 1)? }),
                    count: count(all.counts[bin]),
                })
            })
            .collect()
    }

    /// Counts by bin. Bins of the same bounds are kept by row group.
    async fn binned(
        &self,
        look: &Look,
        field: &FieldRef,
        (low, high, bins): (f64, f64, usize),
    ) -> Result<Histogram, ServiceError> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Arc::clone(field)]));
        let name = bins_name((low, high, bins));
        let keep = Keep { name: &name, bytes: bins_bytes };
        let count = move |batch: &RecordBatch| {
            let mut part = Histogram::new(low, high, bins);
            part.add(batch.column(0)).map_err(unreadable)?;
            Ok(part)
        };
        let parts = self
            .reader
            .each_group(look.blocks(), &look.reading, look.prune(), &schema, Some(keep), count)
            .await?;
        let mut all = Histogram::new(low, high, bins);
        parts.iter().for_each(|part| all.merge(part));
        Ok(all)
    }

    /// Rows by the value of a column.
    ///
    /// # Errors
    /// A filter or columns that do not fit; no such dataset.
    pub async fn facets(
        &self,
        caller: &Caller,
        request: &GetFacetsRequest,
    ) -> Result<GetFacetsResponse, ServiceError> {
        let address = Address::new(&request.namespace, &request.dataset)?;
        let limit = bounded("limit", request.limit, 20)?;
        let opened = self.open(caller, &address, &request.version, method!("GetFacets")).await?;
        let filter = self.filter(&opened, &request.filter).await?;
        let schema = grouped(&opened, &request.column, &request.measures)?;
        let look = self.look(caller, &opened, filter, &Arc::default()).await?;
        let grouped = self.grouped_rows(&look, &schema);
        let all = match look.reading.filter {
            Some(_) => Arc::new(grouped.await?),
            None => {
                let what = format!("facets {:?} {:?}", request.column, request.measures);
                self.kept.get_or(&opened, what, Facets::memory_bytes, grouped).await?
            }
        };
        let mut groups = Vec::new();
        for facet in all.top(limit).map_err(unreadable)? {
            let value = facet.value.map(|value| cell(&value, 0)).transpose()?;
            let value = shown_value(&opened, &schema.fields()[0], value).unwrap_or_default();
            let measures = request.measures.iter().zip(&facet.measures);
            groups.push(FacetGroup {
                value: Some(value),
                row_count: count(facet.rows),
                measures: measures
                    .map(|(column, measure)| {
                        let some = (measure.count > 0).then_some(measure);
                        FacetMeasure {
                            column: column.clone(),
                            count: count(measure.count),
                            mean: some.map(|m| m.sum / m.count as f64),
                            min: some.map(|m| m.least),
                            max: some.map(|m| m.greatest),
                        }
                    })
                    .collect(),
            });
        }
        Ok(GetFacetsResponse {
            groups,
            group_count: all.len() as i64,
            other_row_count: count(all.other_rows()),
            row_count: count(all.row_count()),
            version: opened.version,
        })
    }

    async fn grouped_rows(&self, look: &Look, schema: &SchemaRef) -> Result<Facets, ServiceError> {
        let keep = Keep { name: "facets", bytes: Facets::memory_bytes };
        let coded = blocks::first_coded(schema);
        let parts = self
            .reader
            .each_group(look.blocks(), &look.reading, look.prune(), &coded, Some(keep), |batch| {
                Facets::of(batch).map_err(unreadable)
            })
            .await?;
        let mut all = Facets::empty(schema.field(0).data_type(), schema.fields().len() - 1);
        parts.iter().for_each(|part| all.merge(part));
        Ok(all)
    }

    /// Rows drawn at random.
    ///
    /// # Errors
    /// A filter, columns or a size that do not fit; no such dataset.
    pub async fn sample_items(
        &self,
        caller: &Caller,
        rows: RowsRequest,
        size: i32,
        seed: u64,
    ) -> Result<RowPage, ServiceError> {
        let size = match size {
            0 => 100,
            1..=SAMPLE_MAX => size.unsigned_abs() as usize,
            _ => {
                let message = format!("must be between 1 and {SAMPLE_MAX}");
                return Err(ServiceError::invalid("size", message));
            }
        };
        let opened =
            self.open(caller, &rows.address, &rows.version, method!("SampleItems")).await?;
        let (filter, schema) =
            (self.filter(&opened, &rows.filter).await?, opened.project(&rows.columns)?);
        let look = self.look(caller, &opened, filter, &Arc::default()).await?;
        let drawn =
            self.reader.sample(look.blocks(), &look.reading, (size, seed), look.prune()).await?;
        self.picked(&look, &opened, &schema, &drawn).await
    }

    /// Rows at positions.
    ///
    /// # Errors
    /// Columns that do not fit, a position where no row is; no such dataset.
    pub async fn items_at(
        &self,
        caller: &Caller,
        rows: RowsRequest,
        positions: &[i64],
    ) -> Result<RowPage, ServiceError> {
        if positions.len() > POSITIONS_MAX {
            let message = format!("holds at most {POSITIONS_MAX} positions");
            return Err(ServiceError::invalid("positions", message));
        }
        let opened = self.open(caller, &rows.address, &rows.version, method!("GetItemsAt")).await?;
        let schema = opened.project(&rows.columns)?;
        let look = self.look(caller, &opened, None, &Arc::default()).await?;
        let total = look.row_count();
        let mut found = Vec::with_capacity(positions.len());
        for position in positions {
            let number = u64::try_from(*position).ok().filter(|number| *number < total);
            let number = number.ok_or_else(|| {
                let message = format!("{position} is no position; there are {total} rows");
                ServiceError::invalid("positions", message).reason("POSITION_BEYOND_END")
            })?;
            found.push(look.position(number));
        }
        self.picked(&look, &opened, &schema, &found).await
    }

    async fn picked(
        &self,
        look: &Look,
        opened: &Opened,
        schema: &SchemaRef,
        rows: &[blocks::Position],
    ) -> Result<RowPage, ServiceError> {
        // Each once, however often it is asked for.
        let mut wanted = rows.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let batch = self.rows_in_any_order(look, &wanted, schema).await?;
        if batch.num_rows() < wanted.len() {
            return Err(too_much("rows"));
        }
        let columns = columns_of(schema);
        let found = items_of(&batch, opened.items_profile)?;
        let mut room = Room::beside(&columns);
        let mut items = Vec::with_capacity(rows.len());
        for position in rows {
            let item = wanted.binary_search(position).ok().and_then(|at| found.get(at));
            let item = item.ok_or_else(|| ServiceError::internal("a row is not there"))?;
            if !room.take(item, 1) {
                return Err(too_much("rows"));
            }
            items.push(item.clone());
        }
        Ok(RowPage {
            columns,
            items,
            next_page_token: String::new(),
            previous_page_token: String::new(),
            version: opened.version,
        })
    }

    /// What a list or a count takes.
    ///
    /// # Errors
    /// As the list or the count.
    pub async fn explain_items(
        &self,
        caller: &Caller,
        request: ExplainItemsRequest,
    ) -> Result<ExplainItemsResponse, ServiceError> {
        let (tally, begun) = (Arc::<Tally>::default(), Instant::now());
        let operation = request.operation();
        let rows = RowsRequest {
            address: Address::new(&request.namespace, &request.dataset)?,
            version: request.version,
            filter: request.filter,
            columns: request.columns,
        };
        let (row_count, version) = match operation {
            Operation::Count => self.count_tallied(caller, &rows, &tally).await?,
            Operation::List | Operation::Unspecified => {
                let list = ListRequest {
                    order_by: request.order_by,
                    skip: request.skip,
                    ..ListRequest::first(rows.clone(), request.page_size)
                };
                let page = self.list_tallied(caller, list, &tally).await?;
                (page.items.len() as i64, page.version)
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        let opened =
            self.open(caller, &rows.address, &rows.version, method!("ExplainItems")).await?;
        let filter = self.filter(&opened, &rows.filter).await?;
        let cost = tally.cost();
        Ok(ExplainItemsResponse {
            filter: filter.as_deref().map_or("", Filter::canonical).to_owned(),
            row_count,
            version,
            blocks_read: count(cost.blocks_read),
            blocks_skipped: count(cost.blocks_skipped),
            row_groups_read: count(cost.row_groups_read),
            row_groups_skipped: count(cost.row_groups_skipped),
            pages_read: count(cost.pages_read),
            pages_skipped: count(cost.pages_skipped),
            pieces_decoded: count(cost.cells_decoded),
            pieces_in_memory: count(cost.cells_hot),
            index_answers: count(cost.indexes),
            requests: count(cost.gets),
            bytes: count(cost.bytes),
            seconds,
        })
    }
}

fn bins_name((low, high, bins): (f64, f64, usize)) -> String {
    format!("histogram {low:e} {high:e} {bins}")
}

fn bins_bytes(histogram: &Histogram) -> usize {
    histogram.counts.len() * 8 + 64
}

/// How a column's summary was asked for.
struct Asked<'a> {
    opened: &'a Opened,
    field: &'a FieldRef,
    top: usize,
    shares: &'a [f64],
}

impl Asked<'_> {
    fn column(&self, summary: &Summary) -> Result<ColumnSummary, ServiceError> {
        let value = |array: Option<&ArrayRef>| -> Result<Option<Value>, ServiceError> {
            let value = array.map(|array| cell(array, 0)).transpose()?;
            Ok(shown_value(self.opened, self.field, value))
        };
        let (distinct, distinct_exact) = summary.distinct();
        let (top, top_exact) = summary.top(self.top).map_err(unreadable)?;
        let mut frequent = Vec::with_capacity(top.len());
        for one in top {
            frequent
                .push(FrequentValue { value: value(Some(&one.value))?, count: count(one.count) });
        }
        let mut quantiles = Vec::new();
        for share in self.shares {
            if let Some(number) = summary.quantile(*share) {
                let value = Some(self.number(number)?);
                quantiles.push(Quantile { quantile: *share, value });
            }
        }
        Ok(ColumnSummary {
            column: self.field.name().clone(),
            r#type: self.field.data_type().to_string(),
            null_count: count(summary.nulls),
            distinct_count: count(distinct),
            distinct_exact,
            min: value(summary.least())?,
            max: value(summary.greatest())?,
            mean: summary.mean().filter(|_| self.field.data_type().is_numeric()),
            sum: summary.sum(),
            quantiles,
            quantiles_exact: summary.quantiles_exact(),
            top: frequent,
            top_exact,
            counts_elements: summary.counts_elements(),
            histogram: Vec::new(),
            distinct_error: summary.distinct_error(),
            quantiles_error: summary.quantiles_error(),
            top_error: count(summary.top_error()),
        })
    }

    /// A number told of the column: a time for times.
    fn number(&self, number: f64) -> Result<Value, ServiceError> {
        let data_type = self.field.data_type();
        if !data_type.is_temporal() {
            return cell(&Float64Array::from(vec![number]), 0);
        }
        let ticks: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![number.round() as i64]));
        let narrow = match data_type {
            DataType::Date32 | DataType::Time32(_) => {
                arrow::compute::cast(&ticks, &DataType::Int32).map_err(unreadable)?
            }
            _ => ticks,
        };
        let time = arrow::compute::cast(&narrow, data_type).map_err(unreadable)?;
        cell(&time, 0)
    }
}

fn shown_value(opened: &Opened, field: &Field, value: Option<Value>) -> Option<Value> {
    let uuid = is_uuid(field, opened.items_profile);
    value.map(|value| if uuid { uuid_text(value) } else { value })
}

fn unreadable(error: ArrowError) -> ServiceError {
    ServiceError::internal(format!("a column cannot be summed up: {error}"))
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn bounded(field: &'static str, asked: i32, default: usize) -> Result<usize, ServiceError> {
    match asked {
        0 => Ok(default),
        1..=LISTED_MAX => Ok(asked.unsigned_abs() as usize),
        _ => Err(ServiceError::invalid(field, format!("must be between 1 and {LISTED_MAX}"))),
    }
}

fn shares(asked: &[f64]) -> Result<Vec<f64>, ServiceError> {
    if asked.is_empty() {
        return Ok(QUANTILES.to_vec());
    }
    if asked.len() > QUANTILES_MAX || asked.iter().any(|share| !(0.0..=1.0).contains(share)) {
        let message = format!("must be at most {QUANTILES_MAX} numbers between 0 and 1");
        return Err(ServiceError::invalid("quantiles", message));
    }
    Ok(asked.to_vec())
}

/// The grouping column, then what is measured.
fn grouped(opened: &Opened, column: &str, measures: &[String]) -> Result<SchemaRef, ServiceError> {
    let unknown = |field: &'static str| {
        move |error: ServiceError| ServiceError::invalid(field, error.message().to_owned())
    };
    let first = opened.project(&[column.to_owned()]).map_err(unknown("column"))?;
    if !analysis::groups(first.field(0).data_type()) {
        let message =
            format!("{column:?} is {}, which makes no groups", first.field(0).data_type());
        return Err(ServiceError::invalid("column", message));
    }
    let mut fields: Vec<FieldRef> = first.fields().iter().cloned().collect();
    if !measures.is_empty() {
        let measured = opened.project(measures).map_err(unknown("measures"))?;
        for field in measured.fields() {
            if !field.data_type().is_numeric() && !field.data_type().is_temporal() {
                let message = format!(
                    "{:?} is {}; only numbers and times are measured",
                    field.name(),
                    field.data_type()
                );
                return Err(ServiceError::invalid("measures", message));
            }
            fields.push(Arc::clone(field));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}
