//! IPC messages, commands, tokens and filters out of mangled bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, DictionaryArray, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow_flight::FlightData;
use filter::Filter;
use flight_messages::{Decoder, Encoder};
use hostile::{Dice, mangle, rounds, stayed_small};
use ids::PrincipalId;
use item_model::{Key, KeyRing, put_command, read_command, trailing_rows};
use service_error::Code;
use uuid::Uuid;

fn batch() -> RecordBatch {
    let texts: StringArray = (0..50).map(|n| (n % 7 > 0).then(|| format!("text {n}"))).collect();
    let words: DictionaryArray<Int32Type> = (0..50).map(|n| Some(["a", "b"][n % 2])).collect();
    let mut lists = ListBuilder::new(StringBuilder::new());
    for n in 0..50 {
        lists.append_value((0..n % 4).map(|i| Some(format!("t{i}"))));
    }
    let bytes = BinaryArray::from_iter((0..50u8).map(|n| Some(vec![n; usize::from(n % 5)])));
    let inner: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("n", DataType::Int64, true)),
        Arc::clone(&inner),
    )]);
    RecordBatch::try_from_iter_with_nullable([
        ("id", inner, false),
        ("text", Arc::new(texts) as ArrayRef, true),
        ("word", Arc::new(words), true),
        ("list", Arc::new(lists.finish()), true),
        ("bytes", Arc::new(bytes), true),
        ("nested", Arc::new(nested), true),
    ])
    .unwrap()
}

fn mangled(message: &FlightData, dice: &mut Dice) -> FlightData {
    let mut message = message.clone();
    let (mut header, mut body) = (message.data_header.to_vec(), message.data_body.to_vec());
    match dice.below(3) {
        0 => mangle(&mut body, dice),
        _ => mangle(&mut header, dice),
    }
    (message.data_header, message.data_body) = (header.into(), body.into());
    message
}

#[test]
fn ipc_streams_that_lie() {
    let batch = batch();
    let mut encoder = Encoder::new(&batch.schema()).unwrap();
    let schema = FlightData::from(encoder.schema());
    let messages = encoder.batch(&batch).unwrap();
    let messages: Vec<FlightData> = messages.into_iter().map(FlightData::from).collect();
    let mut dice = Dice::new(3);
    let mut refused = 0;
    for round in 0..rounds() * 4 {
        let first = if round % 4 == 0 { mangled(&schema, &mut dice) } else { schema.clone() };
        let mut decoder = match Decoder::of(&first) {
            Ok(decoder) => decoder,
            Err(error) => {
                assert_eq!(error.code(), Code::InvalidArgument, "{error}");
                refused += 1;
                continue;
            }
        };
        let hurt = dice.below(messages.len());
        for (at, message) in messages.iter().enumerate() {
            let message = if at == hurt { mangled(message, &mut dice) } else { message.clone() };
            if let Err(error) = decoder.decode(message.data_header, message.data_body) {
                let known = [Code::InvalidArgument, Code::ResourceExhausted];
                assert!(known.contains(&error.code()), "{error}");
                refused += 1;
                break;
            }
        }
    }
    assert!(refused > rounds(), "{refused} were refused");
    stayed_small();
}

#[test]
fn row_images_that_lie() {
    let sound = row_delta::encode_image(&batch()).unwrap();
    let mut dice = Dice::new(4);
    let mut refused = 0;
    for _ in 0..rounds() * 4 {
        let mut bytes = sound.clone();
        mangle(&mut bytes, &mut dice);
        if let Err(error) = row_delta::decode_image(&bytes) {
            assert_eq!(error.code(), Code::DataLoss, "{error}");
            refused += 1;
        }
    }
    assert!(refused > rounds(), "{refused} were refused");
    stayed_small();
}

#[test]
fn seals_that_were_not_made_here() {
    let ring = KeyRing::new(vec![Key { id: 7, secret: [9; 32], created_at: 0 }]);
    let token = serde_json::json!({"dataset": Uuid::now_v7(), "row": 5, "principal": PrincipalId::new().to_string()});
    let sound = ring.seal("page", &token).unwrap();
    assert!(ring.open::<serde_json::Value>("page", &sound).is_ok());
    let mut dice = Dice::new(5);
    for _ in 0..rounds() * 10 {
        let mut bytes = sound.clone();
        mangle(&mut bytes, &mut dice);
        if bytes != sound {
            assert!(ring.open::<serde_json::Value>("page", &bytes).is_err());
        }
    }
    stayed_small();
}

#[test]
fn cursors_that_nobody_gave() {
    let sound = paging::token("rows", &("name", 5_i64)).into_bytes();
    let mut dice = Dice::new(6);
    for _ in 0..rounds() * 10 {
        let mut bytes = sound.clone();
        mangle(&mut bytes, &mut dice);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Err(error) = paging::key::<(String, i64)>("rows", &text) {
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
    }
}

#[test]
fn commands_out_of_noise() {
    let sound = br#"{"dataset":"a/b","version":3,"columns":["x"],"filter":"x > 1","limit":5,
        "mode":"upsert","rows":7,"idempotency_key":"k","message":"m","key_column":"id"}"#;
    let mut dice = Dice::new(7);
    for _ in 0..rounds() * 10 {
        let mut bytes = sound.to_vec();
        mangle(&mut bytes, &mut dice);
        for error in [
            read_command(&[], &bytes).err(),
            put_command(&[], &bytes).err(),
            trailing_rows(&bytes).err(),
        ]
        .into_iter()
        .flatten()
        {
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
    }
    stayed_small();
}

#[test]
fn filters_out_of_noise() {
    let schema = Schema::new(vec![
        Field::new("width", DataType::Int64, true),
        Field::new("title", DataType::Utf8, true),
        Field::new("is_favorite", DataType::Boolean, true),
        Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
    ]);
    let sound = [
        r#"width > 3000 AND (title:"a*" OR NOT is_favorite = true) AND width IN (1, 2, 3)"#,
        r#"tags:("a" OR "b") AND title = "x\"y" AND width >= -5 AND width != null"#,
    ];
    let mut dice = Dice::new(8);
    let (mut parsed, mut refused) = (0, 0);
    for round in 0..rounds() * 20 {
        let mut bytes = sound[dice.below(2)].as_bytes().to_vec();
        mangle(&mut bytes, &mut dice);
        if round % 50 == 0 {
            // Deep, and long.
            bytes = b"(".repeat(1 + dice.below(20_000));
            bytes.extend_from_slice(b"width = 1");
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match Filter::parse(&text, &schema) {
            Ok(_) => parsed += 1,
            Err(error) => {
                assert!(error.column <= text.chars().count() + 1, "{text:?}: {error}");
                refused += 1;
            }
        }
    }
    assert!(parsed > 0 && refused > 0, "{parsed} parsed, {refused} refused");
    stayed_small();
}
