//! Tokens into an untyped tree.

use crate::lexer::{Kind, SAVED, Text, Token, tokens};
use crate::predicate::Op;
use crate::{DEPTH_MAX, FilterError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Syntax {
    And(Vec<Syntax>),
    Or(Vec<Syntax>),
    Not(Box<Syntax>),
    Compare {
        path: Path,
        op: Op,
        value: Value,
    },
    Has {
        path: Path,
        value: Value,
    },
    In {
        path: Path,
        values: Vec<Value>,
    },
    /// A column alone: a boolean that must be true.
    Bare(Path),
    /// `saved:name`: a filter that was kept under a name.
    Saved(Saved),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub path: Path,
    pub name: Value,
    /// Not in quotes: no value of a column either.
    pub bare: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub segments: Vec<String>,
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub kind: ValueKind,
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Null,
    /// `*` after `:`: anything but null.
    Any,
    Bool(bool),
    /// With its sign.
    Number(String),
    Text(Text),
    Moment(String),
}

pub(crate) fn parse(text: &str) -> Result<Syntax, FilterError> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    if parser.peek().kind == Kind::End {
        return Err(FilterError::new(1, "the filter is empty"));
    }
    let syntax = parser.expression()?;
    if parser.peek().kind != Kind::End {
        return Err(parser.unexpected("AND, OR or the end"));
    }
    Ok(syntax)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is `End` and is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(&self.peek().kind, Kind::Symbol(s) if *s == symbol);
        self.at += usize::from(found);
        found
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(&self.peek().kind, Kind::Word(w) if w.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn unexpected(&self, wanted: &str) -> FilterError {
        let token = self.peek();
        let found = match &token.kind {
            Kind::Word(w) => format!("{w:?}"),
            Kind::Quoted(w) => format!("`{w}`"),
            Kind::Text(t) => format!("the text {:?}", t.verbatim),
            Kind::Number(n) | Kind::Moment(n) => n.clone(),
            Kind::Symbol(s) => format!("'{s}'"),
            Kind::End => "the end".to_owned(),
        };
        FilterError::new(token.column, format!("expected {wanted}, found {found}"))
    }

    fn expression(&mut self) -> Result<Syntax, FilterError> {
        let mut parts = vec![self.factor()?];
        while self.take_keyword("AND") {
            parts.push(self.factor()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Syntax::And(parts) })
    }

    /// AIP-160: OR binds tighter than AND.
    fn factor(&mut self) -> Result<Syntax, FilterError> {
        let mut parts = vec![self.term()?];
        while self.take_keyword("OR") {
            parts.push(self.term()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Syntax::Or(parts) })
    }

    fn term(&mut self) -> Result<Syntax, FilterError> {
        self.deeper()?;
        let term = if self.take_keyword("NOT") || self.take_symbol("-") {
            Syntax::Not(Box::new(self.term()?))
        } else if self.take_symbol("(") {
            let inner = self.expression()?;
            if !self.take_symbol(")") {
                return Err(self.unexpected("')', AND or OR"));
            }
            inner
        } else {
            self.restriction()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn restriction(&mut self) -> Result<Syntax, FilterError> {
        let path = self.path()?;
        if self.take_keyword("IN") {
            let values = self.values()?;
            return Ok(Syntax::In { path, values });
        }
        let negated_in = matches!(&self.peek().kind, Kind::Word(w) if w.eq_ignore_ascii_case("NOT"))
            && matches!(self.tokens.get(self.at + 1).map(|t| &t.kind), Some(Kind::Word(w)) if w.eq_ignore_ascii_case("IN"));
        if negated_in {
            self.at += 2;
            let values = self.values()?;
            return Ok(Syntax::Not(Box::new(Syntax::In { path, values })));
        }
        if self.take_symbol(":") {
            if let Some(saved) = self.saved(&path) {
                return Ok(Syntax::Saved(saved));
            }
            return self.argument(&|value| Syntax::Has { path: path.clone(), value });
        }
        let Kind::Symbol(symbol) = self.peek().kind else {
            return self.bare(path);
        };
        let op = match symbol {
            "=" => Op::Eq,
            "!=" => Op::NotEq,
            "<" => Op::Lt,
            "<=" => Op::LtEq,
            ">" => Op::Gt,
            ">=" => Op::GtEq,
            _ => return self.bare(path),
        };
        self.at += 1;
        if op == Op::Eq {
            return self.argument(&|value| Syntax::Compare { path: path.clone(), op, value });
        }
        let value = self.value()?;
        Ok(Syntax::Compare { path, op, value })
    }

    /// The name after `saved:`, if that is what it is.
    fn saved(&mut self, path: &Path) -> Option<Saved> {
        if path.segments.as_slice() != [SAVED] {
            return None;
        }
        let (text, bare) = match &self.peek().kind {
            Kind::Word(name) if ["true", "false", "null"].contains(&name.as_str()) => return None,
            Kind::Word(name) => {
                (Text { text: name.clone(), verbatim: name.clone(), ..Text::default() }, true)
            }
            Kind::Text(text) => (text.clone(), false),
            _ => return None,
        };
        let column = self.take().column;
        let name = Value { kind: ValueKind::Text(text), column };
        Some(Saved { path: path.clone(), name, bare })
    }

    /// One value, or several in parentheses: `tags:("cat" OR "dog")`,
    /// `tags:("cat" AND NOT "dog")`.
    fn argument(&mut self, make: &dyn Fn(Value) -> Syntax) -> Result<Syntax, FilterError> {
        self.deeper()?;
        let made = if self.take_symbol("(") {
            let inner = self.arguments(make)?;
            if !self.take_symbol(")") {
                return Err(self.unexpected("')', AND or OR"));
            }
            inner
        } else {
            make(self.any_value()?)
        };
        self.depth -= 1;
        Ok(made)
    }

    fn arguments(&mut self, make: &dyn Fn(Value) -> Syntax) -> Result<Syntax, FilterError> {
        let mut parts = Vec::new();
        loop {
            let mut either = vec![self.maybe_not(make)?];
            while self.take_keyword("OR") {
                either.push(self.maybe_not(make)?);
            }
            parts.push(if either.len() == 1 { either.remove(0) } else { Syntax::Or(either) });
            if !self.take_keyword("AND") {
                break;
            }
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Syntax::And(parts) })
    }

    fn maybe_not(&mut self, make: &dyn Fn(Value) -> Syntax) -> Result<Syntax, FilterError> {
        if self.take_keyword("NOT") {
            return Ok(Syntax::Not(Box::new(self.argument(make)?)));
        }
        self.argument(make)
    }

    /// A value, or `*` for any.
    fn any_value(&mut self) -> Result<Value, FilterError> {
        let column = self.peek().column;
        if self.take_symbol("*") {
            return Ok(Value { kind: ValueKind::Any, column });
        }
        self.value()
    }

    fn deeper(&mut self) -> Result<(), FilterError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX}");
            return Err(FilterError::new(self.peek().column, message));
        }
        Ok(())
    }

    fn bare(&self, path: Path) -> Result<Syntax, FilterError> {
        let next = &self.peek().kind;
        let ends = matches!(next, Kind::End | Kind::Symbol(")"))
            || matches!(next, Kind::Word(w) if ["and", "or"].contains(&w.to_ascii_lowercase().as_str()));
        if ends {
            Ok(Syntax::Bare(path))
        } else {
            Err(self.unexpected("one of = != < <= > >= : IN"))
        }
    }

    fn path(&mut self) -> Result<Path, FilterError> {
        let column = self.peek().column;
        let mut segments = vec![self.segment()?];
        while self.take_symbol(".") {
            segments.push(self.segment()?);
        }
        Ok(Path { segments, column })
    }

    fn segment(&mut self) -> Result<String, FilterError> {
        match &self.peek().kind {
            Kind::Word(word) => {
                let reserved =
                    ["and", "or", "not", "in"].contains(&word.to_ascii_lowercase().as_str());
                if reserved {
                    return Err(self.unexpected("a column (in backticks if it has this name)"));
                }
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            Kind::Quoted(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("a column")),
        }
    }

    fn values(&mut self) -> Result<Vec<Value>, FilterError> {
        if !self.take_symbol("(") {
            return Err(self.unexpected("'(' and values"));
        }
        let mut values = vec![self.value()?];
        while self.take_symbol(",") {
            values.push(self.value()?);
        }
        if !self.take_symbol(")") {
            return Err(self.unexpected("',' or ')'"));
        }
        Ok(values)
    }

    fn value(&mut self) -> Result<Value, FilterError> {
        let column = self.peek().column;
        let negative = self.take_symbol("-");
        if negative && !matches!(self.peek().kind, Kind::Number(_)) {
            return Err(self.unexpected("a number after '-'"));
        }
        let kind = match &self.peek().kind {
            Kind::Number(digits) if negative => ValueKind::Number(format!("-{digits}")),
            Kind::Number(digits) => ValueKind::Number(digits.clone()),
            Kind::Text(text) => ValueKind::Text(text.clone()),
            Kind::Moment(moment) => ValueKind::Moment(moment.clone()),
            Kind::Word(word) => match word.to_ascii_lowercase().as_str() {
                "true" => ValueKind::Bool(true),
                "false" => ValueKind::Bool(false),
                "null" => ValueKind::Null,
                _ => {
                    let message =
                        format!("{word:?} is no value; write texts in quotes: \"{word}\"");
                    return Err(FilterError::new(column, message));
                }
            },
            _ => return Err(self.unexpected("a value")),
        };
        self.take();
        Ok(Value { kind, column })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn or_binds_tighter_than_and() {
        let Syntax::And(parts) = parse("a AND b OR c").unwrap() else { unreachable!() };
        assert!(matches!(parts.as_slice(), [Syntax::Bare(_), Syntax::Or(_)]));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}a{}", "(".repeat(DEPTH_MAX - 1), ")".repeat(DEPTH_MAX - 1));
        assert!(parse(&deep).is_ok());
        let deeper = format!("{}a", "NOT ".repeat(20_000 / 2));
        assert!(parse(&deeper).unwrap_err().message.contains("nested"));
    }

    #[test]
    fn errors_point_at_the_mistake() {
        for (text, column) in [
            ("width >", 8),
            ("width > 3 height = 2", 11),
            ("(a = 1", 7),
            ("a IN 3", 6),
            ("a = x", 5),
            ("AND a = 1", 1),
            ("a = -", 6),
            ("a == 1", 3),
            ("a = \"b\" OR", 11),
            ("", 1),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.column, column, "{text}: {error}");
        }
    }

    #[test]
    fn minus_negates_terms_and_numbers() {
        assert!(matches!(parse("-a = -5").unwrap(), Syntax::Not(_)));
        assert!(matches!(parse("a NOT IN (1)").unwrap(), Syntax::Not(_)));
    }
}
