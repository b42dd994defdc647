//! Pickles of every protocol, and the ways around a scanner.

use super::*;

#[test]
fn what_torch_and_numpy_write_is_clean() {
    let ordered = pickle(&[&word("collections"), &word("OrderedDict"), &[0x93, b')', b'R']]);
    assert_eq!(clean("state.pkl", &ordered), "pickle");
    let old = b"ccollections\nOrderedDict\n(tR.";
    assert_eq!(clean("state.pickle", old), "pickle");
    assert_eq!(clean("weights.bin", &[0x13; 5_000]), "");
    assert_eq!(clean("README.md", b"It is a model.\n"), "");
    assert_eq!(clean("config.json", b"{\"hidden_size\": 768}"), "");
}

#[test]
fn a_call_of_os_system_is_dangerous_in_every_protocol() {
    let all: [&[u8]; 6] = [
        b"cos\nsystem\n(S'id'\ntR.",
        b"(S'id'\nios\nsystem\n.",
        b"(cos\nsystem\nS'id'\no.",
        b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.",
        &hostile(),
        b"\x80\x05\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    ];
    for bytes in all {
        let report = scanned("model.pkl", bytes);
        assert_eq!(report.verdict, Verdict::Dangerous, "{bytes:?}");
        assert_eq!(report.findings[0].reason, "DANGEROUS_GLOBAL");
        assert!(report.findings[0].global.ends_with(".system"), "{:?}", report.findings);
        // Under a name that says nothing too.
        assert_eq!(scanned("model.dat", bytes).verdict, Verdict::Dangerous, "{bytes:?}");
    }
}

#[test]
fn ways_around_are_no_ways_around() {
    let put = |text: &str, key: u8| [word(text), vec![b'q', key]].concat();
    let get = |key: u8| vec![b'h', key];
    // Names out of the memo, memoized in another order.
    let memo = pickle(&[&put("system", 7), b"0", &put("os", 3), b"0", &get(3), &get(7), &[0x93]]);
    assert_eq!(scanned("m.pkl", &memo).verdict, Verdict::Dangerous);
    let memoized = [word("os"), vec![0x94], word("system"), vec![0x94, b'0', b'0']].concat();
    let memo = pickle(&[&memoized, &get(0), &get(1), &[0x93]]);
    assert_eq!(scanned("m.pkl", &memo).verdict, Verdict::Dangerous);
    // Names that are escaped or computed.
    for computed in [
        b"\x80\x04S'o\\x73'\nS'system'\n\x93.".to_vec(),
        b"\x80\x04V\\u006fs\nVsystem\n\x93.".to_vec(),
        pickle(&[&word("os"), b"P1\n", &[0x93]]),
    ] {
        let report = scanned("m.pkl", &computed);
        assert_eq!(
            (report.verdict, reasons(&report)),
            (Verdict::Dangerous, vec!["COMPUTED_GLOBAL"])
        );
    }
    // Every loader stops at what is no text, or is not there.
    for stops in [
        pickle(&[&word("os"), b"C\x06system", &[0x93]]),
        pickle(&[b"N", b"N", &[0x93]]),
        pickle(&[&[0x93]]),
        pickle(&[b"h\x07"]),
        pickle(&[b"K\x01)R"]),
        pickle(&[b"t"]),
    ] {
        let report = scanned("m.pkl", &stops);
        assert_eq!((report.verdict, reasons(&report)), (Verdict::Unreadable, vec!["MALFORMED"]));
    }
    // What fails after it ran has run.
    let mut broken = hostile();
    broken.pop();
    broken.extend([0xff, 0xff]);
    let report = scanned("m.pkl", &broken);
    assert_eq!((report.verdict, report.findings.len()), (Verdict::Dangerous, 2));
    // A second pickle behind a harmless one.
    let second = [pickle(&[b"N"]), hostile()].concat();
    assert_eq!(scanned("m.pkl", &second).verdict, Verdict::Dangerous);
    // A state for a class itself.
    let patch = pickle(&[&word("collections"), &word("OrderedDict"), &[0x93], b"}b"]);
    assert_eq!(reasons(&scanned("m.pkl", &patch)), ["CLASS_PATCHED"]);
    let extension = pickle(&[&[0x82, 1]]);
    assert_eq!(scanned("m.pkl", &extension).verdict, Verdict::Unknown);
}

#[test]
fn a_finding_says_where() {
    let report = scanned("m.pkl", &hostile());
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!((&*finding.global, finding.offset), ("os.system", 14));
    assert_eq!((&*finding.member, finding.severity), ("", Verdict::Dangerous));
    let unknown = scanned("m.pkl", &calling("mine.models", "Ranker", ""));
    assert_eq!((unknown.verdict, reasons(&unknown)), (Verdict::Unknown, vec!["UNKNOWN_GLOBAL"]));
}

#[test]
fn what_breaks_off_is_unreadable() {
    let whole = calling("collections", "OrderedDict", "x");
    for end in 2..whole.len() {
        let report = scanned("m.pkl", &whole[..end]);
        assert_eq!((report.verdict, reasons(&report)), (Verdict::Unreadable, vec!["TRUNCATED"]));
    }
    let report = scanned("m.pkl", b"\x80\x04\xee");
    assert_eq!((report.verdict, reasons(&report)), (Verdict::Unreadable, vec!["MALFORMED"]));
    let report = scanned("m.pkl", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.");
    assert_eq!(reasons(&report), ["TRUNCATED"]);
}

#[test]
fn opcodes_are_counted() {
    let mut long = vec![0x80, 4];
    long.extend(std::iter::repeat_n(b'N', 10_000));
    let limits = Limits { opcodes: 1_000, ..Limits::default() };
    let report = scan("m.pkl", &long, &limits);
    assert_eq!((report.verdict, reasons(&report)), (Verdict::Unreadable, vec!["TOO_LARGE"]));
}

/// What joblib writes of an array of four doubles.
fn array(raw: &[u8]) -> Vec<u8> {
    let mut file = vec![0x80, 4];
    file.extend([word("joblib.numpy_pickle"), word("NumpyArrayWrapper")].concat());
    file.extend([0x93, b')', 0x81, b'}', b'(']);
    file.extend([word("subclass"), word("numpy"), word("ndarray"), vec![0x93]].concat());
    file.extend([word("shape"), vec![b'K', 4, 0x85], word("order"), word("C")].concat());
    file.extend([word("dtype"), word("numpy"), word("dtype"), vec![0x93], word("f8")].concat());
    file.extend([0x89, 0x88, 0x87, b'R']);
    file.extend([word("numpy_array_alignment_bytes"), vec![b'K', 16]].concat());
    file.extend([b'u', b'b', 3, 0xff, 0xff, 0xff]);
    file.extend(raw);
    file.extend([0x85, b'.']);
    file
}

/// What joblib writes of an array of two texts, in the place of a model's `columns`: its objects
/// are a pickle with a memo of its own.
fn objects(before: &[Vec<u8>], inner: &[u8]) -> Vec<u8> {
    let memoized = |text: &str| [word(text), vec![0x94]].concat();
    let mut file = vec![0x80, 5];
    file.extend(before.concat());
    file.extend([memoized("joblib.numpy_pickle"), memoized("NumpyArrayWrapper")].concat());
    file.extend([0x93, 0x94, b')', 0x81, 0x94, b'}', 0x94, b'(']);
    file.extend([memoized("shape"), vec![b'K', 2, 0x85, 0x94], memoized("dtype")].concat());
    file.extend([memoized("numpy"), memoized("dtype"), vec![0x93, 0x94], word("O8")].concat());
    file.extend([0x89, 0x88, 0x87, b'R', b'u', b'b']);
    file.extend(inner);
    file.push(b'.');
    file
}

#[test]
fn arrays_of_objects_are_clean_in_both_memos() {
    let memoized = |text: &str| [word(text), vec![0x94]].concat();
    let inner = |global: &[u8]| {
        let mut inner = vec![0x80, 5];
        inner.extend([memoized("numpy._core.multiarray"), memoized("_reconstruct")].concat());
        inner.extend([0x93, 0x94]);
        inner.extend([memoized("numpy"), memoized("ndarray"), vec![0x93, 0x94]].concat());
        inner.extend([b'K', 0, 0x85, b'C', 1, b'b', 0x87, b'R', b'(', b'K', 1, b'K', 2, 0x85]);
        // `numpy` by the memo of this pickle.
        inner.extend([b'h', 3]);
        inner
            .extend([word("dtype"), vec![0x93], word("O8"), vec![0x89, 0x88, 0x87, b'R']].concat());
        inner.extend([&[0x89, b']', b'(', 0x8c, 1, b'x', b'e', b't'], global, b"b."].concat());
        inner
    };
    let model = || {
        let class = [memoized("sklearn.preprocessing._label"), memoized("LabelEncoder")].concat();
        [class, vec![0x93, 0x94, b')', 0x81, 0x94]].concat()
    };
    let bundle =
        || [vec![b'}', 0x94], memoized("model"), memoized("a.b"), memoized("Ranker")].concat();
    for before in [vec![], vec![model()], vec![bundle()]] {
        assert_eq!(clean("m.joblib", &objects(&before, &inner(b""))), "pickle");
    }
    // In the memo of the whole the same opcodes reach for another module.
    let evil = [vec![b'}', 0x94], memoized("a"), memoized("b"), memoized("os")].concat();
    let calls = [vec![b'h', 3], word("system"), vec![0x93, b'0']].concat();
    let report = scanned("m.joblib", &objects(&[evil], &inner(&calls)));
    assert_eq!(report.verdict, Verdict::Dangerous, "{:?}", report.findings);
}

#[test]
fn what_a_loader_ran_before_it_failed_counts_under_any_name() {
    let call = b"cos\nsystem\n(S'id'\ntR";
    let cloud = b"ccloudpickle.cloudpickle\n_make_function\n)R";
    for (begin, end) in [(&b"Np1_0\n0"[..], &b"."[..]), (b"", b""), (b"", b"\xff"), (b"}(", b"R")] {
        let file = [begin, call, end].concat();
        assert_eq!(scanned("w.dat", &file).verdict, Verdict::Dangerous, "{begin:?} {end:?}");
    }
    assert_eq!(scanned("w.bin", cloud).verdict, Verdict::Suspicious);
    for endless in [b"N".repeat((1 << 20) + 1), b"(".repeat((1 << 20) + 1)] {
        let file = [&endless, &call[..], b"."].concat();
        assert_eq!(reasons(&scanned("w.dat", &file)), ["TOO_LARGE"]);
    }
    // Pickles of any protocol behind a harmless one, and behind torch's old mark.
    for begin in [&b"N."[..], b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."] {
        let file = [begin, b"N.", call, b"."].concat();
        assert_eq!(scanned("m.pt", &file).verdict, Verdict::Dangerous);
    }
    for text in
        ["close\nopen\nstop\n", "cos\nsin\n", "call\nrun\n", "car\nremove\n", "cancel\nload\n"]
    {
        assert_eq!(clean("labels.txt", text.as_bytes()), "");
    }
    let mut bytes: Vec<u8> = Vec::new();
    let mut state = 7_u64;
    for _ in 0..300 {
        bytes.clear();
        bytes.extend((0..4_096).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        }));
        clean("weights.bin", &bytes);
    }
}

