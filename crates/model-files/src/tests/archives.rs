//! Zips: torch's, in each other, lying, and as bombs.

use super::*;

fn state() -> Vec<u8> {
    b"\x80\x02ccollections\nOrderedDict\n)R.".to_vec()
}

#[test]
fn torch_files_are_zips_with_a_pickle() {
    let data = state();
    let good = zip(&[("m/data.pkl", &data, false), ("m/data/0", &[0x80, 2, 0xee, 1], false)]);
    assert_eq!(clean("model.pt", &good), "torch");
    for packed in [false, true] {
        let bad = zip(&[("m/data.pkl", &hostile(), packed), ("m/data/0", &[0; 64], false)]);
        let report = scanned("pytorch_model.bin", &bad);
        assert_eq!((report.format, report.verdict), ("torch", Verdict::Dangerous));
        assert_eq!(report.findings[0].member, "m/data.pkl");
    }
    // Under a name that is no pickle's.
    let other = zip(&[("m/data.pkl", &data, false), ("m/byteorder", &hostile(), false)]);
    assert_eq!(scanned("model.pt", &other).verdict, Verdict::Dangerous);
}

#[test]
fn archives_in_archives_are_looked_into() {
    let mut file = zip(&[("x.pkl", &hostile(), true)]);
    for depth in 0..3 {
        assert_eq!(scanned("a.zip", &file).verdict, Verdict::Dangerous, "{depth}");
        file = zip(&[("inner.zip", &file, depth % 2 == 0)]);
    }
    assert_eq!(reasons(&scanned("a.zip", &file)), ["TOO_DEEP"]);
}

#[test]
fn an_archive_behind_a_pickle_is_both() {
    let file = [hostile(), zip(&[("m/data.pkl", &state(), false)])].concat();
    assert_eq!(scanned("model.pt", &file).verdict, Verdict::Dangerous);
    let file = [state(), zip(&[("m/data.pkl", &hostile(), false)])].concat();
    assert_eq!(scanned("model.pt", &file).verdict, Verdict::Dangerous);
}

#[test]
fn an_archive_that_lies_is_told() {
    let mut renamed = zip(&[("a.pkl", &state(), false)]);
    let at = renamed.windows(5).position(|bytes| bytes == b"a.pkl").unwrap();
    renamed[at] = b'b';
    assert_eq!(reasons(&scanned("m.zip", &renamed)), ["NAME_MISMATCH"]);
    let mut encrypted = zip(&[("a.pkl", &hostile(), false)]);
    let at = encrypted.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    encrypted[at + 8] = 1;
    let report = scanned("m.zip", &encrypted);
    assert_eq!(report.verdict, Verdict::Dangerous);
    assert!(reasons(&report).contains(&"ENCRYPTED"));
    let mut method = zip(&[("a.pkl", &hostile(), false)]);
    let at = method.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    method[at + 10] = 14;
    assert_eq!(reasons(&scanned("m.zip", &method)), ["NOT_SUPPORTED"]);
}

#[test]
fn a_bomb_goes_off_nowhere() {
    let zeros = vec![b'N'; 80 << 20];
    let bomb = zip(&[("data.pkl", &[&[0x80, 4][..], &zeros].concat(), true)]);
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    let limits = Limits { opcodes: u64::MAX, ..Limits::default() };
    let report = scan("m.pt", &bomb, &limits);
    assert_eq!(report.verdict, Verdict::Unreadable);
    assert!(matches!(reasons(&report)[..], ["ZIP_BOMB" | "TOO_LARGE"]), "{report:?}");
    let limits = Limits { inflated_bytes: 1 << 20, ..Limits::default() };
    let report = scan("m.joblib", &zlib(&[b'N'; 2 << 20]), &limits);
    assert_eq!(reasons(&report), ["TOO_LARGE"]);
    let many: Vec<(String, Vec<u8>)> = (0..100).map(|at| (format!("{at}.pkl"), state())).collect();
    let many: Vec<(&str, &[u8], bool)> =
        many.iter().map(|(name, bytes)| (&**name, &**bytes, true)).collect();
    let limits = Limits { members: 10, ..Limits::default() };
    assert_eq!(reasons(&scan("m.zip", &zip(&many), &limits)), ["TOO_LARGE"]);
}

#[test]
fn keras_is_searched_for_lambdas_and_foreign_modules() {
    let keras = |config: &str| {
        let members: [(&str, &[u8], bool); 2] =
            [("metadata.json", b"{}", false), ("config.json", config.as_bytes(), true)];
        scanned("m.keras", &zip(&members))
    };
    let report = keras(r#"{"module":"keras.layers","class_name":"Dense","config":{}}"#);
    assert_eq!((report.format, report.verdict), ("keras", Verdict::Clean));
    let report = keras(r#"[{"module":"keras.layers","class_name":"Lambda"}]"#);
    assert_eq!(reasons(&report), ["LAMBDA_LAYER"]);
    let report = keras(r#"{"module":"builtins","class_name":"function","config":"eval"}"#);
    assert_eq!(report.verdict, Verdict::Dangerous);
    let report = keras(&"[".repeat(10_000));
    assert_eq!(reasons(&report), ["MALFORMED"]);
    let mut hdf5 = b"\x89HDF\r\n\x1a\n".to_vec();
    hdf5.resize(3 << 20, 7);
    assert_eq!(clean("m.h5", &hdf5), "hdf5");
    drop(hdf5.splice((1 << 20) - 9..(1 << 20) - 9, *b"{\"class_name\": \"Lambda\"}"));
    assert_eq!(reasons(&scanned("m.h5", &hdf5)), ["LAMBDA_LAYER"]);
}

#[test]
fn code_is_no_data() {
    assert_eq!(scanned("modeling.py", b"import os\n").verdict, Verdict::Unknown);
    assert_eq!(scanned("op.so", b"\x7fELF").verdict, Verdict::Suspicious);
    assert_eq!(scanned("m.tar.pkl", &[0; 600]).verdict, Verdict::Unreadable);
    assert_eq!(scanned("m.pkl.bz2", b"BZh91AY").verdict, Verdict::Unreadable);
}
