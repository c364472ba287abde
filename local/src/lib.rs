//! The whole bundle on one machine: every function behind one address, called in-process, with a PostgreSQL of its own.

pub mod arguments;
pub mod containers;
pub mod env_file;
pub mod example;
pub mod origins;
pub mod postgres;
pub mod request_log;
pub mod server;
pub mod settings;
