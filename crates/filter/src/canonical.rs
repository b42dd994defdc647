//! One spelling for equal filters. It is hashed, shown in logs, never parsed.

use std::fmt::Write;

use crate::predicate::{Leaf, Predicate, Test, TextOp};

pub(crate) fn canonical(predicate: &Predicate) -> String {
    let mut out = String::new();
    write_predicate(predicate, &mut out);
    out
}

fn write_predicate(predicate: &Predicate, out: &mut String) {
    match predicate {
        Predicate::And(parts) => write_joined(parts, " AND ", out),
        Predicate::Or(parts) => write_joined(parts, " OR ", out),
        Predicate::Not(inner) => {
            out.push_str("NOT ");
            write_predicate(inner, out);
        }
        Predicate::Leaf(leaf) => write_leaf(leaf, out),
    }
}

fn write_joined(parts: &[Predicate], by: &str, out: &mut String) {
    out.push('(');
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push_str(by);
        }
        write_predicate(part, out);
    }
    out.push(')');
}

fn write_leaf(leaf: &Leaf, out: &mut String) {
    // Debug-quoted, so that no name can be mistaken for syntax.
    let _ = write!(out, "{:?}", leaf.column.top);
    for field in &leaf.column.nested {
        let _ = write!(out, ".{field:?}");
    }
    out.push(' ');
    write_test(&leaf.test, out);
}

fn write_test(test: &Test, out: &mut String) {
    let _ = match test {
        Test::IsNull => write!(out, "= null"),
        Test::IsNotNull => write!(out, "!= null"),
        Test::Always(answer) => write!(out, "always {answer}"),
        Test::Compare(op, operand) => write!(out, "{} {}", op.symbol(), operand.text),
        Test::In(operands) => {
            let texts: Vec<&str> = operands.iter().map(|o| o.text.as_str()).collect();
            write!(out, "IN ({})", texts.join(", "))
        }
        Test::Text(op, operand) => {
            let word = match op {
                TextOp::Contains => "contains",
                TextOp::StartsWith => "starts with",
                TextOp::EndsWith => "ends with",
            };
            write!(out, "{word} {}", operand.text)
        }
        Test::Json(json) => {
            let _ = write!(out, "json {:?} {:?} {} ", json.path, json.wanted, json.elements);
            write_test(&json.test, out);
            Ok(())
        }
        Test::Has(inner) => {
            out.push_str("has ");
            write_test(inner, out);
            Ok(())
        }
    };
}
