//! Packed files: a loader tells them by their bytes, whatever they are named.

use super::*;

/// `hostile()` by Python's `bz2.compress`.
const BZIP2: &[u8] =
    b"BZh91AY&SYf!\x04\xe0\x00\x00\x08S\xe0\x15\x00\x00\x01\x10\x00\x06\x22\x8c\x20B\x04\x08\
    \x00\x20\x00\x22&\x8d4d<\x90\xa1\xa6\x98\x00(\x15\xcc\x87\xe2\x99\x05<(\xb5|]\xc9\x14\
    \xe1BA\x98\x84\x13\x80";
/// `hostile()` by Python's `lzma.compress`.
const XZ: &[u8] =
    b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x15\x80\
    \x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.\x00\x00\x00\xf8\xd9\x9a\x91JG6\x7f\x00\
    \x01.\x16V\x09U\xdf\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ";
/// `hostile()` by Python's `lzma.compress` with `FORMAT_ALONE`.
const LZMA: &[u8] =
    b"]\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00@\x01\x0d6\xfc\x07(7cIi\xfc\x09\x80\
    \x14\xf8}S\xc8\x8a\x88\x88\x82\xc2g\x81\xff\xff\xffZ\x92\x00\x00";

/// Names under which nobody expects a pickle, and some under which they do.
const NAMES: [&str; 14] = [
    "m", "m.npy", "m.npz", "m.bin", "m.dat", "m.txt", "m.json", "m.h5", "m.keras", "m.model",
    "m.md", "m.pkl", "m.pkl.gz", "m.joblib",
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_is_packed_is_told_under_any_name() {
    for name in NAMES {
        for packed in [BZIP2, XZ, LZMA] {
            assert_eq!(reasons(&scanned(name, packed)), ["NOT_SUPPORTED"], "{name}");
            let member = zip(&[(name, packed, true)]);
            assert_eq!(scanned("m.zip", &member).verdict, Verdict::Unreadable, "{name} in a zip");
        }
        for packed in [zlib(&hostile()), gzip(&hostile())] {
            assert_eq!(scanned(name, &packed).verdict, Verdict::Dangerous, "{name}");
            let member = zip(&[(name, &packed, true)]);
            assert_eq!(scanned("m.zip", &member).verdict, Verdict::Dangerous, "{name} in a zip");
        }
    }
}

#[test]
fn lzma_of_any_dictionary_is_told() {
    for dictionary in [[0, 0, 0, 0], [0, 1, 2, 3]] {
        let mut packed = LZMA.to_vec();
        packed[1..5].copy_from_slice(&dictionary);
        assert_eq!(reasons(&scanned("m", &packed)), ["NOT_SUPPORTED"], "{dictionary:?}");
    }
    // pandas goes by the name: other parameters than joblib's.
    let mut packed = LZMA.to_vec();
    packed[0] = 0x42;
    assert_eq!(reasons(&scanned("m.pkl.xz", &packed)), ["NOT_KNOWN"]);
    // Raw numbers that begin with 93.
    for (width, number) in [2, 4, 8].into_iter().flat_map(|of| (0..120).map(move |by| (of, by))) {
        let numbers = std::iter::once(93).chain(std::iter::repeat_n(number, 60));
        let bytes: Vec<u8> =
            numbers.flat_map(|of: u64| of.to_le_bytes()[..width].to_vec()).collect();
        assert_eq!(clean("m.bin", &bytes), "", "{number} in {width} bytes");
    }
}

#[test]
fn a_name_that_promises_a_packed_file_is_held_to_it() {
    for name in ["m.gz", "m.pkl.bz2", "m.z", "m.xz", "m.zst", "m.lz4", "m.lzma"] {
        assert_eq!(scanned(name, b"nothing of it").verdict, Verdict::Unreadable, "{name}");
        assert_eq!(scanned(name, &hostile()).verdict, Verdict::Dangerous, "{name}");
    }
    let skipped = [b"\x50\x2a\x4d\x18\x04\0\0\0abcd\x28\xb5\x2f\xfd".to_vec(), hostile()].concat();
    assert_eq!(reasons(&scanned("m", &skipped)), ["NOT_SUPPORTED"]);
}

#[test]
fn old_joblib_files_are_unpacked() {
    for space in ["", " "] {
        let head = format!("ZF{:<19}{space}", format!("{:#x}", hostile().len()));
        let file = [head.as_bytes(), &zlib(&hostile())].concat();
        assert_eq!(scanned("m.dat", &file).verdict, Verdict::Dangerous);
        assert_eq!(scanned("m.dat", &file[..30]).verdict, Verdict::Unreadable);
    }
    assert_eq!(clean("m.txt", b"ZF is a company in Friedrichshafen"), "");
}

#[test]
fn a_tar_archive_is_told_by_its_checksum() {
    let mut header = vec![0; 1_024];
    header[..5].copy_from_slice(b"m.pkl");
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..135].copy_from_slice(b"00000000000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    assert_eq!(clean("m.bin", &header), "");
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    for name in ["m.tar", "m.bin", "m.npy"] {
        assert_eq!(reasons(&scanned(name, &header)), ["NOT_SUPPORTED"], "{name}");
    }
    header[0] = b'n';
    assert_eq!(clean("m.bin", &header), "");
}

#[test]
fn what_is_packed_twice_is_not_clean() {
    for inner in [gzip(&hostile()), zlib(&hostile()), BZIP2.to_vec(), XZ.to_vec(), LZMA.to_vec()] {
        for outer in [gzip(&inner), zlib(&inner)] {
            let report = scanned("m.pkl.gz", &outer);
            assert_eq!(reasons(&report), ["NOT_SUPPORTED"], "{report:?}");
        }
    }
    let archive = gzip(&zip(&[("data.pkl", &hostile(), false)]));
    assert_eq!(reasons(&scanned("m.gz", &archive)), ["NOT_SUPPORTED"]);
    assert_eq!(reasons(&scanned("m.gz", &gzip(&safetensors()))), ["NOT_SUPPORTED"]);
}

#[test]
fn what_unpacks_to_nothing_known_is_unknown_but_text_is_clean() {
    for unknown in [&[0; 4_096][..], &[0x1f, 0x9d, 0, 1, 2]] {
        assert_eq!(reasons(&scanned("m.pkl.gz", &gzip(unknown))), ["NOT_KNOWN"]);
    }
    // The vocabulary of a tokenizer, cut in the middle of a letter by the look at it.
    let words = "ö\n".repeat(1_000);
    assert_eq!(clean("vocabulary.txt.gz", &gzip(words.as_bytes())), "gzip");
    assert_eq!(clean("vocabulary.txt.gz", &gzip(&words.as_bytes()[3..])), "gzip");
    let old = b"cos\nsystem\n(S'id'\ntR.";
    assert_eq!(scanned("vocabulary.txt.gz", &gzip(old)).verdict, Verdict::Dangerous);
}

#[test]
fn what_is_packed_may_be_another_file_too() {
    let archive = zip(&[("m/data.pkl", &pickle(&[b"N"]), false)]);
    for packed in [zlib(&hostile()), gzip(&hostile())] {
        for name in ["m.joblib", "m.pkl", "m.bin", "m.pt"] {
            let file = [&packed[..], &archive].concat();
            assert_eq!(scanned(name, &file).verdict, Verdict::Dangerous, "{name}");
        }
    }
    // A header of safetensors whose length begins as gzip does.
    let mut packed = gzip(&hostile());
    packed[3..8].fill(0);
    packed[8] = b'{';
    assert_eq!(scanned("m.bin", &packed).verdict, Verdict::Dangerous);
    let numpy = b"\x93NUMPY\x01\0\x06\0'|O'  ".to_vec();
    let file = [numpy, hostile(), archive].concat();
    assert_eq!(scanned("m.bin", &file).verdict, Verdict::Dangerous);
    // A stored block of zlib under a name that is ONNX's.
    let mut inner = hostile();
    inner.resize(0x1212, b' ');
    let mut file = b"\x78\x9c\x01\x12\x12\xed\xed".to_vec();
    file.extend(&inner);
    assert_eq!(scanned("m.onnx", &file).verdict, Verdict::Dangerous);
    for packed in [BZIP2, XZ, LZMA] {
        assert_eq!(scanned("m.onnx", packed).verdict, Verdict::Unreadable);
    }
}

#[test]
fn bytes_that_look_packed_by_chance_are_data() {
    // Raw tensors of an archive: two bytes of zlib, three of gzip, two of LZMA.
    for raw in
        [&b"\x78\x9c\xff\xff\xff\xff\xff\xff"[..], b"\x1f\x8b\x08\xff\xff", b"\x5d\0\x12\x34\x56"]
    {
        let file = zip(&[("m/data.pkl", &pickle(&[b"N"]), false), ("m/data/0", raw, false)]);
        assert_eq!(clean("model.pt", &file), "torch");
    }
    assert_eq!(clean("notes.txt", b"x\x9c is how zlib begins"), "");
    assert_eq!(clean("notes.md", b"BZh9 is how bzip2 begins"), "");
}

#[test]
fn a_packed_hdf5_file_is_searched() {
    let mut file = b"\x89HDF\r\n\x1a\n".to_vec();
    file.resize(3 << 20, 7);
    assert_eq!(clean("m.h5.gz", &gzip(&file)), "gzip");
    drop(file.splice((2 << 20) - 9..(2 << 20) - 9, *b"{\"class_name\": \"Lambda\"}"));
    assert_eq!(reasons(&scanned("m.h5.gz", &gzip(&file))), ["LAMBDA_LAYER"]);
}
