//! The two tables of jobs, for each service's own migration list.

use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait,
};

/// A row of a service's migration list; keep it where it once stood.
#[derive(Debug, Clone, Copy)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "jobs_0001"
    }
}

const UP: [&str; 5] = [
    "CREATE TABLE job (
        id uuid NOT NULL PRIMARY KEY,
        kind text NOT NULL,
        title text NOT NULL,
        key text,
        state integer NOT NULL CHECK (state BETWEEN 0 AND 5),
        wanted integer NOT NULL DEFAULT 0,
        owner uuid NOT NULL,
        owner_name text NOT NULL,
        owner_role integer NOT NULL,
        owner_token uuid,
        owner_service boolean NOT NULL,
        arguments text NOT NULL,
        checkpoint text,
        phase text NOT NULL DEFAULT '',
        unit text NOT NULL DEFAULT '',
        done bigint NOT NULL DEFAULT 0,
        total bigint,
        per_second double precision NOT NULL DEFAULT 0,
        attempt integer NOT NULL DEFAULT 0,
        not_before bigint NOT NULL DEFAULT 0,
        lease_epoch bigint NOT NULL DEFAULT 0,
        lease_until bigint NOT NULL DEFAULT 0,
        item_errors bigint NOT NULL DEFAULT 0,
        failure_code integer,
        failure_reason text,
        failure_message text,
        result text,
        revision bigint NOT NULL DEFAULT 1,
        created_at bigint NOT NULL,
        started_at bigint,
        ended_at bigint
    )",
    "CREATE UNIQUE INDEX job_key ON job (key) WHERE key IS NOT NULL AND state <= 2",
    "CREATE INDEX job_waiting ON job (not_before, id) WHERE state <= 1",
    "CREATE INDEX job_of_owner ON job (owner, id)",
    "CREATE TABLE job_error (
        job_id uuid NOT NULL REFERENCES job (id) ON DELETE CASCADE,
        ordinal bigint NOT NULL,
        item text NOT NULL,
        message text NOT NULL,
        at bigint NOT NULL,
        PRIMARY KEY (job_id, ordinal)
    )",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in UP {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in ["DROP TABLE job_error", "DROP TABLE job"] {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
