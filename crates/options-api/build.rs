//! Generates the option types from `proto/quarry/options`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto_build::compile(&proto_build::Contract {
        files: &["quarry/options/v1/authz.proto"],
        externs: &[],
    })
}
