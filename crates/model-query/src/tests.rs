//! What is understood, how it binds, and what is refused where.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

fn versions(text: &str) -> Expr {
    parse(text, Subject::Versions).unwrap().unwrap()
}

fn test(field: Field, op: Op, value: Value) -> Expr {
    Expr::Test(Test { field, op, value })
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn or_binds_tighter_than_and_as_everywhere_in_the_platform() {
    let a = || test(Field::Stage, Op::Eq, text("a"));
    let b = || test(Field::Stage, Op::Eq, text("b"));
    let c = || test(Field::Stage, Op::Eq, text("c"));
    let parsed = versions("stage = 'a' AND stage = 'b' OR stage = 'c'");
    assert_eq!(parsed, Expr::And(vec![a(), Expr::Or(vec![b(), c()])]));
    let parsed = versions("(stage = 'a' AND stage = 'b') OR NOT stage = 'c'");
    let inner = Expr::And(vec![a(), b()]);
    assert_eq!(parsed, Expr::Or(vec![inner, Expr::Not(Box::new(c()))]));
}

#[test]
fn keys_are_words_with_dots_or_quoted() {
    let parsed = versions("tags.`mlflow.source.name` != \"x\"");
    assert_eq!(parsed, test(Field::Tag("mlflow.source.name".into()), Op::NotEq, text("x")));
    assert_eq!(versions("tags.a.b = 'x'"), test(Field::Tag("a.b".into()), Op::Eq, text("x")));
    let parsed = versions("metrics.\"top 1\" >= -1.5e-3");
    assert_eq!(parsed, test(Field::Metric("top 1".into()), Op::GtEq, Value::Number(-1.5e-3)));
}

#[test]
fn literals_have_the_type_of_their_field() {
    assert_eq!(versions("signed = true"), test(Field::Signed, Op::Eq, Value::Bool(true)));
    let time = Value::Time(1_767_225_600_000_000);
    let parsed = versions("create_time > '2026-01-01T00:00:00Z'");
    assert_eq!(parsed, test(Field::CreateTime, Op::Gt, time));
    assert_eq!(
        versions("params.lr = 0.1"),
        test(Field::Param("lr".into()), Op::Eq, Value::Number(0.1))
    );
    assert_eq!(versions("params.lr = '0.1'"), test(Field::Param("lr".into()), Op::Eq, text("0.1")));
    for (bad, column) in [
        ("size > '3'", 8),
        ("stage = 3", 9),
        ("signed = 'yes'", 10),
        ("signed > true", 10),
        ("create_time > 'now'", 15),
        ("metrics.a LIKE 'x'", 11),
        ("scan IN ('a', 3)", 15),
        ("digest > 'ab'", 8),
        ("digest LIKE 'ab%'", 8),
        ("digest = 'ab*'", 10),
    ] {
        assert_eq!(parse(bad, Subject::Versions).unwrap_err().column, column, "{bad}");
    }
}

#[test]
fn lists_patterns_and_stars() {
    let list = Value::Texts(vec!["a".into(), "b".into()]);
    assert_eq!(versions("flavor IN ('a', \"b\")"), test(Field::Flavor, Op::In, list.clone()));
    assert_eq!(versions("flavor NOT IN ('a','b')"), test(Field::Flavor, Op::NotIn, list));
    assert_eq!(versions("name = 'res*'"), test(Field::Name, Op::Like, text("res%")));
    assert_eq!(versions("name = '*5_%*'"), test(Field::Name, Op::Like, text("%5\\_\\%%")));
    let not_like = Expr::Not(Box::new(test(Field::Name, Op::ILike, text("%x"))));
    assert_eq!(versions("name NOT ILIKE '%x'"), not_like);
    assert_eq!(versions("name = 'it''s'"), test(Field::Name, Op::Eq, text("it's")));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (bad, column, word) in [
        ("stage", 6, "expected ="),
        ("stage = ", 9, "a text"),
        ("stage = 'a", 9, "closing"),
        ("(stage = 'a'", 13, "closing parenthesis"),
        ("stage = 'a' stage = 'b'", 13, "AND"),
        ("colour = 'a'", 1, "no field colour"),
        ("tags = 'a'", 1, "no field tags"),
        ("version_count > 1", 1, "no field of versions"),
        ("stage ; 'a'", 7, "no meaning"),
    ] {
        let error = parse(bad, Subject::Versions).unwrap_err();
        assert_eq!(error.column, column, "{bad}: {error}");
        assert!(error.message.contains(word), "{bad}: {error}");
    }
    let error = parse("metrics.a > 1", Subject::Models).unwrap_err();
    assert!(error.message.contains("search versions"), "{error}");
}

#[test]
fn queries_are_bounded() {
    let deep = format!("{}stage = 'a'{}", "(".repeat(200), ")".repeat(200));
    assert!(parse(&deep, Subject::Versions).unwrap_err().message.contains("deeper"));
    let many = vec!["stage = 'a'"; TESTS_MAX + 1].join(" AND ");
    assert!(parse(&many, Subject::Versions).unwrap_err().message.contains("tests"));
    assert!(parse(&" ".repeat(TEXT_BYTES_MAX + 1), Subject::Versions).unwrap().is_none());
    assert_eq!(parse("  ", Subject::Models).unwrap(), None);
}
