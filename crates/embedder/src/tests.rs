//! The published similarities, a fake endpoint, images.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

use super::*;

fn floats(embedding: &Embedding) -> &[f32] {
    match embedding {
        Embedding::Floats(values) => values,
        Embedding::Bits(_) => panic!("bits"),
    }
}

fn cosine(a: &Embedding, b: &Embedding) -> f32 {
    floats(a).iter().zip(floats(b)).map(|(a, b)| a * b).sum()
}

/// all-MiniLM-L6-v2's own examples, from its publisher's documentation. The model is where
/// `QUARRY_TEST_MINILM` says, as `cargo xtask test` sets it up.
#[tokio::test]
async fn minilm_gives_its_published_similarities() {
    let path = std::env::var("QUARRY_TEST_MINILM")
        .unwrap_or_else(|_| panic!("QUARRY_TEST_MINILM names no model; run by `cargo xtask test`"));
    let settings = EmbedderSettings::Local { path: path.into(), tokens_max: 0 };
    let embedder = Embedder::open(&settings).unwrap();
    assert_eq!(embedder.dimension(), 384);
    let pairs = [
        ("The cat sits outside", "The dog plays in the garden", 0.2838),
        ("A man is playing guitar", "A woman watches TV", -0.0327),
        ("The new movie is awesome", "The new movie is so great", 0.8939),
    ];
    let texts = pairs.iter().flat_map(|(a, b, _)| [(*a).to_owned(), (*b).to_owned()]).collect();
    let vectors = embedder.texts(texts).await.unwrap();
    for (at, (a, b, expected)) in pairs.iter().enumerate() {
        let found = cosine(&vectors[2 * at], &vectors[2 * at + 1]);
        assert!((found - expected).abs() < 5e-4, "{a} / {b}: {found}, not {expected}");
    }
    assert!((cosine(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5, "unit length");
    let many: Vec<String> =
        (0..70).map(|n| format!("text number {n} {}", "word ".repeat(n))).collect();
    let together = embedder.texts(many.clone()).await.unwrap();
    let alone = embedder.texts(vec![many[69].clone()]).await.unwrap();
    assert!(cosine(&together[69], &alone[0]) > 0.9999, "padding changes nothing");
}

#[test]
fn a_directory_without_a_model_says_what_belongs_there() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EmbedderSettings::Local { path: dir.path().into(), tokens_max: 0 };
    let error = Embedder::open(&settings).unwrap_err();
    assert!(error.message().contains("model.safetensors"), "{error}");
    let embedders = Embedders::open(&BTreeMap::from([("m".to_owned(), settings)])).unwrap_err();
    assert!(embedders.message().contains("embedder m"), "{embedders}");
}

#[derive(Clone, Default)]
struct Fake {
    calls: Arc<AtomicUsize>,
    failures: usize,
    odd: Option<Value>,
}

async fn answer(State(fake): State<Fake>, Json(asked): Json<Value>) -> Response {
    let call = fake.calls.fetch_add(1, Ordering::SeqCst);
    if call < fake.failures {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response();
    }
    if let Some(odd) = fake.odd {
        return Json(odd).into_response();
    }
    let texts = asked["input"].as_array().unwrap();
    if let Some(image) = image_of(&asked) {
        let embedding = [image.len() as f32, image[1].into()];
        return Json(json!({ "data": [{ "index": 0, "embedding": embedding }] })).into_response();
    }
    // Backwards, as the index allows.
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .rev()
        .map(|(index, text)| json!({ "index": index, "embedding": [text.as_str().unwrap().len(), 1.0] }))
        .collect();
    Json(json!({ "data": data, "model": asked["model"] })).into_response()
}

/// The file that was sent, in either way.
fn image_of(asked: &Value) -> Option<Vec<u8>> {
    let input = &asked["input"][0];
    let uri = input.as_str().and_then(|uri| uri.strip_prefix("data:image/png;base64,"));
    let base64 = match asked["modality"].as_str() {
        Some("image") => uri?,
        _ => input["image"].as_str()?,
    };
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64).ok()
}

async fn endpoint(fake: Fake) -> Embedder {
    endpoint_for(fake, ImageInput::None).await
}

async fn endpoint_for(fake: Fake, images: ImageInput) -> Embedder {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/embeddings", post(answer)).with_state(fake);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (model, api_key) = ("m".to_owned(), None);
    let settings = EmbedderSettings::OpenAi { url, model, dimension: 2, api_key, batch: 3, images };
    Embedder::open(&settings).unwrap()
}

