//! Metadata in the protocol's schemas.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Command, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, Nullable, Searchable,
    SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction, XdbcDataType,
};
use service_error::ServiceError;

const TABLE: &str = "TABLE";

/// A table that the caller may see.
#[derive(Debug, Clone)]
pub struct TableRow {
    /// SQL's schema.
    pub namespace: String,
    /// The table.
    pub dataset: String,
    /// Empty: none.
    pub key: String,
    /// Empty unless it was asked for.
    pub schema: SchemaRef,
}

/// What a command needs to know to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing of the catalog.
    Nothing,
    /// The tables that the caller may see, with their schemas or without.
    Tables {
        /// Arrow schemas too.
        with_schema: bool,
        /// In this namespace only.
        namespace: Option<String>,
        /// This table only.
        dataset: Option<String>,
    },
    /// The namespaces that the caller may see.
    Namespaces,
}

/// A command about metadata.
#[derive(Debug, Clone)]
pub struct Metadata {
    command: Command,
    catalog: &'static str,
}

impl Metadata {
    /// The command, if it is about metadata.
    #[must_use]
    pub fn of(command: &Command, catalog: &'static str) -> Option<Self> {
        let is = matches!(
            command,
            Command::CommandGetCatalogs(_)
                | Command::CommandGetDbSchemas(_)
                | Command::CommandGetTables(_)
                | Command::CommandGetTableTypes(_)
                | Command::CommandGetSqlInfo(_)
                | Command::CommandGetXdbcTypeInfo(_)
                | Command::CommandGetPrimaryKeys(_)
                | Command::CommandGetExportedKeys(_)
                | Command::CommandGetImportedKeys(_)
                | Command::CommandGetCrossReference(_)
        );
        is.then(|| Self { command: command.clone(), catalog })
    }

    /// The schema of the answer.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        match self.command.clone() {
            Command::CommandGetCatalogs(command) => command.into_builder().schema(),
            Command::CommandGetDbSchemas(command) => command.into_builder().schema(),
            Command::CommandGetTables(command) => command.into_builder().schema(),
            Command::CommandGetTableTypes(command) => command.into_builder().schema(),
            Command::CommandGetSqlInfo(_) => Arc::new(SqlInfoDataBuilder::schema().clone()),
            Command::CommandGetXdbcTypeInfo(_) => XdbcTypeInfoDataBuilder::new()
                .build()
                .map_or_else(|_| Arc::new(Schema::empty()), |data| data.schema()),
            Command::CommandGetPrimaryKeys(_) => primary_keys_schema(),
            _ => foreign_keys_schema(),
        }
    }

    /// What must be looked up first.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let plain = |pattern: &Option<String>| {
            pattern.clone().filter(|pattern| !pattern.contains(['%', '_']))
        };
        match &self.command {
            Command::CommandGetDbSchemas(_) => Wanted::Namespaces,
            Command::CommandGetTables(command) => Wanted::Tables {
                with_schema: command.include_schema,
                namespace: plain(&command.db_schema_filter_pattern),
                dataset: None,
            },
            Command::CommandGetPrimaryKeys(command) => Wanted::Tables {
                with_schema: false,
                namespace: command.db_schema.clone(),
                dataset: Some(command.table.clone()),
            },
            _ => Wanted::Nothing,
        }
    }

    /// The answer out of what was looked up.
    ///
    /// # Errors
    /// A pattern that cannot be read.
    pub fn answer(
        &self,
        namespaces: &[String],
        tables: &[TableRow],
    ) -> Result<RecordBatch, ServiceError> {
        let answer = match self.command.clone() {
            Command::CommandGetCatalogs(command) => {
                let mut builder = command.into_builder();
                builder.append(self.catalog);
                builder.build()
            }
            Command::CommandGetDbSchemas(command) => self.db_schemas(command, namespaces),
            Command::CommandGetTables(command) => self.tables(command, tables),
            Command::CommandGetTableTypes(command) => {
                let mut builder = command.into_builder();
                builder.append(TABLE);
                builder.build()
            }
            Command::CommandGetSqlInfo(command) => {
                sql_info().and_then(|infos| command.into_builder(&infos).build())
            }
            Command::CommandGetXdbcTypeInfo(command) => {
                xdbc_types().and_then(|types| command.into_builder(&types).build())
            }
            Command::CommandGetPrimaryKeys(command) => self.primary_keys(&command, tables),
            // There are no foreign keys.
            _ => Ok(RecordBatch::new_empty(foreign_keys_schema())),
        };
        answer.map_err(|error| match error {
            FlightError::Arrow(error) => ServiceError::invalid("descriptor", error),
            error => ServiceError::internal(format!("the metadata cannot be made: {error}")),
        })
    }

    fn db_schemas(
        &self,
        command: CommandGetDbSchemas,
        namespaces: &[String],
    ) -> Result<RecordBatch, FlightError> {
        let mut builder = command.into_builder();
        for namespace in namespaces {
            builder.append(self.catalog, namespace);
        }
        builder.build()
    }

    fn tables(
        &self,
        command: CommandGetTables,
        tables: &[TableRow],
    ) -> Result<RecordBatch, FlightError> {
        let mut builder = command.into_builder();
        for table in tables {
            builder.append(self.catalog, &table.namespace, &table.dataset, TABLE, &table.schema)?;
        }
        builder.build()
    }

    fn primary_keys(
        &self,
        command: &CommandGetPrimaryKeys,
        tables: &[TableRow],
    ) -> Result<RecordBatch, FlightError> {
        let is_ours = command.catalog.as_deref().is_none_or(|catalog| catalog == self.catalog);
        let found: Vec<&TableRow> = tables
            .iter()
            .filter(|table| is_ours && table.dataset == command.table && !table.key.is_empty())
            .filter(|table| {
                command.db_schema.as_deref().is_none_or(|schema| schema == table.namespace)
            })
            .collect();
        let texts = |text: &dyn Fn(&TableRow) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(found.iter().map(|table| text(table))))
        };
        let columns: Vec<ArrayRef> = vec![
            texts(&|_| self.catalog.to_owned()),
            texts(&|table| table.namespace.clone()),
            texts(&|table| table.dataset.clone()),
            texts(&|table| table.key.clone()),
            Arc::new(StringArray::new_null(found.len())),
            Arc::new(Int32Array::from_iter_values(found.iter().map(|_| 1))),
        ];
        Ok(RecordBatch::try_new(primary_keys_schema(), columns)?)
    }
}

