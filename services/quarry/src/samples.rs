//! The sample dataset, carried by the binary: it works wherever that is.

use std::fs;
use std::io;
use std::path::Path;

/// Paths below `samples/shapes` and their bytes.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/samples.rs"));

/// Writes the sample to a folder; answers how many files it has.
pub fn unpack(root: &Path) -> io::Result<usize> {
    for (name, bytes) in FILES {
        let path = root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(FILES.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use ingest::ReadOptions;
    use ingest::images::{ImageScan, probe, scan};

    use super::*;

    #[test]
    fn every_picture_decodes_and_has_a_caption() {
        let dir = tempfile::tempdir().unwrap();
        unpack(dir.path()).unwrap();
        let mut scan = scan(dir.path(), &ReadOptions::default()).unwrap();
        let mut rows = scan.rows();
        while let Some(found) = scan.next() {
            rows.push(probe(found.unwrap(), scan.limits()).unwrap());
        }
        let batch = rows.finish().unwrap();
        assert_eq!(batch.num_rows(), 60);
        assert_eq!(ImageScan::count(dir.path()), 60);
        assert_eq!(scan.missing().0, 0);
        assert_eq!(batch.column_by_name("caption").unwrap().null_count(), 0);
        assert_eq!(batch.column_by_name("section").unwrap().null_count(), 0);
    }

    #[test]
    fn it_is_small() {
        let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 400 << 10, "{bytes}");
    }
}
