//! Generates identity's contract from `proto/quarry/identity`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto_build::compile(&proto_build::Contract {
        files: &[
            "quarry/identity/v1/audit.proto",
            "quarry/identity/v1/grants.proto",
            "quarry/identity/v1/internal.proto",
            "quarry/identity/v1/tokens.proto",
            "quarry/identity/v1/users.proto",
        ],
        externs: &[(".quarry.options.v1", "::options_api::v1")],
    })
}
