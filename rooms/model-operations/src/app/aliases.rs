//! Aliases: moved, protected, looked back at, rolled back.

use caller::Caller;
use options_api::v1::Level;
use service_error::ServiceError;

use super::Registry;
use crate::model::{Alias, ModelPath, ModelVersion, VersionRef, check_alias};
use crate::store::{AliasMove, AliasStep};

const SERVICE: &str = "quarry.models.v1.LifecycleService";

/// Where a request moves an alias.
#[derive(Debug, Clone)]
pub struct SetAlias {
    pub alias: String,
    pub to: VersionRef,
    /// `None`: as it is.
    pub protected: Option<bool>,
    /// Only if it points there now; 0: only if there is none of the name.
    pub expected: Option<i64>,
}

impl Registry {
    /// Points an alias to a version.
    ///
    /// # Errors
    /// `InvalidArgument`, `NotFound`, `PermissionDenied` for one that is
    /// protected, `Conflict` if it is not where the caller expects it.
    pub async fn set_alias(
        &self,
        caller: &Caller,
        path: &ModelPath,
        asked: &SetAlias,
    ) -> Result<Alias, ServiceError> {
        check_alias(&asked.alias)?;
        let action = format!("{SERVICE}/SetAlias");
        let (model, version) =
            self.version_for(caller, Level::Write, path, &asked.to, &action).await?;
        self.point(caller, path, &version, asked, &action).await?;
        let set = self.store.alias(model.id, &asked.alias).await?;
        set.ok_or_else(|| ServiceError::not_found("alias", format!("{path}@{}", asked.alias)))
    }

    async fn point(
        &self,
        caller: &Caller,
        path: &ModelPath,
        version: &ModelVersion,
        asked: &SetAlias,
        action: &str,
    ) -> Result<(), ServiceError> {
        let protected = || format!("alias {} is protected", asked.alias);
        let mut moved = AliasMove {
            name: &asked.alias,
            to: version,
            protected: asked.protected,
            expected: asked.expected,
            by_admin: asked.protected.is_some(),
        };
        if !moved.by_admin {
            match self.store.set_alias(&moved, caller.principal).await {
                Err(error) if error.reason_is("ALIAS_PROTECTED") => moved.by_admin = true,
                outcome => return outcome,
            }
        }
        let admin = self.model_for(caller, Level::Admin, path, action).await;
        admin.map_err(|error| error.context(protected()))?;
        self.store.set_alias(&moved, caller.principal).await
    }

    /// Removes an alias; answers whether it was there.
    ///
    /// # Errors
    /// `NotFound` for the model, `PermissionDenied` for one that is protected.
    pub async fn delete_alias(
        &self,
        caller: &Caller,
        path: &ModelPath,
        alias: &str,
    ) -> Result<bool, ServiceError> {
        let action = format!("{SERVICE}/DeleteAlias");
        let model = self.model_for(caller, Level::Write, path, &action).await?;
        match self.store.delete_alias(model.id, alias, caller.principal, false).await {
            Err(error) if error.reason_is("ALIAS_PROTECTED") => {}
            outcome => return outcome,
        }
        self.require_model(caller, Level::Admin, &model, &path.to_string(), &action).await?;
        self.store.delete_alias(model.id, alias, caller.principal, true).await
    }

    /// Steps of an alias, newest first, below a sequence number.
    ///
    /// # Errors
    /// `NotFound` for the model.
    pub async fn alias_history(
        &self,
        caller: &Caller,
        path: &ModelPath,
        alias: &str,
        below: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AliasStep>, ServiceError> {
        let action = format!("{SERVICE}/ListAliasHistory");
        let model = self.model_for(caller, Level::Read, path, &action).await?;
        self.store.alias_history(model.id, alias, below, limit).await
    }

    /// Points an alias to the version that it pointed to before its last move,
    /// or at a time, in one call.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` if it pointed to no other version that
    /// is still there.
    pub async fn roll_back_alias(
        &self,
        caller: &Caller,
        path: &ModelPath,
        alias: &str,
        as_of: Option<i64>,
    ) -> Result<Alias, ServiceError> {
        const LOOKED_AT: u32 = 100;
        check_alias(alias)?;
        let action = format!("{SERVICE}/RollBackAlias");
        let model = self.model_for(caller, Level::Write, path, &action).await?;
        let steps = self.store.alias_history(model.id, alias, None, LOOKED_AT).await?;
        let now = steps.first().map_or(0, |step| step.number);
        let candidates = match as_of {
            Some(at) => Vec::from_iter(self.store.alias_at(model.id, alias, at).await?),
            None => steps.iter().skip(1).map(|step| step.number).collect(),
        };
        for number in candidates.into_iter().filter(|number| *number > 0 && *number != now) {
            let which = VersionRef::Number(number);
            let Some(version) = self.store.find_version(model.id, &which).await? else { continue };
            let asked = SetAlias {
                alias: alias.to_owned(),
                to: which,
                protected: None,
                expected: Some(now),
            };
            self.point(caller, path, &version, &asked, &action).await?;
            let set = self.store.alias(model.id, alias).await?;
            return set.ok_or_else(|| ServiceError::not_found("alias", format!("{path}@{alias}")));
        }
        let message =
            format!("alias {alias} of {path} pointed to no other version that is still there");
        Err(ServiceError::precondition(message).reason("NOTHING_TO_ROLL_BACK"))
    }
}
