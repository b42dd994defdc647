//! What points can be filtered, faceted and found by beside their vectors.

mod bytes;
mod codes;
mod column;
mod dictionary;
mod ids;
mod text;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::PoisonError;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use filter::{Asks, Filter, Node};
use roaring::RoaringBitmap;

pub use ids::ItemIds;
pub use value::{ColumnType, FIELDS_MAX, Kind, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, Payload, Value};

use bytes::{Reader, Writer};
use column::Column;
use text::TextIndex;

/// The pseudo-column of item ids.
pub const ITEM_ID: &str = "item_id";
/// The most columns of a space.
pub const COLUMNS_MAX: usize = 1_000;
const MAGIC: &[u8; 8] = b"QPAYL003";
/// Of bytes that know no empty lists without a type.
const MAGIC_TYPED: &[u8; 8] = b"QPAYL002";
/// Of bytes whose ids are all texts, too.
const MAGIC_TEXTS: &[u8; 8] = b"QPAYL001";

/// Why a payload is not taken, or bytes are not read.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A field that does not fit.
    #[error("{column:?} {message}")]
    Refused {
        /// The field; empty if it is about all of them.
        column: String,
        /// What is wrong.
        message: String,
    },
    /// Stored bytes are not what was written.
    #[error("a stored payload is damaged: {0}")]
    Damaged(&'static str),
    /// A filter met values of another type.
    #[error("a filter cannot be answered: {0}")]
    Filter(#[from] ArrowError),
}

/// The columns of a space's points, and the ids of their items.
#[derive(Debug, Default)]
pub struct PayloadIndex {
    columns: BTreeMap<String, Column>,
    /// Points with an empty list, by the name of a column that has no type yet.
    untyped: BTreeMap<String, RoaringBitmap>,
    ids: ItemIds,
    live: RoaringBitmap,
}

/// A column as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Points that have a value.
    pub values: u64,
    /// Values ever seen since the index was made.
    pub distinct: u64,
}

/// How many have each value.
#[derive(Debug, Clone, PartialEq)]
pub struct Facets {
    /// Most frequent first.
    pub counts: Vec<(Value, u64)>,
    /// Values that at least one has.
    pub distinct: u64,
}

impl PayloadIndex {
    /// An empty one that knows these columns.
    #[must_use]
    pub fn with_columns(columns: &BTreeMap<String, ColumnType>) -> Self {
        let column =
            |(name, column_type): (&String, &ColumnType)| (name.clone(), Column::new(*column_type));
        Self { columns: columns.iter().map(column).collect(), ..Self::default() }
    }

    /// Adds a point. One that is there already is left alone. A value whose
    /// type is not its column's is left out and named in the answer.
    pub fn insert(&mut self, number: u32, item_id: &str, payload: &Payload) -> Vec<PayloadError> {
        if !self.live.insert(number) {
            return Vec::new();
        }
        self.ids.insert(number, item_id);
        let mut refused = Vec::new();
        for (name, value) in payload.fields() {
            if let Err(error) = self.insert_value(number, name, value) {
                refused.push(error);
            }
        }
        refused
    }

    fn insert_value(&mut self, number: u32, name: &str, value: &Value) -> Result<(), PayloadError> {
        let refused = |message: String| PayloadError::Refused { column: name.to_owned(), message };
        let empty_list = matches!(value, Value::List(values) if values.is_empty());
        if let Some(column) = self.columns.get_mut(name) {
            let fits = value.column_type() == Some(column.column_type)
                || (empty_list && column.column_type.list);
            if !fits {
                let has = column.column_type.data_type();
                return Err(refused(format!(
                    "holds {has} in this space; a value is of another type"
                )));
            }
            column.insert(number, value);
            return Ok(());
        }
        // An empty list says nothing of a type: it is in the column once that has one.
        let Some(column_type) = value.column_type() else {
            self.untyped.entry(name.to_owned()).or_default().insert(number);
            return Ok(());
        };
        if self.columns.len() >= COLUMNS_MAX {
            return Err(refused(format!(
                "is one column too many: a space has at most {COLUMNS_MAX}"
            )));
        }
        let mut column = Column::new(column_type);
        let empty = self.untyped.remove(name).filter(|_| column_type.list);
        column.present = empty.unwrap_or_default();
        column.insert(number, value);
        self.columns.insert(name.to_owned(), column);
        Ok(())
    }

