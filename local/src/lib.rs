//! The whole bundle on one machine: every function behind one address, called in-process, with a PostgreSQL of its own.

pub mod example;
pub mod postgres;
pub mod server;
pub mod settings;
