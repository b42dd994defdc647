//! The item store's room for types and pure rules, as a crate: what is asked
//! by Flight, and what crosses the wire sealed.

mod model;

pub use model::{
    ACTIONS, Address, FlightCriteria, Key, KeyRing, PageToken, Pin, PreparedHandle, PutCommand,
    PutMode, PutRows, ReadCommand, SavedFilter, SealError, SqlAnswer, SqlHandle, Ticket,
    check_columns, flight_criteria, hash_of, put_command, read_command, still_unique, tags,
    told_mode, trailing_rows,
};
