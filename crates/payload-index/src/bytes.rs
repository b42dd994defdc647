//! Little writers and readers of bytes. A reader believes no length before it
//! has compared it with what is left.

use crate::PayloadError;

#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    pub fn int(&mut self, n: i64) {
        self.out.extend_from_slice(&n.to_le_bytes());
    }

    /// LEB128.
    pub fn count(&mut self, count: usize) {
        let mut rest = count as u64;
        while rest >= 0x80 {
            self.out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.raw(text.as_bytes());
    }

    pub fn numbers(&mut self, numbers: &[u32]) {
        self.count(numbers.len());
        for number in numbers {
            self.out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

#[derive(Debug)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

const CUT: PayloadError = PayloadError::Damaged("its length");

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PayloadError> {
        let (taken, left) = self.left.split_at_checked(count).ok_or(CUT)?;
        self.left = left;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, PayloadError> {
        self.take(1)?.first().copied().ok_or(CUT)
    }

    pub fn int(&mut self) -> Result<i64, PayloadError> {
        let bytes = self.take(8)?.try_into().map_err(|_| CUT)?;
        Ok(i64::from_le_bytes(bytes))
    }

    /// A count of things that take at least `each` bytes.
    pub fn count(&mut self, each: usize) -> Result<usize, PayloadError> {
        let mut count = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            count |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(CUT)?;
            if byte & 0x80 == 0 {
                let count = usize::try_from(count).map_err(|_| CUT)?;
                let bytes = count.checked_mul(each).ok_or(CUT)?;
                return if bytes <= self.left.len() { Ok(count) } else { Err(CUT) };
            }
        }
        Err(CUT)
    }

    pub fn raw(&mut self) -> Result<&'a [u8], PayloadError> {
        let count = self.count(1)?;
        self.take(count)
    }

    pub fn text(&mut self) -> Result<&'a str, PayloadError> {
        std::str::from_utf8(self.raw()?).map_err(|_| PayloadError::Damaged("a text"))
    }

    pub fn numbers(&mut self) -> Result<Vec<u32>, PayloadError> {
        let count = self.count(4)?;
        let bytes = self.take(count * 4)?;
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
