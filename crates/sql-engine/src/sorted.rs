//! Rows of one table in an order: in memory while they fit, spilled beyond.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SortExpr};
use service_error::ServiceError;

use crate::engine::{Engine, Planned};
use crate::error::sql_error;
use crate::table::Table;

/// A table is sorted under this name: one of its own might need quotes.
const SORTED: &str = "sorted";

/// A column to order by; nulls come last either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortBy {
    /// Its name.
    pub column: String,
    /// The greatest first.
    pub descending: bool,
}

/// Which columns in which order.
#[derive(Debug, Clone)]
pub struct Sorted {
    /// The columns to answer, in this order.
    pub columns: Vec<String>,
    /// The first counts most.
    pub by: Vec<SortBy>,
    /// The first rows only: that many are kept in memory.
    pub limit: Option<usize>,
}

impl Engine {
    /// Plans the rows of a table in an order.
    ///
    /// # Errors
    /// Columns that are not there or have no order.
    pub async fn plan_sorted(
        &self,
        table: Table,
        sorted: &Sorted,
    ) -> Result<Planned, ServiceError> {
        let plan = plan(table, sorted).map_err(sql_error)?;
        self.plan_logical(plan).await
    }
}

fn plan(table: Table, sorted: &Sorted) -> datafusion::error::Result<LogicalPlan> {
    let named = |name: &str| Expr::Column(Column::new(Some(SORTED), name));
    let wanted = |name: &str| table.schema.index_of(name);
    let mut places = Vec::new();
    for name in sorted.columns.iter().chain(sorted.by.iter().map(|by| &by.column)) {
        let place = wanted(name)?;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let by: Vec<SortExpr> =
        sorted.by.iter().map(|by| named(&by.column).sort(!by.descending, false)).collect();
    let columns: Vec<Expr> = sorted.columns.iter().map(|name| named(name)).collect();
    LogicalPlanBuilder::scan(SORTED, provider_as_source(Arc::new(table)), Some(places))?
        .sort_with_limit(by, sorted.limit)?
        .project(columns)?
        .build()
}
