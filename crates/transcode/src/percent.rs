//! Percent-decoding of URL paths and queries.

/// A `%` that is not followed by two hexadecimal digits, or bytes that are not
/// UTF-8 once decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Decodes every `%XX`, a slash too: for text that stays one segment.
pub fn decode(text: &str) -> Result<String, Malformed> {
    decode_with(text, |_| true, false)
}

/// Decodes every `%XX` but an encoded slash, so that it can still be told from
/// a slash between two segments.
pub fn decode_but_slash(text: &str) -> Result<String, Malformed> {
    decode_with(text, |byte| byte != b'/', false)
}

/// Decodes `application/x-www-form-urlencoded` text: `+` is a space.
pub fn decode_form(text: &str) -> Result<String, Malformed> {
    decode_with(text, |_| true, true)
}

fn decode_with(
    text: &str,
    wanted: impl Fn(u8) -> bool,
    plus_is_space: bool,
) -> Result<String, Malformed> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let byte = hex_pair(bytes.get(at + 1..at + 3).ok_or(Malformed)?)?;
                if wanted(byte) {
                    out.push(byte);
                } else {
                    out.extend_from_slice(&bytes[at..at + 3]);
                }
                at += 3;
            }
            b'+' if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_err(|_| Malformed)
}

fn hex_pair(pair: &[u8]) -> Result<u8, Malformed> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(Malformed);
    let value = digit(pair[0])? * 16 + digit(pair[1])?;
    u8::try_from(value).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_slash_is_kept_where_segments_matter() {
        assert_eq!(decode("a%2Fb%20c"), Ok("a/b c".to_owned()));
        assert_eq!(decode_but_slash("a%2Fb%2fc%20d"), Ok("a%2Fb%2fc d".to_owned()));
    }

    #[test]
    fn plus_is_a_space_in_forms_only() {
        assert_eq!(decode_form("a+b%2B"), Ok("a b+".to_owned()));
        assert_eq!(decode("a+b"), Ok("a+b".to_owned()));
    }

    #[test]
    fn cut_wrong_and_non_utf8_escapes_are_refused() {
        for text in ["%", "%4", "%zz", "%+1", "%ff", "caf%E9"] {
            assert_eq!(decode(text), Err(Malformed), "{text}");
        }
    }
}
