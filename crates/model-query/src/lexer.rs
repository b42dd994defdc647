//! Text into words, signs and literals.

use crate::QueryError;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A bare word or one in backticks.
    Word(String),
    /// A word in backticks: never a keyword.
    Quoted(String),
    Text(String),
    Number(f64),
    Sign(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub token: Token,
    /// In characters from 1.
    pub column: usize,
}

const SIGNS: [&str; 13] = ["!=", "<=", ">=", "<>", "=", "<", ">", "(", ")", ",", ".", ":", "-"];

pub(crate) fn lex(text: &str) -> Result<Vec<Placed>, QueryError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let column = at + 1;
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        let token = match c {
            '"' | '\'' => Token::Text(quoted(&chars, &mut at, c)?),
            '`' => Token::Quoted(quoted(&chars, &mut at, c)?),
            _ if c.is_ascii_digit() => Token::Number(number(&chars, &mut at)?),
            '-' if chars.get(at + 1).is_some_and(|next| next.is_ascii_digit() || *next == '.') => {
                at += 1;
                Token::Number(-number(&chars, &mut at)?)
            }
            _ if is_word(c) => Token::Word(word(&chars, &mut at)),
            _ => Token::Sign(sign(&chars, &mut at)?),
        };
        tokens.push(Placed { token, column });
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(chars: &[char], at: &mut usize) -> String {
    let begin = *at;
    while *at < chars.len() && is_word(chars[*at]) {
        *at += 1;
    }
    chars[begin..*at].iter().collect()
}

/// A text up to the same quote, which is written twice, or after `\`, to stand in it.
fn quoted(chars: &[char], at: &mut usize, quote: char) -> Result<String, QueryError> {
    let begin = *at;
    let mut text = String::new();
    *at += 1;
    while let Some(c) = chars.get(*at) {
        let next = chars.get(*at + 1);
        match (*c, next) {
            ('\\', Some(escaped)) if *escaped == quote || *escaped == '\\' => {
                text.push(*escaped);
                *at += 2;
            }
            (c, Some(next)) if c == quote && *next == quote => {
                text.push(quote);
                *at += 2;
            }
            (c, _) if c == quote => {
                *at += 1;
                return Ok(text);
            }
            (c, _) => {
                text.push(c);
                *at += 1;
            }
        }
    }
    Err(QueryError::new(begin + 1, format!("the text has no closing {quote}")))
}

fn number(chars: &[char], at: &mut usize) -> Result<f64, QueryError> {
    let begin = *at;
    while let Some(c) = chars.get(*at) {
        let exponent = *at > begin && matches!(chars[*at - 1], 'e' | 'E');
        if c.is_ascii_digit()
            || matches!(c, '.' | 'e' | 'E')
            || (exponent && matches!(c, '+' | '-'))
        {
            *at += 1;
        } else {
            break;
        }
    }
    let text: String = chars[begin..*at].iter().collect();
    text.parse().map_err(|_| QueryError::new(begin + 1, format!("{text} is no number")))
}

fn sign(chars: &[char], at: &mut usize) -> Result<&'static str, QueryError> {
    let rest: String = chars[*at..].iter().take(2).collect();
    let found = SIGNS.iter().find(|sign| rest.starts_with(**sign));
    let Some(sign) = found else {
        return Err(QueryError::new(*at + 1, format!("{:?} has no meaning here", chars[*at])));
    };
    *at += sign.len();
    Ok(sign)
}
