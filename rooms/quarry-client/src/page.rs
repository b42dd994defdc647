//! A page of a list, as arguments.

use clap::Args;

/// A page of a list.
#[derive(Debug, Args)]
pub struct Page {
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<i32>,
    /// Go on where another page ended
    #[arg(long, value_name = "T")]
    page_token: Option<String>,
}

impl Page {
    /// The size (0: the server's own) and the token (empty: from the begin).
    #[must_use]
    pub fn parts(self) -> (i32, String) {
        (self.limit.unwrap_or(0), self.page_token.unwrap_or_default())
    }
}
