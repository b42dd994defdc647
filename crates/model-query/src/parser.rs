//! Tokens into a typed tree.

use crate::lexer::{Placed, Token, lex};
use crate::{DEPTH_MAX, Expr, Field, Kind, Op, QueryError, Subject, TESTS_MAX, Test, Value};

const FIELDS: &str = "name, namespace, description, create_time, update_time, size, tags.KEY, alias, \
    version_count (of models); number, label, status, stage, source, run_id, logged_model_id, flavor, \
    digest, file_count, scan, signed, metrics.KEY, params.KEY, dataset, base_model (of versions)";

const WHOLE_DIGEST: &str = "a digest is compared whole: write =, != or IN";

pub(crate) fn parse(text: &str, subject: Subject) -> Result<Expr, QueryError> {
    let tokens = lex(text)?;
    let end = text.chars().count() + 1;
    let mut parser = Parser { tokens, next: 0, depth: 0, tests: 0, end, subject };
    let expr = parser.and()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.wrong("AND, OR or the end")),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
    tests: usize,
    /// The column behind the text.
    end: usize,
    subject: Subject,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |placed| placed.column)
    }

    fn wrong(&self, expected: &str) -> QueryError {
        QueryError::new(self.column(), format!("expected {expected}"))
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let is =
            matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(is);
        is
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.next += usize::from(is);
        is
    }

    fn and(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.or()?];
        while self.keyword("AND") {
            parts.push(self.or()?);
        }
        Ok(one_or(parts, Expr::And))
    }

    fn or(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.term()?];
        while self.keyword("OR") {
            parts.push(self.term()?);
        }
        Ok(one_or(parts, Expr::Or))
    }

    fn term(&mut self) -> Result<Expr, QueryError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX}");
            return Err(QueryError::new(self.column(), message));
        }
        let expr = if self.keyword("NOT") || self.sign("-") {
            Expr::Not(Box::new(self.term()?))
        } else if self.sign("(") {
            let inner = self.and()?;
            if !self.sign(")") {
                return Err(self.wrong("a closing parenthesis"));
            }
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn test(&mut self) -> Result<Expr, QueryError> {
        self.tests += 1;
        if self.tests > TESTS_MAX {
            let message = format!("more than {TESTS_MAX} tests; search in steps");
            return Err(QueryError::new(self.column(), message));
        }
        let field = self.field()?;
        let negated = self.keyword("NOT");
        let column = self.column();
        let op = self.op()?;
        if field == Field::Digest && !matches!(op, Op::Eq | Op::NotEq | Op::In) {
            return Err(QueryError::new(column, WHOLE_DIGEST));
        }
        let test = match op {
            Op::In => Test { value: self.list(&field)?, field, op },
            Op::Like | Op::ILike => Test { value: self.pattern(&field, column)?, field, op },
            _ if negated => return Err(QueryError::new(column, "expected IN or LIKE after NOT")),
            _ => self.compared(field, op)?,
        };
        Ok(match (negated, test.op) {
            (true, Op::In) => Expr::Test(Test { op: Op::NotIn, ..test }),
            (true, _) => Expr::Not(Box::new(Expr::Test(test))),
            (false, _) => Expr::Test(test),
        })
    }

    fn word(&mut self) -> Result<String, QueryError> {
        match self.peek() {
            Some(Token::Word(word) | Token::Quoted(word)) => {
                let word = word.clone();
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.wrong("the name of a field")),
        }
    }

    fn field(&mut self) -> Result<Field, QueryError> {
        let column = self.column();
        let name = self.word()?;
        let key = if self.sign(".") { Some(self.key()?) } else { None };
        let field = field_of(&name, key.as_deref()).ok_or_else(|| {
            let key = key.map(|key| format!(".{key}")).unwrap_or_default();
            QueryError::new(
                column,
                format!("there is no field {name}{key}; the fields are {FIELDS}"),
            )
        })?;
        if field.is_of(self.subject) {
            return Ok(field);
        }
        let whose = match self.subject {
            Subject::Models => "models; search versions by it",
            Subject::Versions => "versions",
        };
        Err(QueryError::new(column, format!("{name} is no field of {whose}")))
    }

    /// A key may be quoted as a whole, or be words with dots between.
    fn key(&mut self) -> Result<String, QueryError> {
        if let Some(Token::Text(text) | Token::Quoted(text)) = self.peek() {
            let text = text.clone();
            self.next += 1;
            return Ok(text);
        }
        let mut key = self.word()?;
        while self.sign(".") {
            key.push('.');
            key.push_str(&self.word()?);
        }
        Ok(key)
    }

    fn op(&mut self) -> Result<Op, QueryError> {
        let signs = [
            ("!=", Op::NotEq),
            ("<>", Op::NotEq),
            ("<=", Op::LtEq),
            (">=", Op::GtEq),
            ("=", Op::Eq),
            (":", Op::Eq),
            ("<", Op::Lt),
            (">", Op::Gt),
        ];
        for (sign, op) in signs {
            if self.sign(sign) {
                return Ok(op);
            }
        }
        for (word, op) in [("LIKE", Op::Like), ("ILIKE", Op::ILike), ("IN", Op::In)] {
            if self.keyword(word) {
                return Ok(op);
            }
        }
        Err(self.wrong("=, !=, <, <=, >, >=, LIKE, ILIKE or IN"))
    }

    fn compared(&mut self, field: Field, op: Op) -> Result<Test, QueryError> {
        let column = self.column();
        let value = self.literal()?;
        let value = fit(&field, value, column)?;
        let ordered = !matches!(op, Op::Eq | Op::NotEq);
        if ordered && matches!(value, Value::Bool(_)) {
            return Err(QueryError::new(column, "yes and no have no order; write = or !="));
        }
        let Value::Text(text) = &value else { return Ok(Test { field, op, value }) };
        if op == Op::Eq && text.len() > 1 && (text.starts_with('*') || text.ends_with('*')) {
            if field == Field::Digest {
                return Err(QueryError::new(column, WHOLE_DIGEST));
            }
            let value = Value::Text(pattern_of(text));
            return Ok(Test { field, op: Op::Like, value });
        }
        Ok(Test { field, op, value })
    }

    fn literal(&mut self) -> Result<Value, QueryError> {
        let value = match self.peek() {
            Some(Token::Text(text)) => Value::Text(text.clone()),
            Some(Token::Number(number)) => Value::Number(*number),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => Value::Bool(true),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => Value::Bool(false),
            _ => return Err(self.wrong("a text in quotes, a number, true or false")),
        };
        self.next += 1;
        Ok(value)
    }

    fn pattern(&mut self, field: &Field, column: usize) -> Result<Value, QueryError> {
        if !matches!(field.kind(), Kind::Text | Kind::Either) {
            return Err(QueryError::new(column, "LIKE compares texts, and this field is none"));
        }
        match self.literal()? {
            Value::Text(text) => Ok(Value::Text(text)),
            _ => Err(QueryError::new(column, "LIKE takes a text in quotes")),
        }
    }

    fn list(&mut self, field: &Field) -> Result<Value, QueryError> {
        if !self.sign("(") {
            return Err(self.wrong("a list in parentheses"));
        }
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        loop {
            let column = self.column();
            let value = self.literal()?;
            match fit(field, value, column)? {
                Value::Text(text) => texts.push(text),
                Value::Number(number) => numbers.push(number),
                _ => return Err(QueryError::new(column, "a list holds texts or numbers")),
            }
            if !self.sign(",") {
                break;
            }
        }
        if !self.sign(")") {
            return Err(self.wrong("a comma or a closing parenthesis"));
        }
        if texts.len() + numbers.len() > TESTS_MAX * 10 {
            let message = format!("a list holds at most {} values", TESTS_MAX * 10);
            return Err(QueryError::new(self.column(), message));
        }
        match (texts.is_empty(), numbers.is_empty()) {
            (false, true) => Ok(Value::Texts(texts)),
            (true, false) => Ok(Value::Numbers(numbers)),
            _ => Err(QueryError::new(self.column(), "a list holds either texts or numbers")),
        }
    }
}

