//! One column: which value each point has.

use std::sync::RwLock;

use roaring::RoaringBitmap;

use crate::PayloadError;
use crate::bytes::{Reader, Writer};
use crate::codes::Codes;
use crate::dictionary::Dictionary;
use crate::text::TextIndex;
use crate::value::{ColumnType, Value};

/// A column of no more distinct values than this keeps a bitmap for each.
const BITMAPS_MAX: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Column {
    pub column_type: ColumnType,
    pub dictionary: Dictionary,
    /// The first point's number that has a place in `codes`.
    base: u32,
    /// By number above `base`, the code of the value plus 1; 0 is null. Empty for lists.
    codes: Codes,
    /// By code; for a scalar column only while they are few.
    postings: Option<Vec<RoaringBitmap>>,
    /// Points whose value is not null.
    pub present: RoaringBitmap,
    /// Made when it is first asked for.
    pub text: RwLock<Option<TextIndex>>,
}

impl Column {
    pub fn new(column_type: ColumnType) -> Self {
        Self {
            column_type,
            dictionary: Dictionary::new(column_type.kind),
            base: 0,
            codes: Codes::new(),
            postings: Some(Vec::new()),
            present: RoaringBitmap::new(),
            text: RwLock::new(None),
        }
    }

    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        let postings: usize =
            self.postings.iter().flatten().map(RoaringBitmap::serialized_size).sum();
        self.dictionary.bytes() + self.codes.bytes() + postings + self.present.serialized_size()
    }

    /// The value is of the column's type (or an empty list in a list column).
    pub fn insert(&mut self, number: u32, value: &Value) {
        self.present.insert(number);
        if let Value::List(values) = value {
            for value in values {
                let code = self.dictionary.code(value);
                self.post(number, code);
            }
            return;
        }
        let code = self.dictionary.code(value);
        if self.codes.len() == 0 {
            self.base = number;
        }
        if number < self.base {
            self.codes.move_by((self.base - number) as usize);
            self.base = number;
        }
        self.codes.set((number - self.base) as usize, code + 1);
        self.post(number, code);
        if self.dictionary.len() > BITMAPS_MAX {
            self.postings = None;
        }
        if let (Value::Text(text), Ok(slot)) = (value, self.text.get_mut())
            && let Some(index) = slot
        {
            index.insert(number, text);
        }
    }

    fn post(&mut self, number: u32, code: u32) {
        if let Some(postings) = &mut self.postings {
            let code = code as usize;
            if postings.len() <= code {
                postings.resize_with(code + 1, RoaringBitmap::new);
            }
            postings[code].insert(number);
        }
    }

    /// The code of a point's value; nothing for a null or a list.
    pub fn code_of(&self, number: u32) -> Option<u32> {
        let at = number.checked_sub(self.base)? as usize;
        self.codes.get(at)?.checked_sub(1)
    }

    /// A point's value; nothing for null.
    pub fn value_of(&self, number: u32) -> Option<Value> {
        if !self.column_type.list {
            return self.code_of(number).map(|code| self.dictionary.value(code));
        }
        if !self.present.contains(number) {
            return None;
        }
        let postings = self.postings.as_deref().unwrap_or_default();
        let held = postings.iter().enumerate().filter(|(_, posted)| posted.contains(number));
        let code = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Some(Value::List(held.map(|(at, _)| self.dictionary.value(code(at))).collect()))
    }

    /// The points whose value's (or an element's) code is marked.
    pub fn with_codes(&self, marked: &[bool]) -> RoaringBitmap {
        if let Some(postings) = &self.postings {
            let mut found = RoaringBitmap::new();
            for (posted, _) in postings.iter().zip(marked).filter(|(_, marked)| **marked) {
                found |= posted;
            }
            return found;
        }
        if !marked.contains(&true) {
            return RoaringBitmap::new();
        }
        self.codes.places(self.base, |code| {
            code.checked_sub(1).is_some_and(|code| marked.get(code as usize) == Some(&true))
        })
    }

    /// How many of `among` have each value, most frequent first, then by code.
    pub fn counts(&self, among: &RoaringBitmap) -> Vec<(u32, u64)> {
        let mut counts = vec![0_u64; self.dictionary.len()];
        match &self.postings {
            Some(postings) => {
                for (count, posted) in counts.iter_mut().zip(postings) {
                    *count = posted.intersection_len(among);
                }
            }
            None => {
                for code in among.iter().filter_map(|number| self.code_of(number)) {
                    counts[code as usize] += 1;
                }
            }
        }
        let mut counts: Vec<(u32, u64)> =
            (0_u32..).zip(counts).filter(|(_, count)| *count > 0).collect();
        counts.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
        counts
    }

    pub fn write(&self, out: &mut Writer) {
        out.byte(u8::from(self.column_type.list));
        self.dictionary.write(out);
        out.numbers(&[self.base]);
        out.numbers(&self.codes.iter().collect::<Vec<_>>());
        let postings = self.postings.as_deref().filter(|_| self.column_type.list);
        let postings = postings.unwrap_or_default();
        out.count(postings.len());
        postings.iter().for_each(|posted| out.raw(&bitmap_bytes(posted)));
        out.raw(&bitmap_bytes(&self.present));
    }

    pub fn read(from: &mut Reader<'_>) -> Result<Self, PayloadError> {
        let list = from.byte()? != 0;
        let dictionary = Dictionary::read(from)?;
        let mut column = Self::new(ColumnType { kind: dictionary.kind(), list });
        column.dictionary = dictionary;
        column.base = from.numbers()?.first().copied().unwrap_or(0);
        column.codes = Codes::of(from.numbers()?);
        let distinct = column.dictionary.len();
        if column.codes.iter().any(|code| code as usize > distinct) {
            return Err(PayloadError::Damaged("the code of a value"));
        }
        let mut postings = Vec::new();
        for _ in 0..from.count(1)? {
            postings.push(bitmap(from.raw()?)?);
        }
        column.present = bitmap(from.raw()?)?;
        if !list && distinct <= BITMAPS_MAX {
            postings.resize_with(distinct, RoaringBitmap::new);
            for (number, code) in (column.base..).zip(column.codes.iter()) {
                if code > 0 {
                    postings[code as usize - 1].insert(number);
                }
            }
        }
        column.postings = (list || distinct <= BITMAPS_MAX).then_some(postings);
        Ok(column)
    }
}

pub(crate) fn bitmap_bytes(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to memory does not fail.
    let _ = bitmap.serialize_into(&mut bytes);
    bytes
}

pub(crate) fn bitmap(bytes: &[u8]) -> Result<RoaringBitmap, PayloadError> {
    RoaringBitmap::deserialize_from(bytes).map_err(|_| PayloadError::Damaged("a bitmap"))
}
