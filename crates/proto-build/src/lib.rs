//! Compiles the contracts in `proto/` for a build script, and fails the build
//! for a method that does not say who may call it.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a build script: it speaks to cargo by stdout and environment"
)]

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use protox::Compiler;

/// The option that every method carries (proto/quarry/options/v1/authz.proto).
const AUTHZ_OPTION: &str = "quarry.options.v1.authz";

/// What one `-api` crate is generated from.
#[derive(Debug, Default)]
pub struct Contract<'a> {
    /// Files below `proto/`, e.g. `quarry/items/v1/items.proto`.
    pub files: &'a [&'a str],
    /// Packages that another crate generates: (`.quarry.catalog.v1`,
    /// `::catalog_api::v1`).
    pub externs: &'a [(&'a str, &'a str)],
}

/// Generates clients, servers and `descriptors.bin` (the encoded descriptor
/// set with imports, comments and custom options) into `OUT_DIR`.
///
/// # Errors
/// A proto file that does not compile, or a method without the authz option.
pub fn compile(contract: &Contract<'_>) -> Result<(), Box<dyn Error>> {
    let root = proto_root()?;
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(contract.files)?;

    // Only the encoded set keeps custom options: protox's own file descriptor
    // set drops what prost-types has no field for.
    let encoded = compiler.encode_file_descriptor_set();
    demand_authz(&encoded, contract.files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), &encoded)?;

    let mut builder = tonic_prost_build::configure();
    for (package, module) in contract.externs {
        builder = builder.extern_path(*package, *module);
    }
    builder.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn proto_root() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = manifest.join("../../proto");
    Ok(Path::new(&root).canonicalize()?)
}

fn demand_authz(encoded: &[u8], files: &[&str]) -> Result<(), Box<dyn Error>> {
    let pool = DescriptorPool::decode(encoded)?;
    let extension = pool.get_extension_by_name(AUTHZ_OPTION);
    for service in pool.services().filter(|s| files.contains(&s.parent_file().name())) {
        for method in service.methods() {
            let stated =
                extension.as_ref().is_some_and(|option| method.options().has_extension(option));
            if !stated {
                return Err(format!(
                    "{}: the method has no ({AUTHZ_OPTION}) option; say who may call it",
                    method.full_name()
                )
                .into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn encoded(option: &str) -> Vec<u8> {
        let source = format!(
            "syntax = \"proto3\"; package t; import \"quarry/options/v1/authz.proto\";
             message M {{}} service S {{ rpc Call(M) returns (M) {{ {option} }} }}"
        );
        let dir =
            env::temp_dir().join(format!("proto-build-{}-{}", std::process::id(), option.len()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("t.proto"), source).unwrap();
        // Asked for when it runs: clones that share a build directory share this program.
        let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../proto");
        let mut compiler = Compiler::new([dir.clone(), root]).unwrap();
        compiler.include_imports(true).open_files(["t.proto"]).unwrap();
        fs::remove_dir_all(dir).unwrap();
        compiler.encode_file_descriptor_set()
    }

    #[test]
    fn a_method_without_the_option_fails() {
        let error = demand_authz(&encoded(""), &["t.proto"]).unwrap_err().to_string();
        assert!(error.contains("t.S.Call") && error.contains("authz"), "{error}");
    }

    #[test]
    fn a_method_with_the_option_passes() {
        demand_authz(&encoded("option (quarry.options.v1.authz) = {public: true};"), &["t.proto"])
            .unwrap();
    }
}
