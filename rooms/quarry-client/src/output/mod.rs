//! What commands print: tables for people, or exactly one JSON document.

mod cells;
mod message;
mod rows;
mod table;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value as Json;

use crate::failure::Failure;

pub use cells::{CellJson, RowJson, cell_text};
pub use message::message_json;
pub use rows::{Printed, RowPrinter};
use table::one_line;
pub use table::{Column, column, table, text_table};

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One document; 64-bit integers are numbers.
    Json,
    /// Of rows: one line each; `sql` only.
    Csv,
}

/// Where a command's answer goes.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// As asked for.
    pub format: Format,
}

impl Output {
    /// Prints the answer: the document, or the text that `people` makes of it.
    pub fn answer<D: Serialize>(
        self,
        document: &D,
        people: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.text(&people()),
            Format::Json => print_json(document),
            Format::Csv => Err(service_error::ServiceError::invalid(
                "output",
                "csv is of rows: use it with `quarry sql`, or `quarry export`",
            )
            .into()),
        }
    }

    /// Prints a message of the API: the message itself as JSON, or a table of
    /// `columns`, one row for each entry of `list` (or for the message itself).
    pub fn message(self, document: &Json, list: &str, columns: &[Column]) -> Result<(), Failure> {
        self.answer(document, || {
            let rows = match document.get(list) {
                Some(Json::Array(rows)) => rows.as_slice(),
                Some(one) => std::slice::from_ref(one),
                None => &[],
            };
            table(columns, rows)
        })?;
        self.more(document["next_page_token"].as_str());
        Ok(())
    }

    /// Says how to see the rest of a list; JSON carries the token itself.
    pub fn more(self, next_page_token: Option<&str>) {
        let token = next_page_token.filter(|token| !token.is_empty());
        if let (Format::Table, Some(token)) = (self.format, token) {
            note(&format!("More: --page-token '{token}'"));
        }
    }

    /// Prints a line that JSON output does not have.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        if self.format != Format::Table || text.is_empty() {
            return Ok(());
        }
        written(writeln!(io::stdout().lock(), "{text}"))
    }

    /// Says what may help, to people only.
    pub fn hint(self, text: &str) {
        if self.format == Format::Table {
            note(text);
        }
    }

    /// Prints a failure to stderr.
    pub fn failure(self, failure: &Failure) {
        match self.format {
            Format::Table | Format::Csv => note(&format!("error: {failure}")),
            Format::Json => note(&failure.json().to_string()),
        }
    }
}

/// A line on stderr, beside the answer.
pub fn note(text: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

fn print_json<D: Serialize>(document: &D) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let json = if io::stdout().is_terminal() {
        serde_json::to_writer_pretty(&mut out, document)
    } else {
        serde_json::to_writer(&mut out, document)
    };
    written(json.map_err(io::Error::from).and_then(|()| writeln!(out)).and_then(|()| out.flush()))
}

/// A reader that went away (`| head`) is no failure.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(
            service_error::ServiceError::precondition(format!("cannot write the answer: {err}"))
                .into(),
        ),
        _ => Ok(()),
    }
}
