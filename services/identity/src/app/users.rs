//! Use cases of people and programs.

use std::fmt::Write;

use caller::Caller;
use ids::PrincipalId;
use options_api::v1::Role as CallerRole;
use service_error::ServiceError;
use sql_store::now_micros;

use super::{Identity, done, finish, is_admin};
use crate::model::{Change, Kind, PageOf, Principal, Role, check_display_name, check_name};

const CREATE: &str = "quarry.identity.v1.UsersService/CreateUser";
const UPDATE: &str = "quarry.identity.v1.UsersService/UpdateUser";
const LIST: &str = "users";

/// Somebody to be made.
#[derive(Debug)]
pub struct NewUser {
    pub name: String,
    pub display_name: String,
    pub kind: Kind,
    pub role: Role,
}

/// What is to change; what is unset stays.
#[derive(Debug, Default)]
pub struct UserChange {
    pub display_name: Option<String>,
    pub role: Option<Role>,
    pub disabled: Option<bool>,
    /// Refused unless the user is at this revision.
    pub revision: Option<i64>,
}

/// Who is asking.
#[derive(Debug)]
pub enum Me {
    User(Principal),
    /// A role of the platform, by its name.
    Role(PrincipalId, String),
}

impl Identity {
    /// # Errors
    /// A malformed name, or one that is taken.
    pub async fn create_user(
        &self,
        caller: &Caller,
        new: NewUser,
    ) -> Result<Principal, ServiceError> {
        check_name("name", &new.name)?;
        check_display_name(&new.display_name)?;
        let user = Principal {
            id: PrincipalId::new(),
            name: new.name,
            display_name: new.display_name,
            kind: new.kind,
            role: new.role,
            disabled: false,
            created_at: now_micros(),
            revision: 1,
        };
        let tx = self.store.change().await?;
        if tx.principal_named(&user.name).await?.is_some() {
            return Err(ServiceError::already_exists("user", &user.name));
        }
        tx.insert_principal(&user).await?;
        let detail = format!("{} with the global role {}", user.name, user.role.word());
        finish(tx, &done(caller, CREATE, format!("user/{}", user.id), detail)).await?;
        Ok(user)
    }

    /// # Errors
    /// NOT_FOUND also for a user that the caller may not see.
    pub async fn get_user(&self, caller: &Caller, name: &str) -> Result<Principal, ServiceError> {
        let user = self.store.principal_named(name).await?;
        user.filter(|user| user.id == caller.principal || is_admin(caller))
            .ok_or_else(|| ServiceError::not_found("user", name))
    }

    /// # Errors
    /// A page token of another list.
    pub async fn list_users(
        &self,
        size: u32,
        page_token: &str,
    ) -> Result<PageOf<Principal>, ServiceError> {
        let after: Option<String> = paging::key(LIST, page_token)?;
        let users = self.store.principals(after.as_deref(), size + 1).await?;
        let (entries, next_page_token) = paging::cut(users, size, LIST, |user| user.name.clone());
        Ok(PageOf { entries, next_page_token })
    }

    /// # Errors
    /// FAILED_PRECONDITION for the last enabled admin, ABORTED for another
    /// revision than the one that was read.
    pub async fn update_user(
        &self,
        caller: &Caller,
        name: &str,
        change: UserChange,
    ) -> Result<Principal, ServiceError> {
        if let Some(display_name) = &change.display_name {
            check_display_name(display_name)?;
        }
        let tx = self.store.change().await?;
        let before =
            tx.principal_named(name).await?.ok_or_else(|| ServiceError::not_found("user", name))?;
        if change.revision.is_some_and(|revision| revision != before.revision) {
            return Err(ServiceError::conflict(format!(
                "user {name} was changed meanwhile; read it again and retry"
            ))
            .reason("REVISION_MISMATCH"));
        }
        let after = changed(&before, change);
        let is_last = before.role == Role::Admin
            && !before.disabled
            && (after.role != Role::Admin || after.disabled);
        if is_last && tx.other_admins(before.id).await? == 0 {
            return Err(ServiceError::precondition(format!(
                "{name} is the last enabled admin; make another one first"
            ))
            .reason("LAST_ADMIN"));
        }
        tx.update_principal(&after).await?;
        let now = now_micros();
        if after.disabled != before.disabled {
            let change =
                if after.disabled { Change::Disabled(after.id) } else { Change::Enabled(after.id) };
            tx.log_change(&change, now).await?;
        }
        if after.role != before.role {
            let change = Change::Role {
                principal: after.id,
                role: after.role,
                forget_at: now + self.forget_after(),
            };
            tx.log_change(&change, now).await?;
        }
        finish(
            tx,
            &done(caller, UPDATE, format!("user/{}", after.id), difference(&before, &after)),
        )
        .await?;
        self.heed().await;
        Ok(after)
    }

    /// # Errors
    /// NOT_FOUND if the caller's principal is gone.
    pub async fn who_am_i(&self, caller: &Caller) -> Result<Me, ServiceError> {
        if caller.service {
            return Ok(Me::Role(caller.principal, caller.name.clone()));
        }
        let me = self.store.principal(caller.principal).await?;
        me.map(Me::User).ok_or_else(|| ServiceError::not_found("user", &caller.name))
    }

    /// The user that a request names: the caller if empty; anybody only for a
    /// global admin.
    pub(super) async fn named_or_self(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Principal, ServiceError> {
        if !name.is_empty() {
            return self.get_user(caller, name).await;
        }
        match self.who_am_i(caller).await? {
            Me::User(user) => Ok(user),
            Me::Role(_, role) => Err(ServiceError::precondition(format!(
                "{role} is a role of the platform and holds no tokens or grants"
            ))),
        }
    }
}

fn changed(before: &Principal, change: UserChange) -> Principal {
    let mut after = before.clone();
    after.display_name = change.display_name.unwrap_or(after.display_name);
    after.role = change.role.unwrap_or(after.role);
    after.disabled = change.disabled.unwrap_or(after.disabled);
    after.revision += 1;
    after
}

fn difference(before: &Principal, after: &Principal) -> String {
    let mut text = after.name.clone();
    if before.role != after.role {
        // Writing to a String does not fail.
        let _ = write!(text, "; role {} to {}", before.role.word(), after.role.word());
    }
    if before.disabled != after.disabled {
        text.push_str(if after.disabled { "; disabled" } else { "; enabled" });
    }
    if before.display_name != after.display_name {
        text.push_str("; display name");
    }
    text
}

/// The caller's role as the store's.
pub(super) fn role_of(role: CallerRole) -> Role {
    match role {
        CallerRole::Admin => Role::Admin,
        CallerRole::User => Role::User,
        CallerRole::Viewer | CallerRole::Unspecified => Role::Viewer,
    }
}
