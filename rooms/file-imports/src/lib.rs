//! Imports of the file indexer: images of a directory become items of a dataset.

mod app;

use file_records::{model, store};

pub use app::{ACTION, Begun, Datasets, ImportAsked, ImportQuery, Imports, ToImport};