/// A CLIP behind an endpoint: one space for texts and images.
#[tokio::test]
async fn an_endpoint_takes_images_as_its_settings_say() {
    let picture = png(9, |_, _| Rgb([1, 2, 3]));
    for images in [ImageInput::DataUri, ImageInput::Object] {
        let clip = endpoint_for(Fake::default(), images).await;
        assert!(clip.takes_images() && clip.takes_texts());
        let made = clip.image(picture.clone()).await.unwrap();
        assert_eq!(floats(&made), [picture.len() as f32, f32::from(b'P')], "{images:?}");
        let error = clip.image(b"no image".to_vec()).await.unwrap_err();
        assert!(error.reason_is("IMAGE_INVALID"), "{error}");
        assert_eq!(floats(&clip.texts(vec!["four".into()]).await.unwrap()[0]), [4.0, 1.0]);
    }
    let plain = endpoint(Fake::default()).await;
    assert!(!plain.takes_images());
    assert_eq!(plain.image(picture.clone()).await.unwrap_err().field_name(), Some("query.image"));
    let facts = image_facts(&picture).unwrap();
    assert_eq!(facts, ImageFacts { width: 9, height: 9, format: "png".into() });
    assert!(image_facts(b"GIF89a").is_err());
}

#[tokio::test]
async fn an_endpoint_is_asked_in_batches_and_again_when_it_is_busy() {
    let fake = Fake { failures: 2, ..Fake::default() };
    let embedder = endpoint(fake.clone()).await;
    let texts: Vec<String> = (1..=7).map(|n| "x".repeat(n)).collect();
    let vectors = embedder.texts(texts).await.unwrap();
    let lengths: Vec<f32> = vectors.iter().map(|vector| floats(vector)[0]).collect();
    assert_eq!(lengths, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(fake.calls.load(Ordering::SeqCst), 2 + 3);
}

#[tokio::test]
async fn answers_that_do_not_fit_are_refused() {
    for odd in [
        json!({ "data": [] }),
        json!({ "data": [{ "index": 0, "embedding": [1.0] }] }),
        json!({ "data": [{ "index": 9, "embedding": [1.0, 2.0] }] }),
        json!({ "data": "no" }),
        json!(["x".repeat(2 << 20)]),
    ] {
        let embedder = endpoint(Fake { odd: Some(odd), ..Fake::default() }).await;
        let error = embedder.texts(vec!["a".into()]).await.unwrap_err();
        assert!(error.reason_is("EMBEDDER_ANSWER"), "{error}");
    }
    let gone = EmbedderSettings::OpenAi {
        url: "ftp://x".into(),
        model: "m".into(),
        dimension: 2,
        api_key: None,
        batch: 3,
        images: ImageInput::None,
    };
    assert!(Embedder::open(&gone).is_err());
}

fn png(side: u32, color: impl Fn(u32, u32) -> Rgb<u8>) -> Vec<u8> {
    let image = RgbImage::from_fn(side, side, color);
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn copies_are_near_and_palettes_are_told_apart() {
    let hash = Embedder::open(&EmbedderSettings::PerceptualHash).unwrap();
    let wave = |side: u32| {
        png(side, move |x, y| {
            let at = (x * 64 / side * 3 + y * 64 / side * y / side.max(1)) % 256;
            Rgb([u8::try_from(at).unwrap(), 80, 10])
        })
    };
    let other = png(96, |x, y| Rgb([if (x / 24 + y / 24) % 2 == 0 { 255 } else { 0 }; 3]));
    let bits = |embedding: Embedding| match embedding {
        Embedding::Bits(bits) => u64::from_le_bytes(bits.try_into().unwrap()),
        Embedding::Floats(_) => panic!("floats"),
    };
    let small = bits(hash.image(wave(96)).await.unwrap());
    let large = bits(hash.image(wave(192)).await.unwrap());
    let different = bits(hash.image(other).await.unwrap());
    assert!((small ^ large).count_ones() < 10, "a scaled copy");
    assert!((small ^ different).count_ones() > (small ^ large).count_ones(), "another picture");
    let colors = Embedder::open(&EmbedderSettings::ColorHistogram).unwrap();
    let red = colors.image(png(40, |_, _| Rgb([250, 5, 5]))).await.unwrap();
    assert!((floats(&red)[48] - 1.0).abs() < 1e-6);
    for embedder in [&hash, &colors] {
        let error = embedder.image(b"no image".to_vec()).await.unwrap_err();
        assert!(error.reason_is("IMAGE_INVALID"), "{error}");
        assert!(embedder.texts(vec!["x".into()]).await.is_err());
    }
}
