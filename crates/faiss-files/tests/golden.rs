//! Files that FAISS wrote, read; and written as FAISS writes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use faiss_files::{Error, File, Limits, Metric, Summary, write};
use proptest::prelude::*;

const DIMENSION: usize = 6;

fn bytes(name: &str) -> Vec<u8> {
    // Asked when it runs: clones that share a build directory share this program.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo");
    let folder = PathBuf::from(package).join("tests/golden");
    fs::read(folder.join(name)).expect("a golden file")
}

fn floats(name: &str) -> Vec<Vec<f32>> {
    let bytes = bytes(name);
    let values: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    values.chunks(DIMENSION).map(<[f32]>::to_vec).collect()
}

type Numbered = Vec<(i64, Vec<f32>)>;

fn read(bytes: &[u8]) -> Result<(Summary, Numbered), Error> {
    let file = File::open(Cursor::new(bytes), Limits::default())?;
    let summary = file.summary().clone();
    let mut vectors = file.vectors()?.collect::<Result<Vec<_>, _>>()?;
    vectors.sort_by_key(|(id, _)| *id);
    Ok((summary, vectors))
}

fn ids() -> Vec<i64> {
    (0..12).map(|at| at * 10 + 7).collect()
}

#[test]
fn every_kind_gives_back_what_went_in() {
    let vectors = floats("vectors.f32");
    for (name, kinds, metric, has_ids) in [
        ("flat-ip", "Flat", Metric::InnerProduct, false),
        ("flat-l2", "Flat", Metric::L2, false),
        ("flat-l1", "Flat", Metric::L1, false),
        ("id-map", "IDMap>Flat", Metric::L2, true),
        ("id-map-2", "IDMap>Flat", Metric::InnerProduct, true),
        ("hnsw", "HNSW>Flat", Metric::L2, false),
        ("id-map-hnsw", "IDMap>HNSW>Flat", Metric::InnerProduct, true),
        ("ivf-full", "IVF-Flat", Metric::L2, true),
        ("ivf-many", "IVF-Flat", Metric::L2, true),
    ] {
        let (summary, read) = read(&bytes(&format!("{name}.index"))).expect(name);
        assert_eq!((summary.kinds.join(">").as_str(), summary.metric), (kinds, metric), "{name}");
        assert_eq!(summary.has_ids, has_ids, "{name}");
        assert_eq!((summary.count, summary.dimension), (12, 6), "{name}");
        assert!(!summary.is_lossy && !summary.is_normalised, "{name}");
        let ids = if has_ids { ids() } else { (0..12).collect() };
        let meant: Vec<(i64, Vec<f32>)> = ids.into_iter().zip(vectors.clone()).collect();
        assert_eq!(read, meant, "{name}");
    }
}

#[test]
fn quantised_vectors_are_what_faiss_restores() {
    for name in [
        "sq-8bit",
        "sq-4bit",
        "sq-6bit",
        "sq-8bit-uniform",
        "sq-4bit-uniform",
        "sq-fp16",
        "sq-bf16",
        "ivf-sq",
        "centred",
    ] {
        let (summary, read) = read(&bytes(&format!("{name}.index"))).expect(name);
        assert_eq!(summary.is_lossy, name != "centred", "{name}");
        for ((_, got), meant) in read.iter().zip(floats(&format!("{name}.f32"))) {
            for (got, meant) in got.iter().zip(meant) {
                assert!((got - meant).abs() < 1e-5, "{name}: {got} {meant}");
            }
        }
        assert_eq!(read.len(), 12);
    }
    let (summary, read) = read(&bytes("normalised.index")).expect("normalised");
    assert!(summary.is_normalised);
    for (_, vector) in read {
        assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn what_holds_no_vectors_is_refused_by_name() {
    for (name, word) in [("pq", "IxPq"), ("pca", "Pcam")] {
        let error = read(&bytes(&format!("{name}.index"))).expect_err(name);
        assert!(
            matches!(&error, Error::Unsupported { what, .. } if what.contains(word)),
            "{error}"
        );
    }
}

#[test]
fn written_files_are_faiss_s_own_to_the_byte() {
    let vectors = floats("vectors.f32");
    let rows = || vectors.iter().map(Vec::as_slice);
    for (name, metric, ids) in [
        ("flat-ip", Metric::InnerProduct, None),
        ("flat-l2", Metric::L2, None),
        ("flat-l1", Metric::L1, None),
        ("id-map", Metric::L2, Some(ids())),
    ] {
        let mut written = Vec::new();
        write(&mut written, 6, metric, 12, rows(), ids.as_deref()).expect("written");
        assert_eq!(written, bytes(&format!("{name}.index")), "{name}");
    }
    let none = Vec::new();
    assert!(write(none.clone(), 6, Metric::L2, 11, rows(), None).is_err(), "one too many");
    assert!(write(none.clone(), 5, Metric::L2, 12, rows(), None).is_err(), "another dimension");
    assert!(write(none, 6, Metric::L2, 12, rows(), Some(&[1])).is_err(), "too few ids");
}

#[test]
fn limits_hold() {
    let flat = bytes("flat-l2.index");
    for limits in [
        Limits { dimension_max: 5, ..Limits::default() },
        Limits { vectors_max: 11, ..Limits::default() },
    ] {
        let error = File::open(Cursor::new(&flat), limits).expect_err("above the limit");
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    // An IDMap of an IDMap of …: twenty deep.
    let mut deep = Vec::new();
    for _ in 0..20 {
        deep.extend_from_slice(&bytes("id-map.index")[..37]);
    }
    let error = read(&deep).expect_err("too deep").to_string();
    assert!(error.contains("nested"), "{error}");
}

const NAMES: [&str; 10] = [
    "flat-ip",
    "flat-l1",
    "id-map",
    "id-map-hnsw",
    "ivf-full",
    "ivf-many",
    "sq-6bit",
    "ivf-sq",
    "normalised",
    "centred",
];

#[test]
fn every_cut_is_an_error() {
    for name in NAMES {
        let whole = bytes(&format!("{name}.index"));
        for keep in 0..whole.len() {
            assert!(read(&whole[..keep]).is_err(), "{name} cut to {keep}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lying fields: an answer or an error, never a panic, nor memory that the file does not back.
    #[test]
    fn lies_are_survived(
        name in 0..NAMES.len(),
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 8]>(), 1_usize..=8), 1..5),
    ) {
        let mut bytes = bytes(&format!("{}.index", NAMES[name]));
        for (at, lie, length) in lies {
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes[at..end].copy_from_slice(&lie[..end - at]);
        }
        if let Ok((summary, vectors)) = read(&bytes) {
            prop_assert_eq!(summary.count, vectors.len() as u64);
            prop_assert!(vectors.iter().all(|(_, vector)| vector.len() == summary.dimension as usize));
        }
    }
}
