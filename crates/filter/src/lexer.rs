//! Characters into tokens, each with the place where it begins.

use crate::{FilterError, TEXT_BYTES_MAX};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bare word: a column, a keyword, `true`, `null`.
    Word(String),
    /// A column in backticks: never a keyword.
    Quoted(String),
    Text(Text),
    /// Digits, sign not included.
    Number(String),
    /// A date or a time stamp without quotes.
    Moment(String),
    /// `=`, `!=`, `<`, `<=`, `>`, `>=`, `:`, `(`, `)`, `,`, `.`, `-`, `*`
    Symbol(&'static str),
    End,
}

/// What stands before the name of a saved filter.
pub(crate) const SAVED: &str = "saved";

/// A quoted text with its escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text {
    /// Without the stars that are wildcards.
    pub text: String,
    /// Anything may come before.
    pub open_start: bool,
    /// Anything may come after.
    pub open_end: bool,
    /// As it was written, stars included.
    pub verbatim: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub kind: Kind,
    /// In characters from 1.
    pub column: usize,
}

pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!(
            "the filter is {} bytes long, at most {TEXT_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(FilterError::new(1, message));
    }
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = match tokens.as_slice() {
            // `saved:` and a name, which may have hyphens.
            [.., Token { kind: Kind::Word(word), .. }, Token { kind: Kind::Symbol(":"), .. }]
                if word == SAVED =>
            {
                lexer.name()?
            }
            _ => lexer.next()?,
        };
        let end = token.kind == Kind::End;
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Result<Token, FilterError> {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
        let column = self.at + 1;
        let Some(first) = self.peek(0) else {
            return Ok(Token { kind: Kind::End, column });
        };
        let kind = match first {
            '"' | '\'' => Kind::Text(self.text(first)?),
            '`' => Kind::Quoted(self.backticks()?),
            '0'..='9' => self.digits(),
            c if c.is_alphabetic() || c == '_' => Kind::Word(self.take_while(is_word)),
            _ => Kind::Symbol(self.symbol(first, column)?),
        };
        Ok(Token { kind, column })
    }

    /// A token in which a hyphen may be part of a word.
    fn name(&mut self) -> Result<Token, FilterError> {
        let mut token = self.next()?;
        if let Kind::Word(word) = &mut token.kind {
            word.push_str(&self.take_while(|c| is_word(c) || c == '-'));
        }
        Ok(token)
    }

    fn take_while(&mut self, accept: fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(accept) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn symbol(&mut self, first: char, column: usize) -> Result<&'static str, FilterError> {
        let double = self.peek(1) == Some('=');
        let symbol = match first {
            '!' if double => "!=",
            '<' if double => "<=",
            '>' if double => ">=",
            '=' if double => {
                return Err(FilterError::new(column, "write one '=' to compare"));
            }
            '<' if self.peek(1) == Some('>') => {
                return Err(FilterError::new(column, "write '!=' for unequal"));
            }
            '=' => "=",
            '<' => "<",
            '>' => ">",
            ':' => ":",
            '(' => "(",
            ')' => ")",
            ',' => ",",
            '.' => ".",
            '-' => "-",
            '*' => "*",
            other => {
                return Err(FilterError::new(column, format!("{other:?} has no meaning here")));
            }
        };
        self.at += symbol.len();
        Ok(symbol)
    }

    fn text(&mut self, quote: char) -> Result<Text, FilterError> {
        let begin = self.at + 1;
        self.at += 1;
        // Each character with whether it may be a wildcard.
        let mut found: Vec<(char, bool)> = Vec::new();
        loop {
            match self.peek(0) {
                None => {
                    return Err(FilterError::new(
                        begin,
                        format!("the text has no closing {quote}"),
                    ));
                }
                Some(c) if c == quote => break,
                Some('\\') => found.push((self.escape()?, false)),
                Some(c) => found.push((c, c == '*')),
            }
            self.at += 1;
        }
        self.at += 1;
        let verbatim = found.iter().map(|(c, _)| c).collect();
        let open_start = found.first().is_some_and(|(_, wild)| *wild);
        // A single star is both: it matches any text.
        let open_end = found.last().is_some_and(|(_, wild)| *wild);
        let skip = usize::from(open_start);
        let keep = found.len().saturating_sub(usize::from(open_end)).max(skip);
        let text = found[skip..keep].iter().map(|(c, _)| c).collect();
        Ok(Text { text, open_start, open_end, verbatim })
    }

    /// Leaves `at` on the escaped character.
    fn escape(&mut self) -> Result<char, FilterError> {
        let column = self.at + 1;
        self.at += 1;
        match self.peek(0) {
            Some(c @ ('\\' | '"' | '\'' | '*')) => Ok(c),
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            _ => Err(FilterError::new(
                column,
                r#"a '\' is written "\\"; known escapes are \\ \" \' \* \n \t \r"#,
            )),
        }
    }

    fn backticks(&mut self) -> Result<String, FilterError> {
        let begin = self.at + 1;
        self.at += 1;
        let name = self.take_while(|c| c != '`');
        if self.peek(0).is_none() {
            return Err(FilterError::new(begin, "the column name has no closing `"));
        }
        self.at += 1;
        Ok(name)
    }

    /// A number, or a date that needs no quotes.
    fn digits(&mut self) -> Kind {
        let is_date = self.peek(4) == Some('-')
            && self.peek(7) == Some('-')
            && [0, 1, 2, 3, 5, 6, 8, 9]
                .iter()
                .all(|i| self.peek(*i).is_some_and(|c| c.is_ascii_digit()));
        let start = self.at;
        if is_date {
            self.at += 10;
            if self.peek(0) == Some('T') {
                self.take_while(|c| {
                    c.is_ascii_digit() || matches!(c, 'T' | 'Z' | ':' | '.' | '+' | '-')
                });
            }
            return Kind::Moment(self.chars[start..self.at].iter().collect());
        }
        // A word character ends in the number too ("12px"), so that the error
        // shows all of it.
        loop {
            self.take_while(is_word);
            let exponent = matches!(self.peek(0), Some('+' | '-'))
                && matches!(self.chars.get(self.at.wrapping_sub(1)), Some('e' | 'E'));
            let point =
                self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit());
            if !exponent && !point {
                return Kind::Number(self.chars[start..self.at].iter().collect());
            }
            self.at += 1;
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).unwrap().into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn numbers_and_dates_end_where_they_should() {
        assert_eq!(kinds("1.5e-3")[0], Kind::Number("1.5e-3".into()));
        assert_eq!(kinds("12px")[0], Kind::Number("12px".into()));
        assert_eq!(kinds("2024-02-29")[0], Kind::Moment("2024-02-29".into()));
        assert_eq!(
            kinds("2024-02-29T01:02:03.5+02:00)")[0],
            Kind::Moment("2024-02-29T01:02:03.5+02:00".into())
        );
    }

    #[test]
    fn stars_are_wild_unless_escaped() {
        let Kind::Text(text) = kinds(r#""*a\*""#).remove(0) else { unreachable!() };
        assert!(text.open_start && !text.open_end);
        assert_eq!(text.text, "a*");
        let Kind::Text(any) = kinds("'*'").remove(0) else { unreachable!() };
        assert!(any.open_start && any.open_end && any.text.is_empty());
    }

    #[test]
    fn places_count_characters_not_bytes() {
        let error = tokens("größe = \"x").unwrap_err();
        assert_eq!(error.column, 9);
    }

    #[test]
    fn an_endless_text_is_refused() {
        assert!(tokens(&"a".repeat(TEXT_BYTES_MAX + 1)).is_err());
    }
}
