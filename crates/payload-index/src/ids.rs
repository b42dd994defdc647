//! Item ids by point number.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use filter::LeafTest;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::PayloadError;
use crate::bytes::{Reader, Writer};

/// Ids tested at once.
const CHUNK: u32 = 8_192;
/// Ids whose ends are told from one place.
const BLOCK: usize = 1_024;
/// Begins the sixteen bytes of a UUID; no text begins so.
const UUID: u8 = 0xff;

/// The ids of points, in the order of their numbers; append-only. Any text is an id; one that is
/// a UUID as it is usually written takes less than half of its text's memory.
#[derive(Debug, Default)]
pub struct ItemIds {
    base: u32,
    /// Where the ids of each block begin.
    begins: Vec<usize>,
    /// Where each id ends, from its block's begin.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

/// An id as it is kept.
enum Kept<'a> {
    Uuid(Uuid),
    Text(&'a str),
}

impl<'a> Kept<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&UUID, uuid)) => Uuid::from_slice(uuid).ok().map(Self::Uuid),
            _ => std::str::from_utf8(bytes).ok().map(Self::Text),
        }
    }
}

impl ItemIds {
    /// What it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.begins.capacity() * size_of::<usize>()
            + self.ends.capacity() * size_of::<u32>()
            + self.bytes.capacity()
    }

    /// Appends a point's id. A number below one that is there is left alone.
    pub fn insert(&mut self, number: u32, id: &str) {
        if self.ends.is_empty() {
            self.base = number;
        }
        let Some(at) = number.checked_sub(self.base).map(|at| at as usize) else { return };
        if at < self.ends.len() {
            return;
        }
        grow(&mut self.ends, at + 1);
        while self.ends.len() < at {
            self.push(&[], &[]);
        }
        match canonical(id) {
            Some(uuid) => self.push(&[UUID], uuid.as_bytes()),
            None => self.push(&[], id.as_bytes()),
        }
    }

    fn push(&mut self, mark: &[u8], id: &[u8]) {
        if self.ends.len().is_multiple_of(BLOCK) {
            self.begins.push(self.bytes.len());
        }
        let end = self.bytes.len() + mark.len() + id.len();
        grow(&mut self.bytes, end);
        self.bytes.extend_from_slice(mark);
        self.bytes.extend_from_slice(id);
        let begin = self.begins.last().copied().unwrap_or_default();
        self.ends.push(u32::try_from(end - begin).unwrap_or(u32::MAX));
    }

    /// The bytes of the id at a place; empty where a number has none.
    fn kept(&self, at: usize) -> Option<&[u8]> {
        let block = *self.begins.get(at / BLOCK)?;
        let end = block + *self.ends.get(at)? as usize;
        let begin = match at % BLOCK {
            0 => block,
            _ => block + self.ends[at - 1] as usize,
        };
        self.bytes.get(begin..end)
    }

    fn id(&self, number: u32) -> Option<Kept<'_>> {
        let at = number.checked_sub(self.base)? as usize;
        self.kept(at).filter(|bytes| !bytes.is_empty()).and_then(Kept::of)
    }

    /// The id of a point; nothing for a number that has none.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Cow<'_, str>> {
        self.id(number).map(|id| match id {
            Kept::Uuid(uuid) => Cow::Owned(uuid.hyphenated().to_string()),
            Kept::Text(text) => Cow::Borrowed(text),
        })
    }

    /// The numbers among some that have one of these ids.
    pub(crate) fn numbers_of<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
        among: &RoaringBitmap,
    ) -> RoaringBitmap {
        let kept = |id: &str| match canonical(id) {
            Some(uuid) => [&[UUID], uuid.as_bytes().as_slice()].concat(),
            None => id.as_bytes().to_vec(),
        };
        let sought: HashSet<Vec<u8>> = ids.map(kept).collect();
        let has = |number: &u32| {
            let at = number.checked_sub(self.base).map(|at| at as usize);
            at.and_then(|at| self.kept(at)).is_some_and(|id| sought.contains(id))
        };
        among.iter().filter(has).collect()
    }

    pub(crate) fn passing(
        &self,
        test: &LeafTest<'_>,
        among: &RoaringBitmap,
    ) -> Result<RoaringBitmap, PayloadError> {
        let mut found = RoaringBitmap::new();
        let mut numbers = among.iter();
        let mut written = Uuid::encode_buffer();
        loop {
            let some: Vec<u32> = numbers.by_ref().take(CHUNK as usize).collect();
            if some.is_empty() {
                return Ok(found);
            }
            let mut ids = StringBuilder::new();
            for &number in &some {
                ids.append_value(match self.id(number) {
                    Some(Kept::Uuid(uuid)) => uuid.hyphenated().encode_lower(&mut written),
                    Some(Kept::Text(text)) => text,
                    None => "",
                });
            }
            let ids: ArrayRef = Arc::new(ids.finish());
            let passing = test.passing(&ids)?;
            found.extend(
                some.iter().enumerate().filter(|(at, _)| passing.value(*at)).map(|(_, n)| *n),
            );
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.numbers(&[self.base]);
        let length = |at: usize| self.kept(at).map_or(0, <[u8]>::len) as u32;
        out.numbers(&(0..self.ends.len()).map(length).collect::<Vec<_>>());
        out.raw(&self.bytes);
    }

    /// Also what was written before UUIDs were told apart: texts alone.
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, PayloadError> {
        const DAMAGED: PayloadError = PayloadError::Damaged("the ids of items");
        let base = from.numbers()?.first().copied().unwrap_or(0);
        let lengths = from.numbers()?;
        let mut left = from.raw()?;
        let mut ids = Self { base, ..Self::default() };
        ids.ends.reserve_exact(lengths.len());
        for length in lengths {
            let (kept, rest) = left.split_at_checked(length as usize).ok_or(DAMAGED)?;
            left = rest;
            match Kept::of(kept).ok_or(DAMAGED)? {
                Kept::Text(text) => match canonical(text) {
                    Some(uuid) => ids.push(&[UUID], uuid.as_bytes()),
                    None => ids.push(&[], kept),
                },
                Kept::Uuid(_) => ids.push(&[], kept),
            }
        }
        if !left.is_empty() {
            return Err(DAMAGED);
        }
        ids.bytes.shrink_to_fit();
        Ok(ids)
    }
}

/// The UUID that is written so.
fn canonical(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    let written = uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
    written.then_some(uuid)
}

/// Makes room for so many, with an eighth to spare: doubled, half of it might lie idle.
fn grow<T>(items: &mut Vec<T>, length: usize) {
    if length > items.capacity() {
        items.reserve_exact(length + length / 8 - items.len());
    }
}
