//! What stands on a pickle's stack, as far as it matters: names, sizes of
//! arrays. Nothing is made.

use std::cell::Cell;
use std::rc::Rc;

/// Elements of a tuple that are kept.
const TUPLE_MAX: usize = 32;
/// joblib's stand-in for an array.
const ARRAY_WRAPPER: &str = "joblib.numpy_pickle.NumpyArrayWrapper";
/// Entries of a state that are kept.
const STATE_MAX: usize = 16;

/// A value, or that there is one.
#[derive(Debug, Clone)]
pub enum Value {
    Int(i64),
    /// A short text: it may be the name of a module.
    Text(Rc<str>),
    /// A class or a function that was named.
    Global(Rc<str>),
    /// A tuple of plain values.
    Tuple(Rc<[Value]>),
    /// A dictionary with text keys, or the begin of one.
    State(Vec<(Rc<str>, Value)>),
    /// A `numpy.dtype`.
    Dtype(Rc<Dtype>),
    /// joblib's stand-in for an array whose bytes follow.
    ArrayWrapper,
    /// Anything else that is no text.
    Plain,
    /// Anything: what a call gave, a text that is not kept.
    Opaque,
}

/// What is known of a `numpy.dtype`.
#[derive(Debug)]
pub struct Dtype {
    /// Bytes of an element.
    pub bytes: Option<u64>,
    /// Whether elements are Python objects; told by the state that follows.
    pub objects: Cell<Option<bool>>,
}

impl Dtype {
    /// Reads the word that a dtype is made from: `f8`, `<i4`, `U10`, `O8`.
    pub fn parse(word: &str) -> Self {
        let word = word.trim_start_matches(['<', '>', '=', '|']);
        let mut chars = word.chars();
        let kind = chars.next();
        let count = chars.as_str().split('[').next().unwrap_or_default().parse::<u64>().ok();
        let bytes = match kind {
            Some('U') => count.and_then(|count| count.checked_mul(4)),
            Some('O') => Some(8),
            Some('M' | 'm') => Some(8),
            Some('b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'a' | 'V') => count,
            _ => None,
        };
        let objects = match kind {
            Some('O') => Some(true),
            // A record: whether it holds objects its state says.
            Some('V') => None,
            _ => Some(false),
        };
        Self { bytes, objects: Cell::new(objects) }
    }

    /// Takes note of a dtype's state: its last number is its flags, of which the
    /// first bit says that it holds objects.
    pub fn fill(&self, state: &Value) {
        if let Value::Tuple(state) = state
            && self.objects.get().is_none()
            && let Some(Value::Int(flags)) = state.get(7)
        {
            self.objects.set(Some(flags & 1 == 1));
        }
    }
}

impl Value {
    /// A tuple, as far as it is kept.
    pub fn tuple(of: Vec<Self>) -> Self {
        if of.len() > TUPLE_MAX {
            return Self::Plain;
        }
        // One level: what is deeper is of no use, and could be made without end.
        Self::Tuple(of.into_iter().map(Self::shallow).collect())
    }

    fn shallow(self) -> Self {
        match self {
            Self::Tuple(_) | Self::State(_) => Self::Plain,
            plain => plain,
        }
    }

    /// Whether it may be just what names a module.
    pub const fn may_be_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Opaque)
    }

    /// Whether nothing of it is ever called or filled.
    pub const fn is_inert(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Text(_) | Self::Tuple(_) | Self::State(_))
    }

    /// What the memo keeps of it.
    pub fn memo(&self) -> Self {
        match self {
            Self::State(_) => Self::Plain,
            plain => plain.clone(),
        }
    }

    /// Adds an entry to a state.
    pub fn put(&mut self, key: Self, value: Self) {
        if let (Self::State(entries), Self::Text(key)) = (self, key)
            && entries.len() < STATE_MAX
        {
            // The shape is a tuple, and it is wanted.
            let value = if matches!(value, Self::State(_)) { Self::Plain } else { value };
            entries.push((key, value));
        }
    }

    /// What a call of a global with arguments gives.
    pub fn call(callee: &Self, arguments: &Self) -> Self {
        let Self::Global(name) = callee else { return Self::Opaque };
        match (&**name, arguments) {
            ("numpy.dtype", Self::Tuple(of)) => match of.first() {
                Some(Self::Text(word)) => Self::Dtype(Rc::new(Dtype::parse(word))),
                _ => Self::Opaque,
            },
            (ARRAY_WRAPPER, _) => Self::ArrayWrapper,
            ("copyreg._reconstructor" | "copy_reg._reconstructor", Self::Tuple(of)) => {
                match of.first() {
                    Some(Self::Global(of)) => Self::made(of),
                    _ => Self::Opaque,
                }
            }
            _ => Self::Opaque,
        }
    }

    /// An object of a class, made of arguments.
    pub fn make(callee: &Self, arguments: &Self) -> Self {
        match (Self::call(callee, arguments), callee) {
            (Self::Opaque, Self::Global(class)) => Self::made(class),
            (known, _) => known,
        }
    }

    fn made(class: &str) -> Self {
        match class {
            ARRAY_WRAPPER => Self::ArrayWrapper,
            "builtins.str" | "__builtin__.str" | "__builtin__.unicode" => Self::Opaque,
            _ => Self::Plain,
        }
    }
}
