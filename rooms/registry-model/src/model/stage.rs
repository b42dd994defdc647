//! Stages, and what a version needs to enter one.

use std::collections::BTreeMap;

use ids::{DeploymentId, EventId, PrincipalId};
use service_error::ServiceError;

use super::version::STAGE_NONE;
use super::{MetricPoint, ModelVersion, ScanVerdict};

const STAGES_MAX: usize = 32;
const GATES_MAX: usize = 20;
const NAME_CHARS_MAX: usize = 64;
const APPROVALS_MAX: i64 = 20;

/// How a metric's last point is compared with a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    AtLeast = 1,
    AtMost = 2,
    Above = 3,
    Below = 4,
}

impl Comparison {
    /// The comparison of a stored number.
    #[must_use]
    pub fn of(code: i16) -> Option<Self> {
        [Self::AtLeast, Self::AtMost, Self::Above, Self::Below]
            .into_iter()
            .find(|comparison| *comparison as i16 == code)
    }

    /// Whether a value passes; NaN never does.
    #[must_use]
    pub fn passes(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::AtLeast => value >= threshold,
            Self::AtMost => value <= threshold,
            Self::Above => value > threshold,
            Self::Below => value < threshold,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

/// A metric that must be good enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    pub metric: String,
    pub comparison: Comparison,
    pub threshold: f64,
}

/// A stage of a namespace's models.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    pub name: String,
    /// Of others than the one who asks.
    pub approvals_required: i64,
    pub require_scan: bool,
    pub require_signature: bool,
    pub gates: Vec<Gate>,
}

impl Stage {
    /// A stage that anybody who may write moves a version to.
    #[must_use]
    pub fn open(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            approvals_required: 0,
            require_scan: false,
            require_signature: false,
            gates: Vec::new(),
        }
    }

    /// Whether it asks more of a version than somebody's word.
    #[must_use]
    pub const fn is_gated(&self) -> bool {
        self.require_scan || self.require_signature || !self.gates.is_empty()
    }

    /// That a version may not enter, and what it lacks.
    #[must_use]
    pub fn refused(&self, number: i64, lacks: &[String], more: &str) -> ServiceError {
        let lacks = lacks.join(", ");
        let message =
            format!("version {number} may not enter {}: it needs {lacks}{more}", self.name);
        ServiceError::precondition(message).reason("STAGE_GATE").with("stage", &self.name)
    }

    /// What a version lacks to enter; nothing if it may.
    #[must_use]
    pub fn lacks(&self, version: &ModelVersion, metrics: &[MetricPoint]) -> Vec<String> {
        let values: BTreeMap<&str, f64> =
            metrics.iter().map(|point| (point.key.as_str(), point.value)).collect();
        let mut lacks = Vec::new();
        for gate in &self.gates {
            let wanted = format!("{} {} {}", gate.metric, gate.comparison.words(), gate.threshold);
            match values.get(gate.metric.as_str()) {
                Some(value) if gate.comparison.passes(*value, gate.threshold) => {}
                Some(value) => lacks.push(format!("metric {wanted} (it is {value})")),
                None => lacks.push(format!("metric {wanted} (it was never logged)")),
            }
        }
        if self.require_scan && version.scan != ScanVerdict::Clean {
            let word = match version.scan {
                ScanVerdict::None => "not scanned by this scanner: scan it".to_owned(),
                verdict => format!("{verdict:?}").to_lowercase(),
            };
            lacks.push(format!("a clean scan (it is {word})"));
        }
        if self.require_signature && !version.signed {
            lacks.push("a verified signature".to_owned());
        }
        lacks
    }
}

/// MLflow's stages, which a namespace without its own has.
#[must_use]
pub fn default_stages() -> Vec<Stage> {
    [STAGE_NONE, "Staging", "Production", "Archived"].map(Stage::open).to_vec()
}

