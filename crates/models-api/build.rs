//! Generates the model registry's contract from `proto/quarry/models`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto_build::compile(&proto_build::Contract {
        files: &[
            "quarry/models/v1/artifacts.proto",
            "quarry/models/v1/events.proto",
            "quarry/models/v1/lifecycle.proto",
            "quarry/models/v1/lineage.proto",
            "quarry/models/v1/models.proto",
            "quarry/models/v1/trust.proto",
            "quarry/models/v1/versions.proto",
        ],
        externs: &[
            (".google.api.HttpBody", "::options_api::http_body::HttpBody"),
            (".quarry.options.v1", "::options_api::v1"),
        ],
    })
}
