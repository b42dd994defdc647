//! Headers: what they say, and what they must not be believed.

use super::*;
use crate::headers::{Format, HeaderError, read_header};

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A GGUF file of one Q4_0 tensor of 64×2.
pub fn gguf(template: &str) -> Vec<u8> {
    gguf_behind(0, template)
}

/// One whose template stands behind so many other entries.
fn gguf_behind(entries: u64, template: &str) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend((entries + 3).to_le_bytes());
    for at in 0..entries {
        file.extend(text(&format!("k{at}")));
        file.extend(7_u32.to_le_bytes());
        file.push(1);
    }
    file.extend(text("general.architecture"));
    file.extend(8_u32.to_le_bytes());
    file.extend(text("llama"));
    file.extend(text("tokenizer.chat_template"));
    file.extend(8_u32.to_le_bytes());
    file.extend(text(template));
    file.extend(text("tokenizer.ggml.tokens"));
    file.extend(9_u32.to_le_bytes());
    file.extend(8_u32.to_le_bytes());
    file.extend(20_u64.to_le_bytes());
    (0..20).for_each(|at| file.extend(text(&format!("t{at}"))));
    file.extend(text("blk.0.w"));
    file.extend(2_u32.to_le_bytes());
    file.extend(64_u64.to_le_bytes());
    file.extend(2_u64.to_le_bytes());
    file.extend(2_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + 4 * 18, 0);
    file
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    for mut of in [number << 3 | 2, bytes.len() as u64] {
        while of > 0x7f {
            field.push(u8::try_from(of & 0x7f).unwrap() | 0x80);
            of >>= 7;
        }
        field.push(u8::try_from(of).unwrap());
    }
    field.extend(bytes);
    field
}

fn number(field: u64, value: u8) -> Vec<u8> {
    vec![u8::try_from(field << 3).unwrap(), value]
}

/// An ONNX file: one initializer of 3×4 floats, an input with an open dimension.
pub fn onnx(location: Option<&str>) -> Vec<u8> {
    let mut tensor = [number(1, 3), number(1, 4), number(2, 1), field(8, b"weight")].concat();
    tensor.extend(field(9, &[0; 48]));
    if let Some(location) = location {
        let pair = [field(1, b"location"), field(2, location.as_bytes())].concat();
        tensor.extend(field(13, &pair));
    }
    let shape = [field(1, &field(2, b"batch")), field(1, &number(1, 4))].concat();
    let kind = field(1, &[number(1, 1), field(2, &shape)].concat());
    let input = [field(1, b"x"), field(2, &kind)].concat();
    let graph = [field(1, b"\x0a\x01n"), field(2, b"g"), field(5, &tensor), field(11, &input)];
    let operators = [field(1, b""), number(2, 17)].concat();
    [number(1, 8), field(2, b"maker"), field(8, &operators), field(7, &graph.concat())].concat()
}

#[test]
fn safetensors_names_its_tensors() {
    let header = read_header("model.safetensors", &safetensors()).unwrap();
    assert_eq!((header.format, header.parameters), (Format::Safetensors, 6));
    assert_eq!(header.metadata["format"], "pt");
    let tensor = &header.tensors[0];
    assert_eq!((&*tensor.name, &*tensor.kind, &tensor.shape[..]), ("w", "F32", &[2, 3][..]));
    assert_eq!(clean("model.safetensors", &safetensors()), "safetensors");
}

