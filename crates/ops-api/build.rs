//! Generates the contracts of jobs and operations from `proto/quarry/ops`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    proto_build::compile(&proto_build::Contract {
        files: &["quarry/ops/v1/jobs.proto", "quarry/ops/v1/ops.proto"],
        externs: &[(".quarry.options.v1", "::options_api::v1")],
    })
}
