//! Pages: forwards and backwards, in storage order or in the caller's.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blocks::{OrderBy, Ordering, Position, Ranked, Tally, Walk};
use caller::Caller;
use cells::{columns_of, items_of};
use filter::Filter;
use service_error::ServiceError;
use sql_store::now_micros;

use crate::app::App;
use crate::app::answers::fitting;
use crate::app::catalog::by_name;
use crate::app::items::{ListRequest, RowPage};
use crate::app::looking::{Look, PAGE_BYTES_MAX};
use crate::app::reading::{Opened, filter_hash};
use crate::model::{PageToken, hash_of};

/// The most rows of a page.
const PAGE_ROWS_MAX: u32 = 10_000;
/// The most rows that are passed over one by one.
const SKIPPED_MAX: u64 = 100_000;
const PAGE_TOKEN: &str = "page_token";
const LIST: &str = "quarry.items.v1.ItemsService/ListItems";

/// Where a page begins, and in which list.
pub struct Start {
    pub opened: Opened,
    pub filter: Option<Arc<Filter>>,
    pub schema: SchemaRef,
    pub order: Vec<OrderBy>,
    columns_hash: String,
    order_hash: String,
    place: Place,
}

/// A border between two pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    /// The first row after it; with an order, the last row before it (going
    /// back: the first row after it).
    at: Option<Position>,
    /// The rank of that row.
    rank: Option<Vec<u8>>,
    /// The page lies before the border.
    back: bool,
    /// Rows to pass over.
    skip: u64,
}

/// Rows that a page shows, and whether there are others on its far side.
struct Shown {
    rows: Vec<Ranked>,
    more: bool,
}

impl App {
    /// A page of rows.
    ///
    /// # Errors
    /// A filter, columns, an order or a token that do not fit; no such dataset.
    pub async fn list_items(
        &self,
        caller: &Caller,
        request: ListRequest,
    ) -> Result<RowPage, ServiceError> {
        self.list_tallied(caller, request, &Arc::default()).await
    }

    /// As [`App::list_items`], with its costs added up.
    pub async fn list_tallied(
        &self,
        caller: &Caller,
        request: ListRequest,
        tally: &Arc<Tally>,
    ) -> Result<RowPage, ServiceError> {
        let size = paging::page_size(request.page_size, PAGE_ROWS_MAX)? as usize;
        let start = self.start(caller, &request).await?;
        let look = self.look(caller, &start.opened, start.filter.clone(), tally).await?;
        let shown = if start.order.is_empty() {
            self.in_storage_order(&look, &start.place, size).await?
        } else {
            self.in_order(&look, &start, size).await?
        };
        let (mut rows, batch) = self.read_shown(&look, &start, &shown.rows).await?;
        let columns = columns_of(&start.schema);
        let mut items = items_of(&batch, start.opened.items_profile)?;
        if start.place.back {
            let beyond = items.len() - fitting(&columns, items.iter().rev());
            (rows, items) = (rows.split_off(beyond), items.split_off(beyond));
        } else {
            items.truncate(fitting(&columns, items.iter()));
            rows.truncate(items.len());
        }
        let cut = rows.len() < shown.rows.len();
        let (first, last) = (rows.first().cloned(), rows.last().cloned());
        let back = start.place.back;
        let goes_on = back || shown.more || cut;
        let came_from = start.place != Place::default();
        let goes_back = if back { shown.more || cut } else { came_from };
        let next = last.filter(|_| goes_on).map(|row| start.after(row));
        let previous = first.filter(|_| goes_back).map(|row| start.before(row));
        let token = |place: Option<Place>| match place {
            Some(place) => self.token(caller, &start, place),
            None => Ok(String::new()),
        };
        Ok(RowPage {
            columns,
            items,
            next_page_token: token(next)?,
            previous_page_token: token(previous)?,
            version: start.opened.version,
        })
    }

