//! Making a file that FAISS reads.

use std::io::{Seek, SeekFrom, Write};

use crate::{Error, Metric, Result};

/// Writes a `Flat` index of `count` vectors, under an `IDMap` if `ids` are given: one for each.
///
/// # Errors
/// Another number of vectors or ids than said, a vector of another dimension, the writer's.
pub fn write<'a>(
    mut into: impl Write,
    dimension: u32,
    metric: Metric,
    count: u64,
    vectors: impl IntoIterator<Item = &'a [f32]>,
    ids: Option<&[i64]>,
) -> Result<()> {
    let wrong = |what: String| Error::Malformed { at: 0, what };
    if ids.is_some_and(|ids| ids.len() as u64 != count) {
        return Err(wrong(format!("{count} vectors need as many ids")));
    }
    if ids.is_some() {
        into.write_all(b"IxMp")?;
        head(&mut into, dimension, metric, count)?;
    }
    into.write_all(match metric {
        Metric::InnerProduct => b"IxFI",
        Metric::L2 => b"IxF2",
        Metric::L1 | Metric::Other(_) => b"IxFl",
    })?;
    head(&mut into, dimension, metric, count)?;
    let floats = count.checked_mul(dimension.into());
    let floats = floats.ok_or_else(|| wrong(format!("{count} vectors are too many")))?;
    into.write_all(&floats.to_le_bytes())?;
    let mut written = 0;
    for vector in vectors {
        if vector.len() != dimension as usize {
            return Err(wrong(format!("dimension {}, not {dimension}", vector.len())));
        }
        for value in vector {
            into.write_all(&value.to_le_bytes())?;
        }
        written += 1;
    }
    if written != count {
        return Err(wrong(format!("{written} vectors, not {count}")));
    }
    if let Some(ids) = ids {
        into.write_all(&count.to_le_bytes())?;
        for id in ids {
            into.write_all(&id.to_le_bytes())?;
        }
    }
    into.flush()?;
    Ok(())
}

fn head(into: &mut impl Write, dimension: u32, metric: Metric, count: u64) -> Result<()> {
    into.write_all(&dimension.to_le_bytes())?;
    into.write_all(&count.to_le_bytes())?;
    // Two fields that FAISS no longer uses.
    into.write_all(&(1_i64 << 20).to_le_bytes())?;
    into.write_all(&(1_i64 << 20).to_le_bytes())?;
    into.write_all(&[1])?;
    into.write_all(&metric.code().to_le_bytes())?;
    if metric.code() > 1 {
        into.write_all(&0_f32.to_le_bytes())?;
    }
    Ok(())
}

/// A `Flat` index that is written before it is known how many vectors it will hold.
#[derive(Debug)]
pub struct Writer<W> {
    into: W,
    start: u64,
    dimension: u32,
    metric: Metric,
    count: u64,
}

/// Before a flat index' own head: that of an IDMap around it.
const fn map_head_bytes(metric: Metric) -> u64 {
    4 + 4 + 8 + 16 + 1 + 4 + if metric.code() > 1 { 4 } else { 0 }
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file of vectors of one dimension.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(mut into: W, dimension: u32, metric: Metric) -> Result<Self> {
        let start = into.stream_position()?;
        // Room for both heads; they are known at the end.
        let heads = 2 * map_head_bytes(metric) + 8;
        into.write_all(&vec![0; usize::try_from(heads).unwrap_or(0)])?;
        Ok(Self { into, start, dimension, metric, count: 0 })
    }

    /// Adds a vector.
    ///
    /// # Errors
    /// Another dimension; the writer's.
    pub fn push(&mut self, vector: &[f32]) -> Result<()> {
        if vector.len() != self.dimension as usize {
            let what = format!("dimension {}, not {}", vector.len(), self.dimension);
            return Err(Error::Malformed { at: self.count, what });
        }
        for value in vector {
            self.into.write_all(&value.to_le_bytes())?;
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the file, under an `IDMap` of these ids (without: of the vectors' places).
    ///
    /// # Errors
    /// Another number of ids than vectors; the writer's.
    pub fn finish(mut self, ids: Option<&[i64]>) -> Result<W> {
        let count = self.count;
        let wrong = |what: String| Error::Malformed { at: 0, what };
        if ids.is_some_and(|ids| ids.len() as u64 != count) {
            return Err(wrong(format!("{count} vectors need as many ids")));
        }
        let floats = count.checked_mul(self.dimension.into());
        let floats = floats.ok_or_else(|| wrong(format!("{count} vectors are too many")))?;
        self.into.write_all(&count.to_le_bytes())?;
        for place in 0..count {
            let own = i64::try_from(place).unwrap_or(i64::MAX);
            let id = ids.and_then(|ids| ids.get(usize::try_from(place).ok()?)).unwrap_or(&own);
            self.into.write_all(&id.to_le_bytes())?;
        }
        self.into.seek(SeekFrom::Start(self.start))?;
        self.into.write_all(b"IxMp")?;
        head(&mut self.into, self.dimension, self.metric, count)?;
        self.into.write_all(match self.metric {
            Metric::InnerProduct => b"IxFI",
            Metric::L2 => b"IxF2",
            Metric::L1 | Metric::Other(_) => b"IxFl",
        })?;
        head(&mut self.into, self.dimension, self.metric, count)?;
        self.into.write_all(&floats.to_le_bytes())?;
        self.into.seek(SeekFrom::End(0))?;
        self.into.flush()?;
        Ok(self.into)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_stream_of_vectors_makes_the_same_file() {
        let vectors = [[1.0_f32, -2.0], [0.5, 3.0], [9.0, 0.0]];
        for metric in [Metric::InnerProduct, Metric::L2, Metric::L1] {
            let mut whole = Vec::new();
            let rows = vectors.iter().map(<[f32; 2]>::as_slice);
            write(&mut whole, 2, metric, 3, rows, Some(&[7, -1, 0])).unwrap();
            let mut writer = Writer::new(Cursor::new(Vec::new()), 2, metric).unwrap();
            for vector in &vectors {
                writer.push(vector).unwrap();
            }
            assert!(writer.push(&[1.0]).is_err());
            let made = writer.finish(Some(&[7, -1, 0])).unwrap().into_inner();
            assert_eq!(made, whole, "{metric:?}");
        }
    }
}
