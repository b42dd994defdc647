//! A number for each place, in as few bytes as the greatest of them needs.

use roaring::RoaringBitmap;

/// Numbers by place, 0 where none was set.
#[derive(Debug)]
pub(crate) enum Codes {
    /// All below 2⁸.
    Bytes(Vec<u8>),
    /// All below 2¹⁶.
    Shorts(Vec<u16>),
    Words(Vec<u32>),
}

impl Codes {
    pub const fn new() -> Self {
        Self::Bytes(Vec::new())
    }

    /// Those of the places from 0.
    pub fn of(codes: Vec<u32>) -> Self {
        match codes.iter().copied().max().unwrap_or_default() {
            0..=0xff => Self::Bytes(codes.into_iter().map(|code| code as u8).collect()),
            0x100..=0xffff => Self::Shorts(codes.into_iter().map(|code| code as u16).collect()),
            _ => Self::Words(codes),
        }
    }

    pub const fn len(&self) -> usize {
        match self {
            Self::Bytes(codes) => codes.len(),
            Self::Shorts(codes) => codes.len(),
            Self::Words(codes) => codes.len(),
        }
    }

    /// What they take in memory.
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Bytes(codes) => codes.len(),
            Self::Shorts(codes) => codes.len() * 2,
            Self::Words(codes) => codes.len() * 4,
        }
    }

    pub fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::Bytes(codes) => codes.get(at).map(|code| u32::from(*code)),
            Self::Shorts(codes) => codes.get(at).map(|code| u32::from(*code)),
            Self::Words(codes) => codes.get(at).copied(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    pub fn set(&mut self, at: usize, code: u32) {
        let fits = match self {
            Self::Bytes(_) => code <= 0xff,
            Self::Shorts(_) => code <= 0xffff,
            Self::Words(_) => true,
        };
        if !fits {
            let held = self.iter();
            *self = if code <= 0xffff {
                Self::Shorts(held.map(|code| code as u16).collect())
            } else {
                Self::Words(held.collect())
            };
        }
        match self {
            Self::Bytes(codes) => put(codes, at, code as u8),
            Self::Shorts(codes) => put(codes, at, code as u16),
            Self::Words(codes) => put(codes, at, code),
        }
    }

    /// Moves all by so many places.
    pub fn move_by(&mut self, places: usize) {
        let moved = |codes: &Self| vec![0; places].into_iter().chain(codes.iter()).collect();
        *self = Self::of(moved(self));
    }

    /// The places, counted from `base`, whose numbers are wanted.
    pub fn places(&self, base: u32, is_wanted: impl Fn(u32) -> bool) -> RoaringBitmap {
        match self {
            Self::Bytes(codes) => found(codes, base, is_wanted),
            Self::Shorts(codes) => found(codes, base, is_wanted),
            Self::Words(codes) => found(codes, base, is_wanted),
        }
    }
}

fn put<T: Copy + Default>(codes: &mut Vec<T>, at: usize, code: T) {
    if at >= codes.len() {
        codes.resize(at + 1, T::default());
    }
    codes[at] = code;
}

fn found<T: Copy + Into<u32>>(
    codes: &[T],
    base: u32,
    is_wanted: impl Fn(u32) -> bool,
) -> RoaringBitmap {
    let wanted = (base..).zip(codes).filter(|(_, code)| is_wanted((**code).into()));
    RoaringBitmap::from_sorted_iter(wanted.map(|(number, _)| number)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn they_grow_with_the_greatest() {
        let mut codes = Codes::new();
        let mut plain: Vec<u32> = Vec::new();
        let steps = [(0, 255), (3, 7), (4, 256), (9, 1), (10, 65_535), (2, 65_536), (12, u32::MAX)];
        for ((at, code), width) in steps.into_iter().zip([1, 1, 2, 2, 2, 4, 4]) {
            codes.set(at, code);
            plain.resize(plain.len().max(at + 1), 0);
            plain[at] = code;
            assert_eq!(codes.iter().collect::<Vec<_>>(), plain);
            assert_eq!((codes.len(), codes.bytes()), (plain.len(), plain.len() * width));
            assert_eq!(Codes::of(plain.clone()).bytes(), codes.bytes());
            assert_eq!((codes.get(at), codes.get(plain.len())), (Some(code), None));
            let places = codes.places(5, |code| code > 7).iter().collect::<Vec<_>>();
            let wanted = (5..).zip(&plain).filter(|(_, code)| **code > 7).map(|(at, _)| at);
            assert_eq!(places, wanted.collect::<Vec<u32>>());
        }
        codes.move_by(2);
        plain.splice(0..0, [0, 0]);
        assert_eq!(codes.iter().collect::<Vec<_>>(), plain);
    }
}
