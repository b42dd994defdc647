//! The model registry's room for MLflow's REST, as a crate: the contract of
//! `mlflow-wire` on the same use cases as gRPC.

mod http;

use model_operations::app;
use registry_model as model;

pub use http::Surface;
