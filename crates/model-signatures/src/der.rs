//! A reader of DER (X.690), of what a certificate holds: definite lengths in
//! their shortest form, tags of one byte. Nothing is copied, no depth is followed
//! that the caller does not ask for.

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT_ID: u8 = 0x06;
pub const UTF8_STRING: u8 = 0x0c;
pub const SEQUENCE: u8 = 0x30;

/// An element: its tag, what is in it, and all of it.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    pub tag: u8,
    pub contents: &'a [u8],
    pub whole: &'a [u8],
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads the elements of some bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub const fn at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element.
    pub fn item(&mut self) -> Option<Item<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        // Tags of more bytes are in no certificate.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, head) = match first {
            0..=0x7f => (usize::from(first), 2),
            0x81..=0x83 => {
                let count = usize::from(first & 0x7f);
                let bytes = rest.get(..count)?;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                let shortest = if count == 1 { length > 0x7f } else { bytes[0] != 0 };
                (shortest.then_some(length)?, 2 + count)
            }
            _ => return None,
        };
        let (whole, rest) = self.0.split_at_checked(head + length)?;
        self.0 = rest;
        Some(Item { tag, contents: &whole[head..], whole })
    }

    /// The next element, if its tag is this one.
    pub fn optional(&mut self, tag: u8) -> Option<Item<'a>> {
        let mut ahead = *self;
        let item = ahead.item().filter(|item| item.tag == tag)?;
        *self = ahead;
        Some(item)
    }
}

/// The contents of the one element that some bytes are.
pub fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    let item = reader.optional(tag)?;
    reader.at_end().then_some(item.contents)
}

/// An element around contents of less than 16 MiB.
pub fn wrapped(tag: u8, contents: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = contents.len().to_be_bytes();
    let head: &[u8] = match (high, middle, low) {
        (0, 0, 0..=0x7f) => &[tag, low],
        (0, 0, _) => &[tag, 0x81, low],
        (0, ..) => &[tag, 0x82, middle, low],
        _ => &[tag, 0x83, high, middle, low],
    };
    [head, contents].concat()
}
