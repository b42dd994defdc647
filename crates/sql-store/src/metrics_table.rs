//! The table in which a role keeps what it measured of itself, for each
//! service's own migration list.

use sea_orm::ConnectionTrait as _;
use sea_orm_migration::prelude::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait,
};

/// A row of a service's migration list; keep it where it once stood.
#[derive(Debug, Clone, Copy)]
pub struct SystemMetrics;

impl MigrationName for SystemMetrics {
    fn name(&self) -> &str {
        "system_metrics_0001"
    }
}

/// Ordered by time, so that a span of hours is one range and the old rows go
/// from one end.
const UP: &str = "CREATE TABLE system_metrics (
    at bigint NOT NULL,
    instance text NOT NULL,
    component text NOT NULL,
    metric text NOT NULL,
    value double precision NOT NULL,
    PRIMARY KEY (at, instance, metric)
)";

#[async_trait::async_trait]
impl MigrationTrait for SystemMetrics {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE system_metrics").await.map(drop)
    }
}