#[test]
fn bytes_of_arrays_are_left_out_but_not_hidden_in() {
    let weights = array(&[0xee; 32]);
    assert_eq!(clean("model.joblib", &weights), "pickle");
    assert_eq!(clean("model.joblib", &zlib(&weights)), "joblib");
    // `pickle.load` would run what joblib takes for an array: one padding byte
    // fewer, and opcodes for it.
    let mut hidden = array(&[b'N'; 32]);
    let begin = hidden.len() - 2 - 32 - 4;
    hidden[begin..begin + 4].copy_from_slice(b"NNNN");
    let call = b"cos\nsystem\n(S'id'\ntR.";
    hidden[begin + 4..begin + 4 + call.len()].copy_from_slice(call);
    // For joblib the padding is 'N' bytes: the array begins elsewhere; either
    // way the call is told.
    let report = scanned("model.pkl", &hidden);
    assert_eq!(report.verdict, Verdict::Dangerous, "{:?}", report.findings);
}

#[test]
fn an_npy_of_objects_is_a_pickle() {
    let npy = |descr: &str, body: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}\n");
        let mut file = b"\x93NUMPY\x01\0".to_vec();
        file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(body);
        file
    };
    assert_eq!(clean("a.npy", &npy("<f8", &[0x80, 4, b'c', 0, 0, 0, 0, 0])), "numpy");
    // numpy knows more spellings of an object than anybody lists.
    for descr in ["|O", "object", "i4,O", "(2,)O", "\\x4f"] {
        let file = npy(descr, &hostile());
        assert_eq!(scanned("a.npy", &file).verdict, Verdict::Dangerous, "{descr}");
        assert_eq!(scanned("a.joblib", &zlib(&file)).verdict, Verdict::Dangerous, "packed {descr}");
    }
}
