//! The tables of identity. Times are microseconds UTC.

pub mod admin_token;
pub mod audit;
pub mod change;
pub mod claim;
pub mod event;
pub mod grant;
pub mod principal;
pub mod resource;
pub mod signing_key;
pub mod token;
