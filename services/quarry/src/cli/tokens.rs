//! `quarry tokens`.

use std::time::Duration;

use clap::Subcommand;
use identity_api::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, TokenScope};
use serde_json::json;

use super::parse::lifetime;
use super::{Context, Page};
use crate::failure::Failure;
use crate::output::{Column, column, message_json, note};

const COLUMNS: [Column; 7] = [
    column("id", "id"),
    column("user", "user"),
    column("scope", "scope"),
    column("description", "description"),
    column("created", "create_time"),
    column("expires", "expire_time"),
    column("revoked", "revoke_time"),
];

#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a token; its secret is shown once
    Create {
        /// For whom [default: yourself]
        #[arg(long, value_name = "NAME", default_value = "")]
        user: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// Only for calls that change nothing
        #[arg(long)]
        read_only: bool,
        /// How long it is good for, e.g. 30d [default: for ever]
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// Tokens without their secrets
    List {
        /// Whose [default: your own]
        #[arg(long, value_name = "NAME", default_value = "")]
        user: String,
        #[command(flatten)]
        page: Page,
    },
    /// Refuse a token everywhere, within a second
    Revoke {
        /// As listed
        id: String,
    },
}

impl TokensCommand {
    /// Asks identity.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut tokens = context.client()?.tokens();
        match self {
            Self::Create { user, description, read_only, expires } => {
                let scope = if read_only { TokenScope::ReadOnly } else { TokenScope::Full };
                let lifetime_seconds =
                    expires.map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
                let request =
                    CreateTokenRequest { user, description, scope: scope.into(), lifetime_seconds };
                let answer = tokens.create_token(request).await?.into_inner();
                let json = message_json("quarry.identity.v1.CreateTokenResponse", &answer)?;
                // The secret alone on stdout, so that a script can keep it.
                context.output.answer(&json, || {
                    note("The token is shown once; keep it:");
                    answer.secret.clone()
                })
            }
            Self::List { user, page } => {
                let (page_size, page_token) = page.parts();
                let answer =
                    tokens.list_tokens(ListTokensRequest { user, page_size, page_token }).await?;
                let json =
                    message_json("quarry.identity.v1.ListTokensResponse", &answer.into_inner())?;
                context.output.message(&json, "tokens", &COLUMNS)
            }
            Self::Revoke { id } => {
                tokens.revoke_token(RevokeTokenRequest { id: id.clone() }).await?;
                context.output.answer(&json!({}), || format!("token {id} is revoked"))
            }
        }
    }
}
