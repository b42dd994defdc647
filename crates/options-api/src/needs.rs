//! The needs of all methods, read from the descriptor sets at start.

use std::collections::HashMap;

use prost::Message;
use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::v1::Authz;

const AUTHZ_OPTION: &str = "quarry.options.v1.authz";

/// A descriptor set that cannot be read, or a method without the option.
#[derive(Debug)]
pub struct NeedError(String);

impl std::fmt::Display for NeedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NeedError {}

/// What every known method needs, by its gRPC path.
#[derive(Debug, Clone, Default)]
pub struct NeedTable {
    needs: HashMap<String, Authz>,
}

impl NeedTable {
    /// Reads the option of every `quarry.*` method in the encoded sets.
    ///
    /// # Errors
    /// A set that does not decode, or a method that states no need.
    pub fn from_descriptor_sets(sets: &[&[u8]]) -> Result<Self, NeedError> {
        let mut needs = HashMap::new();
        for set in sets {
            let pool = DescriptorPool::decode(*set)
                .map_err(|e| NeedError(format!("descriptor set: {e}")))?;
            for service in pool.services().filter(|s| s.full_name().starts_with("quarry.")) {
                for method in service.methods() {
                    let path = format!("/{}/{}", service.full_name(), method.name());
                    needs.insert(path, need_of(&pool, &method)?);
                }
            }
        }
        Ok(Self { needs })
    }

    /// The need of a method, e.g. `/quarry.items.v1.ItemsService/ListItems`;
    /// nothing for a method that is not ours.
    #[must_use]
    pub fn need(&self, path: &str) -> Option<&Authz> {
        self.needs.get(path)
    }

    /// Adds a method that no descriptor set declares, such as Arrow Flight's.
    #[must_use]
    pub fn with(mut self, path: &str, need: Authz) -> Self {
        self.needs.insert(path.to_owned(), need);
        self
    }

    /// All methods with their needs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Authz)> {
        self.needs.iter().map(|(path, need)| (path.as_str(), need))
    }
}

fn need_of(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Authz, NeedError> {
    let missing = || NeedError(format!("{} states no ({AUTHZ_OPTION})", method.full_name()));
    let option = pool.get_extension_by_name(AUTHZ_OPTION).ok_or_else(missing)?;
    let options = method.options();
    if !options.has_extension(&option) {
        return Err(missing());
    }
    let value = options.get_extension(&option);
    let message = value.as_message().ok_or_else(missing)?;
    Authz::decode(message.encode_to_vec().as_slice())
        .map_err(|e| NeedError(format!("{}: {e}", method.full_name())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_set_without_our_methods_is_empty() {
        let table = NeedTable::from_descriptor_sets(&[crate::FILE_DESCRIPTOR_SET]).unwrap();
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn a_foreign_method_can_be_added() {
        let table = NeedTable::default().with("/a.B/C", Authz { public: true, ..Authz::default() });
        assert!(table.need("/a.B/C").unwrap().public);
        assert!(table.need("/a.B/D").is_none());
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(NeedTable::from_descriptor_sets(&[b"\xff\xff\xff"]).is_err());
    }
}
