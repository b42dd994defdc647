//! Answers from the rows, while there is no index: the same code over a few
//! rows at a time, or Postgres' own order.

use std::collections::BTreeMap;
use std::sync::Arc;

use payload_index::{Payload, PayloadIndex};
use service_error::ServiceError;
use space_index::SpaceIndex;
use vector_questions::{Plan, answer};

use crate::app::App;
use crate::app::live::space_settings;
use crate::app::points::passing_rows;
use crate::app::search::{FacetAnswer, no_column};
use crate::model::{Ask, Explain, Found, IndexFailure, OwnedVector, SearchResult, Space};

/// Rows that are compared at once.
const ROWS: u32 = 1_000;
/// The most points of a space whose rows are all taken into memory for one question.
const GATHERED_MAX: i64 = 50_000;
/// Neighbours beyond `k` that Postgres is asked for: it rounds in other places.
const SLACK: usize = 16;

impl App {
    /// Answers a question from the rows. They are always as new as the newest write.
    pub(super) async fn answer_from_rows(
        &self,
        space: &Arc<Space>,
        plan: &Plan,
        ask: &Ask,
    ) -> Result<SearchResult, ServiceError> {
        let row = self.store.space(space.id).await?;
        let row = row.ok_or_else(|| ServiceError::not_found("space", &space.name))?;
        let plain = ask.grouping.is_none() && ask.diversity.is_none();
        let mut result = match plan {
            Plan::Near(vector, excluded) if plain => {
                if ask.filter.trim().is_empty() && self.store.orders_by_distance() {
                    self.nearest_by_postgres(&row, vector, excluded, ask).await?
                } else {
                    self.nearest_by_pages(space, &row, plan, ask).await?
                }
            }
            _ => self.gathered(space, &row, plan, ask).await?,
        };
        result.explain.token = row.seq;
        Ok(result)
    }

    fn refuse_scan(&self, row: &Space, limit: u64) -> Result<(), ServiceError> {
        if u64::try_from(row.points).unwrap_or(0) <= limit {
            return Ok(());
        }
        let message = format!(
            "space {} has {} points and no index in memory yet (vectors.memory_bytes_max is {} bytes); try again soon, or raise it",
            row.name,
            row.points,
            self.live.budget()
        );
        Err(ServiceError::exhausted(message).reason("INDEX_NOT_READY"))
    }

    /// Takes all rows into an index for this one question.
    async fn gathered(
        &self,
        space: &Arc<Space>,
        row: &Space,
        plan: &Plan,
        ask: &Ask,
    ) -> Result<SearchResult, ServiceError> {
        self.refuse_scan(row, u64::try_from(GATHERED_MAX).unwrap_or(0))?;
        let index = SpaceIndex::empty(space_settings(space), self.live.root());
        let mut pages = self.store.pages(space, ROWS).await?;
        while let Some(rows) = pages.next().await? {
            index.load(&rows).map_err(|error| ServiceError::from(IndexFailure(&error)))?;
        }
        drop(pages);
        let (plan, ask) = (plan.clone(), ask.clone());
        let mut result = super::blocking(move || answer(&index, &plan, &ask)).await??;
        result.explain.strategy = format!("rows:{}", result.explain.strategy);
        Ok(result)
    }

    /// Compares all rows, some at a time, and keeps the nearest.
    async fn nearest_by_pages(
        &self,
        space: &Arc<Space>,
        row: &Space,
        plan: &Plan,
        ask: &Ask,
    ) -> Result<SearchResult, ServiceError> {
        self.refuse_scan(row, self.settings.row_scan_points_max)?;
        // Also for an error in it before anything is read.
        let columns = self.row_filter(space, &ask.filter).await?.map(|(_, columns)| columns);
        let columns = columns.unwrap_or_default();
        let exact = Ask { exact: true, ..ask.clone() };
        let mut best: Vec<Found> = Vec::new();
        let (mut cardinality, mut scanned) = (0, 0);
        let mut pages = self.store.pages(space, ROWS).await?;
        while let Some(rows) = pages.next().await? {
            let index = SpaceIndex::with_columns(space_settings(space), self.live.root(), &columns);
            index.load(&rows).map_err(|error| ServiceError::from(IndexFailure(&error)))?;
            let page = answer(&index, plan, &exact)?;
            cardinality += page.explain.cardinality;
            scanned += page.explain.scanned;
            best.extend(page.found);
            best.sort_by(|a, b| {
                let by_distance =
                    a.distance.unwrap_or_default().total_cmp(&b.distance.unwrap_or_default());
                by_distance.then_with(|| a.item_id.cmp(&b.item_id))
            });
            best.truncate(ask.k);
        }
        let explain = Explain {
            strategy: "rows:exact_scan".to_owned(),
            cardinality,
            scanned,
            exact: true,
            token: 0,
            short: best.len() < ask.k,
        };
        Ok(SearchResult { found: best, explain })
    }

