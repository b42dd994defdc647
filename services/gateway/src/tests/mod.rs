//! The door as its clients see it, with fake roles behind it, in memory and
//! over sockets alike.

mod calls;
mod documents;
mod fakes;
mod flight;
mod http;
mod load;
mod own;
mod rig;
mod surface;
mod web;
