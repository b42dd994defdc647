//! Generates the catalog's contract from `proto/quarry/catalog`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto_build::compile(&proto_build::Contract {
        files: &[
            "quarry/catalog/v1/datasets.proto",
            "quarry/catalog/v1/garbage.proto",
            "quarry/catalog/v1/manifest.proto",
            "quarry/catalog/v1/namespaces.proto",
            "quarry/catalog/v1/value.proto",
        ],
        externs: &[(".quarry.options.v1", "::options_api::v1")],
    })
}