    async fn in_storage_order(
        &self,
        look: &Look,
        place: &Place,
        size: usize,
    ) -> Result<Shown, ServiceError> {
        let skipped = if look.reading.filter.is_some() { place.skip } else { 0 };
        let skipped = passed_over(skipped)?;
        let from = match place.at {
            Some(at) => at,
            None if skipped == 0 && place.skip > 0 => look.position(place.skip),
            None => Position { block: 0, row: 0 },
        };
        // One more than the page, which says whether there is another.
        let walk = Walk { from, back: place.back, limit: skipped + size + 1 };
        let rows = self.reader.walk(look.blocks(), &look.reading, walk, look.prune()).await?;
        let mut rows: Vec<Ranked> = rows
            .into_iter()
            .skip(skipped)
            .map(|position| Ranked { rank: Vec::new(), position })
            .collect();
        let more = rows.len() > size;
        if place.back && more {
            rows.remove(0);
        }
        rows.truncate(size);
        Ok(Shown { rows, more })
    }

    async fn in_order(
        &self,
        look: &Look,
        start: &Start,
        size: usize,
    ) -> Result<Shown, ServiceError> {
        let place = &start.place;
        let after = place.at.zip(place.rank.clone());
        let skipped = passed_over(place.skip)?;
        let ordering = Ordering {
            by: start.order.clone(),
            after: after.map(|(position, rank)| Ranked { rank, position }),
            back: place.back,
            limit: skipped + size + 1,
        };
        let rows = self.reader.ordered(look.blocks(), &look.reading, ordering, look.prune());
        let mut rows: Vec<Ranked> = rows.await?.into_iter().skip(skipped).collect();
        let more = rows.len() > size;
        if place.back && more {
            rows.remove(0);
        }
        rows.truncate(size);
        Ok(Shown { rows, more })
    }

    /// The rows that fit a page, and their cells in the same order. Of a page
    /// that goes back it is the last ones that fit.
    async fn read_shown(
        &self,
        look: &Look,
        start: &Start,
        shown: &[Ranked],
    ) -> Result<(Vec<Ranked>, RecordBatch), ServiceError> {
        let mut rows = shown;
        loop {
            let wanted: Vec<Position> = rows.iter().map(|row| row.position).collect();
            let batch = self.rows_in_any_order(look, &wanted, &start.schema).await?;
            let fit = batch.num_rows();
            if fit == rows.len() {
                return Ok((rows.to_vec(), batch));
            }
            if start.order.is_empty() && !start.place.back {
                return Ok((rows[..fit].to_vec(), batch));
            }
            let fit = fit.min(rows.len() / 2).max(1);
            rows = if start.place.back { &rows[rows.len() - fit..] } else { &rows[..fit] };
        }
    }

