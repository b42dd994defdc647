//! A bulk ingest as the put that it is.

use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use service_error::ServiceError;

/// What an ingest wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// The namespace.
    pub namespace: String,
    /// The dataset.
    pub dataset: String,
    /// What happens to rows that are there: they are replaced, or stay.
    pub replace: bool,
    /// Refuse a dataset that exists (`true`) or one that does not (`false`).
    pub must_be_new: Option<bool>,
}

/// Reads the command; `catalog` is the only one there is.
///
/// # Errors
/// A catalog, a transaction or a temporary table that is not offered; no
/// schema.
pub fn ingest_of(command: &CommandStatementIngest, catalog: &str) -> Result<Ingest, ServiceError> {
    if command.temporary {
        return Err(not_offered("temporary tables"));
    }
    if command.transaction_id.as_ref().is_some_and(|id| !id.is_empty()) {
        return Err(not_offered("transactions"));
    }
    let given = command.catalog.as_deref().unwrap_or_default();
    if !given.is_empty() && given != catalog {
        let message = format!("there is one catalog, {catalog:?}");
        return Err(ServiceError::invalid("catalog", message));
    }
    // Clients without a field for the schema write it before the table.
    let schema = command.schema.as_deref().unwrap_or_default();
    let (namespace, dataset) = match command.table.split_once('.') {
        Some((namespace, dataset)) if schema.is_empty() => (namespace, dataset),
        _ => (schema, command.table.as_str()),
    };
    if namespace.is_empty() {
        let message = "must be given: it is the namespace (db_schema_name in ADBC)";
        return Err(ServiceError::invalid("schema", message));
    }
    let options = command.table_definition_options.unwrap_or_default();
    let (exists, absent) = (options.if_exists(), options.if_not_exist());
    let must_be_new = match (exists, absent) {
        (TableExistsOption::Fail, TableNotExistOption::Fail) => {
            let message = "says to fail whether the table exists or not";
            return Err(ServiceError::invalid("table_definition_options", message));
        }
        (TableExistsOption::Fail, _) => Some(true),
        (_, TableNotExistOption::Fail) => Some(false),
        _ => None,
    };
    Ok(Ingest {
        namespace: namespace.to_owned(),
        dataset: dataset.to_owned(),
        replace: exists == TableExistsOption::Replace,
        must_be_new,
    })
}

fn not_offered(what: &str) -> ServiceError {
    ServiceError::unimplemented(format!("{what} are not offered")).reason("INGEST_NOT_OFFERED")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow_flight::sql::TableDefinitionOptions;

    fn command(exists: TableExistsOption, absent: TableNotExistOption) -> CommandStatementIngest {
        CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: absent as i32,
                if_exists: exists as i32,
            }),
            table: "ds".to_owned(),
            schema: Some("ns".to_owned()),
            ..CommandStatementIngest::default()
        }
    }

    #[test]
    fn the_modes_of_clients() {
        use TableExistsOption as Exists;
        use TableNotExistOption as Absent;
        let of = |exists, absent| {
            let ingest = ingest_of(&command(exists, absent), "quarry").unwrap();
            (ingest.replace, ingest.must_be_new)
        };
        assert_eq!(of(Exists::Fail, Absent::Create), (false, Some(true)));
        assert_eq!(of(Exists::Append, Absent::Fail), (false, Some(false)));
        assert_eq!(of(Exists::Append, Absent::Create), (false, None));
        assert_eq!(of(Exists::Replace, Absent::Create), (true, None));
        assert!(ingest_of(&command(Exists::Fail, Absent::Fail), "quarry").is_err());
    }

    #[test]
    fn the_place_is_a_schema_and_a_table() {
        let plain = command(TableExistsOption::Append, TableNotExistOption::Create);
        let named = |schema: Option<&str>, table: &str| {
            let command = CommandStatementIngest {
                schema: schema.map(str::to_owned),
                table: table.to_owned(),
                ..plain.clone()
            };
            ingest_of(&command, "quarry").map(|ingest| (ingest.namespace, ingest.dataset)).ok()
        };
        let both = Some(("a".to_owned(), "b".to_owned()));
        assert_eq!(named(Some("a"), "b"), both);
        assert_eq!(named(None, "a.b"), both);
        assert_eq!(named(None, "b"), None);
        assert_eq!(named(Some("a"), "b.c"), Some(("a".to_owned(), "b.c".to_owned())));
        let other = CommandStatementIngest { catalog: Some("x".to_owned()), ..plain.clone() };
        assert!(ingest_of(&other, "quarry").is_err());
        let temporary = CommandStatementIngest { temporary: true, ..plain };
        assert!(ingest_of(&temporary, "quarry").is_err());
    }
}
