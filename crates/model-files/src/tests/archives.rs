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
    let mut cut = zip(&[("a.pkl", &state(), false)]);
    cut.truncate(40);
    assert_eq!(reasons(&scanned("m", &cut)), ["MALFORMED"]);
    let mut encrypted = zip(&[("a.pkl", &hostile(), false)]);
    let at = encrypted.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    encrypted[at + 8] = 1;
    let report = scanned("m.zip", &encrypted);
    assert_eq!(report.verdict, Verdict::Dangerous);
    assert!(reasons(&report).contains(&"ENCRYPTED"));
    for name in ["a.pkl", "weights"] {
        let mut method = zip(&[(name, &hostile(), false)]);
        let at = method.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
        method[at + 10] = 14;
        assert_eq!(reasons(&scanned("m.zip", &method)), ["NOT_SUPPORTED"], "{name}");
    }
}

/// A zip with a 64-bit record of its directory, whose plain one says `bytes`.
fn wide(member: &[u8], bytes: impl Fn(usize) -> usize) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    entry(&mut file, &mut directory, "m/data.pkl", member, member.len(), 0);
    let begin = file.len() as u64;
    file.extend(&directory);
    let record = file.len() as u64;
    file.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    for number in [1, 1, directory.len() as u64, begin] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(record.to_le_bytes());
    file.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0\x01\0\x01\0");
    file.extend(u32::try_from(bytes(directory.len())).unwrap().to_le_bytes());
    file.extend(u32::try_from(begin).unwrap().to_le_bytes());
    file.extend([0, 0]);
    file
}

#[test]
fn a_wide_directory_is_followed_whatever_the_plain_one_says() {
    // torch writes both, with the same numbers.
    assert_eq!(clean("m.pt", &wide(&state(), |bytes| bytes)), "torch");
    assert_eq!(clean("m.pt", &wide(&state(), |_| 0xffff_ffff)), "torch");
    assert_eq!(scanned("m.pt", &wide(&hostile(), |bytes| bytes)).verdict, Verdict::Dangerous);
    let report = scanned("m.pt", &wide(&hostile(), |bytes| bytes + 76));
    assert_eq!(report.verdict, Verdict::Dangerous);
    assert!(reasons(&report).contains(&"TWO_DIRECTORIES"));
}

#[test]
fn a_directory_that_may_be_another_is_told() {
    // By its offset it is the first one, by its distance from the end the second.
    let directories = [hostile(), pickle(&[&b"N0".repeat(14), b"N"])].map(|member| {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        let member = [&member[..], &[b'.'; 40]].concat();
        entry(&mut file, &mut directory, "m/data.pkl", &member[..40], 40, 0);
        (file, directory)
    });
    let [(first, offset), (second, distance)] = directories;
    let mut file = closed([&first[..], &offset, &second].concat(), &distance, 1);
    let at = file.len() - 6;
    file[at..at + 4].copy_from_slice(&u32::try_from(first.len()).unwrap().to_le_bytes());
    assert_eq!(reasons(&scanned("m.pt", &file)), ["TWO_DIRECTORIES"]);
    let commented = |comment: &[u8]| {
        let mut file = zip(&[("m/data.pkl", &state(), false)]);
        let at = file.len() - 2;
        file[at] = u8::try_from(comment.len()).unwrap();
        file.extend(comment);
        file
    };
    assert_eq!(clean("m.pt", &commented(b"made by hand, PK")), "torch");
    assert_eq!(reasons(&scanned("m.pt", &commented(b"PK\x06\x07"))), ["TWO_DIRECTORIES"]);
    let inner = zip(&[("m/data.pkl", &state(), false)]);
    let report = scanned("m.pt", &commented(&inner));
    assert_eq!(reasons(&report), ["TWO_DIRECTORIES"], "{report:?}");
}

/// A zip of one member with an extra field in its directory.
fn with_extra(name: &str, id: u16, field: &[u8]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    entry(&mut file, &mut directory, name, &state(), state().len(), 0);
    directory[30] = u8::try_from(field.len() + 4).unwrap();
    directory.extend(id.to_le_bytes());
    directory.extend(u16::try_from(field.len()).unwrap().to_le_bytes());
    directory.extend(field);
    closed(file, &directory, 1)
}

