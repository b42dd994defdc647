//! Compiles Arrow Flight's contract for reflection: the crate that implements
//! it ships no descriptor.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[allow(
        clippy::disallowed_methods,
        reason = "a build script is told its places by the environment"
    )]
    let (manifest, out) = (std::env::var("CARGO_MANIFEST_DIR")?, std::env::var("OUT_DIR")?);
    let root = PathBuf::from(manifest).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.join("arrow").display());
    let mut compiler = protox::Compiler::new([root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(["arrow/flight/Flight.proto"])?;
    std::fs::write(PathBuf::from(out).join("flight.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}
