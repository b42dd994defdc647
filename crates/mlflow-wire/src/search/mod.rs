//! MLflow's search grammar: AND-ed comparisons, quoted strings, backticked
//! keys. Parsed into clauses; how they are asked of a database is others'
//! business.

mod clause;
mod dialect;
mod order;
mod token;

pub use clause::{Clause, Comparator, Entity, Operand, parse};
pub use dialect::{Dialect, EXPERIMENTS, LOGGED_MODELS, MODELS, RUNS, VERSIONS, python_list};
pub use order::{Order, order_by, order_by_models};

/// The tag that makes a registered model a prompt.
pub const IS_PROMPT: &str = "mlflow.prompt.is_prompt";

/// Whether a search asks for prompts; all others hide them.
#[must_use]
pub fn asks_for_prompts(clauses: &[Clause]) -> bool {
    let asked = clauses.iter().find(|it| it.entity == Entity::Tag && it.key == IS_PROMPT);
    asked.is_some_and(|clause| {
        let Operand::Text(value) = &clause.value else { return false };
        match clause.comparator {
            Comparator::Equal => value.eq_ignore_ascii_case("true"),
            Comparator::NotEqual => value.eq_ignore_ascii_case("false"),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests;
