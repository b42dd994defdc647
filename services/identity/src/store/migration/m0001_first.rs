//! Principals, tokens, grants, their change log, the audit, signing keys.

use sea_orm_migration::prelude::*;
use sql_store::migration::{create_counter_table, drop_counter_table};

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_first"
    }
}

/// In the order in which they are made.
const TABLES: [&str; 10] = [
    "principal",
    "token",
    "resource",
    "access_grant",
    "event",
    "grant_change",
    "audit_event",
    "signing_key",
    "admin_token",
    "admin_claim",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(create_counter_table()).await?;
        for table in [
            principals(),
            tokens(),
            resources(),
            grants(),
            events(),
            changes(),
            audit(),
            keys(),
            admin_tokens(),
            claims(),
        ] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES.iter().rev() {
            manager.drop_table(Table::drop().table(*table).to_owned()).await?;
        }
        manager.drop_table(drop_counter_table()).await
    }
}

fn indexes() -> [IndexCreateStatement; 8] {
    let index = |name, table: &'static str, columns: &[&'static str], unique| {
        let mut index = Index::create();
        index.name(name).table(table);
        for column in columns {
            index.col(*column);
        }
        if unique {
            index.unique();
        }
        index
    };
    [
        index("principal_name", "principal", &["name"], true),
        index("token_owner", "token", &["principal_id", "id"], false),
        index("token_revoked", "token", &["revoked_at"], false),
        index(
            "grant_holder",
            "access_grant",
            &["principal_id", "resource_kind", "resource_id"],
            true,
        ),
        index("grant_resource", "access_grant", &["resource_kind", "resource_id", "id"], false),
        index("event_applied", "event", &["applied_at"], false),
        index("audit_alike", "audit_event", &["alike"], true),
        index("audit_principal", "audit_event", &["principal_id", "number"], false),
    ]
}

fn required(name: &'static str) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    column.not_null();
    column
}

fn principals() -> TableCreateStatement {
    Table::create()
        .table("principal")
        .col(required("id").uuid().primary_key())
        .col(required("name").text())
        .col(required("display_name").text())
        .col(required("kind").small_integer())
        .col(required("role").small_integer())
        .col(required("disabled").boolean())
        .col(required("created_at").big_integer())
        .col(required("revision").big_integer())
        .to_owned()
}

fn of_principal(name: &str, table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create().name(name).from(table, "principal_id").to("principal", "id").to_owned()
}

fn tokens() -> TableCreateStatement {
    Table::create()
        .table("token")
        .col(required("id").uuid().primary_key())
        .col(required("principal_id").uuid())
        .col(required("hash").binary())
        .col(required("description").text())
        .col(required("scope").small_integer())
        .col(required("origin").small_integer())
        .col(required("created_at").big_integer())
        .col(ColumnDef::new("expires_at").big_integer())
        .col(ColumnDef::new("revoked_at").big_integer())
        .foreign_key(&mut of_principal("token_of_principal", "token"))
        .to_owned()
}

fn resources() -> TableCreateStatement {
    Table::create()
        .table("resource")
        .col(required("kind").small_integer())
        .col(required("id").uuid())
        .col(ColumnDef::new("parent_kind").small_integer())
        .col(ColumnDef::new("parent_id").uuid())
        .col(required("deleted").boolean())
        .col(required("created_at").big_integer())
        .primary_key(Index::create().col("kind").col("id"))
        .to_owned()
}

fn grants() -> TableCreateStatement {
    Table::create()
        .table("access_grant")
        .col(required("id").uuid().primary_key())
        .col(required("principal_id").uuid())
        .col(required("resource_kind").small_integer())
        .col(required("resource_id").uuid())
        .col(required("level").small_integer())
        .col(required("can_share").boolean())
        .col(ColumnDef::new("expires_at").big_integer())
        .col(required("created_at").big_integer())
        .foreign_key(&mut of_principal("grant_of_principal", "access_grant"))
        .to_owned()
}

fn events() -> TableCreateStatement {
    Table::create()
        .table("event")
        .col(required("id").uuid().primary_key())
        .col(required("revision").big_integer())
        .col(required("applied_at").big_integer())
        .to_owned()
}

fn changes() -> TableCreateStatement {
    Table::create()
        .table("grant_change")
        .col(required("revision").big_integer().primary_key())
        .col(required("kind").small_integer())
        .col(required("subject_id").uuid())
        .col(required("changed_at").big_integer())
        .to_owned()
}

fn audit() -> TableCreateStatement {
    Table::create()
        .table("audit_event")
        .col(required("number").big_integer().primary_key())
        .col(required("at").big_integer())
        .col(ColumnDef::new("principal_id").uuid())
        .col(required("principal_name").text())
        .col(required("service").text())
        .col(required("action").text())
        .col(required("resource").text())
        .col(required("outcome").small_integer())
        .col(required("detail").text())
        .col(required("count").big_integer())
        .col(ColumnDef::new("alike").binary())
        .to_owned()
}

fn keys() -> TableCreateStatement {
    Table::create()
        .table("signing_key")
        .col(required("kid").uuid().primary_key())
        .col(required("seed").binary())
        .col(required("created_at").big_integer())
        .col(required("active_at").big_integer())
        .col(ColumnDef::new("retired_at").big_integer())
        .to_owned()
}

fn admin_tokens() -> TableCreateStatement {
    Table::create()
        .table("admin_token")
        .col(required("place").text().primary_key())
        .col(required("token_id").uuid())
        .to_owned()
}

fn claims() -> TableCreateStatement {
    Table::create()
        .table("admin_claim")
        .col(required("id").small_integer().primary_key())
        .col(required("principal_id").uuid())
        .col(ColumnDef::new("claimed_at").big_integer())
        .foreign_key(&mut of_principal("claim_of_principal", "admin_claim"))
        .to_owned()
}
