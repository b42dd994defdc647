//! The grammar of path templates (google/api/http.proto).
//!
//! ```text
//! Template = "/" Segments [ Verb ] ;
//! Segments = Segment { "/" Segment } ;
//! Segment  = "*" | "**" | LITERAL | Variable ;
//! Variable = "{" FieldPath [ "=" Segments ] "}" ;
//! Verb     = ":" LITERAL ;
//! ```

use std::fmt;
use std::ops::Range;

/// One segment of a path, variables taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any one segment that is not empty: `*`.
    One,
    /// Any number of segments, none included: `**`, always the last.
    Many,
}

/// A part of the path that is bound to a field of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Names of fields from the request message inwards.
    pub field_path: Vec<String>,
    /// The segments it covers.
    pub span: Range<usize>,
}

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
    variables: Vec<Variable>,
    verb: Option<String>,
}

/// Why a template is not one, with the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    template: String,
    at: usize,
    problem: &'static str,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path template {:?}, at byte {}: {}", self.template, self.at, self.problem)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Parses a template such as `/v1/{name=shelves/*/books/**}:read`.
    ///
    /// # Errors
    /// Text outside the grammar, `**` before the end, a variable twice.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { text, at: 0, segments: Vec::new(), variables: Vec::new() };
        parser.expect('/', "a template begins with '/'")?;
        parser.segments(true)?;
        let verb = parser.verb()?;
        if parser.at < text.len() {
            return Err(parser.error("unexpected text"));
        }
        parser.check_shape()?;
        Ok(Self { segments: parser.segments, variables: parser.variables, verb })
    }

    /// The segments, variables taken apart.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The variables in the order they stand.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The custom verb without its colon.
    #[must_use]
    pub fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// The template as OpenAPI writes paths: each variable in braces under its
    /// field's name, whatever it covers.
    #[must_use]
    pub fn openapi_path(&self) -> String {
        let mut path = String::new();
        let mut at = 0;
        while at < self.segments.len() {
            path.push('/');
            if let Some(variable) = self.variables.iter().find(|v| v.span.start == at) {
                path.push_str(&format!("{{{}}}", variable.field_path.join(".")));
                at = variable.span.end;
                continue;
            }
            match &self.segments[at] {
                Segment::Literal(literal) => path.push_str(literal),
                Segment::One | Segment::Many => path.push_str(&format!("{{segment{at}}}")),
            }
            at += 1;
        }
        if let Some(verb) = &self.verb {
            path.push(':');
            path.push_str(verb);
        }
        path
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.segments.iter().enumerate() {
            f.write_str("/")?;
            if let Some(variable) = self.variables.iter().find(|v| v.span.start == at) {
                write!(f, "{{{}=", variable.field_path.join("."))?;
            }
            match segment {
                Segment::Literal(literal) => f.write_str(literal)?,
                Segment::One => f.write_str("*")?,
                Segment::Many => f.write_str("**")?,
            }
            if self.variables.iter().any(|v| v.span.end == at + 1) {
                f.write_str("}")?;
            }
        }
        match &self.verb {
            Some(verb) => write!(f, ":{verb}"),
            None => Ok(()),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    segments: Vec<Segment>,
    variables: Vec<Variable>,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn error(&self, problem: &'static str) -> TemplateError {
        TemplateError { template: self.text.to_owned(), at: self.at, problem }
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let eaten = self.rest().starts_with(wanted);
        if eaten {
            self.at += wanted.len();
        }
        eaten
    }

    fn expect(&mut self, wanted: char, problem: &'static str) -> Result<(), TemplateError> {
        if self.eat(wanted.encode_utf8(&mut [0; 4])) { Ok(()) } else { Err(self.error(problem)) }
    }

    fn segments(&mut self, variables_allowed: bool) -> Result<(), TemplateError> {
        loop {
            self.segment(variables_allowed)?;
            if !self.eat("/") {
                return Ok(());
            }
        }
    }

    fn segment(&mut self, variables_allowed: bool) -> Result<(), TemplateError> {
        if self.eat("**") {
            self.segments.push(Segment::Many);
        } else if self.eat("*") {
            self.segments.push(Segment::One);
        } else if self.rest().starts_with('{') {
            if !variables_allowed {
                return Err(self.error("a variable cannot stand in a variable"));
            }
            self.at += 1;
            self.variable()?;
        } else {
            let literal = self.literal("a segment is '*', '**', '{…}' or text")?;
            self.segments.push(Segment::Literal(literal));
        }
        Ok(())
    }

    fn variable(&mut self) -> Result<(), TemplateError> {
        let length =
            self.rest().find(['=', '}']).ok_or_else(|| self.error("a variable ends with '}'"))?;
        let field_path: Vec<String> = self.rest()[..length].split('.').map(str::to_owned).collect();
        if !field_path.iter().all(|name| is_identifier(name)) {
            return Err(self.error("a variable is named by fields, with dots between them"));
        }
        self.at += length;
        let start = self.segments.len();
        if self.eat("=") {
            self.segments(false)?;
        } else {
            self.segments.push(Segment::One);
        }
        self.expect('}', "a variable ends with '}'")?;
        self.variables.push(Variable { field_path, span: start..self.segments.len() });
        Ok(())
    }

    fn verb(&mut self) -> Result<Option<String>, TemplateError> {
        if self.eat(":") { self.literal("a verb is text").map(Some) } else { Ok(None) }
    }

    fn literal(&mut self, problem: &'static str) -> Result<String, TemplateError> {
        let length = self.rest().find(['/', ':', '{', '}', '*', '=']).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.error(problem));
        }
        let literal = self.rest()[..length].to_owned();
        self.at += length;
        Ok(literal)
    }

    fn check_shape(&self) -> Result<(), TemplateError> {
        let many = self.segments.iter().position(|s| *s == Segment::Many);
        if many.is_some_and(|at| at + 1 < self.segments.len()) {
            return Err(self.error("'**' is the last segment"));
        }
        for (at, variable) in self.variables.iter().enumerate() {
            if self.variables[..at].iter().any(|v| v.field_path == variable.field_path) {
                return Err(self.error("a variable stands twice"));
            }
        }
        Ok(())
    }
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_whole_grammar_parses() {
        let template = Template::parse("/v1/{name=shelves/*/books/**}:read").unwrap();
        assert_eq!(template.segments().len(), 5);
        assert_eq!(template.variables()[0].span, 1..5);
        assert_eq!(template.verb(), Some("read"));
        assert_eq!(template.to_string(), "/v1/{name=shelves/*/books/**}:read");
        assert_eq!(template.openapi_path(), "/v1/{name}:read");
    }

    #[test]
    fn a_bare_variable_is_one_segment_and_may_be_nested() {
        let template = Template::parse("/{a}/{b.c}:verb").unwrap();
        assert_eq!(template.segments(), [Segment::One, Segment::One]);
        assert_eq!(template.variables()[1].field_path, ["b", "c"]);
        assert_eq!(template.openapi_path(), "/{a}/{b.c}:verb");
    }

    #[test]
    fn text_outside_the_grammar_is_refused() {
        for text in [
            "",
            "v1",
            "/",
            "/v1/",
            "//a",
            "/{",
            "/{}",
            "/{a",
            "/{a={b}}",
            "/{a}{b}",
            "/**/a",
            "/{a=**}/b",
            "/a:",
            "/a:b:c",
            "/{1a}",
            "/{a.}",
            "/a*",
            "/{a}/{a}",
            "/a}",
            "/a:b/c",
        ] {
            assert!(Template::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z][a-z0-9._~-]{0,6}", Just("*".to_owned())]
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(
            plain in prop::collection::vec(segment(), 1..4),
            bound in prop::collection::vec(segment(), 1..3),
            verb in prop::option::of("[a-zA-Z]{1,8}"),
        ) {
            let verb = verb.map(|v| format!(":{v}")).unwrap_or_default();
            let text = format!("/{}/{{f.g={}}}{verb}", plain.join("/"), bound.join("/"));
            let template = Template::parse(&text).unwrap();
            prop_assert_eq!(template.to_string(), text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[/{}*=:.a-z%é]{0,24}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(Template::parse(&template.to_string()).unwrap(), template);
            }
        }
    }
}