fn primary_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

fn foreign_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

/// What the server says of itself.
fn sql_info() -> Result<SqlInfoData, FlightError> {
    let mut infos = SqlInfoDataBuilder::new();
    infos.append(SqlInfo::FlightSqlServerName, "Quarry");
    infos.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    infos.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    infos.append(SqlInfo::FlightSqlServerReadOnly, true);
    infos.append(SqlInfo::FlightSqlServerSql, true);
    infos.append(SqlInfo::FlightSqlServerSubstrait, false);
    infos.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    infos.append(SqlInfo::FlightSqlServerCancel, true);
    infos.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    infos.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    infos.append(SqlInfo::SqlDdlCatalog, false);
    infos.append(SqlInfo::SqlDdlSchema, false);
    infos.append(SqlInfo::SqlDdlTable, false);
    let lower = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32;
    infos.append(SqlInfo::SqlIdentifierCase, lower);
    infos.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    let exact = SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32;
    infos.append(SqlInfo::SqlQuotedIdentifierCase, exact);
    infos.append(SqlInfo::SqlAllTablesAreSelectable, true);
    infos.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedAtEnd as i32);
    infos.append(SqlInfo::SqlSupportsColumnAliasing, true);
    infos.append(SqlInfo::SqlNullPlusNullIsNull, true);
    infos.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    infos.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    infos.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    infos.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    infos.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    infos.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    infos.append(SqlInfo::SqlSchemaTerm, "namespace");
    infos.append(SqlInfo::SqlCatalogTerm, "catalog");
    infos.append(SqlInfo::SqlCatalogAtStart, true);
    infos.append(SqlInfo::SqlSelectForUpdateSupported, false);
    infos.append(SqlInfo::SqlStoredProceduresSupported, false);
    infos.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    infos.append(SqlInfo::SqlBatchUpdatesSupported, false);
    infos.append(SqlInfo::SqlSavepointsSupported, false);
    infos.append(SqlInfo::SqlNamedParametersSupported, false);
    infos.build()
}