#[test]
fn safetensors_that_lie_are_refused() {
    let file = |json: &str, data: usize| {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file.resize(file.len() + data, 0);
        read_header("x.safetensors", &file)
    };
    let one = |shape: &str, begin: u64, end: u64| {
        format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#)
    };
    assert!(file(&one("[2]", 0, 8), 8).is_ok());
    for (json, data) in [
        (one("[2]", 0, 8), 7),
        (one("[2]", 0, 8), 9),
        (one("[2]", 0, 4), 4),
        (one("[2]", 8, 0), 8),
        (one("[2]", 4, 12), 12),
        (one("[4294967296,4294967296]", 0, 0), 0),
        (one("[18446744073709551615]", 0, 8), 8),
        (one("[-1]", 0, 8), 8),
        (one("[2]", 0, 8).replace("F32", "X9"), 8),
        (format!("{}, {}", one("[0]", 0, 0).trim_end_matches('}'), "}"), 0),
        (r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#.into(), 2),
        ("[]".into(), 0),
        ("{".into(), 0),
        ("[".repeat(100_000), 0),
    ] {
        let error = file(&json, data).unwrap_err();
        assert!(matches!(error, HeaderError::Malformed(_)), "{} {error}", &json[..40.min(json.len())]);
    }
    let huge = u64::MAX.to_le_bytes().to_vec();
    assert!(matches!(read_header("x.safetensors", &huge), Err(HeaderError::TooLarge { .. })));
    let short = 100_u64.to_le_bytes().to_vec();
    assert!(matches!(read_header("x.safetensors", &short), Err(HeaderError::Truncated)));
    assert!(matches!(read_header("x.bin", &b"hello".to_vec()), Err(HeaderError::UnknownFormat)));
}

#[test]
fn gguf_names_its_tensors() {
    let header = read_header("m.gguf", &gguf("{{ messages }}")).unwrap();
    assert_eq!((header.format, header.parameters), (Format::Gguf, 128));
    let tensor = &header.tensors[0];
    assert_eq!((&*tensor.kind, &tensor.shape[..], tensor.bytes), ("Q4_0", &[64, 2][..], 72));
    assert_eq!(header.metadata["general.architecture"], "llama");
    assert!(header.metadata["tokenizer.ggml.tokens"].contains("20 in all"));
    assert_eq!(clean("m.gguf", &gguf("{{ messages }}")), "gguf");
    let template = scanned("m.gguf", &gguf("{{ ''.__class__.__mro__ }}"));
    assert_eq!((template.verdict, reasons(&template)), (Verdict::Suspicious, vec!["TEMPLATE"]));
}

#[test]
fn onnx_names_tensors_and_inputs() {
    let header = read_header("m.onnx", &onnx(None)).unwrap();
    assert_eq!((header.format, header.parameters, header.tensors.len()), (Format::Onnx, 12, 1));
    let tensor = &header.tensors[0];
    assert_eq!((&*tensor.name, &*tensor.kind, &tensor.shape[..]), ("weight", "FLOAT", &[3, 4][..]));
    assert_eq!((&*header.inputs[0].name, &header.inputs[0].shape[..]), ("x", &[-1, 4][..]));
    assert_eq!((&*header.metadata["opset.ai.onnx"], &*header.metadata["nodes"]), ("17", "1"));
    assert_eq!(clean("m.onnx", &onnx(Some("weights.bin"))), "onnx");
    for outside in ["/etc/passwd", "../../etc/passwd", "C:\\x"] {
        let report = scanned("m.onnx", &onnx(Some(outside)));
        assert_eq!((report.verdict, reasons(&report)), (Verdict::Dangerous, vec!["EXTERNAL_PATH"]));
    }
}

#[test]
fn all_of_a_template_is_looked_at() {
    let reaching = "{{ ''.__class__ }}";
    assert_eq!(clean("m.gguf", &gguf_behind(3_000, &"a_b | upper ".repeat(1_000))), "gguf");
    for file in [
        gguf(&format!("{}{reaching}", " ".repeat(10_000))),
        gguf_behind(3_000, reaching),
        gguf(r"{{ ''['\x5f\x5fclass\x5f\x5f'] }}"),
        gguf(r"{{ ''['\u005F\u005Fclass'] }}"),
        gguf("{{ '' | attr ('_' ~ '_class_' ~ '_') }}"),
    ] {
        assert_eq!(reasons(&scanned("m.gguf", &file)), ["TEMPLATE"]);
    }
}

#[test]
fn onnx_says_where_in_any_tensor() {
    let tensor = |location: &str| {
        field(13, &[field(1, b"location"), field(2, location.as_bytes())].concat())
    };
    let outside = tensor("../../etc/passwd");
    let node = |attribute: &[u8]| field(1, &field(5, attribute));
    let model = |graph: &[u8]| [onnx(None), field(25, graph)].concat();
    // A function of nodes: an attribute's tensor, tensors, sparse one, graph.
    for attribute in [
        field(5, &outside),
        field(10, &outside),
        field(22, &field(1, &outside)),
        field(6, &field(5, &outside)),
        field(6, &node(&field(5, &outside))),
    ] {
        let file = model(&field(7, &field(5, &attribute)));
        assert_eq!(reasons(&scanned("m.onnx", &file)), ["EXTERNAL_PATH"]);
    }
    let mut many: Vec<u8> =
        (0..1_500).flat_map(|at| field(5, &field(5, &tensor(&format!("d{at}"))))).collect();
    assert_eq!(clean("m.onnx", &model(&field(7, &many))), "onnx");
    many.extend(field(5, &field(5, &outside)));
    assert_eq!(reasons(&scanned("m.onnx", &model(&field(7, &many)))), ["EXTERNAL_PATH"]);
    let mut deep = outside;
    (0..40).for_each(|_| deep = node(&field(6, &deep)));
    assert_eq!(
        reasons(&scanned("m.onnx", &model(&field(7, &field(5, &field(6, &deep)))))),
        ["MALFORMED"]
    );
}

#[test]
fn a_file_of_tensors_may_be_a_pickle_too() {
    // Field 9 is left out: as an opcode it takes its length and two bytes.
    let mut text = b"AAcos\nsystem\n(S'id'\ntR.".to_vec();
    text.resize(200, b' ');
    let file = [field(9, &text), onnx(None)].concat();
    assert!(file.starts_with(b"J"));
    assert_eq!(read_header("m.onnx", &file).unwrap().parameters, 12);
    for name in ["m.onnx", "m.pkl.onnx"] {
        assert_eq!(scanned(name, &file).verdict, Verdict::Dangerous, "{name}");
    }
    assert_eq!(scanned("m.pkl", &safetensors()).verdict, Verdict::Unreadable);
}

#[test]
fn headers_are_read_within_the_bounds_of_the_scan() {
    let limits = Limits { read_bytes: 1_000, ..Limits::default() };
    let file = gguf_behind(3_000, "");
    assert_eq!(scan("m.gguf", &file, &limits).verdict, Verdict::Unreadable);
    // Few packed bytes that are many headers.
    let limits = Limits { opcodes: 2 * file.len() as u64, ..Limits::default() };
    let names: Vec<String> = (0..20).map(|at| format!("{at}.gguf")).collect();
    let members: Vec<(&str, &[u8], bool)> =
        names.iter().map(|name| (&**name, &file[..], true)).collect();
    assert_eq!(scan("m.zip", &zip(&members[..2]), &limits).verdict, Verdict::Clean);
    assert_eq!(scan("m.zip", &zip(&members), &limits).verdict, Verdict::Unreadable);
}
