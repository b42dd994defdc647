//! What is kept in memory of blocks, all under one budget: footers with page
//! indexes, bloom filters, decoded columns, indexes by value, summaries.
//! Blocks never change, so nothing here is ever stale.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use moka::sync::Cache;
use parquet::bloom_filter::Sbbf;

use crate::footer::BlockFile;
use crate::index::{RowHashes, ValueIndex};

/// What an entry takes beside what it holds.
const ENTRY_BYTES: usize = 160;
/// A single entry larger than this part of the budget is not kept.
const PART_MAX: usize = 8;

/// A column of a row group of an open block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub file: u64,
    pub group: usize,
    /// Among the columns of the file's schema.
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    File(String),
    Bloom(Place),
    /// All rows of the group.
    Whole(Place),
    /// A piece of a few rows.
    Piece(Place, usize),
    Index(Place),
    Hashes(Place),
    /// All rows of the group, as a dictionary.
    Codes(Place),
    /// A column of which rows all over the group were read.
    Touched(Place),
    /// What somebody made of a group's columns, by name.
    Kept(Place, Arc<str>),
}

#[derive(Debug, Clone)]
enum Value {
    File(Arc<BlockFile>),
    Bloom(Arc<Sbbf>),
    Array(ArrayRef),
    /// Whether the column was evaluated once, and what came of indexing it.
    Index(Indexed),
    /// `None`: values repeat too much for a table.
    Hashes(Option<Arc<RowHashes>>),
    /// `None`: there are too many values.
    Codes(Option<ArrayRef>),
    Touched,
    Kept(Arc<dyn Any + Send + Sync>, usize),
}

/// How far a column's index by value is.
#[derive(Debug, Clone)]
pub(crate) enum Indexed {
    /// Looked at once without an index.
    Seen,
    /// There are too many values.
    Pointless,
    Ready(Arc<ValueIndex>),
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Self::File(file) => file.memory_bytes(),
            Self::Bloom(bloom) => bloom.num_blocks() * 32,
            Self::Array(array) => array.get_array_memory_size(),
            Self::Index(Indexed::Ready(index)) => index.memory_bytes(),
            Self::Index(_) | Self::Touched => 0,
            Self::Codes(codes) => codes.as_ref().map_or(0, |codes| codes.get_array_memory_size()),
            Self::Kept(_, bytes) => *bytes,
            Self::Hashes(hashes) => hashes.as_ref().map_or(0, |hashes| hashes.memory_bytes()),
        }
    }
}

/// The memory of a reader. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Hot {
    cache: Cache<Key, Value>,
    budget: usize,
}

macro_rules! kept {
    ($get:ident, $put:ident, $key:expr, $variant:ident, $type:ty) => {
        pub fn $get(&self, place: Place) -> Option<$type> {
            match self.cache.get(&$key(place)) {
                Some(Value::$variant(value)) => Some(value),
                _ => None,
            }
        }

        pub fn $put(&self, place: Place, value: $type) {
            self.put($key(place), Value::$variant(value));
        }
    };
}

impl Hot {
    pub fn new(bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_: &Key, value: &Value| {
                u32::try_from(value.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX)
            })
            .build();
        Self { cache, budget: usize::try_from(bytes).unwrap_or(usize::MAX) }
    }

    /// Bytes that may be kept.
    pub const fn budget(&self) -> usize {
        self.budget
    }

    fn put(&self, key: Key, value: Value) {
        if value.bytes() <= self.budget / PART_MAX {
            self.cache.insert(key, value);
        }
    }

    pub fn file(&self, object_key: &str) -> Option<Arc<BlockFile>> {
        match self.cache.get(&Key::File(object_key.to_owned())) {
            Some(Value::File(file)) => Some(file),
            _ => None,
        }
    }

    pub fn put_file(&self, file: &Arc<BlockFile>) {
        self.put(Key::File(file.key().to_owned()), Value::File(Arc::clone(file)));
    }

    kept!(bloom, put_bloom, Key::Bloom, Bloom, Arc<Sbbf>);
    kept!(whole, put_whole, Key::Whole, Array, ArrayRef);
    kept!(index, put_index, Key::Index, Index, Indexed);
    kept!(hashes, put_hashes, Key::Hashes, Hashes, Option<Arc<RowHashes>>);
    kept!(codes, put_codes, Key::Codes, Codes, Option<ArrayRef>);

    /// Whether rows all over a group were read of a column before.
    pub fn touched(&self, place: Place) -> bool {
        let before = self.cache.contains_key(&Key::Touched(place));
        if !before {
            self.put(Key::Touched(place), Value::Touched);
        }
        before
    }

    pub fn piece(&self, place: Place, piece: usize) -> Option<ArrayRef> {
        match self.cache.get(&Key::Piece(place, piece)) {
            Some(Value::Array(array)) => Some(array),
            _ => None,
        }
    }

    pub fn put_piece(&self, place: Place, piece: usize, array: ArrayRef) {
        self.put(Key::Piece(place, piece), Value::Array(array));
    }

    pub fn kept(&self, place: Place, name: &Arc<str>) -> Option<Arc<dyn Any + Send + Sync>> {
        match self.cache.get(&Key::Kept(place, Arc::clone(name))) {
            Some(Value::Kept(value, _)) => Some(value),
            _ => None,
        }
    }

    pub fn put_kept(
        &self,
        place: Place,
        name: &Arc<str>,
        value: Arc<dyn Any + Send + Sync>,
        bytes: usize,
    ) {
        self.put(Key::Kept(place, Arc::clone(name)), Value::Kept(value, bytes));
    }
}