    /// Rows by position, in the order given; fewer, the first in storage order,
    /// if they take too much memory.
    pub async fn rows_in_any_order(
        &self,
        look: &Look,
        rows: &[Position],
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ServiceError> {
        let mut sorted = rows.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let batches =
            self.reader.rows(look.blocks(), &sorted, schema, &look.reading, PAGE_BYTES_MAX).await?;
        let failed = |error| ServiceError::internal(format!("rows do not join: {error}"));
        let batch = match batches.as_slice() {
            [only] => only.clone(),
            many => concat_batches(schema, many).map_err(failed)?,
        };
        if sorted == rows || batch.num_rows() < sorted.len() {
            return Ok(batch);
        }
        let place = |row: &Position| sorted.binary_search(row).unwrap_or(0) as u64;
        let order: UInt64Array = rows.iter().map(place).collect::<Vec<_>>().into();
        take_record_batch(&batch, &order).map_err(failed)
    }

    /// Where the page that is asked for begins.
    pub async fn start(
        &self,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<Start, ServiceError> {
        let rows = &request.rows;
        let columns: Vec<&str> = rows.columns.iter().map(String::as_str).collect();
        let columns_hash = hash_of(&columns);
        let order = OrderBy::parse(&request.order_by)?;
        let order_hash = hash_of(&[&format!("{order:?}")]);
        if request.page_token.is_empty() {
            let opened = self.open(caller, &rows.address, &rows.version, LIST).await?;
            let (filter, schema) =
                (self.filter(&opened, &rows.filter).await?, opened.project(&rows.columns)?);
            let skip = u64::try_from(request.skip)
                .map_err(|_| ServiceError::invalid("skip", "must not be negative"))?;
            let place = Place { skip, ..Place::default() };
            return Ok(Start { opened, filter, schema, order, columns_hash, order_hash, place });
        }
        if request.skip != 0 {
            let message = "goes with the first page only; leave it out beside a page token";
            return Err(ServiceError::invalid("skip", message));
        }
        let token = self.opened_token(&request.page_token).await?;
        if !matches!(rows.version.as_str(), "" | "latest")
            && rows.version != token.version.to_string()
        {
            return Err(ServiceError::invalid(
                PAGE_TOKEN,
                "was made at another version; repeat the list without a token",
            )
            .reason("PAGE_TOKEN_INVALID"));
        }
        let pinned = (token.snapshot, token.ceiling);
        let mut opened = self.open_pinned(caller, by_name(&rows.address), pinned, LIST).await?;
        opened.version = token.version;
        let (filter, schema) =
            (self.filter(&opened, &rows.filter).await?, opened.project(&rows.columns)?);
        let hash = filter_hash(filter.as_deref());
        let list = [hash.as_str(), &columns_hash, &order_hash];
        token.check(caller.principal, opened.dataset, list, now_micros())?;
        let position = Position { block: token.block, row: token.row };
        let place = Place { at: Some(position), rank: token.rank, back: token.back, skip: 0 };
        Ok(Start { opened, filter, schema, order, columns_hash, order_hash, place })
    }

    async fn opened_token(&self, text: &str) -> Result<PageToken, ServiceError> {
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| {
            ServiceError::invalid(PAGE_TOKEN, "is no page token; repeat the list without one")
                .reason("PAGE_TOKEN_INVALID")
        })?;
        self.sealing.open_sealed(PAGE_TOKEN, &sealed).await
    }

    fn token(&self, caller: &Caller, start: &Start, place: Place) -> Result<String, ServiceError> {
        let at = place.at.unwrap_or(Position { block: 0, row: 0 });
        let token = PageToken {
            dataset: start.opened.dataset,
            snapshot: start.opened.snapshot,
            ceiling: start.opened.ceiling,
            version: start.opened.version,
            filter_hash: filter_hash(start.filter.as_deref()),
            columns_hash: start.columns_hash.clone(),
            order_hash: start.order_hash.clone(),
            block: at.block,
            row: at.row,
            rank: place.rank,
            back: place.back,
            principal: caller.principal,
            expires_at: now_micros() + self.settings.ticket_micros(),
        };
        Ok(URL_SAFE_NO_PAD.encode(self.sealing.seal(PAGE_TOKEN, &token)?))
    }
}

impl Start {
    /// The first row of all that follow in storage order.
    pub fn row_after(&self) -> Result<Position, ServiceError> {
        let Some(at) = self.place.at else { return Ok(Position { block: 0, row: 0 }) };
        if self.place.back || !self.order.is_empty() {
            let message = "is of a list in an order or of the page before; an export goes on from \
                a next page in storage order only";
            return Err(ServiceError::invalid(PAGE_TOKEN, message).reason("PAGE_TOKEN_INVALID"));
        }
        Ok(at)
    }

    /// The border behind a row.
    fn after(&self, row: Ranked) -> Place {
        let Ranked { rank, position } = row;
        if self.order.is_empty() {
            let position = Position { row: position.row + 1, ..position };
            return Place { at: Some(position), ..Place::default() };
        }
        Place { at: Some(position), rank: Some(rank), ..Place::default() }
    }

    /// The border before a row, with the page before it.
    fn before(&self, row: Ranked) -> Place {
        let Ranked { rank, position } = row;
        let rank = (!self.order.is_empty()).then_some(rank);
        Place { at: Some(position), rank, back: true, skip: 0 }
    }
}

fn passed_over(skip: u64) -> Result<usize, ServiceError> {
    if skip > SKIPPED_MAX {
        let message = format!(
            "passes over at most {SKIPPED_MAX} rows with a filter or an order; go by page tokens"
        );
        return Err(ServiceError::invalid("skip", message));
    }
    Ok(usize::try_from(skip).unwrap_or(usize::MAX))
}
