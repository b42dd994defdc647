//! Which spans of SQL statements are kept. sea-orm opens one around each
//! statement, with its text (never its values) and the database's kind.

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

/// Where sea-orm's spans come from.
pub const SOURCE: &str = "sea_orm";

/// Lets a statement's span through where the statement is part of a call: a loop
/// that polls a table would make a trace a turn.
#[derive(Debug, Clone, Copy)]
pub struct InCalls;

impl InCalls {
    fn is_statement(metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(SOURCE)
    }
}

impl<S> Filter<S> for InCalls
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        *metadata.level() <= tracing::Level::INFO
            && (!Self::is_statement(metadata) || context.lookup_current().is_some())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() > tracing::Level::INFO {
            return Interest::never();
        }
        if Self::is_statement(metadata) { Interest::sometimes() } else { Interest::always() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }
}

/// `layer`, with the filter around it.
pub fn in_calls<S, L>(layer: L) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    layer.with_filter(InCalls)
}
