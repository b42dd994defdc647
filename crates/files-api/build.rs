//! Generates the file indexer's contract from `proto/quarry/files`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto_build::compile(&proto_build::Contract {
        files: &[
            "quarry/files/v1/agent.proto",
            "quarry/files/v1/changes.proto",
            "quarry/files/v1/files.proto",
            "quarry/files/v1/imports.proto",
            "quarry/files/v1/locations.proto",
            "quarry/files/v1/marks.proto",
        ],
        externs: &[(".quarry.options.v1", "::options_api::v1")],
    })
}
