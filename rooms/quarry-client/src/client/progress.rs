//! Progress on stderr: bars on a terminal, nothing otherwise.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::Amount;

use crate::output::note;

/// A bar, or nothing. It goes away with the value.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar towards `total`; indicatif hides it where stderr is no terminal.
    pub fn new(what: &str, total: Option<Amount>) -> Self {
        let (length, template) = match total {
            Some(Amount::Bytes(bytes)) => {
                (Some(bytes), "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            }
            Some(Amount::Rows(rows)) => {
                (Some(rows), "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}")
            }
            None => (None, "{msg} {spinner} {human_pos} {per_sec}"),
        };
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// How much is done.
    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// One more, or several.
    pub fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// What a job says of itself.
    pub fn told(&self, phase: &str, done: i64, total: i64) {
        if !phase.is_empty() {
            self.0.set_message(phase.to_owned());
        }
        if let Ok(total @ 1..) = u64::try_from(total) {
            self.0.set_length(total);
        }
        self.0.set_position(u64::try_from(done).unwrap_or(0));
    }

    /// A line above the bar.
    pub fn note(&self, text: &str) {
        self.0.suspend(|| note(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
