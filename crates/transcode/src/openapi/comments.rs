//! Comments of the proto files, from the source info in the descriptors.

use std::collections::HashMap;

use prost_reflect::FileDescriptor;

/// Leading comments by file and path, read once per file.
#[derive(Debug, Default)]
pub struct Comments {
    files: HashMap<String, HashMap<Vec<i32>, String>>,
}

impl Comments {
    /// The comment before a declaration as one text; empty if there is none.
    pub fn of(&mut self, file: &FileDescriptor, path: &[i32]) -> String {
        let comments = self.files.entry(file.name().to_owned()).or_insert_with(|| read(file));
        comments.get(path).cloned().unwrap_or_default()
    }
}

fn read(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let info = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
    info.location
        .into_iter()
        .filter_map(|location| {
            let text =
                location.leading_comments.as_deref().map(joined).filter(|text| !text.is_empty())?;
            Some((location.path, text))
        })
        .collect()
}

/// Lines of a paragraph joined; an empty line begins a new one.
fn joined(comment: &str) -> String {
    let mut text = String::new();
    for line in comment.lines().map(|line| line.trim().trim_start_matches("* ").trim()) {
        if line.is_empty() {
            text.truncate(text.trim_end().len());
            text.push_str("\n\n");
        } else {
            text.push_str(line);
            text.push(' ');
        }
    }
    text.trim().to_owned()
}
