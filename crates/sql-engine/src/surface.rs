//! What a query may use: of the functions, those whose answers are about as
//! large as what they are given.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use service_error::ServiceError;

use crate::error::sql_error;

/// Functions that make as much as an argument says: (name, which one).
const GROWING: [(&str, usize); 5] =
    [("repeat", 1), ("lpad", 1), ("rpad", 1), ("array_repeat", 1), ("array_resize", 1)];
/// As these do, with a step and an end; as tables they are lazy and stay.
const SERIES: [&str; 2] = ["range", "generate_series"];
/// The most that such an argument may say.
const GROWTH_MAX: i64 = 1_000;

/// Refuses what no query may do, however it was written.
pub(crate) fn check(plan: &LogicalPlan) -> Result<(), ServiceError> {
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(plan).map_err(|error| {
        ServiceError::denied(format!("query: {}", error.strip_backtrace())).reason("SQL_READ_ONLY")
    })?;
    let mut wrong = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            wrong = wrong.take().or_else(|| growing(expr, false));
            Ok(if wrong.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    walked.map_err(sql_error)?;
    wrong.map_or(Ok(()), Err)
}

/// The first function that could make much of little.
fn growing(expr: &Expr, within: bool) -> Option<ServiceError> {
    let mut wrong = None;
    let mut inside = within;
    if let Expr::ScalarFunction(ScalarFunction { func, args }) = expr {
        let name = func.name();
        if SERIES.contains(&name) {
            let message = format!("{name}() is offered as a table only: SELECT … FROM {name}(…)");
            return Some(not_offered(message));
        }
        if let Some((_, at)) = GROWING.iter().find(|(growing, _)| *growing == name) {
            if within || !args.get(*at).is_some_and(is_small) {
                let message = format!(
                    "{name}() takes a literal of at most {GROWTH_MAX} and stands in no other such function"
                );
                return Some(not_offered(message));
            }
            inside = true;
        }
    }
    let walked = expr.apply_children(|child| {
        wrong = growing(child, inside);
        Ok::<_, DataFusionError>(match wrong {
            Some(_) => TreeNodeRecursion::Stop,
            None => TreeNodeRecursion::Continue,
        })
    });
    wrong.or_else(|| walked.err().map(sql_error))
}

fn is_small(expr: &Expr) -> bool {
    let Expr::Literal(value, _) = expr else { return false };
    let number = value.to_string().parse::<i64>();
    number.is_ok_and(|number| number <= GROWTH_MAX)
}

fn not_offered(message: String) -> ServiceError {
    ServiceError::unimplemented(format!("query: {message}"))
        .reason("SQL_NOT_OFFERED")
        .field("query")
}
