//! Images that are embedded as they are added, and found by what they show.

use std::collections::BTreeMap;
use std::io::Cursor;

use embedder::EmbedderSettings;
use image::{ImageFormat, Rgb, RgbImage};

use super::*;

/// A plain picture with a lighter square somewhere.
fn picture(side: u32, color: [u8; 3], at: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(side, side, |x, y| {
        let inside = (x * 8 / side).abs_diff(at) < 2 && (y * 8 / side).abs_diff(at) < 2;
        Rgb(color.map(|shade| if inside { shade.saturating_add(90) } else { shade }))
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

async fn house(sql: SqlSettings, dir: &Path) -> House {
    let house = House::with(sql, dir, |settings| {
        settings.embedders = BTreeMap::from([
            ("copies".to_owned(), EmbedderSettings::PerceptualHash),
            ("palettes".to_owned(), EmbedderSettings::ColorHistogram),
        ]);
    })
    .await;
    for (space, metric) in [("copies", api::Metric::Hamming), ("palettes", api::Metric::Cosine)] {
        let request = api::CreateSpaceRequest {
            namespace: "ns".into(),
            space: space.into(),
            dimension: 64,
            metric: metric.into(),
            embedder: space.into(),
            ..Default::default()
        };
        house.spaces().create_space(house.own(request)).await.unwrap();
    }
    house
}

async fn add(
    house: &House,
    path: &str,
    content: Vec<u8>,
    spaces: &[&str],
) -> Result<api::AddImageResponse, ServiceError> {
    let request = api::AddImageRequest {
        namespace: "ns".into(),
        image: Some(api::Image { image_path: path.into(), ..Default::default() }),
        content,
        spaces: spaces.iter().map(|space| (*space).to_owned()).collect(),
    };
    let mut client = ImagesServiceClient::new(house.transport.clone());
    Ok(client.add_image(house.own(request)).await?.into_inner())
}

async fn points(house: &House) -> (i64, i64) {
    (house.stats("copies").await.points, house.stats("palettes").await.points)
}

#[tokio::test]
async fn an_image_is_found_by_another_like_it_and_its_points_go_with_it() {
    everywhere(async |sql, dir| {
        let house = house(sql, dir).await;
        let both = ["copies", "palettes"];
        let red = add(&house, "red.png", picture(96, [150, 20, 20], 2), &both).await.unwrap();
        let image = red.image.clone().unwrap();
        assert_eq!((image.width, image.height, image.format.as_str()), (96, 96, "png"));
        assert_eq!(red.points[1].embedding_type, "image");
        assert_eq!(red.points[1].token, 1);
        add(&house, "blue.png", picture(96, [20, 20, 150], 6), &both).await.unwrap();
        for (space, query) in [
            // A scaled copy in other colours; another picture in the same colours.
            ("copies", picture(192, [20, 140, 20], 2)),
            ("palettes", picture(64, [150, 20, 20], 6)),
        ] {
            let kind = api::query::Kind::Image(query);
            let asked = api::SearchRequest { with_payload: true, ..asking(space, kind, 2) };
            let found = house.search(asked).await.unwrap();
            assert_eq!(found.hits.len(), 2, "{space}");
            assert_eq!(found.hits[0].item_id, image.id, "{space}: {found:?}");
            assert_eq!(found.hits[0].payload["image_path"], text("red.png"));
            assert_eq!(found.hits[0].payload["width"], int(96));
        }
        let delete = api::DeleteImageRequest { namespace: "ns".into(), id: image.id.clone() };
        let mut client = ImagesServiceClient::new(house.transport.clone());
        client.delete_image(house.own(delete)).await.unwrap();
        for space in both {
            let query = api::query::Kind::Image(picture(96, [150, 20, 20], 2));
            let left = house.found(asking(space, query, 5)).await;
            assert!(left.len() == 1 && left[0] != image.id, "{space}: {left:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_image_comes_whole_or_not_at_all() {
    everywhere(async |sql, dir| {
        let house = house(sql, dir).await;
        let good = picture(32, [9, 9, 9], 3);
        for (content, spaces, code, field) in [
            (b"no image".to_vec(), vec!["copies"], Code::InvalidArgument, Some("image")),
            (Vec::new(), vec!["copies"], Code::InvalidArgument, Some("content")),
            (good.clone(), vec!["copies", "copies"], Code::InvalidArgument, Some("spaces")),
            (good.clone(), vec!["copies"; 17], Code::InvalidArgument, Some("spaces")),
            (good.clone(), vec!["copies", "absent"], Code::NotFound, None),
            (good.clone(), vec!["Not A Name"], Code::InvalidArgument, Some("space")),
        ] {
            let error = refused(add(&house, "x.png", content, &spaces).await, code);
            assert!(field.is_none() || error.field_name() == field, "{error}");
        }
        assert_eq!(points(&house).await, (0, 0));
        // The column `width` of one space is text: neither the image nor the other's point.
        let odd = api::Point {
            vector: Some(api::Vector { values: vec![0.5; 64], bits: Vec::new() }),
            ..point("odd", &[], &[("width", text("wide"))])
        };
        house.upsert("palettes", vec![odd]).await.unwrap();
        let mixed = add(&house, "x.png", good.clone(), &["copies", "palettes"]).await;
        assert!(refused(mixed, Code::InvalidArgument).reason_is("PAYLOAD_TYPE_MISMATCH"));
        assert_eq!(points(&house).await, (0, 1));
        let list = api::ListImagesRequest { namespace: "ns".into(), ..Default::default() };
        let mut client = ImagesServiceClient::new(house.transport.clone());
        let listed = client.list_images(house.own(list)).await.unwrap().into_inner();
        assert_eq!(listed.images, []);
        // A path that is taken leaves no second point behind.
        add(&house, "x.png", good.clone(), &["copies"]).await.unwrap();
        refused(add(&house, "x.png", good, &["copies"]).await, Code::AlreadyExists);
        assert_eq!(points(&house).await, (1, 1));
    })
    .await;
}