fn one_or(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

fn field_of(name: &str, key: Option<&str>) -> Option<Field> {
    if let Some(key) = key {
        let key = key.to_owned();
        return match name {
            "tag" | "tags" => Some(Field::Tag(key)),
            "metric" | "metrics" => Some(Field::Metric(key)),
            "param" | "params" | "parameter" | "parameters" => Some(Field::Param(key)),
            _ => None,
        };
    }
    Some(match name {
        "name" | "model" => Field::Name,
        "namespace" => Field::Namespace,
        "description" => Field::Description,
        "create_time" => Field::CreateTime,
        "update_time" => Field::UpdateTime,
        "size" | "byte_count" => Field::Size,
        "alias" | "aliases" => Field::Alias,
        "version_count" => Field::VersionCount,
        "number" | "version" => Field::Number,
        "label" => Field::Label,
        "status" => Field::Status,
        "stage" => Field::Stage,
        "source" => Field::Source,
        "run_id" => Field::RunId,
        "logged_model_id" => Field::LoggedModelId,
        "flavor" | "flavors" => Field::Flavor,
        "digest" => Field::Digest,
        "file_count" => Field::FileCount,
        "scan" => Field::Scan,
        "signed" => Field::Signed,
        "dataset" => Field::Dataset,
        "base_model" => Field::BaseModel,
        _ => return None,
    })
}

fn fit(field: &Field, value: Value, column: usize) -> Result<Value, QueryError> {
    match (field.kind(), value) {
        (Kind::Number | Kind::Either, Value::Number(number)) => Ok(Value::Number(number)),
        (Kind::Text | Kind::Either, Value::Text(text)) => Ok(Value::Text(text)),
        (Kind::Bool, Value::Bool(bool)) => Ok(Value::Bool(bool)),
        (Kind::Time, Value::Text(text)) => chrono::DateTime::parse_from_rfc3339(&text)
            .map(|time| Value::Time(time.timestamp_micros()))
            .map_err(|_| {
                let message = "expected a time such as \"2026-01-31T12:00:00Z\"";
                QueryError::new(column, message)
            }),
        (Kind::Text, _) => Err(QueryError::new(column, "expected a text in quotes")),
        (Kind::Number, _) => Err(QueryError::new(column, "expected a number without quotes")),
        (Kind::Bool, _) => Err(QueryError::new(column, "expected true or false")),
        (Kind::Time, _) => Err(QueryError::new(column, "expected a time in quotes")),
        (Kind::Either, _) => Err(QueryError::new(column, "expected a text in quotes or a number")),
    }
}

/// `*` at the ends as LIKE's `%`; LIKE's own signs stand for themselves.
fn pattern_of(text: &str) -> String {
    let mut pattern = String::new();
    let last = text.chars().count() - 1;
    for (at, c) in text.chars().enumerate() {
        match c {
            '*' if at == 0 || at == last => pattern.push('%'),
            '%' | '_' | '\\' => {
                pattern.push('\\');
                pattern.push(c);
            }
            c => pattern.push(c),
        }
    }
    pattern
}
