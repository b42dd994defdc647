//! Whatever the bytes are, a decoder answers: it neither panics nor takes more
//! than its bounds.

use proptest::collection::vec;
use proptest::prelude::*;

use super::headers::{gguf, onnx};
use super::*;
use crate::read_header;

const PATHS: [&str; 9] =
    ["m.pkl", "m.pt", "m.joblib", "m.npy", "m.zip", "m.keras", "m.safetensors", "m.gguf", "m.onnx"];

/// Bounds that keep a case short.
const SMALL: Limits =
    Limits { read_bytes: 1 << 20, inflated_bytes: 1 << 20, opcodes: 20_000, members: 50 };

fn seeds() -> Vec<Vec<u8>> {
    let state = b"\x80\x02ccollections\nOrderedDict\n)R.".to_vec();
    vec![
        hostile(),
        state.clone(),
        zip(&[("m/data.pkl", &hostile(), true), ("m/data/0", &[0; 64], false)]),
        zlib(&hostile()),
        safetensors(),
        gguf("x"),
        onnx(Some("w.bin")),
        [state, zip(&[("a.npy", b"\x93NUMPY\x01\0\x06\0'|O'  N.", false)])].concat(),
    ]
}

fn look_at(bytes: &[u8]) {
    let bytes = &bytes.to_vec();
    for path in PATHS {
        let report = scan(path, bytes, &SMALL);
        assert!(report.findings.len() <= 100);
        let worst = report.findings.iter().map(|finding| finding.severity).max();
        assert_eq!(worst.unwrap_or(Verdict::Clean), report.verdict);
        let _ = read_header(path, bytes);
    }
}

fn cases() -> ProptestConfig {
    // Others with PROPTEST_CASES.
    let by_default = ProptestConfig::default();
    let cases = if by_default.cases == 256 { 48 } else { by_default.cases };
    ProptestConfig { cases, ..by_default }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..600)) {
        look_at(&bytes);
    }

    #[test]
    fn any_opcodes_are_answered(
        opcodes in vec(prop_oneof![
            Just(b'('), Just(b't'), Just(b'0'), Just(b'1'), Just(b'2'), Just(b'R'), Just(b'b'),
            Just(b'}'), Just(b')'), Just(b']'), Just(b'u'), Just(b's'), Just(b'd'), Just(b'N'),
            Just(0x93), Just(0x94), Just(0x85), Just(0x87), Just(0x81), Just(0x92), Just(b'o'),
        ], 0..400)
    ) {
        look_at(&pickle(&[&opcodes]));
    }

    #[test]
    fn damaged_files_are_answered(
        which in 0_usize..8, cut in 0_usize..4_000, changes in vec((any::<u16>(), any::<u8>()), 0..6)
    ) {
        let mut bytes = seeds()[which].clone();
        for (at, byte) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len().min(cut.max(1)));
        look_at(&bytes);
    }

    #[test]
    fn a_dangerous_call_is_found_behind_any_harmless_ones(
        harmless in vec(prop_oneof![
            Just(b"N0".to_vec()), Just(b"(1".to_vec()), Just(b"}0".to_vec()), Just(b"(t0".to_vec()),
            Just(b"K\x01q\x050".to_vec()), Just(b"N\x940".to_vec()), Just(b"]0".to_vec()),
            Just(b"ccollections\nOrderedDict\n0".to_vec()), Just(b"(NNl0".to_vec()),
        ], 0..50)
    ) {
        let pieces: Vec<&[u8]> = harmless.iter().map(Vec::as_slice).collect();
        let mut bytes = pickle(&pieces);
        bytes.pop();
        bytes.extend(b"cos\nsystem\n.");
        prop_assert_eq!(scan("m.pkl", &bytes, &SMALL).verdict, Verdict::Dangerous);
    }
}