#[test]
fn a_member_of_two_names_is_told() {
    let nul = zip(&[("config.json\0.txt", b"{}", false)]);
    assert_eq!(reasons(&scanned("m.keras", &nul)), ["NAME_MISMATCH"]);
    let other =
        |name: &str| with_extra("notes.txt", 0x7075, &[b"\x01abcd", name.as_bytes()].concat());
    assert_eq!(reasons(&scanned("m.keras", &other("config.json"))), ["NAME_MISMATCH"]);
    assert_eq!(clean("m.zip", &other("notes.txt")), "zip");
    // As Info-ZIP writes a name in the encoding of its system.
    let encoded = with_extra("gr\u{fffd}n.txt", 0x7075, "\x01abcdgrün.txt".as_bytes());
    assert_eq!(clean("m.zip", &encoded), "zip");
    // torch's padding.
    assert_eq!(clean("m.pt", &with_extra("m/data.pkl", 0x4246, b"ZZZZZZ")), "torch");
}

#[test]
fn a_folder_has_no_bytes() {
    let file = zip(&[("w/", b"", false), ("w/data.pkl", &state(), false)]);
    assert_eq!(clean("m.pt", &file), "torch");
    let file = zip(&[("w/", &hostile(), false)]);
    assert_eq!(scanned("m.npz", &file).verdict, Verdict::Dangerous);
}

#[test]
fn bytes_are_one_members() {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    entry(&mut file, &mut directory, "a.pkl", &state(), state().len(), 0);
    let many = directory.repeat(1_000);
    let report = scanned("m.zip", &closed(file, &many, 1_000));
    assert_eq!((report.verdict, reasons(&report)), (Verdict::Unreadable, vec!["OVERLAP"]));
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
    for class in ["layers.Lambda", "__lambda__", r"Lambd\u0061"] {
        let report = keras(&format!(r#"{{"module":"keras","class_name":"{class}"}}"#));
        assert_eq!(reasons(&report), ["LAMBDA_LAYER"], "{class}");
    }
    let report = keras(r#"{"module":"builtins","class_name":"function","config":"eval"}"#);
    assert_eq!(report.verdict, Verdict::Dangerous);
    let report = keras(&"[".repeat(10_000));
    assert_eq!(reasons(&report), ["MALFORMED"]);
}

#[test]
fn hdf5_is_searched_for_lambdas_however_they_are_spelled() {
    let hdf5 = |config: &str, before: usize| {
        let mut file = b"\x89HDF\r\n\x1a\n".to_vec();
        file.resize(3 << 20, 7);
        let at = (1 << 20) - before;
        drop(file.splice(at..at, config.bytes()));
        file
    };
    let lambda = hdf5(r#"{"class_name": "Lambda"}"#, 9);
    for (name, block) in [("m.dat", 512), ("m.h5", 1_024), ("m.h5", 1 << 20)] {
        let file = [vec![b' '; block], lambda.clone()].concat();
        assert_eq!(reasons(&scanned(name, &file)), ["LAMBDA_LAYER"], "{name}");
    }
    for honest in [
        r#"{"class_name": "Dense", "config": {"name": "Lambda"}}"#,
        r#"{"class_name": "LambdaCallback", "class_names": "Lambda"}"#,
        r#"{"config": "class_name Lambda", "class_name" "Lambda"}"#,
    ] {
        assert_eq!(clean("m.h5", &hdf5(honest, 9)), "hdf5", "{honest}");
    }
    let spaced = [" ".repeat(60), " ".repeat(1_000), "\n".repeat(5_000), " ".repeat(3 << 20)]
        .map(|space| format!("{{\"class_name\"{space}:{space}\"Lambda\"}}"));
    let escaped = [
        r#"{"class_name": "Lambda"}"#,
        r#"{"class_name": "Lambd\u0061"}"#,
        r#"{"class\u005Fname": "\u004cambda"}"#,
        r#"{"class_name":{}, "class_name":"__lambda__"}"#,
    ];
    for config in escaped.iter().copied().chain(spaced.iter().map(String::as_str)) {
        for before in [9, 20, 40, 1_500, 4_096] {
            let report = scanned("m.h5", &hdf5(config, before));
            assert_eq!(reasons(&report), ["LAMBDA_LAYER"], "{before}");
        }
    }
}

#[test]
fn code_is_no_data() {
    assert_eq!(scanned("modeling.py", b"import os\n").verdict, Verdict::Unknown);
    assert_eq!(scanned("op.so", b"\x7fELF").verdict, Verdict::Suspicious);
    assert_eq!(scanned("m.tar.pkl", &[0; 600]).verdict, Verdict::Unreadable);
    assert_eq!(scanned("m.pkl.bz2", b"BZh91AY").verdict, Verdict::Unreadable);
}
