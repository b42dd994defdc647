//! Names are bytes; databases and JSON want text. Valid UTF-8 stays as it is;
//! each byte that is none becomes one character of a private plane, and so does
//! each byte of a character that is itself of that plane. So the text is
//! unique, comes back exactly, and sorts with its neighbours.

/// The character for byte 0.
const FIRST: u32 = 0x0010_fe00;

/// The first byte of each as UTF-8.
const LEAD: u8 = 0xf4;

/// Escapes, and what would sort after them: no text holds anything above.
fn is_escape(c: char) -> bool {
    c as u32 >= FIRST
}

fn escape(byte: u8, into: &mut String) {
    // Below the last code point for every byte.
    if let Some(c) = char::from_u32(FIRST + u32::from(byte)) {
        into.push(c);
    }
}

/// Bytes as text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(plain) if is_plain(plain) => plain.to_owned(),
        _ => escaped(bytes),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_escape(c) {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|byte| escape(byte, &mut text));
            } else {
                text.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(*byte, &mut text));
    }
    text
}

/// The bytes of a text that [`text`] made.
#[must_use]
pub fn bytes(text: &str) -> Vec<u8> {
    if is_plain(text) {
        return text.as_bytes().to_vec();
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        let code = c as u32;
        match u8::try_from(code.wrapping_sub(FIRST)) {
            Ok(byte) if is_escape(c) => bytes.push(byte),
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Whether the name is valid UTF-8, and so equal to its text.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    // Every escape begins with this byte, and hardly anything else does.
    !text.as_bytes().contains(&LEAD) || !text.contains(is_escape)
}

/// For people: what is not text is shown as U+FFFD.
#[must_use]
pub fn shown(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        String::from_utf8_lossy(&bytes(text)).into_owned()
    }
}

/// The lower-case extension of a name's text: what follows its last dot, if
/// something stands before the dot and it is short and plain.
#[must_use]
pub fn extension(name: &str) -> &str {
    const LONGEST: usize = 16;
    match name.rsplit_once('.') {
        Some((stem, ext))
            if !stem.is_empty()
                && (1..=LONGEST).contains(&ext.len())
                && ext.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') =>
        {
            ext
        }
        _ => "",
    }
}
