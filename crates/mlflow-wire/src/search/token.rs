//! The words of a filter.

use crate::{MlflowError, Result};

/// A word, as SQL's lexers cut it.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// `metrics.acc`, `` tag.`a b` ``, `"a"`: names, and what is in double quotes.
    Name(String),
    /// `'…'`, with its quotes.
    Text(String),
    /// An integer.
    Int(String),
    /// A number with a point or an exponent.
    Float(String),
    /// `=`, `!=`, `<`, `LIKE`, …
    Comparison(String),
    /// `AND`, `OR`, `NOT`, `IN`, `IS`, `NULL`, upper or lower case.
    Keyword(String),
    /// `(…)`, whole.
    Parenthesis(String),
    /// Anything else.
    Other(String),
}

impl Token {
    /// As it was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Name(text)
            | Self::Text(text)
            | Self::Int(text)
            | Self::Float(text)
            | Self::Comparison(text)
            | Self::Keyword(text)
            | Self::Parenthesis(text)
            | Self::Other(text) => text,
        }
    }

    /// Whether it is this keyword.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Keyword(text) if text.eq_ignore_ascii_case(keyword))
    }
}

const KEYWORDS: [&str; 8] = ["AND", "OR", "NOT", "IN", "IS", "NULL", "BETWEEN", "XOR"];

/// Cuts a filter into its words.
///
/// # Errors
/// More than one expression.
pub fn tokens(filter: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer { rest: filter };
    let mut found = Vec::new();
    while let Some(token) = lexer.next() {
        found.push(token);
    }
    let end = found.iter().position(|token| token.text() == ";");
    match end {
        Some(end) if end + 1 < found.len() => Err(MlflowError::invalid(format!(
            "Search filter contained multiple expression '{filter}'. Provide AND-ed expression list."
        ))),
        _ => Ok(found),
    }
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Token> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        if first == '\'' {
            return Some(match self.quoted('\'') {
                Some(text) => Token::Text(text.to_owned()),
                None => Token::Other(self.take(1).to_owned()),
            });
        }
        if first == '(' {
            return Some(self.parenthesis());
        }
        if let Some(number) = self.number() {
            return Some(number);
        }
        if is_name_start(first) || matches!(first, '"' | '`') {
            return Some(self.name());
        }
        let length = self.rest.find(|letter| !"<>=!~".contains(letter)).unwrap_or(self.rest.len());
        if length > 0 {
            return Some(Token::Comparison(self.take(length).to_owned()));
        }
        Some(Token::Other(self.take(first.len_utf8()).to_owned()))
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// A quoted text with its quotes; a doubled quote is one inside.
    fn quoted(&mut self, quote: char) -> Option<&'a str> {
        let mut letters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, letter)) = letters.next() {
            if letter == '\\' && quote == '\'' {
                letters.next();
            } else if letter == quote {
                if letters.peek().is_some_and(|(_, next)| *next == quote) {
                    letters.next();
                } else {
                    return Some(self.take(at + 1));
                }
            }
        }
        None
    }

    fn parenthesis(&mut self) -> Token {
        let mut depth = 0_usize;
        let mut quote = None;
        for (at, letter) in self.rest.char_indices() {
            match (quote, letter) {
                (Some(open), _) if letter == open => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(letter),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Token::Parenthesis(self.take(at + 1).to_owned());
            }
        }
        Token::Other(self.take(1).to_owned())
    }

    fn number(&mut self) -> Option<Token> {
        let unsigned = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
        if !digits.starts_with(|letter: char| letter.is_ascii_digit()) {
            return None;
        }
        let body = unsigned
            .char_indices()
            .find(|(at, letter)| {
                let after_exponent = *at > 0 && unsigned[..*at].ends_with(['e', 'E']);
                !(letter.is_ascii_digit()
                    || matches!(letter, '.' | 'e' | 'E')
                    || (matches!(letter, '+' | '-') && after_exponent))
            })
            .map_or(unsigned.len(), |(at, _)| at);
        let follows = unsigned[body..].chars().next();
        let text = &unsigned[..body];
        text.parse::<f64>().ok()?;
        if follows.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            return None;
        }
        let is_float = text.contains(['.', 'e', 'E']);
        let whole = self.take(self.rest.len() - unsigned.len() + body).to_owned();
        Some(if is_float { Token::Float(whole) } else { Token::Int(whole) })
    }

    /// Names joined by dots; each may be quoted.
    fn name(&mut self) -> Token {
        let whole = self.rest;
        loop {
            let first = self.rest.chars().next();
            let taken = match first {
                Some(quote @ ('"' | '`')) => self.quoted(quote).is_some(),
                Some(letter) if is_name_start(letter) || letter.is_numeric() => {
                    let end = self
                        .rest
                        .find(|letter: char| !(letter.is_alphanumeric() || "_$@".contains(letter)))
                        .unwrap_or(self.rest.len());
                    self.take(end);
                    true
                }
                _ => false,
            };
            if !taken {
                break;
            }
            if !self.rest.starts_with('.') {
                break;
            }
            self.take(1);
        }
        let length = whole.len() - self.rest.len();
        if length == 0 {
            return Token::Other(self.take(1).to_owned());
        }
        let text = whole[..length].to_owned();
        let upper = text.to_ascii_uppercase();
        if matches!(upper.as_str(), "LIKE" | "ILIKE" | "RLIKE") {
            return Token::Comparison(text);
        }
        if KEYWORDS.contains(&upper.as_str()) { Token::Keyword(text) } else { Token::Name(text) }
    }
}

fn is_name_start(letter: char) -> bool {
    letter.is_alphabetic() || letter == '_'
}