/// Checks stages of a request; `None` becomes the first of them.
///
/// # Errors
/// Too many, a name twice or outside the grammar, too many approvals or gates.
pub fn check_stages(stages: Vec<Stage>) -> Result<Vec<Stage>, ServiceError> {
    let wrong = |message: String| Err(ServiceError::invalid("stages", message));
    let mut all = vec![Stage::open(STAGE_NONE)];
    for stage in stages {
        let name = &stage.name;
        let plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '));
        if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || !plain {
            return wrong(format!("{name:?} is no name: letters, digits, '_', '-' and ' '"));
        }
        if *name == STAGE_NONE {
            if stage != Stage::open(STAGE_NONE) {
                return wrong("None is where every version begins: it has no gates".to_owned());
            }
            continue;
        }
        if all.iter().any(|known| known.name.eq_ignore_ascii_case(name)) {
            return wrong(format!("{name:?} is there twice"));
        }
        if !(0..=APPROVALS_MAX).contains(&stage.approvals_required) {
            return wrong(format!("{name}: 0 to {APPROVALS_MAX} approvals"));
        }
        if stage.gates.len() > GATES_MAX {
            return wrong(format!("{name}: at most {GATES_MAX} gates"));
        }
        if stage.gates.iter().any(|gate| gate.metric.is_empty() || !gate.threshold.is_finite()) {
            return wrong(format!("{name}: a gate needs a metric and a finite threshold"));
        }
        all.push(stage);
    }
    if all.len() > STAGES_MAX {
        return wrong(format!("{} stages: at most {STAGES_MAX}", all.len()));
    }
    Ok(all)
}

/// Where a transition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransitionState {
    Requested = 1,
    Rejected = 2,
    Done = 3,
}

/// What somebody said to a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub by: PrincipalId,
    pub approved: bool,
    pub comment: String,
    pub at: i64,
}

/// A version on its way from stage to stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub id: EventId,
    pub number: i64,
    pub from: String,
    pub to: String,
    pub state: TransitionState,
    pub archive_existing: bool,
    pub comment: String,
    pub requested_by: PrincipalId,
    pub requested_at: i64,
    pub decided_at: Option<i64>,
    pub approvals: Vec<Approval>,
}

/// How a deployment is doing, as its deployer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentState {
    Pending = 1,
    Running = 2,
    Degraded = 3,
    Failed = 4,
    Stopped = 5,
}

impl DeploymentState {
    /// The state of a stored number.
    #[must_use]
    pub fn of(code: i16) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Degraded, Self::Failed, Self::Stopped]
            .into_iter()
            .find(|state| *state as i16 == code)
    }
}

/// A record of where a version runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub id: DeploymentId,
    pub namespace: String,
    pub model: String,
    pub number: i64,
    pub environment: String,
    pub name: String,
    pub state: DeploymentState,
    pub endpoint: String,
    pub replicas: i64,
    pub ready_replicas: i64,
    pub message: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub created_by: PrincipalId,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_metric_that_is_nan_passes_no_gate() {
        for comparison in
            [Comparison::AtLeast, Comparison::AtMost, Comparison::Above, Comparison::Below]
        {
            assert!(!comparison.passes(f64::NAN, 0.5));
        }
        assert!(Comparison::AtLeast.passes(0.5, 0.5) && !Comparison::Above.passes(0.5, 0.5));
    }

    #[test]
    fn none_is_always_the_first_stage() {
        let names = |stages: Vec<Stage>| -> Vec<String> {
            check_stages(stages).unwrap().into_iter().map(|stage| stage.name).collect()
        };
        assert_eq!(names(vec![Stage::open("dev"), Stage::open("prod")]), ["None", "dev", "prod"]);
        assert_eq!(names(default_stages()), ["None", "Staging", "Production", "Archived"]);
        for bad in [
            vec![Stage::open("a"), Stage::open("A")],
            vec![Stage::open("")],
            vec![Stage::open("a/b")],
            vec![Stage { approvals_required: 1, ..Stage::open("None") }],
            vec![Stage { approvals_required: -1, ..Stage::open("a") }],
        ] {
            assert_eq!(check_stages(bad).unwrap_err().field_name(), Some("stages"));
        }
    }
}
