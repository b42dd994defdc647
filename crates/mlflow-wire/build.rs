//! Generates MLflow's messages from the part of its contract in `proto/`.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a build script: it speaks to cargo by stdout and environment"
)]

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::Compiler;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(["mlflow.proto", "artifacts.proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    config.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