    /// Lets Postgres find candidates and measures them as an index would.
    async fn nearest_by_postgres(
        &self,
        row: &Space,
        vector: &OwnedVector,
        excluded: &[String],
        ask: &Ask,
    ) -> Result<SearchResult, ServiceError> {
        let stored = vector.stored(&row.vectors, "query.vector")?;
        let wanted = ask.k + excluded.len() + SLACK;
        let (numbers, exact) = self.store.nearest(row, &stored, wanted, ask.exact).await?;
        let index = SpaceIndex::empty(space_settings(row), self.live.root());
        let mut points = Vec::with_capacity(numbers.len());
        for some in numbers.chunks(ROWS as usize) {
            points.extend(self.store.points_numbered(row, some).await?);
        }
        // By their places: an index takes ascending numbers, and memory for what lies between.
        let mut numbers = Vec::with_capacity(points.len());
        for (at, point) in (0..).zip(&mut points) {
            numbers.push(std::mem::replace(&mut point.number, at));
        }
        index.load(&points).map_err(|error| ServiceError::from(IndexFailure(&error)))?;
        let plan = Plan::Near(vector.clone(), excluded.to_vec());
        let measured = Ask { exact: true, ..ask.clone() };
        let mut result = answer(&index, &plan, &measured)?;
        for hit in &mut result.found {
            hit.number = numbers.get(hit.number as usize).copied().unwrap_or_default();
        }
        result.explain.strategy =
            if exact { "postgres:exact_scan" } else { "postgres:hnsw" }.to_owned();
        result.explain.exact = exact;
        let points = u64::try_from(row.points).unwrap_or(0);
        result.explain.cardinality = points;
        result.explain.scanned = if exact { points } else { numbers.len() as u64 };
        Ok(result)
    }

    /// Counts the values of a column in the rows.
    pub(super) async fn facets_of_rows(
        &self,
        space: &Arc<Space>,
        (column, filter): (&str, &str),
        limit: usize,
    ) -> Result<FacetAnswer, ServiceError> {
        let row = self.store.space(space.id).await?;
        let row = row.ok_or_else(|| ServiceError::not_found("space", &space.name))?;
        self.refuse_scan(&row, self.settings.row_scan_points_max)?;
        let known = self.store.payload_columns(space.id).await?;
        let of = known.get_key_value(column).map(|(name, of)| (name.clone(), *of));
        let of = of.ok_or_else(|| no_column(column, known.keys().cloned()))?;
        let filter = self.row_filter(space, filter).await?;
        // Of this column alone.
        let mut counted = PayloadIndex::with_columns(&BTreeMap::from([of]));
        let mut count = 0_u32;
        let mut pages = self.store.pages(space, ROWS).await?;
        while let Some(mut rows) = pages.next().await? {
            if let Some((filter, columns)) = &filter {
                rows = passing_rows(filter, columns, rows)?;
            }
            for row in rows {
                let value = row.payload.get(column).cloned();
                let fields = value.map(|value| (column.to_owned(), value)).into_iter().collect();
                let payload = Payload::new(fields)
                    .map_err(|error| ServiceError::data_loss(error.to_string()))?;
                counted.insert(count, "", &payload);
                count += 1;
            }
        }
        let facets = counted.facets(column, counted.live(), limit);
        let facets = facets.ok_or_else(|| no_column(column, known.keys().cloned()))?;
        Ok(FacetAnswer { facets, cardinality: u64::from(count) })
    }
}
