//! API messages as JSON: the shapes of the HTTP door, with numbers as numbers.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value as Json;
use service_error::ServiceError;

use crate::failure::Failure;

static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();

fn pool() -> Option<&'static DescriptorPool> {
    let made = POOL.get_or_init(|| {
        let mut pool = DescriptorPool::new();
        for set in [
            identity_api::FILE_DESCRIPTOR_SET,
            catalog_api::FILE_DESCRIPTOR_SET,
            items_api::FILE_DESCRIPTOR_SET,
            vectors_api::FILE_DESCRIPTOR_SET,
            ops_api::FILE_DESCRIPTOR_SET,
            files_api::FILE_DESCRIPTOR_SET,
            models_api::FILE_DESCRIPTOR_SET,
        ] {
            pool.decode_file_descriptor_set(set).ok()?;
        }
        Some(pool)
    });
    made.as_ref()
}

/// A message of the type `name` (e.g. `quarry.catalog.v1.Dataset`) as JSON.
/// The binary schema is left out (`columns` says the same), and so is an empty
/// page token.
pub fn message_json<M: Message>(name: &str, message: &M) -> Result<Json, Failure> {
    let unknown = || ServiceError::internal(format!("no description of {name}"));
    let descriptor = pool().and_then(|pool| pool.get_message_by_name(name)).ok_or_else(unknown)?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|err| unknown().caused_by(err))?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    let mut json = dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|err| unknown().caused_by(err))?;
    tidy(&mut json);
    Ok(json)
}

fn tidy(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            fields.remove("arrow_schema");
            if fields.get("next_page_token").is_some_and(|token| token == "") {
                fields.remove("next_page_token");
            }
            fields.values_mut().for_each(tidy);
        }
        Json::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use catalog_api::v1::{Dataset, ListDatasetsResponse, Profile, Version};

    use super::*;

    #[test]
    fn numbers_are_numbers_and_the_last_page_has_no_token() {
        let latest = Version { number: 1 << 60, ..Version::default() };
        let dataset = Dataset {
            name: "icons".to_owned(),
            profile: Profile::Items.into(),
            arrow_schema: vec![1, 2, 3],
            latest: Some(latest),
            ..Dataset::default()
        };
        let page = ListDatasetsResponse { datasets: vec![dataset], next_page_token: String::new() };
        let json = message_json("quarry.catalog.v1.ListDatasetsResponse", &page).unwrap();
        assert_eq!(json["datasets"][0]["latest"]["number"], 1_i64 << 60);
        assert_eq!(json["datasets"][0]["profile"], "PROFILE_ITEMS");
        assert_eq!(json["datasets"][0]["public"], false);
        assert!(json["datasets"][0].get("arrow_schema").is_none());
        assert!(json.get("next_page_token").is_none());
    }

    #[test]
    fn an_empty_list_is_there() {
        let json = message_json(
            "quarry.catalog.v1.ListDatasetsResponse",
            &ListDatasetsResponse::default(),
        )
        .unwrap();
        assert_eq!(json, serde_json::json!({ "datasets": [] }));
    }
}
