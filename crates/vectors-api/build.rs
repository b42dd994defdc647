//! Generates the vector search's contract from `proto/quarry/vectors`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto_build::compile(&proto_build::Contract {
        files: &[
            "quarry/vectors/v1/spaces.proto",
            "quarry/vectors/v1/points.proto",
            "quarry/vectors/v1/search.proto",
            "quarry/vectors/v1/loading.proto",
            "quarry/vectors/v1/generations.proto",
            "quarry/vectors/v1/images.proto",
        ],
        externs: &[
            (".quarry.catalog.v1", "::catalog_api::v1"),
            (".quarry.options.v1", "::options_api::v1"),
        ],
    })
}