fn xdbc_types() -> Result<XdbcTypeInfoData, FlightError> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    let kinds = [
        ("boolean", XdbcDataType::XdbcBit, None),
        ("tinyint", XdbcDataType::XdbcTinyint, Some(false)),
        ("smallint", XdbcDataType::XdbcSmallint, Some(false)),
        ("integer", XdbcDataType::XdbcInteger, Some(false)),
        ("bigint", XdbcDataType::XdbcBigint, Some(false)),
        ("real", XdbcDataType::XdbcReal, Some(false)),
        ("double", XdbcDataType::XdbcDouble, Some(false)),
        ("decimal", XdbcDataType::XdbcDecimal, Some(false)),
        ("varchar", XdbcDataType::XdbcVarchar, None),
        ("varbinary", XdbcDataType::XdbcVarbinary, None),
        ("date", XdbcDataType::XdbcDate, None),
        ("time", XdbcDataType::XdbcTime, None),
        ("timestamp", XdbcDataType::XdbcTimestamp, None),
    ];
    for (name, data_type, unsigned) in kinds {
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type,
            sql_data_type: data_type,
            nullable: Nullable::NullabilityNullable,
            searchable: Searchable::Full,
            case_sensitive: data_type == XdbcDataType::XdbcVarchar,
            unsigned_attribute: unsigned,
            ..XdbcTypeInfo::default()
        });
    }
    types.build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::AsArray;
    use arrow_flight::sql::{
        CommandGetCatalogs, CommandGetCrossReference, CommandGetSqlInfo, CommandGetTableTypes,
        CommandGetXdbcTypeInfo, CommandStatementQuery,
    };

    fn rows() -> Vec<TableRow> {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        [("a", "x", "id"), ("a", "y", ""), ("b", "x", "id")]
            .map(|(namespace, dataset, key)| TableRow {
                namespace: namespace.to_owned(),
                dataset: dataset.to_owned(),
                key: key.to_owned(),
                schema: Arc::clone(&schema),
            })
            .to_vec()
    }

    #[test]
    fn what_is_announced_is_what_is_answered() {
        let namespaces = ["a".to_owned(), "b".to_owned()];
        let tables = |include_schema| {
            Command::CommandGetTables(CommandGetTables { include_schema, ..Default::default() })
        };
        let keys = CommandGetPrimaryKeys { table: "x".to_owned(), ..Default::default() };
        for (command, count) in [
            (Command::CommandGetCatalogs(CommandGetCatalogs {}), 1),
            (Command::CommandGetDbSchemas(CommandGetDbSchemas::default()), 2),
            (tables(true), 3),
            (tables(false), 3),
            (Command::CommandGetTableTypes(CommandGetTableTypes {}), 1),
            (Command::CommandGetXdbcTypeInfo(CommandGetXdbcTypeInfo::default()), 13),
            (Command::CommandGetPrimaryKeys(keys), 2),
            (Command::CommandGetCrossReference(CommandGetCrossReference::default()), 0),
        ] {
            let metadata = Metadata::of(&command, "quarry").unwrap();
            let answer = metadata.answer(&namespaces, &rows()).unwrap();
            assert_eq!(answer.schema(), metadata.schema(), "{command:?}");
            assert_eq!(answer.num_rows(), count, "{command:?}");
        }
        let infos = Metadata::of(
            &Command::CommandGetSqlInfo(CommandGetSqlInfo { info: vec![0, 3, 9_999] }),
            "quarry",
        )
        .unwrap();
        let answer = infos.answer(&[], &[]).unwrap();
        assert_eq!(answer.schema().fields(), infos.schema().fields());
        assert_eq!(answer.num_rows(), 2);
        let query = CommandStatementQuery { query: String::new(), transaction_id: None };
        assert!(Metadata::of(&Command::CommandStatementQuery(query), "quarry").is_none());
    }

    #[test]
    fn filters_pick_tables() {
        let command = CommandGetTables {
            db_schema_filter_pattern: Some("a".to_owned()),
            table_name_filter_pattern: Some("_".to_owned()),
            ..Default::default()
        };
        let metadata = Metadata::of(&Command::CommandGetTables(command), "quarry").unwrap();
        let wanted =
            Wanted::Tables { with_schema: false, namespace: Some("a".to_owned()), dataset: None };
        assert_eq!(metadata.wanted(), wanted);
        let answer = metadata.answer(&[], &rows()).unwrap();
        let names: Vec<_> = answer.column(2).as_string::<i32>().iter().flatten().collect();
        assert_eq!(names, ["x", "y"]);
    }
}
