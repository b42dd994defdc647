//! Grants, and who may give and take them.

use ids::{GrantId, PrincipalId};
use service_error::ServiceError;
use uuid::Uuid;

/// The levels of a grant, each including the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Read = 1,
    Write = 2,
    Admin = 3,
    Owner = 4,
}

impl Level {
    /// For messages and the audit.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

/// What grants are given on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    Namespace = 1,
    Dataset = 2,
    Model = 4,
    Location = 6,
}

/// A thing that grants are given on, owned by another role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resource {
    pub kind: ResourceKind,
    pub id: Uuid,
}

impl Resource {
    /// `"namespace"`, `"dataset"`, `"model"`.
    pub const fn kind_word(self) -> &'static str {
        match self.kind {
            ResourceKind::Namespace => "namespace",
            ResourceKind::Dataset => "dataset",
            ResourceKind::Model => "model",
            ResourceKind::Location => "location",
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind_word(), self.id)
    }
}

/// A level that a principal has on a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub id: GrantId,
    pub principal: PrincipalId,
    pub resource: Resource,
    pub level: Level,
    /// May pass on what it has without being an admin there.
    pub can_share: bool,
    /// Microseconds UTC; never if none. Looked at when a decision is made.
    pub expires_at: Option<i64>,
    pub created_at: i64,
}

impl Grant {
    /// Not expired.
    pub fn is_live(&self, now: i64) -> bool {
        self.expires_at.is_none_or(|expires_at| expires_at > now)
    }
}

/// What somebody may do about the grants on a resource.
#[derive(Debug)]
pub struct Authority {
    all: bool,
    grants: Vec<Grant>,
}

impl Authority {
    /// Of a global admin, or of a platform role.
    pub fn all() -> Self {
        Self { all: true, grants: Vec::new() }
    }

    /// Of somebody with these grants on the resource and its ancestors.
    pub fn of(grants: Vec<Grant>, now: i64) -> Self {
        Self { all: false, grants: grants.into_iter().filter(|grant| grant.is_live(now)).collect() }
    }

    /// The highest level; nothing if it may not even see the resource.
    pub fn level(&self) -> Option<Level> {
        if self.all {
            return Some(Level::Owner);
        }
        self.grants.iter().map(|grant| grant.level).max()
    }

    /// # Errors
    /// PERMISSION_DENIED unless one grant alone covers what is given: at least
    /// that level, for at least that long, held as an admin or to share.
    pub fn may_give(
        &self,
        level: Level,
        can_share: bool,
        expires_at: Option<i64>,
    ) -> Result<(), ServiceError> {
        if self.all {
            return Ok(());
        }
        let able = |grant: &&Grant| {
            grant.level >= level && (grant.level >= Level::Admin || (grant.can_share && !can_share))
        };
        let mut covering = self.grants.iter().filter(able).peekable();
        if covering.peek().is_none() {
            return Err(ServiceError::denied(format!(
                "giving {} here needs the level admin (or a grant with can_share) and at least what is given",
                level.word()
            ))
            .reason("GRANT_NOT_YOURS_TO_GIVE"));
        }
        if covering.any(|grant| covers(grant.expires_at, expires_at)) {
            return Ok(());
        }
        Err(ServiceError::denied(
            "a grant cannot outlive the one it is given from; set an earlier expire_time",
        )
        .reason("GRANT_OUTLIVES"))
    }

    /// # Errors
    /// PERMISSION_DENIED unless it is an admin with at least the grant's level.
    pub fn may_take(&self, grant: &Grant) -> Result<(), ServiceError> {
        let level = self.level();
        if level >= Some(Level::Admin) && level >= Some(grant.level) {
            return Ok(());
        }
        Err(ServiceError::denied(format!(
            "changing a grant of {} needs at least that level, and admin",
            grant.level.word()
        ))
        .reason("GRANT_NOT_YOURS_TO_TAKE"))
    }
}

/// Whether what lasts until `mine` lasts at least until `theirs`.
fn covers(mine: Option<i64>, theirs: Option<i64>) -> bool {
    match (mine, theirs) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(mine), Some(theirs)) => mine >= theirs,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEVELS: [Level; 4] = [Level::Read, Level::Write, Level::Admin, Level::Owner];

    fn grant(level: Level, can_share: bool, expires_at: Option<i64>) -> Grant {
        Grant {
            id: GrantId::new(),
            principal: PrincipalId::new(),
            resource: Resource { kind: ResourceKind::Dataset, id: Uuid::nil() },
            level,
            can_share,
            expires_at,
            created_at: 0,
        }
    }

    #[test]
    fn a_writer_gives_nothing_unless_it_may_share_and_an_admin_up_to_admin() {
        let writer = Authority::of(vec![grant(Level::Write, false, None)], 0);
        assert!(writer.may_give(Level::Read, false, None).is_err());
        let sharer = Authority::of(vec![grant(Level::Write, true, None)], 0);
        assert!(sharer.may_give(Level::Write, false, None).is_ok());
        assert!(
            sharer.may_give(Level::Write, true, None).is_err(),
            "sharing is an admin's to give"
        );
        assert!(sharer.may_give(Level::Admin, false, None).is_err());
        let admin = Authority::of(vec![grant(Level::Admin, false, None)], 0);
        assert!(admin.may_give(Level::Admin, true, None).is_ok());
        assert!(admin.may_give(Level::Owner, false, None).is_err());
        assert!(Authority::all().may_give(Level::Owner, true, None).is_ok());
    }

    #[test]
    fn nothing_outlives_what_it_is_given_from() {
        let admin = Authority::of(vec![grant(Level::Admin, false, Some(100))], 0);
        assert!(admin.may_give(Level::Read, false, Some(100)).is_ok());
        assert!(admin.may_give(Level::Read, false, Some(101)).is_err());
        assert!(admin.may_give(Level::Read, false, None).is_err());
        let expired = Authority::of(vec![grant(Level::Owner, false, Some(100))], 100);
        assert_eq!(expired.level(), None);
    }

    #[test]
    fn an_admin_does_not_take_from_an_owner() {
        let admin = Authority::of(vec![grant(Level::Admin, false, None)], 0);
        assert!(admin.may_take(&grant(Level::Admin, false, None)).is_ok());
        assert!(admin.may_take(&grant(Level::Owner, false, None)).is_err());
        let writer = Authority::of(vec![grant(Level::Write, true, None)], 0);
        assert!(writer.may_take(&grant(Level::Read, false, None)).is_err());
    }

    proptest! {
        /// Giving never makes anybody stronger or longer-lived than the giver.
        #[test]
        fn giving_never_escalates(
            held in prop::collection::vec((0usize..4, any::<bool>(), prop::option::of(1i64..50)), 0..4),
            level in 0usize..4, can_share in any::<bool>(), expires_at in prop::option::of(1i64..50),
        ) {
            let held: Vec<_> = held.into_iter().map(|(level, share, until)| grant(LEVELS[level], share, until)).collect();
            if Authority::of(held.clone(), 0).may_give(LEVELS[level], can_share, expires_at).is_ok() {
                prop_assert!(held.iter().any(|mine| mine.level >= LEVELS[level] && covers(mine.expires_at, expires_at)));
            }
        }
    }
}