    /// The point is no longer there.
    pub fn remove(&mut self, number: u32) {
        self.live.remove(number);
    }

    /// The points that are there.
    #[must_use]
    pub const fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// The id of a point's item.
    #[must_use]
    pub fn item_id(&self, number: u32) -> Option<Cow<'_, str>> {
        self.ids.get(number)
    }

    /// The points of these items.
    #[must_use]
    pub fn numbers_of<'a>(&self, ids: impl Iterator<Item = &'a str>) -> RoaringBitmap {
        self.ids.numbers_of(ids, &self.live)
    }

    /// A point's value in a column.
    #[must_use]
    pub fn value(&self, column: &str, number: u32) -> Option<Value> {
        self.columns.get(column)?.value_of(number)
    }

    /// A number that is the same for points of one value in a scalar column.
    #[must_use]
    pub fn group(&self, column: &str, number: u32) -> Option<u32> {
        self.columns.get(column)?.code_of(number)
    }

    /// The points, also those that are gone, of any of these numbers in a scalar column.
    #[must_use]
    pub fn of_groups(&self, column: &str, groups: &[u32]) -> RoaringBitmap {
        let Some(column) = self.columns.get(column) else { return RoaringBitmap::new() };
        let mut marked = vec![false; column.dictionary.len()];
        for group in groups {
            if let Some(mark) = marked.get_mut(*group as usize) {
                *mark = true;
            }
        }
        column.with_codes(&marked)
    }

    /// The points, also those that are gone, that have a value in a column.
    #[must_use]
    pub fn valued(&self, column: &str) -> RoaringBitmap {
        self.columns.get(column).map(|column| column.present.clone()).unwrap_or_default()
    }

    /// The type of a column.
    #[must_use]
    pub fn column_type(&self, column: &str) -> Option<ColumnType> {
        self.columns.get(column).map(|column| column.column_type)
    }

    /// About what it takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.ids.bytes()
            + self.live.serialized_size()
            + self.untyped.iter().map(|(name, of)| name.len() + of.serialized_size()).sum::<usize>()
            + self.columns.values().map(Column::bytes).sum::<usize>()
    }

    /// What filters are parsed against.
    #[must_use]
    pub fn schema(&self) -> Schema {
        let ids = std::iter::once(Field::new(ITEM_ID, DataType::Utf8, false));
        let columns = self.columns.iter();
        let columns = columns.map(|(name, c)| Field::new(name, c.column_type.data_type(), true));
        Schema::new(ids.chain(columns).collect::<Vec<_>>())
    }

    /// The columns, by name.
    #[must_use]
    pub fn summary(&self) -> Vec<ColumnSummary> {
        let summary = |(name, column): (&String, &Column)| ColumnSummary {
            name: name.clone(),
            column_type: column.column_type,
            values: column.present.intersection_len(&self.live),
            distinct: column.dictionary.len() as u64,
        };
        self.columns.iter().map(summary).collect()
    }

    /// The points that pass, exactly.
    ///
    /// # Errors
    /// A filter that was parsed against another schema.
    pub fn passing(&self, filter: &Filter) -> Result<RoaringBitmap, PayloadError> {
        self.sure(&filter.node(), true)
    }

    /// The points of which it is known that the node is `wanted`; where a null
    /// makes it unknown it is neither.
    fn sure(&self, node: &Node<'_>, wanted: bool) -> Result<RoaringBitmap, PayloadError> {
        match node {
            Node::Not(inner) => self.sure(inner, !wanted),
            Node::And(parts) if wanted => self.all(parts, wanted),
            Node::Or(parts) if !wanted => self.all(parts, wanted),
            Node::And(parts) | Node::Or(parts) => {
                let mut found = RoaringBitmap::new();
                for part in parts {
                    found |= self.sure(part, wanted)?;
                }
                Ok(found)
            }
            Node::Leaf(test) if test.column() == ITEM_ID => {
                let passing = match test.asks() {
                    Asks::Null => RoaringBitmap::new(),
                    Asks::NotNull => self.live.clone(),
                    Asks::Value | Asks::Element => self.ids.passing(test, &self.live)?,
                };
                Ok(if wanted { passing } else { &self.live - passing })
            }
            Node::Leaf(test) => {
                let missing = || ArrowError::SchemaError(format!("no column {:?}", test.column()));
                let column = self.columns.get(test.column()).ok_or_else(missing)?;
                let present = &column.present & &self.live;
                Ok(match (test.asks(), wanted) {
                    (Asks::NotNull, true) | (Asks::Null, false) => present,
                    (Asks::Null, true) | (Asks::NotNull, false) => &self.live - present,
                    (Asks::Value | Asks::Element, wanted) => {
                        let marked = column.dictionary.passing(|values| test.passing(values))?;
                        let passing = column.with_codes(&marked);
                        if wanted { passing & &self.live } else { present - passing }
                    }
                })
            }
        }
    }

    fn all(&self, parts: &[Node<'_>], wanted: bool) -> Result<RoaringBitmap, PayloadError> {
        let mut found = self.live.clone();
        for part in parts {
            if found.is_empty() {
                break;
            }
            found &= self.sure(part, wanted)?;
        }
        Ok(found)
    }

    /// How many of `among` have each value of a column; nothing if there is no
    /// such column.
    #[must_use]
    pub fn facets(&self, column: &str, among: &RoaringBitmap, limit: usize) -> Option<Facets> {
        let column = self.columns.get(column)?;
        let counts = column.counts(among);
        let distinct = counts.len() as u64;
        let top = counts.into_iter().take(limit);
        let counts = top.map(|(code, count)| (column.dictionary.value(code), count)).collect();
        Some(Facets { counts, distinct })
    }

    /// The `k` of `among` whose texts match best, with their BM25 scores;
    /// nothing if there is no such text column.
    #[must_use]
    pub fn search_text(
        &self,
        column: &str,
        query: &str,
        k: usize,
        among: &RoaringBitmap,
    ) -> Option<Vec<(u32, f32)>> {
        let column = self.columns.get(column)?;
        if column.column_type != (ColumnType { kind: Kind::Text, list: false }) {
            return None;
        }
        let among = among & &self.live;
        if let Some(index) = &*column.text.read().unwrap_or_else(PoisonError::into_inner) {
            return Some(index.search(query, k, &among));
        }
        let mut slot = column.text.write().unwrap_or_else(PoisonError::into_inner);
        let index = slot.get_or_insert_with(|| {
            let mut index = TextIndex::default();
            for number in &self.live {
                if let Some(Value::Text(text)) = column.value_of(number) {
                    index.insert(number, &text);
                }
            }
            index
        });
        Some(index.search(query, k, &among))
    }

    /// All of it as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.count(self.columns.len());
        for (name, column) in &self.columns {
            out.text(name);
            column.write(&mut out);
        }
        self.ids.write(&mut out);
        out.raw(&column::bitmap_bytes(&self.live));
        out.count(self.untyped.len());
        for (name, points) in &self.untyped {
            out.text(name);
            out.raw(&column::bitmap_bytes(points));
        }
        let body = out.finish();
        let mut bytes = Vec::with_capacity(body.len() + 12);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// What [`Self::to_bytes`] made, of this version or one before.
    ///
    /// # Errors
    /// Bytes that were cut or changed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PayloadError> {
        let known = [MAGIC, MAGIC_TYPED, MAGIC_TEXTS];
        let body = known.into_iter().find_map(|magic| bytes.strip_prefix(magic));
        let body = body.ok_or(PayloadError::Damaged("its first bytes"))?;
        let (sum, body) =
            body.split_first_chunk::<4>().ok_or(PayloadError::Damaged("its length"))?;
        if u32::from_le_bytes(*sum) != crc32fast::hash(body) {
            return Err(PayloadError::Damaged("its checksum"));
        }
        let mut from = Reader::new(body);
        let mut index = Self::default();
        for _ in 0..from.count(2)? {
            let name = from.text()?.to_owned();
            index.columns.insert(name, Column::read(&mut from)?);
        }
        index.ids = ItemIds::read(&mut from)?;
        index.live = column::bitmap(from.raw()?)?;
        if !bytes.starts_with(MAGIC) {
            return Ok(index);
        }
        for _ in 0..from.count(2)? {
            let name = from.text()?.to_owned();
            index.untyped.insert(name, column::bitmap(from.raw()?)?);
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests;
