//! Making a file that FAISS reads.

use std::io::Write;

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
