//! Where files may be taken from. A row of a source may say any path; what lies
//! outside of the folders that the caller named is not touched.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// Folders, resolved.
#[derive(Debug, Clone, Default)]
pub struct Roots(Vec<PathBuf>);

impl Roots {
    /// The named folders, or else some usual ones that are there.
    ///
    /// # Errors
    /// A named folder that is not there.
    pub fn new(named: &[PathBuf], usual: &[PathBuf]) -> Result<Self, String> {
        let mut roots = Vec::new();
        for folder in named {
            let real = std::fs::canonicalize(folder)
                .map_err(|err| format!("--artifacts {}: {err}", folder.display()))?;
            roots.push(real);
        }
        if named.is_empty() {
            roots.extend(usual.iter().filter_map(|folder| std::fs::canonicalize(folder).ok()));
        }
        Ok(Self(roots))
    }

    /// The file or folder of a location, with its links resolved.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn resolve(&self, location: &Path) -> Result<PathBuf, String> {
        let shown = location.display();
        let mut outside = None;
        for root in &self.0 {
            // An absolute location stays itself.
            let Ok(real) = std::fs::canonicalize(root.join(location)) else { continue };
            if self.0.iter().any(|root| real.starts_with(root) && real != *root) {
                return Ok(real);
            }
            outside = Some(real);
        }
        match outside {
            Some(_) => Err(format!(
                "{shown} lies outside of {}: name its folder with --artifacts",
                self.shown()
            )),
            None => Err(format!("{shown} is not there, seen from {}", self.shown())),
        }
    }

    fn shown(&self) -> String {
        let roots: Vec<String> = self.0.iter().map(|root| root.display().to_string()).collect();
        if roots.is_empty() {
            "no folder (--artifacts names one)".to_owned()
        } else {
            roots.join(", ")
        }
    }
}

/// A location as MLflow writes it: the path of a local one, nothing for a URL of
/// somewhere else.
pub fn local(location: &str) -> Option<PathBuf> {
    if let Some(rest) = location.strip_prefix("mlflow-artifacts:") {
        // Below the server's own folder, whatever its host's name.
        let path = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
            None => rest,
        };
        return Some(PathBuf::from(path.trim_start_matches('/')));
    }
    if let Some(rest) = location.strip_prefix("file:") {
        let path = rest.strip_prefix("//localhost").or(rest.strip_prefix("//")).unwrap_or(rest);
        return Some(PathBuf::from(unescaped(path)));
    }
    let scheme = location.split_once(':').map(|(scheme, _)| scheme);
    let is_scheme = scheme.is_some_and(|scheme| {
        scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    (!is_scheme && !location.is_empty()).then(|| PathBuf::from(location))
}

fn unescaped(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}
