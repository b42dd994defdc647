//! What a registry is made of, and the rules that need no database.

pub mod artifact;
pub mod event;
pub mod name;
pub mod registered;
pub mod stage;
pub mod trust;
pub mod version;

pub use artifact::{
    Blob, Digest, FileEntry, Segment, SmallFile, Upload, UploadFile, UploadState, check_path,
    check_stored_path, check_tree,
};
pub use event::{Change, Delivery, DeliveryState, Event, EventKind, Of, Subscription, Webhook};
pub use name::{
    check_alias, check_card, check_description, check_label, check_tag, check_tags, model_name,
};
pub use registered::{Alias, Card, Model, ModelPath, Statistics};
pub use stage::{
    Approval, Comparison, Deployment, DeploymentState, Gate, Stage, Transition, TransitionState,
};
pub use trust::{FileScan, Finding, LostFile, Scan, ScanKey, Signature, SigningKey, Standing};
pub use version::{
    BaseModel, DatasetVersion, MetricPoint, ModelVersion, NewVersion, ScanVerdict, VersionRef,
    VersionStatus,
};
