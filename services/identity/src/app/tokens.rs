//! Use cases of personal access tokens.

use caller::{Caller, Secret};
use ids::TokenId;
use service_error::ServiceError;
use sql_store::now_micros;

use super::{Identity, done, finish, is_admin};
use crate::model::{Change, Made, PageOf, Scope, Token, check_description, expiry_after};
use crate::store::Origin;

const CREATE: &str = "quarry.identity.v1.TokensService/CreateToken";
const REVOKE: &str = "quarry.identity.v1.TokensService/RevokeToken";

/// A token to be made.
#[derive(Debug)]
pub struct NewToken {
    /// The owner's name; the caller if empty.
    pub user: String,
    pub description: String,
    pub scope: Scope,
    /// Never expires if none.
    pub lifetime_seconds: Option<i64>,
}

/// A token with its owner's name.
#[derive(Debug)]
pub struct NamedToken {
    pub token: Token,
    pub user: String,
}

impl Identity {
    /// Makes a token; its secret is not kept and cannot be shown again.
    ///
    /// # Errors
    /// A malformed field, or a user that is not the caller's to act for.
    pub async fn create_token(
        &self,
        caller: &Caller,
        new: NewToken,
    ) -> Result<(NamedToken, Secret), ServiceError> {
        check_description(&new.description)?;
        let owner = self.named_or_self(caller, &new.user).await?;
        let (now, made) = (now_micros(), Made::new());
        let token = Token {
            id: made.id,
            owner: owner.id,
            description: new.description,
            scope: new.scope,
            created_at: now,
            expires_at: expiry_after(now, new.lifetime_seconds)?,
            revoked_at: None,
        };
        let tx = self.store.change().await?;
        tx.insert_token(&token, made.hash, Origin::Call).await?;
        let scope = if token.scope == Scope::Full { "full" } else { "read-only" };
        finish(
            tx,
            &done(
                caller,
                CREATE,
                format!("token/{}", token.id),
                format!("{scope}, of {}", owner.name),
            ),
        )
        .await?;
        Ok((NamedToken { token, user: owner.name }, Secret::new(made.text)))
    }

    /// # Errors
    /// A user that is not the caller's to see, a page token of another list.
    pub async fn list_tokens(
        &self,
        caller: &Caller,
        user: &str,
        size: u32,
        page_token: &str,
    ) -> Result<PageOf<NamedToken>, ServiceError> {
        let owner = self.named_or_self(caller, user).await?;
        let list = format!("tokens:{}", owner.id);
        let after: Option<TokenId> = paging::key(&list, page_token)?;
        let tokens = self.store.tokens_of(owner.id, after, size + 1).await?;
        let (tokens, next_page_token) = paging::cut(tokens, size, &list, |token| token.id);
        let entries = tokens
            .into_iter()
            .map(|token| NamedToken { token, user: owner.name.clone() })
            .collect();
        Ok(PageOf { entries, next_page_token })
    }

    /// Refuses the token everywhere from now on. Again is no error.
    ///
    /// # Errors
    /// NOT_FOUND also for somebody else's token.
    pub async fn revoke_token(&self, caller: &Caller, id: TokenId) -> Result<(), ServiceError> {
        let tx = self.store.change().await?;
        let mine = |owner| owner == caller.principal || is_admin(caller);
        let Some(row) = tx.token(id).await?.filter(|row| mine(row.token.owner)) else {
            return Err(ServiceError::not_found("token", id));
        };
        let now = now_micros();
        if !tx.revoke_token(id, now).await? {
            return Ok(());
        }
        tx.log_change(&Change::Revoked { token: id, forget_at: now + self.forget_after() }, now)
            .await?;
        finish(tx, &done(caller, REVOKE, format!("token/{id}"), row.token.description)).await?;
        self.heed().await;
        Ok(())
    }
}
