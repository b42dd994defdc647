//! One statement of text: parsed, checked against what is offered, with the
//! tables and parameters that it names.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, ExplainStatement, Statement as Parsed};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    Expr, Query, SetExpr, Statement as Ast, Value, ValueWithSpan, Visit, VisitMut, Visitor,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use service_error::ServiceError;

use crate::error::sql_error;
use crate::names::{self, TableName};

/// The longest text of a query, in bytes.
pub const SQL_BYTES_MAX: usize = 256 << 10;
/// The deepest nesting.
const DEPTH_MAX: usize = 64;
/// The most tables of one query.
const TABLES_MAX: usize = 64;

/// A query that may be planned.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) parsed: Parsed,
    tables: Vec<TableName>,
}

impl Statement {
    /// Parses a text of one statement.
    ///
    /// # Errors
    /// What cannot be parsed; what is no query.
    pub fn parse(sql: &str) -> Result<Self, ServiceError> {
        if sql.len() > SQL_BYTES_MAX {
            let message = format!("has {} bytes; at most {SQL_BYTES_MAX} are taken", sql.len());
            return Err(ServiceError::invalid("query", message).reason("SQL_INVALID"));
        }
        let text = names::quoted(sql);
        let dialect = GenericDialect {};
        let mut statements = DFParserBuilder::new(text.as_str())
            .with_dialect(&dialect)
            .with_recursion_limit(DEPTH_MAX)
            .build()
            .and_then(|mut parser| parser.parse_statements())
            .map_err(sql_error)?;
        let (Some(mut parsed), None) = (statements.pop_front(), statements.pop_front()) else {
            return Err(
                ServiceError::invalid("query", "must be one statement").reason("SQL_INVALID")
            );
        };
        let query = query_of(&mut parsed)?;
        only_reads(query)?;
        number_parameters(query);
        let tables = tables_of(&parsed)?;
        Ok(Self { parsed, tables })
    }

    /// The tables that it reads, each once.
    #[must_use]
    pub fn tables(&self) -> &[TableName] {
        &self.tables
    }
}

/// The query of a statement: what is not one is refused, whatever it is.
fn query_of(parsed: &mut Parsed) -> Result<&mut Ast, ServiceError> {
    match parsed {
        Parsed::Statement(ast) => match ast.as_mut() {
            query @ Ast::Query(_) => Ok(query),
            _ => Err(refused()),
        },
        Parsed::Explain(ExplainStatement { statement, .. }) => match statement.as_mut() {
            Parsed::Statement(ast) if matches!(**ast, Ast::Query(_)) => Ok(ast.as_mut()),
            _ => Err(refused()),
        },
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => Err(refused()),
    }
}

/// No part of a query may be a statement that writes.
fn only_reads(query: &Ast) -> Result<(), ServiceError> {
    struct Writes;
    impl Visitor for Writes {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            match *query.body {
                SetExpr::Insert(_)
                | SetExpr::Update(_)
                | SetExpr::Delete(_)
                | SetExpr::Merge(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    if query.visit(&mut Writes).is_break() { Err(refused()) } else { Ok(()) }
}

fn refused() -> ServiceError {
    ServiceError::denied(
        "query: only SELECT (with WITH, VALUES, UNION …) and EXPLAIN of one are offered; \
         rows are written with a put",
    )
    .reason("SQL_READ_ONLY")
}

fn tables_of(parsed: &Parsed) -> Result<Vec<TableName>, ServiceError> {
    let (references, _) = resolve_table_references(parsed, true).map_err(sql_error)?;
    let mut tables = Vec::with_capacity(references.len());
    for reference in &references {
        tables.extend(TableName::of(reference)?);
    }
    if tables.len() > TABLES_MAX {
        let message = format!("names {} tables; at most {TABLES_MAX} are read", tables.len());
        return Err(ServiceError::invalid("query", message).reason("SQL_INVALID"));
    }
    Ok(tables)
}

/// `?` is the next of `$1`, `$2`, ….
fn number_parameters(query: &mut Ast) {
    struct Numbering(usize);
    impl VisitorMut for Numbering {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) = expr
                && name == "?"
            {
                self.0 += 1;
                *name = format!("${}", self.0);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = query.visit(&mut Numbering(0));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use service_error::Code;

    fn tables(sql: &str) -> Vec<String> {
        let statement = Statement::parse(sql).unwrap();
        statement.tables().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tables_are_named_with_namespace_and_version() {
        assert_eq!(tables("select * from quarry.a.b"), ["quarry.a.b"]);
        assert_eq!(tables("select * from a.b@3"), ["quarry.a.b@3"]);
        assert_eq!(tables("select * from a.\"b@latest\""), ["quarry.a.b@latest"]);
        assert_eq!(tables("explain select * from quarry.a-b.c"), ["quarry.a-b.c"]);
        let sql = "with x as (select * from n.a) select * from x where id in (select id from n.b)";
        assert_eq!(tables(sql), ["quarry.n.a", "quarry.n.b"]);
        assert!(tables("select 1").is_empty());
        let error = Statement::parse("select * from other.a.b").unwrap_err();
        assert!(error.reason_is("SQL_UNKNOWN_TABLE"));
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for sql in [
            "create external table x stored as csv location '/etc/passwd'",
            "create table x as select 1",
            "create view x as select 1",
            "create function f() returns int as '1'",
            "copy (select 1) to '/tmp/x.csv'",
            "copy a.b to 's3://bucket/x.parquet'",
            "insert into a.b values (1)",
            "update a.b set x = 1",
            "delete from a.b",
            "truncate table a.b",
            "drop table a.b",
            "set datafusion.catalog.has_header = true",
            "reset datafusion.catalog.has_header",
            "show all",
            "begin",
            "prepare p as select 1",
            "execute p",
            "deallocate p",
            "use quarry",
            "explain create table x as select 1",
            "explain analyze insert into a.b values (1)",
            "explain copy (select 1) to '/tmp/x'",
            "describe a.b",
        ] {
            let error = Statement::parse(sql).unwrap_err();
            let closed = [Code::PermissionDenied, Code::InvalidArgument, Code::Unimplemented];
            assert!(closed.contains(&error.code()), "{sql}: {error}");
        }
        for sql in ["", ";", "select 1; select 2", "selec 1", "select (", "select 1 from"] {
            let error = Statement::parse(sql).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{sql}: {error}");
        }
    }

    #[test]
    fn a_text_too_deep_or_too_long_is_an_error() {
        let deep = format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(Statement::parse(&deep).unwrap_err().code(), Code::InvalidArgument);
        let long = format!("select '{}'", "x".repeat(SQL_BYTES_MAX));
        assert_eq!(Statement::parse(&long).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn question_marks_are_numbered() {
        let statement = Statement::parse("select ? + ? from a.b where c = ?").unwrap();
        assert_eq!(statement.parsed.to_string(), "SELECT $1 + $2 FROM a.b WHERE c = $3");
    }
}
