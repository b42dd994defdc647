//! Filters and orders, against what MLflow's own parser says.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::{
    Clause, Comparator, EXPERIMENTS, Entity, MODELS, Operand, RUNS, VERSIONS, asks_for_prompts,
    order_by, order_by_models, parse,
};

fn one(dialect: &super::Dialect, filter: &str) -> Clause {
    let mut clauses = parse(dialect, filter).unwrap();
    assert_eq!(clauses.len(), 1, "{filter}");
    clauses.remove(0)
}

fn refusal(dialect: &super::Dialect, filter: &str) -> String {
    parse(dialect, filter).unwrap_err().message().to_owned()
}

#[test]
fn a_filter_is_a_list_of_comparisons() {
    let clauses = parse(
        &RUNS,
        "metrics.acc >= 0.5 and params.`a b` = 'x' AND tags.\"mlflow.user\" ILIKE \"%A%\" \
         AND attributes.start_time < 10 AND run_id NOT IN ('a', 'b') AND tags.z IS NOT NULL",
    )
    .unwrap();
    let shown: Vec<_> = clauses.iter().map(|c| (c.entity, c.key.as_str(), c.comparator)).collect();
    assert_eq!(
        shown,
        [
            (Entity::Metric, "acc", Comparator::GreaterOrEqual),
            (Entity::Param, "a b", Comparator::Equal),
            (Entity::Tag, "mlflow.user", Comparator::ILike),
            (Entity::Attribute, "start_time", Comparator::Less),
            (Entity::Attribute, "run_id", Comparator::NotIn),
            (Entity::Tag, "z", Comparator::IsNotNull),
        ]
    );
    assert_eq!(clauses[0].value, Operand::Float(0.5));
    assert_eq!(clauses[4].value, Operand::List(vec!["a".into(), "b".into()]));
    assert!(parse(&RUNS, "  ").unwrap().is_empty());
    assert_eq!(one(&RUNS, "metrics.loss > -1e-3").value, Operand::Float(-0.001));
    assert_eq!(one(&RUNS, "Created > 5").key, "start_time");
}

#[test]
fn what_is_no_comparison_is_named() {
    assert_eq!(refusal(&RUNS, "metrics.acc"), "Invalid clause(s) in filter string: 'metrics.acc'");
    assert_eq!(
        refusal(&RUNS, "params.a = 'b' OR params.a = 'c'"),
        "Invalid clause(s) in filter string: 'OR'"
    );
    assert_eq!(
        refusal(&MODELS, "(name = 'a')"),
        "Invalid clause(s) in filter string: (name = 'a')"
    );
    assert!(refusal(&RUNS, "name = 'a'; name = 'b'").contains("multiple expression"));
}

#[test]
fn values_are_of_their_kind() {
    assert!(
        refusal(&RUNS, "metrics.acc > 'x'").starts_with("Expected numeric value type for metric")
    );
    assert!(
        refusal(&RUNS, "params.a = 5").starts_with("Expected a quoted string value for parameter")
    );
    assert!(refusal(&MODELS, "name = abc").starts_with("Parameter value is either not quoted"));
    assert!(refusal(&MODELS, "name = 5").starts_with("Expected a quoted string value or a list"));
    assert!(refusal(&VERSIONS, "name = 5").starts_with("Only the '{"));
    assert!(refusal(&MODELS, "name IN ()").contains("got empty list"));
    assert!(
        refusal(&EXPERIMENTS, "name IN ('a')").starts_with("Only ['experiment_id'] attributes")
    );
    assert_eq!(one(&VERSIONS, "version_number >= 3").value, Operand::Int(3));
    assert_eq!(one(&VERSIONS, "version_number = '3'").value, Operand::Text("3".into()));
}

#[test]
fn comparators_fit_what_they_compare() {
    assert!(refusal(&RUNS, "metrics.acc LIKE 5").contains("Invalid comparator 'LIKE'"));
    assert!(refusal(&RUNS, "params.a > 'x'").contains("Invalid comparator '>'"));
    assert_eq!(refusal(&MODELS, "name > 'a'"), "Invalid comparator for attribute: >");
    assert_eq!(refusal(&MODELS, "tags.a > 'a'"), "Invalid comparator for tag: >");
    assert!(refusal(&RUNS, "run_name IS NULL").starts_with("IS NULL / IS NOT NULL is only"));
}

#[test]
fn names_are_known() {
    assert!(refusal(&RUNS, "foo.bar = 'x'").starts_with("Invalid entity type 'foo'. Valid values"));
    assert!(refusal(&MODELS, "params.a = 'x'").contains("Valid entity types are ('attribute'"));
    assert_eq!(
        refusal(&MODELS, "description = 'x'"),
        "Invalid attribute key 'description' specified. Valid keys are '{'name'}'"
    );
    assert!(refusal(&RUNS, "dataset.x = 'y'").starts_with("Invalid dataset key 'x'"));
}

#[test]
fn prompts_are_asked_for_by_their_tag() {
    let asks = |filter: &str| asks_for_prompts(&parse(&MODELS, filter).unwrap());
    assert!(asks("tags.`mlflow.prompt.is_prompt` = 'true'"));
    assert!(asks("tag.`mlflow.prompt.is_prompt` != 'False'"));
    assert!(!asks("tags.`mlflow.prompt.is_prompt` != 'true'"));
    assert!(!asks("name = 'x'"));
}

#[test]
fn orders_have_a_direction() {
    let order = order_by(&RUNS, "metrics.`a b` DESC").unwrap();
    assert_eq!((order.entity, order.key.as_str(), order.ascending), (Entity::Metric, "a b", false));
    assert!(order_by(&RUNS, "attribute.start_time").unwrap().ascending);
    assert!(order_by(&RUNS, "start_time upwards").unwrap_err().message().contains("ordering key"));
    assert!(
        order_by(&RUNS, "start_time desc now")
            .unwrap_err()
            .message()
            .contains("Could not be parsed")
    );
    assert_eq!(order_by_models("timestamp asc").unwrap().key, "last_updated_timestamp");
    assert!(
        order_by_models("creation_time").unwrap_err().message().contains("Invalid order by key")
    );
}
