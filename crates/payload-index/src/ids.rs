//! Item ids by point number.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use filter::LeafTest;
use roaring::RoaringBitmap;

use crate::PayloadError;
use crate::bytes::{Reader, Writer};

/// Ids tested at once.
const CHUNK: u32 = 8_192;

/// The ids of points, in the order of their numbers; append-only.
#[derive(Debug, Default)]
pub struct ItemIds {
    base: u32,
    ends: Vec<u64>,
    text: Vec<u8>,
}

impl ItemIds {
    /// About what it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ends.len() * 8 + self.text.len()
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
        self.ends.resize(at, self.text.len() as u64);
        self.text.extend_from_slice(id.as_bytes());
        self.ends.push(self.text.len() as u64);
    }

    /// The id of a point; nothing for a number that has none.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&str> {
        let at = number.checked_sub(self.base)? as usize;
        let end = usize::try_from(*self.ends.get(at)?).ok()?;
        let begin = match at {
            0 => 0,
            at => usize::try_from(self.ends[at - 1]).ok()?,
        };
        let id = std::str::from_utf8(self.text.get(begin..end)?).ok()?;
        (!id.is_empty()).then_some(id)
    }

    pub(crate) fn passing(
        &self,
        test: &LeafTest<'_>,
        among: &RoaringBitmap,
    ) -> Result<RoaringBitmap, PayloadError> {
        let mut found = RoaringBitmap::new();
        let mut numbers = among.iter();
        loop {
            let some: Vec<u32> = numbers.by_ref().take(CHUNK as usize).collect();
            if some.is_empty() {
                return Ok(found);
            }
            let ids: ArrayRef = Arc::new(StringArray::from_iter_values(
                some.iter().map(|number| self.get(*number).unwrap_or_default()),
            ));
            let passing = test.passing(&ids)?;
            found.extend(
                some.iter().enumerate().filter(|(at, _)| passing.value(*at)).map(|(_, n)| *n),
            );
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.numbers(&[self.base]);
        let mut begin = 0;
        let lengths: Vec<u32> = self
            .ends
            .iter()
            .map(|end| {
                let length = u32::try_from(*end - begin).unwrap_or(u32::MAX);
                begin = *end;
                length
            })
            .collect();
        out.numbers(&lengths);
        out.raw(&self.text);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, PayloadError> {
        let base = from.numbers()?.first().copied().unwrap_or(0);
        let mut end = 0_u64;
        let ends: Vec<u64> = from
            .numbers()?
            .into_iter()
            .map(|length| {
                end += u64::from(length);
                end
            })
            .collect();
        let text = from.raw()?.to_vec();
        if end != text.len() as u64 || std::str::from_utf8(&text).is_err() {
            return Err(PayloadError::Damaged("the ids of items"));
        }
        Ok(Self { base, ends, text })
    }
}
