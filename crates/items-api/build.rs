//! Generates the item store's contract from `proto/quarry/items`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto_build::compile(&proto_build::Contract {
        files: &[
            "quarry/items/v1/analysis.proto",
            "quarry/items/v1/edits.proto",
            "quarry/items/v1/filters.proto",
            "quarry/items/v1/items.proto",
            "quarry/items/v1/maintenance.proto",
            "quarry/items/v1/sql.proto",
        ],
        externs: &[
            (".google.api.HttpBody", "::options_api::http_body::HttpBody"),
            (".quarry.catalog.v1", "::catalog_api::v1"),
            (".quarry.options.v1", "::options_api::v1"),
        ],
    })
}
